"""Which UDP flows the kernel must forget when rules change: it would send them to a pod that is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from portside.net.services import Backend, HostPort, ServicePort

Flow = tuple[str, ...]  # words for ``conntrack -D``


def _fronts(port: ServicePort) -> list[Flow]:
    """How clients reach a service port."""
    found: list[Flow] = [
        ("--orig-dst", address, "--orig-port-dst", str(port.port))
        for address in (*port.cluster_ips, *port.load_balancer_ips)
    ]
    if port.node_port:
        found.append(("--orig-port-dst", str(port.node_port)))
    return found


def _every(port: ServicePort) -> set[Backend]:
    """All backends that flows may go to: with a Local policy also pods of this node that are ending."""
    return {*port.backends, *port.local_backends}


def _ways(port: ServicePort) -> tuple[int, int]:
    """Backends for those who may use all, and for those who are kept to this node."""
    kept = port.internal_local or port.external_local
    return len(port.backends), len(port.local_backends) if kept else 0


def stale(
    old: Iterable[ServicePort],
    new: Iterable[ServicePort],
    published_before: Iterable[HostPort],
    published: Iterable[HostPort],
) -> list[Flow]:
    """Flows to backends that went away, and flows that were made while a port had no backend at all."""
    before = {(p.name, p.protocol): p for p in old if p.protocol == "udp"}
    found: list[Flow] = []
    now = {(p.name, p.protocol): p for p in new if p.protocol == "udp"}
    for key, was in before.items():
        port = now.get(key)
        gone = _every(was) - (_every(port) if port else set())
        for backend in sorted(gone):
            found += [(*front, "--reply-src", backend.address) for front in _fronts(was)]
    for key, port in now.items():
        held = before.get(key)
        if any(there and not was for there, was in zip(_ways(port), _ways(held) if held else (0, 0), strict=True)):
            found += _fronts(port)
    fresh = {p for p in published if p.protocol == "udp"} ^ {p for p in published_before if p.protocol == "udp"}
    found += [("--orig-port-dst", str(port)) for port in sorted({p.port for p in fresh})]
    return found
