"""Address ranges of a new cluster: the usual ones, or the next that nothing on this machine uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portside.base.address import own_address

POD_RANGES = [f"10.{second}.0.0/16" for second in range(244, 256)]
SERVICE_RANGES = [f"10.{second}.0.0/16" for second in range(96, 112)]
SMALLEST_PART = 28  # prefix length: 13 pods beside the gateway
MOST_PARTS = 16  # bits: 65,536 nodes


@dataclass(frozen=True, slots=True)
class Routed:
    """One network this machine knows a way to, and the interface it leads over."""

    network: ipaddress.IPv4Network
    device: str


def routed(table: str) -> list[Routed]:
    """The networks of a ``/proc/net/route`` text, without the default route. Words there are little-endian hexadecimal."""
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] != "00000000":
            address = int.from_bytes(bytes.fromhex(fields[1]), "little")
            mask = int.from_bytes(bytes.fromhex(fields[7]), "little")
            found.append(Routed(ipaddress.IPv4Network((address & mask, bin(mask).count("1"))), fields[0]))
    return found


def choose(candidates: Iterable[str], taken: Iterable[Routed]) -> str | None:
    """The first candidate that overlaps nothing taken, None when all do."""
    busy = [r.network for r in taken]
    return next((c for c in candidates if not any(ipaddress.IPv4Network(c).overlaps(t) for t in busy)), None)


def as_routed(cidr: str) -> list[Routed]:
    """A range that is going to be used, as one of the networks that are; "" is none."""
    return [Routed(ipaddress.IPv4Network(cidr), "")] if cidr else []


def clash(cidr: str, bridge: str, taken: Iterable[Routed]) -> Routed | None:
    """Who else uses a cluster's range: a route that overlaps it and leads over another interface than its bridge."""
    own = ipaddress.IPv4Network(cidr)
    return next((r for r in taken if r.device != bridge and r.network.overlaps(own)), None)


def trouble(cidr: str, mask: int) -> str:
    """Why a range of pods can't be cut into parts with this prefix length for the nodes, or ""."""
    try:
        network = ipaddress.IPv4Network(cidr)
    except ValueError as error:
        return str(error)
    if network.is_loopback or network.is_multicast or network.is_link_local or network.is_reserved:
        return f"{network} has addresses of its own meaning"
    if not network.prefixlen <= mask <= SMALLEST_PART:
        return f"a node's part of {network} has a prefix length from {network.prefixlen} to {SMALLEST_PART}, not {mask}"
    if mask - network.prefixlen > MOST_PARTS:
        return f"{network} has more than {1 << MOST_PARTS} parts with the prefix length {mask}"
    return ""


def present() -> list[Routed]:
    """The routes of this network namespace; none when they can't be read."""
    try:
        return routed(Path("/proc/self/net/route").read_text())
    except OSError:
        return []


def node_address() -> str:
    """The address this machine uses towards others."""
    return own_address()
