"""Names of objects as kubectl takes them (``deploy/web``, ``deployment web``), found by discovery."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

from portside.cli.api import Api
from portside.cli.steps import CliError

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """One object's kind and path. ``collection`` is where it would be created."""

    kind: str
    name: str
    collection: str

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"

    @property
    def title(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The words that name one object."""
    parser.add_argument("object", nargs="+", metavar="OBJECT", help="KIND/NAME or KIND NAME")
    parser.add_argument("-n", "--namespace", default="default", metavar="NAME", help="its namespace (default: default)")


def locate(api: Api, words: list[str], namespace: str) -> Place:
    """The object the words mean. Raises CliError when they mean none."""
    parts = words[0].split("/") if len(words) == 1 else words
    if len(parts) != 2 or not all(parts):
        raise CliError(f"{' '.join(words)!r} names no object", todo="say KIND/NAME, such as deployment/web", code=2)
    wanted, name = parts[0].lower(), parts[1]
    plural, _, group = wanted.partition(".")
    for root, resource in _resources(api):
        if group and not root.startswith(f"/apis/{group}/"):
            continue
        names = {resource["name"], resource["singularName"], resource["kind"].lower(), *resource.get("shortNames", ())}
        if plural in names:
            space = f"/namespaces/{namespace}" if resource["namespaced"] else ""
            return Place(resource["kind"], name, f"{root}{space}/{resource['name']}")
    raise CliError(
        f'the server has no resource type "{parts[0]}"', todo="see what there is: kubectl api-resources", code=6
    )


def _resources(api: Api) -> Any:
    """Every resource with the root of its group version, core first, preferred versions only."""
    roots = ["/api/v1"]
    roots += [f"/apis/{group['preferredVersion']['groupVersion']}" for group in api.send("GET", "/apis")["groups"]]
    for root in roots:
        for resource in api.send("GET", root)["resources"]:
            if "/" not in resource["name"]:
                yield root, resource
