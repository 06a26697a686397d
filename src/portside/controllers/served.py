"""Which resources exist: the table of kinds and the custom resources of the definitions in the cache."""

from __future__ import annotations

from dataclasses import dataclass

from portside.api.kinds import KINDS
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.pods import condition

CRDS: Resource = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")


@dataclass(frozen=True, slots=True)
class Served:
    """One resource, in one version."""

    resource: Resource
    kind: str
    namespaced: bool
    verbs: frozenset[str]

    @property
    def group(self) -> str:
        return self.resource[0]


def _built_in() -> tuple[Served, ...]:
    seen: set[tuple[str, str]] = set()
    found: list[Served] = []
    for kind in KINDS:
        place = (kind.group, kind.plural)
        if place in seen or place == ("events.k8s.io", "events"):
            continue  # an older version, or the same objects under another group
        seen.add(place)
        resource = (kind.group, kind.version, kind.plural)
        found.append(Served(resource, kind.kind, kind.namespaced, frozenset(kind.verbs)))
    return tuple(found)


BUILT_IN = _built_in()
EVERY_VERB = frozenset({"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"})


def of_definition(crd: Json) -> Served | None:
    """The custom resource of a definition, None until it is established."""
    found = condition(crd, "Established")
    if found is None or found.get("status") != "True":
        return None
    spec = crd["spec"]
    served = [v for v in spec.get("versions") or () if v.get("served")]
    if not served:
        return None
    version = next((v for v in served if v.get("storage")), served[0])["name"]
    names = (crd.get("status") or {}).get("acceptedNames") or spec["names"]
    resource = (spec["group"], version, names.get("plural") or spec["names"]["plural"])
    return Served(resource, names.get("kind") or spec["names"]["kind"], spec.get("scope") == "Namespaced", EVERY_VERB)


def all_served(view: View) -> list[Served]:
    """Everything, built-in first."""
    custom = [s for s in map(of_definition, view.all(CRDS)) if s is not None]
    return [*BUILT_IN, *custom]
