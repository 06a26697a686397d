"""Requests and limits as cgroup figures, QoS classes and out-of-memory scores (figures as the kubelet computes them)."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

from portside.agent.runtime import Limits

Json = dict[str, Any]
SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}
PERIOD = 100_000  # microseconds
MIN_SHARES, MAX_SHARES = 2, 262_144
MIN_QUOTA = 1_000  # microseconds
GUARANTEED_OOM, BEST_EFFORT_OOM = -997, 1000


def amount(text: Any) -> Decimal:
    """A quantity's value. Raises ValueError when it is none; the API server refuses those before."""
    raw = str(text)
    for size in (2, 1, 0):
        suffix = raw[len(raw) - size :] if size else ""
        if suffix in SUFFIXES and len(raw) > size:
            try:
                return Decimal(raw[: len(raw) - size] if size else raw) * SUFFIXES[suffix]
            except InvalidOperation:
                continue
    raise ValueError(f"not a quantity: {raw}")


def whole(text: Any) -> int:
    """Rounded up to whole units (bytes)."""
    value = amount(text)
    return int(value.to_integral_value("ROUND_CEILING"))


def milli(text: Any) -> int:
    """Thousandths, rounded up."""
    return int((amount(text) * 1000).to_integral_value("ROUND_CEILING"))


def shares(milli_cpu: int) -> int:
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000)) if milli_cpu else MIN_SHARES


def quota(milli_cpu: int) -> int:
    return max(MIN_QUOTA, milli_cpu * PERIOD // 1000) if milli_cpu else 0


def qos_class(pod: Json) -> str:
    """Guaranteed, Burstable or BestEffort; what the API says when it says it."""
    if said := pod.get("status", {}).get("qosClass"):
        return str(said)
    requests: set[str] = set()
    guaranteed = True
    spec = pod["spec"]
    for container in (*spec.get("initContainers", ()), *spec["containers"]):
        resources = container.get("resources") or {}
        limits, wants = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, want = limits.get(name), wants.get(name, limits.get(name))
            if limit or want:
                requests.add(name)
            if not limit or amount(limit) != amount(want):
                guaranteed = False
    if not requests:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def oom_score(pod: Json, container: Json, memory_capacity: int) -> int:
    """The container's oom_score_adj: the smaller its share of the request, the likelier it is chosen."""
    qos = qos_class(pod)
    if pod["spec"].get("priority", 0) >= 2_000_000_000 or qos == "Guaranteed":
        return GUARANTEED_OOM
    if qos == "BestEffort":
        return BEST_EFFORT_OOM
    resources = container.get("resources") or {}
    wanted = (resources.get("requests") or {}).get("memory") or (resources.get("limits") or {}).get("memory") or 0
    score = 1000 - 1000 * whole(wanted) // max(1, memory_capacity)
    return max(3, min(999, score))


def container_limits(pod: Json, container: Json, memory_capacity: int) -> Limits:
    """Cgroup figures of one container; a request missing is taken from the limit."""
    resources = container.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    cpu = requests.get("cpu", limits.get("cpu", 0))
    return Limits(
        cpu_period=PERIOD,
        cpu_quota=quota(milli(limits["cpu"])) if limits.get("cpu") else 0,
        cpu_shares=shares(milli(cpu)),
        memory=whole(limits["memory"]) if limits.get("memory") else 0,
        oom_score=oom_score(pod, container, memory_capacity),
    )


def pod_total(pod: Json, kind: str) -> dict[str, Decimal]:
    """The pod's requests or limits: containers and sidecars summed, at least the largest init step, plus overhead.

    Pod-level figures win. A limit counts only when every container states it.
    """
    spec = pod["spec"]
    stated = ((spec.get("resources") or {}).get(kind)) or {}
    everyone = (*spec["containers"], *(spec.get("initContainers") or ()))
    total: dict[str, Decimal] = {}
    peak: dict[str, Decimal] = {}
    sidecars: dict[str, Decimal] = {}
    for container in spec.get("initContainers") or ():
        own = _figures(container, kind)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            step = dict(sidecars)
        else:
            step = dict(sidecars)
            _add(step, own)
        peak = {name: max(peak.get(name, Decimal(0)), step.get(name, Decimal(0))) for name in peak | step}
    for container in spec["containers"]:
        _add(total, _figures(container, kind))
    _add(total, sidecars)
    total = {name: max(total.get(name, Decimal(0)), peak.get(name, Decimal(0))) for name in total | peak}
    if kind == "limits":
        total = {n: v for n, v in total.items() if all(n in _figures(c, kind) for c in everyone)}
    total |= {name: amount(text) for name, text in stated.items()}
    for name, text in (spec.get("overhead") or {}).items():
        if kind == "requests" or name in total:
            total[name] = total.get(name, Decimal(0)) + amount(text)
    return total


def _figures(container: Json, kind: str) -> dict[str, Decimal]:
    return {name: amount(text) for name, text in ((container.get("resources") or {}).get(kind) or {}).items()}


def _add(total: dict[str, Decimal], more: dict[str, Decimal]) -> None:
    for name, value in more.items():
        total[name] = total.get(name, Decimal(0)) + value


def cgroup_parent(pod: Json, root: str = "/kubepods") -> str:
    """The pod's cgroup: /kubepods[/burstable|/besteffort]/pod<uid>."""
    qos = qos_class(pod)
    middle = "" if qos == "Guaranteed" else "/" + qos.lower()
    return f"{root}{middle}/pod{pod['metadata']['uid']}"
