"""Default spreading: which pods are a pod's siblings, by its services and its controller.

A pod without spread constraints of its own is spread softly over hosts and zones among its siblings, as upstream does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from portside.base.remembered import Remembered
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.profile import Profile
from portside.scheduler.terms import Spread, canonical

Json = dict[str, Any]
CONTROLLERS = {
    "ReplicationController": "replicationcontrollers",
    "ReplicaSet": "replicasets",
    "StatefulSet": "statefulsets",
}
SELECTORS = 1024  # selectors of siblings remembered, in each of two generations


class Owners:
    """``read(plural)`` gives a cache of objects by ``namespace/name``, ``services(namespace)`` its services."""

    def __init__(self, read: Callable[[str], Mapping[str, Json]], services: Callable[[str], Iterable[Json]]) -> None:
        self.read = read
        self.services = services
        self._made: Remembered[tuple[str, str], tuple[Spread, ...]] = Remembered(SELECTORS)

    def spread(self, pod: PodInfo, profile: Profile) -> tuple[Spread, ...]:
        """The profile's default constraints over the pod's siblings; none without services and controllers."""
        if not profile.spread_by:
            return ()
        selector = self._siblings(pod)
        if not selector:
            return ()
        key = profile.name, canonical(selector)
        found = self._made.get(key)
        if found is None:
            found = tuple(replace(s, selector=key[1]) for s in profile.spread_by)
            self._made.put(key, found)
        return found

    def _siblings(self, pod: PodInfo) -> Json:
        match: dict[str, str] = {}
        for service in self.services(pod.namespace):
            chosen = (service.get("spec") or {}).get("selector")
            if chosen and chosen.items() <= pod.labels.items():
                match |= chosen
        expressions: list[Json] = []
        for owner in pod.object["metadata"].get("ownerReferences") or ():
            if not owner.get("controller") or owner.get("kind") not in CONTROLLERS:
                continue
            found = self.read(CONTROLLERS[owner["kind"]]).get(f"{pod.namespace}/{owner['name']}")
            chosen = ((found or {}).get("spec") or {}).get("selector") or {}
            if owner["kind"] == "ReplicationController":
                match |= chosen
            else:
                match |= chosen.get("matchLabels") or {}
                expressions += chosen.get("matchExpressions") or ()
        if not match and not expressions:
            return {}
        made: Json = {"matchLabels": match}
        return made | {"matchExpressions": expressions} if expressions else made
