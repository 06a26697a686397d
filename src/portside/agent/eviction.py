"""Ending pods before the node itself suffers: which signal is over its threshold, and which pod goes first. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from portside.agent.names import MIRROR_ANNOTATION
from portside.agent.resources import amount, pod_total

Json = dict[str, Any]
CRITICAL = 2_000_000_000  # priority from which on a pod of the node itself is never evicted here
FAMILIES = ("containers", "initContainers")


@dataclass(frozen=True, slots=True)
class Signal:
    """What is left of something, in bytes (or a count), and how little is too little."""

    resource: str  # as in requests: memory, ephemeral-storage, pids
    noun: str  # as messages name it: memory, ephemeral-storage
    threshold: int
    available: int

    @property
    def over(self) -> bool:
        return self.available < self.threshold


@dataclass(frozen=True, slots=True)
class Use:
    """One pod's use of a resource: in all, and per container."""

    total: int
    containers: Mapping[str, int]


def shown(size: int) -> str:
    """Bytes as Kubernetes prints them: the largest binary unit that leaves a whole number."""
    for unit in ("", "Ki", "Mi", "Gi", "Ti"):
        if size % 1024 or not size or unit == "Ti":
            return f"{size}{unit}"
        size //= 1024
    return str(size)


def ranked(pods: Iterable[Json], use: Mapping[str, Use], resource: str) -> list[Json]:
    """Who goes first: those above their request, then the lower priority, then the most above it. By uid of ``use``."""

    def key(pod: Json) -> tuple[bool, int, Decimal]:
        used = Decimal(use.get(pod["metadata"]["uid"], Use(0, {})).total)
        above = used - pod_total(pod, "requests").get(resource, Decimal(0))
        return above <= 0, int(pod["spec"].get("priority") or 0), -above

    mild = (p for p in pods if int(p["spec"].get("priority") or 0) < CRITICAL and not _static(p))
    return sorted(mild, key=key)


def _static(pod: Json) -> bool:
    return MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {})


def message(signal: Signal, pod: Json, use: Use | None) -> str:
    """Why the pod was evicted, naming the containers that use more than they asked for."""
    text = (
        f"The node was low on resource: {signal.noun}. Threshold quantity: {shown(signal.threshold)}, "
        f"available: {shown(signal.available)}. "
    )
    for family in FAMILIES:
        for container in pod["spec"].get(family) or ():
            used = (use.containers if use else {}).get(container["name"], 0)
            asked = ((container.get("resources") or {}).get("requests") or {}).get(signal.resource, "0")
            if used > amount(asked):
                text += (
                    f"Container {container['name']} was using {shown(used)}, request is {asked}, "
                    f"has larger consumption of {signal.noun}. "
                )
    return text


def local_limit(pod: Json, disk: Mapping[str, int], volumes: Mapping[str, int]) -> str:
    """Which limit of local storage the pod exceeds; "" when none. ``disk`` per container, ``volumes`` per emptyDir."""
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if limit and volumes.get(volume["name"], 0) > amount(limit):
            return f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". '
    for container in pod["spec"]["containers"]:
        limit = ((container.get("resources") or {}).get("limits") or {}).get("ephemeral-storage")
        if limit and disk.get(container["name"], 0) > amount(limit):
            return f'Container {container["name"]} exceeded its local ephemeral storage limit "{limit}". '
    whole = pod_total(pod, "limits").get("ephemeral-storage")
    if whole is not None and sum(disk.values()) + sum(volumes.values()) > whole:
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {shown(int(whole))}. "
    return ""


def limited(pod: Json) -> bool:
    """Whether local storage of the pod is limited at all, so that it must be measured."""
    if any((v.get("emptyDir") or {}).get("sizeLimit") for v in pod["spec"].get("volumes") or ()):
        return True
    return any(
        "ephemeral-storage" in ((c.get("resources") or {}).get("limits") or {}) for c in pod["spec"]["containers"]
    )


def first_over(signals: Sequence[Signal]) -> Signal | None:
    """The signal to act on: memory before disk."""
    return next((s for s in signals if s.over), None)
