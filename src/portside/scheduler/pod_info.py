"""What the scheduler needs of a pod, read once from its object."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any
from weakref import WeakValueDictionary

import orjson

from portside.api.quantity import milli, value
from portside.scheduler.disks import Disk, disks_of
from portside.scheduler.terms import NodeTerm, PodTerm, Spread, Toleration

Json = dict[str, Any]

# Upstream's stand-in requests of containers that ask for nothing, used for scoring only.
DEFAULT_CPU_MILLI = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024


@dataclass(slots=True, eq=False, weakref_slot=True)
class Shape:
    """All that decides where a pod may go, but for its labels, claims and priority. Equal pods share one.

    ``requests`` maps resource to amount (cpu in milli, others in whole units).
    """

    namespace: str
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

    def asks_like(self, other: Shape) -> bool:
        """Whether another shape may go to the same nodes; images do not decide that."""
        if self is other:
            return True
        return all(getattr(self, name) == getattr(other, name) for name in DECIDING)

    @property
    def limits_nodes(self) -> bool:
        """Whether a nodeSelector or required node affinity is there."""
        return bool(self.node_selector) or self.node_terms is not None


@dataclass(slots=True, eq=False)
class PodInfo:
    """A pod as the scheduler sees it. ``node_name`` is where it is, or is assumed to be."""

    uid: str
    namespace: str
    name: str
    labels: dict[str, str]
    priority: int
    node_name: str
    shape: Shape
    claims: tuple[str, ...]
    devices: tuple[str, ...]
    terminating: bool
    never_preempts: bool
    started: str
    nominated: str
    scheduler: str
    object: Json
    default_spread: tuple[Spread, ...] = ()
    group: str = ""  # the key of its PodGroup
    disks: tuple[Disk, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def requests(self) -> dict[str, int]:
        return self.shape.requests

    @property
    def mounts(self) -> bool:
        """Whether the filters of volumes matter to it."""
        return bool(self.claims or self.disks)

    def asks_like(self, other: PodInfo) -> bool:
        """Whether another state of the same pod may go where this one may."""
        mine, theirs = (self.uid, self.labels, self.devices), (other.uid, other.labels, other.devices)
        return mine == theirs and self.shape.asks_like(other.shape)


DECIDING = tuple(f.name for f in fields(Shape) if f.name not in ("images", "nonzero_cpu", "nonzero_memory"))


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


SHAPES: WeakValueDictionary[bytes, Shape] = WeakValueDictionary()


def _claims(spec: Json, name: str) -> tuple[str, ...]:
    """Names of the volume claims; a generic ephemeral volume has a claim named after pod and volume."""
    found = []
    for volume in spec.get("volumes") or ():
        if claim := volume.get("persistentVolumeClaim"):
            found.append(claim["claimName"])
        elif "ephemeral" in volume:
            found.append(f"{name}-{volume['name']}")
    return tuple(found)


def _devices(pod: Json) -> tuple[str, ...]:
    """Names of the resource claims: as said, or as the claim controller recorded them in the status."""
    made = {s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    found = []
    for claim in pod["spec"].get("resourceClaims") or ():
        name = claim.get("resourceClaimName")
        if name is None and claim["name"] in made:
            name = made[claim["name"]]
            if name is None:  # the template gave no claim: nothing to wait for
                continue
        found.append(name or "")
    return tuple(found)


def _resized(pod: Json) -> bool:
    """Whether a container has or is given other resources than its specification says (in-place resize)."""
    wanted = {c["name"]: (c.get("resources") or {}).get("requests") or {} for c in pod["spec"].get("containers") or ()}
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        for held in (status.get("allocatedResources"), (status.get("resources") or {}).get("requests")):
            if held is not None and held != wanted.get(status.get("name"), held):
                return True
    return False


def with_allocated(pod: Json) -> Json:
    """The specification with each container's requests raised to what the node holds for it during a resize."""
    spec = pod["spec"]
    held = {s["name"]: s for s in (pod.get("status") or {}).get("containerStatuses") or ()}
    containers = []
    for container in spec["containers"]:
        status = held.get(container["name"], {})
        requests = dict((container.get("resources") or {}).get("requests") or {})
        for more in (status.get("allocatedResources") or {}, (status.get("resources") or {}).get("requests") or {}):
            for name, text in more.items():
                if name not in requests or value(text) > value(requests[name]) or milli(text) > milli(requests[name]):
                    requests[name] = text
        containers.append({**container, "resources": {"requests": requests}})
    return {**spec, "containers": containers}


