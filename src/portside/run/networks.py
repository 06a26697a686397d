"""Address ranges of a new cluster: the usual ones, or the next that nothing on this machine uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from portside.base.address import own_address

POD_RANGES = [f"10.{second}.0.0/16" for second in range(244, 256)]
SERVICE_RANGES = [f"10.{second}.0.0/16" for second in range(96, 112)]


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


def clash(cidr: str, bridge: str, taken: Iterable[Routed]) -> Routed | None:
    """Who else uses a cluster's range: a route that overlaps it and leads over another interface than its bridge."""
    own = ipaddress.IPv4Network(cidr)
    return next((r for r in taken if r.device != bridge and r.network.overlaps(own)), None)


def present() -> list[Routed]:
    """The routes of this network namespace; none when they can't be read."""
    try:
        return routed(Path("/proc/self/net/route").read_text())
    except OSError:
        return []


def node_address() -> str:
    """The address this machine uses towards others."""
    return own_address()
