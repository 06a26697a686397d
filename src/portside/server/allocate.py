"""Cluster addresses and node ports of Services: what is taken, kept in memory from the stored objects.

``service_allocation`` plans what a Service needs; here it is drawn, taken and given back. Addresses come at random from
the upper part of a service network, node ports from the upper part of their range: upstream leaves the lower parts to
those who choose for themselves. Further networks are those of the ServiceCIDRs that are ready and stay.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from portside.api.field import FieldError
from portside.api.rules import service_allocation as allocation
from portside.api.status import ApiError, internal, invalid

Json = dict[str, Any]
PORTS = range(30000, 32768)
PORTS_LOW = 86
TRIES = 256


DEFAULT = "kubernetes"  # the name of the ServiceCIDR that the server itself was given
MANAGED, MANAGER = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Records:
    """What the API holds beside Services: the ServiceCIDRs, and an IPAddress by its name."""

    ranges: Callable[[], Iterable[Json]]
    address: Callable[[str], Json | None]


NO_RECORDS = Records(tuple, lambda name: None)


class Allocator:
    """One cluster's Service addresses and node ports."""

    def __init__(self, cidr: str, *, rng: random.Random | None = None, records: Records = NO_RECORDS) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.first = str(self.network.network_address + 1)
        self._rng = rng or random.Random()
        self._records = records
        self._ips: set[str] = set()
        self._ports: set[int] = set()

    def take(self, service: Json) -> None:
        """A Service that is stored holds what it says."""
        self._ips.update(allocation.held_ips(service))
        self._ports.update(allocation.held_ports(service))

    def release(self, service: Json) -> None:
        """A Service that is gone holds nothing."""
        self._ips.difference_update(allocation.held_ips(service))
        self._ports.difference_update(allocation.held_ports(service))

    def assign(self, service: Json, old: Json | None) -> tuple[Callable[[], None], Callable[[], None]]:
        """Completes the Service. Answers what to call when the write fails (or is a dry run) and when it stands.
        Raises 422."""
        if errors := allocation.init_families(service, old):
            raise _refuse(service, errors)
        found = allocation.plan(service, old)
        ips: list[str] = []
        ports: list[int] = []

        def undo() -> None:
            self._ips.difference_update(ips)
            self._ports.difference_update(ports)

        def done() -> None:
            self._ips.difference_update(found.release_ips)
            self._ports.difference_update(found.release_ports)

        try:
            for want in found.ips:
                ips.append(self._ip(service, want))
                self._ips.add(ips[-1])
            for port in found.ports:
                ports.append(self._port(service, port))
                self._ports.add(ports[-1])
            allocation.fill(service, found, ips, ports)
        except BaseException:
            undo()
            raise
        return undo, done

    def networks(self) -> Iterator[Network]:
        """Those that addresses are given out from, the default one first unless its object is on its way out."""
        further: list[Network] = []
        default = True
        for cidr in self._records.ranges():
            stays = not cidr["metadata"].get("deletionTimestamp")
            if cidr["metadata"]["name"] == DEFAULT:
                default = stays
            elif stays and _ready(cidr):
                further += [n for n in map(ipaddress.ip_network, cidr["spec"]["cidrs"]) if n.version == 4]
        if default:
            yield self.network
        yield from sorted(set(further), key=str)

    def _taken(self, address: str) -> bool:
        """By a Service, or by a record that somebody else made; our own records follow the Services."""
        if address in self._ips:
            return True
        record = self._records.address(address)
        return record is not None and (record["metadata"].get("labels") or {}).get(MANAGED) != MANAGER

    def _ip(self, service: Json, want: allocation.WantIp) -> str:
        if not want.address:
            return self._free_ip()
        try:
            inside = any(ipaddress.ip_address(want.address) in network for network in self.networks())
        except ValueError:
            inside = False
        if not inside:
            raise _refuse(service, [allocation.ip_outside(service, want.address, str(self.network))])
        if self._taken(want.address):
            raise _refuse(service, [allocation.ip_taken(service, want.address)])
        return want.address

    def _free_ip(self) -> str:
        for network in self.networks():
            if (found := self._free_in(network)) is not None:
                return found
        raise internal("failed to allocate a serviceIP: range is full")

    def _free_in(self, network: Network) -> str | None:
        """By lot from the upper part, then the first of all; None when the network is full."""
        base, usable = int(network.network_address), network.num_addresses - 2
        low = min(max(16, usable // 16), 256) if usable >= 16 else 0
        for _ in range(TRIES if usable > low else 0):
            candidate = str(ipaddress.ip_address(base + self._rng.randint(low + 1, usable)))
            if not self._taken(candidate):
                return candidate
        for offset in range(1, usable + 1):
            candidate = str(ipaddress.ip_address(base + offset))
            if not self._taken(candidate):
                return candidate
        return None

    def _port(self, service: Json, want: allocation.WantPort) -> int:
        if want.number:
            if want.number not in PORTS and want.index == allocation.HEALTH:
                why = f"provided port is not in the valid range. The range of valid ports is {PORTS[0]}-{PORTS[-1]}"
                raise internal(f"failed to allocate requested HealthCheck NodePort {want.number}: {why}")
            if want.number not in PORTS:
                raise _refuse(service, [allocation.port_outside(want)])
            if want.number in self._ports:
                raise _refuse(service, [allocation.port_taken(want)])
            return want.number
        for _ in range(TRIES):
            number = self._rng.randrange(PORTS[0] + PORTS_LOW, PORTS[-1] + 1)
            if number not in self._ports:
                return number
        for number in PORTS:
            if number not in self._ports:
                return number
        raise internal("failed to allocate a nodePort: range is full")


def _ready(cidr: Json) -> bool:
    conditions = (cidr.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _refuse(service: Json, errors: list[FieldError]) -> ApiError:
    return invalid("Service", str(service["metadata"].get("name") or ""), errors)
