"""Whether a pod fits beside the others on the node: for pods that come and for those that grow. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from portside.agent.resources import amount, pod_total

Json = dict[str, Any]
CHECKED = ("cpu", "memory", "ephemeral-storage")


@dataclass(frozen=True, slots=True)
class Shortage:
    """A resource that does not suffice; cpu in thousandths, the rest in units."""

    resource: str
    requested: int
    used: int
    capacity: int

    @property
    def text(self) -> str:
        """As the kubelet says it."""
        return (
            f"Node didn't have enough resource: {self.resource}, requested: {self.requested}, "
            f"used: {self.used}, capacity: {self.capacity}"
        )


def scaled(resource: str, value: Decimal) -> int:
    """A figure as messages show it."""
    return int((value * 1000 if resource == "cpu" else value).to_integral_value("ROUND_CEILING"))


def active(pod: Json) -> bool:
    """Whether it still holds what it asked for."""
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def shortage(pod: Json, others: Iterable[Json], allocatable: Mapping[str, str]) -> Shortage | None:
    """The first resource of which the others leave too little; None when the pod fits. Extended resources that the node
    itself does not offer are somebody else's, who wrote them into the Node: the scheduler alone counts them, as upstream."""
    wanted = pod_total(pod, "requests")
    used: dict[str, Decimal] = {}
    count = 0
    for other in others:
        count += 1
        for name, value in pod_total(other, "requests").items():
            used[name] = used.get(name, Decimal(0)) + value
    if count + 1 > int(allocatable.get("pods", "0")):
        return Shortage("pods", 1, count, int(allocatable.get("pods", "0")))
    extra = sorted(n for n in wanted if "/" in n and n in allocatable)
    for name in (*CHECKED, *extra):
        want, capacity = wanted.get(name, Decimal(0)), amount(allocatable.get(name, "0"))
        if want and want + used.get(name, Decimal(0)) > capacity:
            return Shortage(name, *(scaled(name, v) for v in (want, used.get(name, Decimal(0)), capacity)))
    return None


def over_capacity(pod: Json, allocatable: Mapping[str, str]) -> str:
    """Why the node could not hold the pod even alone; "" when it could."""
    wanted = pod_total(pod, "requests")
    for name in ("memory", "cpu"):
        capacity = amount(allocatable.get(name, "0"))
        if wanted.get(name, Decimal(0)) > capacity:
            return (
                f"Node didn't have enough capacity: {name}, requested: {scaled(name, wanted[name])}, "
                f"capacity: {scaled(name, capacity)}"
            )
    return ""