def _container_key(container: Json) -> tuple[Any, ...]:
    return container.get("image"), container.get("resources"), container.get("ports"), container.get("restartPolicy")


def shape_of(namespace: str, spec: Json) -> Shape:
    """The shared shape of a specification."""
    key = orjson.dumps(
        (
            namespace,
            [_container_key(c) for c in spec.get("containers") or ()],
            [_container_key(c) for c in spec.get("initContainers") or ()],
            spec.get("overhead"),
            spec.get("resources"),
            spec.get("nodeSelector"),
            spec.get("affinity"),
            spec.get("tolerations"),
            spec.get("topologySpreadConstraints"),
        )
    )
    found = SHAPES.get(key)
    if found is None:
        found = SHAPES[key] = _read_shape(namespace, spec)
    return found


def _read_shape(namespace: str, spec: Json) -> Shape:
    affinity = spec.get("affinity") or {}
    nodes = affinity.get("nodeAffinity") or {}
    required = nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    requests, cpu, memory = pod_requests(spec)
    return Shape(
        namespace=namespace,
        requests=requests,
        nonzero_cpu=cpu,
        nonzero_memory=memory,
        tolerations=tuple(
            Toleration(t.get("key") or "", t.get("operator") or "Equal", t.get("value") or "", t.get("effect") or "")
            for t in spec.get("tolerations") or ()
        ),
        node_selector=tuple(sorted((spec.get("nodeSelector") or {}).items())),
        node_terms=None if required is None else tuple(NodeTerm.of(t) for t in required.get("nodeSelectorTerms") or ()),
        node_preferred=tuple(
            (int(p["weight"]), NodeTerm.of(p["preference"]))
            for p in nodes.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        ),
        affinity=_required(affinity, "podAffinity", namespace),
        anti_affinity=_required(affinity, "podAntiAffinity", namespace),
        preferred=_preferred(affinity, namespace),
        spread=Spread.all_of(spec.get("topologySpreadConstraints") or []),
        ports=_host_ports(spec),
        images=tuple(c.get("image", "") for c in spec.get("containers") or ()),
    )


def read_pod(pod: Json) -> PodInfo:
    """Read a Pod object. Costs some microseconds; keep the result."""
    meta, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    namespace, name = meta.get("namespace", ""), meta["name"]
    node_name = spec.get("nodeName") or ""
    shown = with_allocated(pod) if node_name and status.get("containerStatuses") and _resized(pod) else spec
    return PodInfo(
        uid=meta.get("uid", ""),
        namespace=namespace,
        name=name,
        labels=meta.get("labels") or {},
        priority=int(spec.get("priority") or 0),
        node_name=node_name,
        shape=shape_of(namespace, shown),
        claims=_claims(spec, name) if "volumes" in spec else (),
        devices=_devices(pod) if "resourceClaims" in spec else (),
        terminating="deletionTimestamp" in meta and bool(meta["deletionTimestamp"]),
        never_preempts=spec.get("preemptionPolicy") == "Never",
        started=status.get("startTime") or "",
        nominated=status.get("nominatedNodeName") or "",
        scheduler=spec.get("schedulerName") or "default-scheduler",
        object=pod,
        group=f"{namespace}/{spec['schedulingGroup'].get('podGroupName', '')}" if "schedulingGroup" in spec else "",
        disks=disks_of(spec["volumes"] or ()) if "volumes" in spec else (),
    )


def changed(old: Json, new: Json) -> bool:
    """Whether something of a placed pod that a decision looks at changed (its status alone hardly ever does); of its deletion
    only that it began."""
    was, now = old["metadata"], new["metadata"]
    return (
        old["spec"] != new["spec"]
        or was.get("labels") != now.get("labels")
        or bool(was.get("deletionTimestamp")) != bool(now.get("deletionTimestamp"))
        or _held(old) != _held(new)
    )


def _held(pod: Json) -> list[object]:
    """Resources the node holds for the containers: they differ from the specification during a resize."""
    return [
        (s.get("allocatedResources"), (s.get("resources") or {}).get("requests"))
        for s in (pod.get("status") or {}).get("containerStatuses") or ()
    ]
