"""How pods of other nodes are reached: by their node's address where it is on this node's own network, else over VXLAN.

Pure: what is wanted follows from the Node objects, what stands from the kernel; the difference is a list of commands.
The tunnel's link addresses are made from the pods' gateway address, so nodes need to tell each other nothing.
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
    """This node's end: the device, its link and network address, the address it sends from, and the bytes a packet may
    have in it, so that none is sent in pieces."""

    device: str
    local: str
    gateway: str
    mtu: int = 1500 - VXLAN_OVERHEAD
    number: int = VXLAN_ID

    @property
    def link_address(self) -> str:
        return link_address(self.gateway)


@dataclass(frozen=True, slots=True)
class Range:
    """The cluster's pod and service addresses, and the part of this node's pods."""

    pods: str
    services: str
    own: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The routes to other nodes' pods, and what nodes claim that is not believed, by node."""

    routes: frozenset[Route]
    doubts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the kernel has: routes, whether the tunnel is as wanted (None: there is none), and parts of it nobody needs."""

    routes: frozenset[Route] = frozenset()
    tunnel: bool | None = None
    strays: tuple[tuple[str, ...], ...] = ()


def link_address(gateway: str) -> str:
    """A locally administered link address that holds the pods' gateway address."""
    return "0a:58:" + ":".join(f"{part:02x}" for part in ipaddress.IPv4Address(gateway).packed)


def tunnel_number(pods: str) -> int:
    """The VXLAN number of a cluster, made from its pod range: two clusters that share machines have two tunnels there."""
    network = ipaddress.IPv4Network(pods)
    if network.prefixlen > 16:  # several of these share their first 16 bits
        return VXLAN_ID + 65536 + ((int(network.network_address) >> 8) % (1 << 23))
    usual = int(ipaddress.IPv4Address("10.244.0.0")) >> 16
    return VXLAN_ID + ((int(network.network_address) >> 16) - usual) % 65536


def internal_address(node: Json) -> str:
    """A Node's IPv4 InternalIP, "" when it has none."""
    addresses = (node.get("status") or {}).get("addresses") or ()
    return next((a["address"] for a in addresses if a["type"] == "InternalIP" and ":" not in a["address"]), "")


def _is_ready(node: Json) -> bool:
    found = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in found)


def _age(node: Json) -> tuple[str, str]:
    return node["metadata"].get("creationTimestamp") or "", node["metadata"]["name"]


def _address_doubt(text: str, ranges: Range) -> str:
    """Why no machine can have this address, or ""."""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        return f"{text} is no IPv4 address"
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved:
        return f"{text} is no machine's address"
    if any(address in ipaddress.IPv4Network(r) for r in (ranges.pods, ranges.services)):
        return f"{text} is an address of the cluster's pods or Services"
    return ""


def believed_parts(nodes: Iterable[Json], own: str, ranges: Range) -> tuple[dict[str, str], dict[str, str]]:
    """Parts of the pod addresses by node, and what is not believed: what lies outside the cluster's range, and what an
    older node has already. A node may choose its part when it makes its own Node object; nobody can change it later."""
    cluster = ipaddress.IPv4Network(ranges.pods)
    given = {own: ipaddress.IPv4Network(ranges.own)}
    doubts: dict[str, str] = {}
    for node in sorted(nodes, key=_age):
        name, cidr = node["metadata"]["name"], (node.get("spec") or {}).get("podCIDR") or ""
        if name == own or not cidr or ":" in cidr:
            continue
        try:
            part = ipaddress.IPv4Network(cidr)
        except ValueError:
            doubts[name] = f"{cidr} is no IPv4 network"
            continue
        holder = next((other for other, has in given.items() if has.overlaps(part)), "")
        if not part.subnet_of(cluster):
            doubts[name] = f"{cidr} is outside the cluster's {cluster}"
        elif holder:
            doubts[name] = f"{cidr} overlaps the part of node {holder}"
        else:
            given[name] = part
    return {name: str(part) for name, part in given.items()}, doubts


