"""Cluster addresses and node ports of Services: taken in memory from live objects, given back when a write fails.

Addresses are drawn at random from the upper part of the service network (upstream keeps the lower part for chosen
ones); node ports likewise.
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable
from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.status import internal, invalid

Json = dict[str, Any]
PORTS = range(30000, 32768)
PORT_LOW = 86
EXTERNAL = "ExternalName"


class Allocator:
    """One cluster's Service addresses and node ports."""

    def __init__(self, cidr: str, *, rng: random.Random | None = None) -> None:
        self.network = ipaddress.ip_network(cidr)
        self.first = str(self.network.network_address + 1)
        self._rng = rng or random.Random()
        self._addresses: set[str] = set()
        self._ports: dict[tuple[int, str], str] = {}
        size = self.network.num_addresses - 2
        self._low = min(max(16, size // 16), 256)

    def take(self, service: Json) -> None:
        """A Service that is stored holds what it says."""
        spec = service.get("spec") or {}
        for address in spec.get("clusterIPs") or []:
            if address != "None":
                self._addresses.add(address)
        for number, protocol in self._held_ports(spec):
            self._ports[(number, protocol)] = _key(service)

    def release(self, service: Json) -> None:
        spec = service.get("spec") or {}
        for address in spec.get("clusterIPs") or []:
            self._addresses.discard(address)
        for port in self._held_ports(spec):
            self._ports.pop(port, None)

    @staticmethod
    def _held_ports(spec: Json) -> set[tuple[int, str]]:
        held = {(p["nodePort"], p.get("protocol", "TCP")) for p in spec.get("ports") or [] if p.get("nodePort")}
        if spec.get("healthCheckNodePort"):
            held.add((spec["healthCheckNodePort"], "TCP"))
        return held

    def assign(self, service: Json, old: Json | None) -> Callable[[], None]:
        """Fill in clusterIP, clusterIPs, families and node ports. Raises 422. Answers how to undo it."""
        spec = service["spec"]
        old_spec = (old or {}).get("spec") or {}
        taken: list[str] = []
        ports: list[tuple[int, str]] = []

        def undo() -> None:
            self._addresses.difference_update(taken)
            for port in ports:
                self._ports.pop(port, None)

        try:
            if spec.get("type", "ClusterIP") != EXTERNAL:
                self._families(spec)
                self._address(service, spec, old_spec, taken)
            self._node_ports(service, spec, old_spec, ports)
        except BaseException:
            undo()
            raise
        if old is not None:
            self._free_unused(spec, old_spec)
        return undo

    def _free_unused(self, spec: Json, old_spec: Json) -> None:
        keep = set(spec.get("clusterIPs") or [])
        self._addresses.difference_update(a for a in old_spec.get("clusterIPs") or [] if a not in keep)
        for port in self._held_ports(old_spec) - self._held_ports(spec):
            self._ports.pop(port, None)

    @staticmethod
    def _families(spec: Json) -> None:
        headless_alone = spec.get("clusterIP") == "None" and not spec.get("selector")
        if headless_alone and not spec.get("ipFamilyPolicy") and not spec.get("ipFamilies"):
            spec["ipFamilyPolicy"] = "RequireDualStack"
            spec["ipFamilies"] = ["IPv4", "IPv6"]
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if not spec.get("ipFamilies"):
            spec["ipFamilies"] = ["IPv4"]

    def _address(self, service: Json, spec: Json, old_spec: Json, taken: list[str]) -> None:
        said = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), "")
        if said == "None":
            spec["clusterIP"], spec["clusterIPs"] = "None", ["None"]
            return
        if said and said in (old_spec.get("clusterIPs") or []):
            spec["clusterIP"] = said
            spec.setdefault("clusterIPs", [said])
            return
        if not said:
            said = self._free_address()
        else:
            self._check_address(service, said)
        self._addresses.add(said)
        taken.append(said)
        spec["clusterIP"], spec["clusterIPs"] = said, [said]

    def _check_address(self, service: Json, said: str) -> None:
        problem = ""
        try:
            inside = ipaddress.ip_address(said) in self.network
        except ValueError:
            inside = False
        if not inside:
            problem = f"failed to allocate IP {said}: the provided IP ({said}) is not in the valid range. The range of valid IPs is {self.network}"
        elif said in self._addresses:
            problem = f"failed to allocate IP {said}: provided IP is already allocated"
        if problem:
            raise _refuse(service, invalid_value("spec.clusterIPs", [said], problem))

    def _free_address(self) -> str:
        base, size = int(self.network.network_address), self.network.num_addresses - 2
        for _ in range(64):
            candidate = str(ipaddress.ip_address(base + self._rng.randint(self._low + 1, size)))
            if candidate not in self._addresses:
                return candidate
        for offset in range(1, size + 1):
            candidate = str(ipaddress.ip_address(base + offset))
            if candidate not in self._addresses:
                return candidate
        raise internal("failed to allocate a serviceIP: range is full")

    def _node_ports(self, service: Json, spec: Json, old_spec: Json, taken: list[tuple[int, str]]) -> None:
        kind = spec.get("type", "ClusterIP")
        wants = kind == "NodePort" or (
            kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is not False
        )
        held = self._held_ports(old_spec)
        shared: dict[int, int] = {}
        for at, port in enumerate(spec.get("ports") or []):
            protocol, number = port.get("protocol", "TCP"), port.get("nodePort") or 0
            if not number:
                if not wants:
                    continue
                number = next((n for n in [shared.get(port["port"], 0)] if n and (n, protocol) not in self._ports), 0)
                number = number or self._free_port(protocol)
                port["nodePort"] = number
            elif (number, protocol) not in held and (number, protocol) not in taken:
                self._check_port(service, at, number, protocol)
            shared[port["port"]] = number
            if (number, protocol) not in held:
                self._ports[(number, protocol)] = _key(service)
                taken.append((number, protocol))
        if kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local":
            number = spec.get("healthCheckNodePort") or old_spec.get("healthCheckNodePort") or self._free_port("TCP")
            spec["healthCheckNodePort"] = number
            if (number, "TCP") not in held:
                self._ports[(number, "TCP")] = _key(service)
                taken.append((number, "TCP"))

    def _check_port(self, service: Json, at: int, number: int, protocol: str) -> None:
        path = f"spec.ports[{at}].nodePort"
        if number not in PORTS:
            text = f"provided port is not in the valid range. The range of valid ports is {PORTS[0]}-{PORTS[-1]}"
            raise _refuse(service, invalid_value(path, number, text))
        if (number, protocol) in self._ports:
            raise _refuse(service, invalid_value(path, number, "provided port is already allocated"))

    def _free_port(self, protocol: str) -> int:
        for _ in range(256):
            number = self._rng.randrange(PORTS[0] + PORT_LOW, PORTS[-1] + 1)
            if (number, protocol) not in self._ports:
                return number
        for number in PORTS:
            if (number, protocol) not in self._ports:
                return number
        raise internal("failed to allocate a nodePort: range is full")


def _key(service: Json) -> str:
    meta = service["metadata"]
    return f"{meta.get('namespace', '')}/{meta.get('name', '')}"


def _refuse(service: Json, error: FieldError) -> Exception:
    return invalid("Service", str(service["metadata"].get("name") or ""), [error])
