"""Gangs: pods of a PodGroup that get their nodes all together or not at all. Pure but for the snapshot given.

The rules and words are those of upstream's plugin GangScheduling: a gang waits until ``minCount`` of its pods exist; one
decision places as many of them as find room; with fewer than ``minCount`` nothing of it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from portside.scheduler import preemption
from portside.scheduler.cycle import Placed, Unplaced
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import Snapshot

Json = dict[str, Any]
ABSENT = "waiting for pods's pod group {0} to appear in scheduling queue"
FEW = "waiting for minCount pods from a gang to appear in scheduling queue"


@dataclass(frozen=True, slots=True)
class Group:
    """A PodGroup. ``least`` pods are needed at once, 0 when its pods are scheduled one by one; ``whole``: who evicts one
    evicts all."""

    key: str
    least: int
    whole: bool
    priority: int
    object: Json

    @property
    def spec(self) -> Json:
        spec: Json = self.object["spec"]
        return spec

    @classmethod
    def of(cls, obj: Json) -> Group:
        meta, spec = obj["metadata"], obj["spec"]
        gang = (spec.get("schedulingPolicy") or {}).get("gang") or {}
        whole = "all" in (spec.get("disruptionMode") or {})
        key = f"{meta['namespace']}/{meta['name']}"
        return cls(key, int(gang.get("minCount") or 0), whole, int(spec.get("priority") or 0), obj)


@dataclass(slots=True)
class Attempt:
    """What one decision for a gang came to. ``message`` is "" when it stands; else ``fitting`` found room in vain."""

    placed: list[PodInfo] = field(default_factory=list)
    fitting: list[PodInfo] = field(default_factory=list)
    refused: list[tuple[PodInfo, Unplaced]] = field(default_factory=list)
    message: str = ""


@dataclass(frozen=True, slots=True)
class Hands:
    """How pods are put on nodes: ``decide`` looks for one, ``put`` counts the pod there, ``take`` undoes that."""

    decide: Callable[[PodInfo], Placed | Unplaced]
    put: Callable[[PodInfo, str], None]
    take: Callable[[PodInfo], None]


def progress(least: int, scheduled: int, remaining: int) -> tuple[str, bool]:
    """Upstream's words for how far a gang is, "" when it has enough; whether it can still get there."""
    so_far = f"{scheduled} scheduled, {remaining} remaining"
    if scheduled + remaining < least:
        return f"minCount ({least}) cannot be satisfied: {so_far}", False
    if scheduled < least:
        return f"minCount ({least}) is not yet satisfied: {so_far}", True
    return "", True


def mismatch(members: Sequence[PodInfo], group: Group) -> str:
    """What the pods of a group have to have in common and have not; "" when all is well."""
    first = members[0]
    for pod in members:
        if pod.scheduler != first.scheduler:
            return (
                "all pods in a single pod group should have the same .spec.schedulerName set, got: "
                f'"{pod.scheduler}" and "{first.scheduler}"'
            )
        if pod.priority != group.priority:
            return (
                "all pods in a single pod group should have the same priority as the pod group's priority, got "
                f"{pod.priority} and {group.priority}"
            )
        if pod.never_preempts != first.never_preempts:
            policies = [("PreemptLowerPriority", "Never")[p.never_preempts] for p in (pod, first)]
            return (
                f"all pods in a single pod group should have the same preemption policy, got {' and '.join(policies)}"
            )
    return ""


def attempt(group: Group, members: Sequence[PodInfo], scheduled: int, hands: Hands) -> Attempt:
    """Place the members one after the other; what was placed is taken back when it is not enough."""
    made = Attempt()
    remaining = len(members)
    made.message, possible = progress(group.least, scheduled, remaining)
    for pod in members:
        if not possible:
            break
        found = hands.decide(pod)
        remaining -= 1
        if isinstance(found, Placed):
            hands.put(pod, found.node)
            made.placed.append(pod)
        else:
            made.refused.append((pod, found))
        made.message, possible = progress(group.least, scheduled + len(made.placed), remaining)
    if made.message:
        for pod in made.placed:
            hands.take(pod)
        made.fitting, made.placed = made.placed, []
    return made


def companions_in(snapshot: Snapshot, groups: dict[str, Group]) -> preemption.Companions:
    """Who goes with a victim: the other placed pods of its group, when the group is only ever disrupted as a whole."""

    def others(pod: PodInfo) -> list[PodInfo]:
        group = groups.get(pod.group) if pod.group else None
        if group is None or not group.whole:
            return []
        return [snapshot.pods[uid][0] for uid in snapshot.groups.get(pod.group, ()) if uid != pod.uid]

    return others
