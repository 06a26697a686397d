"""portside status: what runs, where the API and the kubeconfig are."""

from __future__ import annotations

import argparse
import json
from typing import Any

from portside.cli.steps import CliError
from portside.run.home import COMPONENTS, Home


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", choices=["json"], help="machine-readable output")


def facts(home: Home) -> dict[str, Any]:
    """The cluster's address, files and components, as `status -o json` prints them; on a machine that joined, its node."""
    components = []
    for name in COMPONENTS:
        record = home.record(name)
        if record is None:
            continue
        components.append(
            {"name": name, "pid": record.pid, "state": "running" if record.alive else "stopped", "since": record.since}
        )
    kept = home.cluster()
    found = {"api": kept.get("api", ""), "home": str(home.root), "components": components}
    if kept.get("joined"):
        return found | {"node": kept.get("node", ""), "address": kept.get("address", "")}
    return found | {"kubeconfig": str(home.kubeconfig)}


def run(options: argparse.Namespace) -> int:
    home = Home(options.home)
    if not home.exists():
        raise CliError(f"there is no cluster in {home.root}", todo="start one with: portside up", code=4)
    seen = facts(home)
    if options.output == "json":
        print(json.dumps(seen))
        return 0
    for name in ("api", "kubeconfig", "node", "address", "home"):
        if name in seen:
            print(f"{name:<11} {seen[name]}")
    for component in seen["components"]:
        print(f"{component['name']:<14} {component['state']:<8} pid {component['pid']:<8} since {component['since']}")
    return 0 if all(c["state"] == "running" for c in seen["components"]) and seen["components"] else 5
