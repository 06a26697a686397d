"""How pods of other nodes are reached: by their node's address where it is on this node's own network, else over VXLAN.

Pure. The tunnel's link addresses are made from the pods' gateway address, so nodes need to tell each other nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
VXLAN_PORT, VXLAN_ID = 8472, 4096
VXLAN_OVERHEAD = 50  # bytes of outer headers
ROUTE_PROTOCOL = "197"  # marks our routes, so that only those are ever removed


@dataclass(frozen=True, slots=True, order=True)
class Route:
    """One other node's pods. ``tunnelled`` when its address is not on a network of this machine."""

    pod_cidr: str
    node_address: str
    tunnelled: bool

    @property
    def gateway(self) -> str:
        return str(next(ipaddress.IPv4Network(self.pod_cidr).hosts()))


@dataclass(frozen=True, slots=True)
class Tunnel:
    """This node's end: the device, its link and network address and the address it sends from."""

    device: str
    local: str
    gateway: str

    @property
    def link_address(self) -> str:
        return link_address(self.gateway)


def link_address(gateway: str) -> str:
    """A locally administered link address that holds the pods' gateway address."""
    return "0a:58:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(gateway).packed)


def internal_address(node: Json) -> str:
    """A Node's IPv4 InternalIP, "" when it has none."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP" and ":" not in a["address"]), "")


def wanted_routes(nodes: Iterable[Json], own: str, networks: Iterable[str]) -> set[Route]:
    """The routes to all other nodes. ``networks``: those this machine's interfaces are on."""
    links = [ipaddress.IPv4Network(n) for n in networks]
    found = set()
    for node in nodes:
        cidr, address = (node.get("spec") or {}).get("podCIDR") or "", internal_address(node)
        if node["metadata"]["name"] == own or not cidr or not address or ":" in cidr:
            continue
        near = any(ipaddress.IPv4Address(address) in link for link in links)
        found.add(Route(cidr, address, not near))
    # Two machines with one address can't both be meant; a route to ourselves would be a loop.
    return found


Command = tuple[str, ...]


def commands(old: Iterable[Route], new: Iterable[Route], tunnel: Tunnel) -> list[Command]:
    """The ip and bridge calls that turn the old routes into the new ones."""
    before, after = set(old), set(new)
    todo: list[Command] = []
    if any(r.tunnelled for r in after) and not any(r.tunnelled for r in before):
        todo += _tunnel(tunnel)
    kept = {r.pod_cidr for r in after}
    for route in sorted(before - after):
        if route.tunnelled:
            far = link_address(route.gateway)
            todo.append(("bridge", "fdb", "delete", far, "dev", tunnel.device, "dst", route.node_address))
            todo.append(("ip", "neigh", "delete", route.gateway, "dev", tunnel.device))
        if route.pod_cidr not in kept:
            todo.append(("ip", "route", "delete", route.pod_cidr, "protocol", ROUTE_PROTOCOL))
    for route in sorted(after - before):
        todo += _add(route, tunnel)
    return todo


def _tunnel(tunnel: Tunnel) -> list[Command]:
    device = tunnel.device
    return [
        ("ip", "link", "delete", device),
        ("ip", "link", "add", device, "address", tunnel.link_address, "type", "vxlan", "id", str(VXLAN_ID),
         "dstport", str(VXLAN_PORT), "local", tunnel.local, "nolearning"),
        ("ip", "address", "replace", f"{tunnel.gateway}/32", "dev", device),
        ("ip", "link", "set", device, "up"),
    ]  # fmt: skip


def _add(route: Route, tunnel: Tunnel) -> list[Command]:
    if not route.tunnelled:
        return [("ip", "route", "replace", route.pod_cidr, "via", route.node_address, "protocol", ROUTE_PROTOCOL)]
    far, device = link_address(route.gateway), tunnel.device
    return [
        ("bridge", "fdb", "replace", far, "dev", device, "dst", route.node_address),
        ("ip", "neigh", "replace", route.gateway, "lladdr", far, "dev", device, "nud", "permanent"),
        ("ip", "route", "replace", route.pod_cidr, "via", route.gateway, "dev", device, "onlink",
         "protocol", ROUTE_PROTOCOL),
    ]  # fmt: skip
