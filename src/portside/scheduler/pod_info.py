"""What the scheduler needs of a pod, read once from its object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portside.api.quantity import milli, value
from portside.scheduler.terms import NodeTerm, PodTerm, Spread, Toleration, canonical

Json = dict[str, Any]

# Upstream's stand-in requests of containers that ask for nothing, used for scoring only.
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024


@dataclass(slots=True)
class PodInfo:
    """A pod as the scheduler sees it. ``requests`` maps resource to amount (cpu in milli, others in whole units)."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    priority: int
    node_name: str
    requests: dict[str, int]
    nonzero_cpu: int
    nonzero_memory: int
    tolerations: tuple[Toleration, ...]
    node_selector: tuple[tuple[str, str], ...]
    node_terms: tuple[NodeTerm, ...] | None
    node_preferred: tuple[tuple[int, NodeTerm], ...]
    affinity: tuple[PodTerm, ...]
    anti_affinity: tuple[PodTerm, ...]
    preferred: tuple[PodTerm, ...]
    spread: tuple[Spread, ...]
    ports: tuple[tuple[str, str, int], ...]
    images: tuple[str, ...]
    claims: tuple[str, ...]
    terminating: bool
    static_key: str
    object: Json

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"


def pod_requests(spec: Json) -> tuple[dict[str, int], int, int]:
    """Effective requests of a pod and its cpu and memory for scoring.

    Sum of containers and sidecars, at least the largest init step, plus overhead; pod-level requests win
    (KEP-753, KEP-2837).
    """
    total: dict[str, int] = {}
    nonzero = [0, 0]
    for container in spec.get("containers") or ():
        own = _requests(container)
        _add(total, own)
        nonzero[0] += own.get("cpu", DEFAULT_CPU_MILLI)
        nonzero[1] += own.get("memory", DEFAULT_MEMORY_BYTES)
    if inits := spec.get("initContainers"):
        _add_inits(total, inits)
    for name, amount in _amounts(((spec.get("resources") or {}).get("requests")) or {}).items():
        total[name] = amount
    if overhead := spec.get("overhead"):
        _add(total, _amounts(overhead))
    return total, max(nonzero[0], total.get("cpu", 0)), max(nonzero[1], total.get("memory", 0))


def _add_inits(total: dict[str, int], inits: list[Json]) -> None:
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in inits:
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(sidecars, own)
            step = dict(sidecars)
        else:
            step = dict(sidecars)
            _add(step, own)
        for name, amount in step.items():
            peak[name] = max(peak.get(name, 0), amount)
    _add(total, sidecars)
    for name, amount in peak.items():
        total[name] = max(total.get(name, 0), amount)


def _requests(container: Json) -> dict[str, int]:
    resources = container.get("resources")
    return _amounts(resources.get("requests") or {}) if resources else {}


def _amounts(quantities: Json) -> dict[str, int]:
    return {name: milli(text) if name == "cpu" else value(text) for name, text in quantities.items()}


def _add(total: dict[str, int], more: dict[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _host_ports(spec: Json) -> tuple[tuple[str, str, int], ...]:
    found = []
    for container in [
        *(spec.get("containers") or ()),
        *(c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"),
    ]:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                found.append((port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), int(port["hostPort"])))
    return tuple(found)


def _preferred(affinity: Json, namespace: str) -> tuple[PodTerm, ...]:
    found = []
    for name, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for weighted in (affinity.get(name) or {}).get("preferredDuringSchedulingIgnoredDuringExecution") or ():
            found.append(PodTerm.of(weighted["podAffinityTerm"], namespace, sign * int(weighted["weight"])))
    return tuple(found)


def _required(affinity: Json, name: str, namespace: str) -> tuple[PodTerm, ...]:
    terms = (affinity.get(name) or {}).get("requiredDuringSchedulingIgnoredDuringExecution") or ()
    return tuple(PodTerm.of(term, namespace) for term in terms)


def read_pod(pod: Json) -> PodInfo:
    """Read a Pod object. Costs some tens of microseconds; keep the result."""
    meta, spec = pod["metadata"], pod["spec"]
    namespace = meta.get("namespace", "")
    affinity = spec.get("affinity") or {}
    node_affinity = affinity.get("nodeAffinity") or {}
    required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    requests, cpu, memory = pod_requests(spec)
    selector = spec.get("nodeSelector") or {}
    tolerations = spec.get("tolerations") or ()
    return PodInfo(
        uid=meta.get("uid", ""),
        namespace=namespace,
        name=meta["name"],
        labels=meta.get("labels") or {},
        priority=int(spec.get("priority") or 0),
        node_name=spec.get("nodeName") or "",
        requests=requests,
        nonzero_cpu=cpu,
        nonzero_memory=memory,
        tolerations=tuple(
            Toleration(t.get("key") or "", t.get("operator") or "Equal", t.get("value") or "", t.get("effect") or "")
            for t in tolerations
        ),
        node_selector=tuple(sorted(selector.items())),
        node_terms=None if required is None else tuple(NodeTerm.of(t) for t in required.get("nodeSelectorTerms") or ()),
        node_preferred=tuple(
            (int(p["weight"]), NodeTerm.of(p["preference"]))
            for p in node_affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        affinity=_required(affinity, "podAffinity", namespace),
        anti_affinity=_required(affinity, "podAntiAffinity", namespace),
        preferred=_preferred(affinity, namespace),
        spread=tuple(Spread.of(c) for c in spec.get("topologySpreadConstraints") or ()),
        ports=_host_ports(spec),
        images=tuple(c.get("image", "") for c in spec.get("containers") or ()),
        claims=tuple(
            v["persistentVolumeClaim"]["claimName"] for v in spec.get("volumes") or () if v.get("persistentVolumeClaim")
        ),
        terminating=bool(meta.get("deletionTimestamp")),
        static_key=canonical([selector, node_affinity, tolerations])
        if selector or node_affinity or tolerations
        else "",
        object=pod,
    )
