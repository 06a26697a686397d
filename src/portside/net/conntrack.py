"""Which UDP flows the kernel must forget when rules change: it would send them to a pod that is gone. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from portside.net.services import HostPort, ServicePort

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
        gone = set(was.backends) - set(port.backends if port else ())
        for backend in sorted(gone):
            found += [(*front, "--reply-src", backend.address) for front in _fronts(was)]
    for key, port in now.items():
        held = before.get(key)
        if port.backends and not (held and held.backends):
            found += _fronts(port)
    fresh = {p for p in published if p.protocol == "udp"} ^ {p for p in published_before if p.protocol == "udp"}
    found += [("--orig-port-dst", str(port)) for port in sorted({p.port for p in fresh})]
    return found
