"""Names to addresses for webhooks: a Service is its ready endpoints, every other name is the machine's resolver's.

A name is resolved once per connection and the connection goes to exactly that answer. Endpoints of Services may not be
loopback or link-local addresses: whoever writes an EndpointSlice would otherwise reach the control plane's own machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from portside.server.watchcache_filter import Filter

if TYPE_CHECKING:
    from portside.server.watchcache_feed import WatchCaches

Json = dict[str, Any]
SUFFIX = "svc"
SERVICE_LABEL = "kubernetes.io/service-name"


class Place(NamedTuple):
    """An address that may be dialled."""

    host: str
    port: int


class Unresolved(OSError):
    """No address; the text is the reason in upstream's words."""


def service_host(name: str, namespace: str) -> str:
    """How a Service is called in URLs and in certificates."""
    return f"{name}.{namespace}.{SUFFIX}"


def as_service(host: str) -> tuple[str, str] | None:
    """(name, namespace) of a host that means a Service."""
    parts = host.split(".")
    return (parts[0], parts[1]) if len(parts) == 3 and parts[2] == SUFFIX and all(parts) else None


def safe(address: str, *, loopback: bool) -> bool:
    """Whether a webhook may be at this address. A URL of an administrator may be on this machine, a Service not."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified:
        return False
    return loopback or not ip.is_loopback


def _ready(piece: Json, port_name: str) -> Iterator[Place]:
    port = next((p.get("port") for p in piece.get("ports") or () if (p.get("name") or "") == port_name), None)
    if port is None or piece.get("addressType") == "FQDN":
        return
    for endpoint in piece.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        for address in (endpoint.get("addresses") or ())[:1]:
            if safe(address, loopback=False):
                yield Place(address, int(port))


def endpoints(caches: WatchCaches, name: str, namespace: str, port: int) -> list[Place]:
    """The ready endpoints behind a port of a Service; of an ExternalName Service its name. Raises Unresolved."""
    service = caches.of("", "services").get(namespace, name)
    if service is None:
        raise Unresolved(f'service "{name}" not found')
    spec = service.view.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return [Place(str(spec.get("externalName") or ""), port)]
    chosen = next((p for p in spec.get("ports") or () if p.get("port") == port), None)
    if chosen is None:
        raise Unresolved(f'no service port {port} found for service "{name}"')
    listed = caches.of("discovery.k8s.io", "endpointslices").list(
        Filter(namespace=namespace, equal=((SERVICE_LABEL, name),), labels=lambda have: have.get(SERVICE_LABEL) == name)
    )
    found = [place for piece in listed.objects for place in _ready(piece.view, chosen.get("name") or "")]
    if not found:
        raise Unresolved(f'no endpoints available for service "{name}"')
    return found


class Resolver:
    """aiohttp's resolver over the watch cache. ``last`` remembers where a name led, for error texts."""

    MOST_REMEMBERED = 1024

    def __init__(self, caches: WatchCaches) -> None:
        self._caches = caches
        self.last: dict[str, Place] = {}

    async def places(self, host: str, port: int) -> list[Place]:
        """Every address of a host, best first. Raises Unresolved."""
        service = as_service(host)
        if service is not None:
            found = endpoints(self._caches, *service, port)
            random.shuffle(found)
            if len(found) > 1 or safe(found[0].host, loopback=True):
                return found
            return await self._named(found[0].host, port, loopback=False)
        return await self._named(host, port, loopback=True)

    async def _named(self, host: str, port: int, *, loopback: bool) -> list[Place]:
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise Unresolved(f"dial tcp: lookup {host}: no such host") from None
        places = [Place(str(info[4][0]), int(info[4][1])) for info in infos]
        allowed = [p for p in places if safe(p.host, loopback=loopback)]
        if not allowed:
            raise Unresolved(f"dial tcp: lookup {host}: address not allowed")
        return allowed

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[Any]:
        places = await self.places(host, port)
        if len(self.last) >= self.MOST_REMEMBERED:
            self.last.clear()
        self.last[host] = places[0]
        return [
            {
                "hostname": host,
                "host": place.host,
                "port": place.port,
                "family": socket.AF_INET6 if ":" in place.host else socket.AF_INET,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
            for place in places
        ]

    async def close(self) -> None:
        return None
