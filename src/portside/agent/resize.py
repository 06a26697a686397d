"""Changing cpu and memory of running containers: what is asked, allocated and applied, and what follows. Pure.

*Asked* is the spec, *allocated* what the node granted, *applied* what a running container has. The kubelet's rules:
a resize the node can never hold is Infeasible, one it can't hold now is Deferred, and both leave the pod as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from portside.agent.fit import over_capacity, shortage
from portside.agent.resources import amount

Json = dict[str, Any]
Allocation = dict[str, Json]  # container -> its resources
MUTABLE = ("cpu", "memory")
POD = ""  # the pod's own figures, beside those of its containers
FAMILIES = ("containers", "initContainers")
PENDING, IN_PROGRESS = "PodResizePending", "PodResizeInProgress"


@dataclass(frozen=True, slots=True)
class Pending:
    """A resize not granted: reason Deferred or Infeasible, why, and the pod's generation that asks for it."""

    reason: str
    message: str
    generation: int


@dataclass(slots=True)
class ResizeState:
    """Where a pod's resize stands. ``generation`` 0: none is under way."""

    allocated: Allocation | None = None
    applied: Allocation | None = None  # by container id
    pending: Pending | None = None
    generation: int = 0
    error: str = ""


def asked(pod: Json) -> Allocation:
    """The resources of every container that can be resized, and the pod's own."""
    found = {c["name"]: c.get("resources") or {} for family in FAMILIES for c in pod["spec"].get(family) or ()}
    if pod["spec"].get("resources"):
        found[POD] = pod["spec"]["resources"]
    return found


def changed(before: Json, after: Json) -> set[str]:
    """Of cpu and memory those whose request or limit differs in value."""
    found = set()
    for kind in ("requests", "limits"):
        mine, theirs = before.get(kind) or {}, after.get(kind) or {}
        found |= {n for n in MUTABLE if amount(mine.get(n, "0")) != amount(theirs.get(n, "0"))}
    return found


def differs(one: Allocation, other: Allocation) -> bool:
    return any(changed(resources, other.get(name, {})) for name, resources in one.items())


def with_allocation(pod: Json, allocation: Allocation | None) -> Json:
    """The pod as the node runs it."""
    if allocation is None or allocation == asked(pod):
        return pod
    spec = dict(pod["spec"])
    for family in FAMILIES:
        if family in spec:
            spec[family] = [
                {**c, "resources": allocation[c["name"]]} if c["name"] in allocation else c for c in spec[family] or ()
            ]
    if POD in allocation:
        spec["resources"] = allocation[POD]
    return {**pod, "spec": spec}


def reported(pod: Json) -> tuple[Allocation, Allocation]:
    """(allocated, applied by container id) as the pod's status tells them, for an agent that was restarted."""
    allocated, applied = asked(pod), {}
    if POD in allocated and (told := (pod.get("status") or {}).get("resources")):
        allocated[POD] = told
    for family in ("containerStatuses", "initContainerStatuses"):
        for item in (pod.get("status") or {}).get(family) or ():
            if "resources" in item and "running" in (item.get("state") or {}):
                allocated[item["name"]] = item["resources"]
                applied[item["containerID"].partition("://")[2]] = item["resources"]
    return allocated, applied


def judged(pod: Json, others: Iterable[Json], allocatable: Mapping[str, str]) -> Pending | None:
    """Why the pod can't have what it asks; None when it can."""
    generation = int(pod["metadata"].get("generation") or 0)
    if problem := over_capacity(pod, allocatable):
        return Pending("Infeasible", problem, generation)
    if (lack := shortage(pod, others, allocatable)) is not None:
        return Pending("Deferred", lack.text, generation)
    return None


def needs_restart(container: Json, what: set[str]) -> bool:
    """Whether the container's resizePolicy wants a restart for a change of ``what``."""
    policies = {p["resourceName"]: p.get("restartPolicy") for p in container.get("resizePolicy") or ()}
    return any(policies.get(name) == "RestartContainer" for name in what)


def lowered(before: Json, after: Json) -> int:
    """The new memory limit in bytes when it is below the old one, else 0."""
    old, new = (before.get("limits") or {}).get("memory"), (after.get("limits") or {}).get("memory")
    return int(amount(new)) if new and (not old or amount(new) < amount(old)) else 0


def conditions(state: ResizeState) -> list[Json]:
    """The pod's resize conditions, without times."""
    found: list[Json] = []
    if (pending := state.pending) is not None:
        found.append(
            {
                "type": PENDING,
                "status": "True",
                "reason": pending.reason,
                "message": pending.message,
                "observedGeneration": pending.generation,
            }
        )
    if state.generation:
        progress: Json = {"type": IN_PROGRESS, "status": "True", "observedGeneration": state.generation}
        if state.error:
            progress |= {"reason": "Error", "message": state.error}
        found.append(progress)
    return found