def wanted_routes(nodes: Iterable[Json], own: str, networks: Iterable[str], ranges: Range, local: str) -> Wanted:
    """The routes to all other nodes. ``networks``: those this machine's interfaces are on; ``local``: its own address.

    An address that two nodes claim is that of the one that is ready, then of the older one (decision 0028).
    """
    links, known = [ipaddress.IPv4Network(n) for n in networks], list(nodes)
    parts, doubts = believed_parts(known, own, ranges)
    holders = {local: own}
    found = set()
    for node in sorted(known, key=lambda n: (not _is_ready(n), *_age(n))):
        name, address = node["metadata"]["name"], internal_address(node)
        if name == own or name not in parts or not address:
            continue
        doubt = _address_doubt(address, ranges)
        if not doubt and (holder := holders.setdefault(address, name)) != name:
            doubt = f"{address} is the address of node {holder}"
        if doubt:
            doubts[name] = doubt
            continue
        near = any(ipaddress.IPv4Address(address) in link for link in links)
        found.add(Route(parts[name], address, not near))
    return Wanted(frozenset(found), doubts)


def standing(
    routes: list[Json], link: Json | None, macs: list[Json], neighbours: list[Json], tunnel: Tunnel, ranges: Range
) -> Standing:
    """What is there, from the JSON of ``ip route``, ``ip -d link``, ``bridge fdb`` and ``ip neigh``. A route whose tunnel's
    part is missing counts as none, so that it is made anew as a whole."""
    far = {m["mac"]: m["dst"] for m in macs if m.get("dst")}
    near = {n["dst"]: n["lladdr"] for n in neighbours if n.get("lladdr")}
    cluster, found, used = ipaddress.IPv4Network(ranges.pods), set(), set()
    for route in routes:
        cidr, gateway = str(route["dst"]), str(route.get("gateway") or "")
        if not gateway or cidr == "default" or not ipaddress.IPv4Network(cidr).subnet_of(cluster):
            continue  # the way to Services, or another cluster's
        if route.get("dev") != tunnel.device:
            found.add(Route(cidr, gateway, False))
            continue
        mac = near.get(gateway, "")
        used.add(mac)
        found.add(Route(cidr, far.get(mac, ""), True))
    strays: list[Command] = [
        ("bridge", "fdb", "delete", mac, "dev", tunnel.device, "dst", to)
        for mac, to in sorted(far.items())
        if mac not in used
    ]
    strays += [
        ("ip", "neigh", "delete", address, "dev", tunnel.device)
        for address, mac in sorted(near.items())
        if mac not in used
    ]
    return Standing(frozenset(found), None if link is None else _as_wanted(link, tunnel), tuple(strays))


def _as_wanted(link: Json, tunnel: Tunnel) -> bool:
    data = (link.get("linkinfo") or {}).get("info_data") or {}
    has = (link.get("address"), link.get("mtu"), data.get("id"), data.get("port"), data.get("local"))
    wanted = (tunnel.link_address, tunnel.mtu, tunnel.number, VXLAN_PORT, tunnel.local)
    return has == wanted and "UP" in (link.get("flags") or ())


Command = tuple[str, ...]


def commands(old: Standing, new: Iterable[Route], tunnel: Tunnel) -> list[Command]:
    """The ip and bridge calls that turn what stands into the new routes; none where it is as it should be."""
    before, after = set(old.routes), set(new)
    todo: list[Command] = []
    needed = any(r.tunnelled for r in after)
    if old.tunnel is not None and not (needed and old.tunnel):
        todo.append(("ip", "link", "delete", tunnel.device))
        before = {r for r in before if not r.tunnelled}  # they went with it
    else:
        todo += old.strays
    if needed and not old.tunnel:
        todo += _tunnel(tunnel)
    kept = {r.pod_cidr for r in after}
    for route in sorted(before - after):
        if route.tunnelled and route.node_address:
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
        ("ip", "link", "add", device, "address", tunnel.link_address, "mtu", str(tunnel.mtu), "type", "vxlan",
         "id", str(tunnel.number), "dstport", str(VXLAN_PORT), "local", tunnel.local, "nolearning"),
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
