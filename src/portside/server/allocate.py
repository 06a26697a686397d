"""Cluster addresses and node ports of Services: what is taken, kept in memory from the stored objects.

``service_allocation`` plans what a Service needs; here it is drawn, taken and given back. Addresses come at random from
the upper part of the service network, node ports from the upper part of their range: upstream leaves the lower parts to
those who choose for themselves.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import Any

from portside.api.field import FieldError
from portside.api.rules import service_allocation as allocation
from portside.api.status import ApiError, internal, invalid

Json = dict[str, Any]
PORTS = range(30000, 32768)
PORTS_LOW = 86
TRIES = 256


class Allocator:
    """One cluster's Service addresses and node ports."""

    def __init__(self, cidr: str, *, rng: random.Random | None = None) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.first = str(self.network.network_address + 1)
        self._rng = rng or random.Random()
        self._ips: set[str] = set()
        self._ports: set[int] = set()
        self._usable = self.network.num_addresses - 2
        self._low = min(max(16, self._usable // 16), 256)

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

    def _ip(self, service: Json, want: allocation.WantIp) -> str:
        if not want.address:
            return self._free_ip()
        try:
            inside = ipaddress.ip_address(want.address) in self.network
        except ValueError:
            inside = False
        if not inside:
            raise _refuse(service, [allocation.ip_outside(service, want.address, str(self.network))])
        if want.address in self._ips:
            raise _refuse(service, [allocation.ip_taken(service, want.address)])
        return want.address

    def _free_ip(self) -> str:
        base = int(self.network.network_address)
        for _ in range(TRIES):
            candidate = str(ipaddress.ip_address(base + self._rng.randint(self._low + 1, self._usable)))
            if candidate not in self._ips:
                return candidate
        for offset in range(1, self._usable + 1):
            candidate = str(ipaddress.ip_address(base + offset))
            if candidate not in self._ips:
                return candidate
        raise internal("failed to allocate a serviceIP: range is full")

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


def _refuse(service: Json, errors: list[FieldError]) -> ApiError:
    return invalid("Service", str(service["metadata"].get("name") or ""), errors)
