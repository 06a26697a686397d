"""What the service rules must do, worked out from Services and EndpointSlices. Pure."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

SERVICE_LABEL = "kubernetes.io/service-name"
PROXY_NAME_LABEL = "service.kubernetes.io/service-proxy-name"
HEADLESS_LABEL = "service.kubernetes.io/headless"


@dataclass(frozen=True, slots=True, order=True)
class Backend:
    """One address and port that traffic may go to. ``local`` says that it runs on this node."""

    address: str
    port: int
    local: bool


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of one Service with everything its rules need. Empty ``backends`` means that connections are refused.

    ``local_backends`` may be pods that are ending, when no others are left; ``local_ready`` counts ready pods only.
    """

    name: str
    protocol: str
    port: int
    cluster_ips: tuple[str, ...]
    load_balancer_ips: tuple[str, ...]
    source_ranges: tuple[str, ...]
    node_port: int
    backends: tuple[Backend, ...]
    local_backends: tuple[Backend, ...]
    local_ready: int
    health_port: int
    internal_local: bool
    external_local: bool
    affinity_seconds: int

    @property
    def chain(self) -> str:
        """A short stable name for chains and sets."""
        return hashlib.sha256(f"{self.name}/{self.protocol}".encode()).hexdigest()[:12]


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend with what decides whether it is taken. ``state``: "ready", or "terminating" while it still serves."""

    backend: Backend
    state: str
    zones: frozenset[str]
    nodes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Where:
    """The node that rules are made for."""

    node: str
    zone: str = ""


def _usable(endpoint: Json) -> str:
    """ "ready", "terminating" (still serving), or ""."""
    conditions = endpoint.get("conditions") or {}
    if conditions.get("ready", True) is not False:
        return "ready"
    if conditions.get("terminating") and conditions.get("serving"):
        return "terminating"
    return ""


def _candidates(slices: Iterable[Json], port_name: str, protocol: str, family: str, node: str) -> list[Candidate]:
    found = []
    for item in slices:
        if item.get("addressType") != family:
            continue
        for port in item.get("ports") or ():
            if (port.get("name") or "") != port_name or port.get("protocol", "TCP") != protocol or not port.get("port"):
                continue
            for endpoint in item.get("endpoints") or ():
                if not (state := _usable(endpoint)) or not endpoint.get("addresses"):
                    continue
                hints = endpoint.get("hints") or {}
                zones, nodes = (frozenset(h["name"] for h in hints.get(k) or ()) for k in ("forZones", "forNodes"))
                local = endpoint.get("nodeName") == node
                found.append(
                    Candidate(Backend(endpoint["addresses"][0], int(port["port"]), local), state, zones, nodes)
                )
    return found


def _best(candidates: Iterable[Candidate]) -> tuple[Backend, ...]:
    """Ready backends; when there are none, those that terminate but still serve (KEP-1669)."""
    candidates = list(candidates)
    for state in ("ready", "terminating"):
        if found := {c.backend for c in candidates if c.state == state}:
            return tuple(sorted(found))
    return ()


def _near(candidates: list[Candidate], where: Where) -> list[Candidate]:
    """Those hinted for this node, else for its zone (KEP-3015, KEP-4444); all when a ready one carries no such hint, or
    none is for us: hints that are incomplete must not cut traffic off."""
    ready = [c for c in candidates if c.state == "ready"]
    for name, hints in ((where.node, "nodes"), (where.zone, "zones")):
        near = [c for c in ready if name in getattr(c, hints)]
        if near and all(getattr(c, hints) for c in ready):
            return near
    return candidates


def version(obj: Json) -> int:
    """A number that differs between two states of objects: what was made of one holds while it is the same."""
    meta = obj["metadata"]
    return hash((meta.get("uid"), meta.get("resourceVersion") or id(obj), meta["name"]))


def group_slices(slices: Iterable[Json]) -> dict[tuple[str, str], list[Json]]:
    """Slices by the (namespace, name) of the Service they belong to."""
    grouped: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for item in slices:
        meta = item["metadata"]
        if owner := (meta.get("labels") or {}).get(SERVICE_LABEL):
            grouped[(meta["namespace"], owner)].append(item)
    return grouped


def ports_of(service: Json, slices: Iterable[Json], node: str, zone: str = "") -> list[ServicePort]:
    """The ports of one Service; none for ExternalName, headless (by address or by label), or what another proxy claims.
    Slices labelled headless carry no traffic either."""
    meta, spec = service["metadata"], service["spec"]
    if spec.get("type") == "ExternalName" or spec.get("clusterIP") in (None, "", "None"):
        return []
    if {PROXY_NAME_LABEL, HEADLESS_LABEL} & set(meta.get("labels") or ()):
        return []
    cluster_ips = [ip for ip in spec.get("clusterIPs") or [spec["clusterIP"]] if _family(ip) == "IPv4"]
    if not cluster_ips:
        return []
    slices = [s for s in slices if HEADLESS_LABEL not in (s["metadata"].get("labels") or ())]
    affinity = 0
    if spec.get("sessionAffinity") == "ClientIP":
        affinity = int(
            (((spec.get("sessionAffinityConfig") or {}).get("clientIP")) or {}).get("timeoutSeconds") or 10800
        )
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
    balancers = tuple(
        i["ip"] for i in ingress if i.get("ip") and i.get("ipMode", "VIP") == "VIP" and _family(i["ip"]) == "IPv4"
    )
    ports = []
    for port in spec.get("ports") or ():
        protocol = port.get("protocol", "TCP")
        candidates = _candidates(slices, port.get("name") or "", protocol, "IPv4", node)
        ports.append(
            ServicePort(
                name=f"{meta['namespace']}/{meta['name']}:{port.get('name') or port['port']}",
                protocol=protocol.lower(),
                port=int(port["port"]),
                cluster_ips=tuple(cluster_ips),
                load_balancer_ips=balancers,
                source_ranges=tuple(spec.get("loadBalancerSourceRanges") or ()),
                node_port=int(port.get("nodePort") or 0),
                backends=_best(_near(candidates, Where(node, zone))),
                local_backends=_best(c for c in candidates if c.backend.local),
                local_ready=len({c.backend.address for c in candidates if c.backend.local and c.state == "ready"}),
                health_port=int(spec.get("healthCheckNodePort") or 0),
                internal_local=spec.get("internalTrafficPolicy") == "Local",
                external_local=spec.get("externalTrafficPolicy") == "Local",
                affinity_seconds=affinity,
            )
        )
    return ports


@dataclass(frozen=True, slots=True)
class HostPort:
    """One container port published on the node. ``host_ip`` "" is every address."""

    host_ip: str
    protocol: str
    port: int
    pod_ip: str
    container_port: int


def host_ports(pods: Iterable[Json], node: str) -> list[HostPort]:
    """The host ports of the running pods of this node; host-network pods bind their own."""
    found = []
    for pod in pods:
        spec, status = pod["spec"], pod.get("status") or {}
        if (
            spec.get("nodeName") != node
            or spec.get("hostNetwork")
            or not status.get("podIP")
            or status.get("phase") in ("Succeeded", "Failed")
        ):
            continue
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            for port in container.get("ports") or ():
                if port.get("hostPort"):
                    host = port.get("hostIP") or ""
                    found.append(
                        HostPort(
                            "" if host == "0.0.0.0" else host,
                            port.get("protocol", "TCP").lower(),
                            int(port["hostPort"]),
                            status["podIP"],
                            int(port["containerPort"]),
                        )
                    )
    return sorted(found, key=lambda p: (p.protocol, p.port, p.host_ip))
