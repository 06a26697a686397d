"""Which addresses and ports a Service needs: a pure plan. The server holds what is taken, takes and releases.

``init_families`` completes ipFamilies and ipFamilyPolicy in place and may refuse; ``plan`` says what to take; the server
takes it and calls ``fill``; after the write it releases ``plan.released(...)`` (or, if the write fails, what it took).
A dry run takes and gives back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.rules import service_checks as checks

Json = dict[str, Any]
Errors = list[FieldError]
HEALTH = -1


@dataclass(frozen=True, slots=True)
class WantIp:
    """One cluster address: ``address`` "" for any of the family."""

    index: int
    family: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class WantPort:
    """One node port: ``number`` 0 for any; ``index`` of the port in spec.ports, HEALTH for the health-check port.

    ``also``: further ports that share the number (the same service port for another protocol).
    """

    index: int
    number: int = 0
    also: tuple[int, ...] = ()

    @property
    def path(self) -> str:
        return "spec.healthCheckNodePort" if self.index == HEALTH else f"spec.ports[{self.index}].nodePort"


@dataclass(slots=True)
class Plan:
    """What to take before the write, and what an update gives back after it."""

    ips: list[WantIp] = field(default_factory=list)
    ports: list[WantPort] = field(default_factory=list)
    release_ips: list[str] = field(default_factory=list)
    release_ports: list[int] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self.ips or self.ports or self.release_ips or self.release_ports)


def held_ips(service: Json | None) -> list[str]:
    """The cluster addresses that a stored Service holds."""
    spec = (service or {}).get("spec") or {}
    return [ip for ip in spec.get("clusterIPs") or () if ip and ip != "None"] if checks.needs_ip(spec) else []


def held_ports(service: Json | None) -> list[int]:
    """The node ports that a stored Service holds, the health-check port included; each once."""
    spec = (service or {}).get("spec") or {}
    found = [p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")]
    if spec.get("healthCheckNodePort"):
        found.append(spec["healthCheckNodePort"])
    return list(dict.fromkeys(found))


def init_families(service: Json, old: Json | None, configured: tuple[str, ...] = ("IPv4",)) -> Errors:
    """Completes ipFamilies and ipFamilyPolicy for a cluster with these families (the first is the default one)."""
    spec = service["spec"]
    if not checks.needs_ip(spec):
        return []
    families, ips = list(spec.get("ipFamilies") or ()), list(spec.get("clusterIPs") or ())
    errors = [
        invalid_value(f"spec.ipFamilies[{i}]", f, "not configured on this cluster")
        for i, f in enumerate(families)
        if f not in configured and not checks.headless(spec)
    ]
    for i, ip in enumerate(ips):
        family = checks.family_of(ip)
        if family and family not in configured:
            text = f"may not use {family} on a cluster which is not configured for it"
            errors.append(invalid_value(f"spec.clusterIPs[{i}]", ips, text))
        if family and i >= len(families):
            families.append(family)
    policy = spec.get("ipFamilyPolicy")
    if checks.headless(spec) and not spec.get("selector"):
        spec["ipFamilyPolicy"] = policy or ("RequireDualStack" if len(families) != 1 else "SingleStack")
        families = families or [configured[0]]
        if spec["ipFamilyPolicy"] != "SingleStack" and len(families) == 1:
            families.append(_other(families[0]))
        spec["ipFamilies"] = families
        return errors
    if policy == "RequireDualStack" and len(configured) < 2:
        text = "this cluster is not configured for dual-stack services"
        errors.append(invalid_value("spec.ipFamilyPolicy", policy, text))
    if errors:
        return errors
    spec["ipFamilyPolicy"] = policy or ("RequireDualStack" if len(families) > 1 else "SingleStack")
    families = families or [configured[0]]
    if spec["ipFamilyPolicy"] != "SingleStack" and len(families) == 1 and len(configured) > 1:
        families.append(_other(families[0]))
    if spec["ipFamilyPolicy"] == "SingleStack" and policy and len(families) > 1:
        families = families[:1]
    spec["ipFamilies"] = families
    return []


def _other(family: str) -> str:
    return "IPv6" if family == "IPv4" else "IPv4"


def plan(service: Json, old: Json | None) -> Plan:
    """What ``service`` (families completed) needs beyond what ``old`` holds."""
    spec, found = service["spec"], Plan()
    had_ips, had_ports = held_ips(old), held_ports(old)
    ips = list(spec.get("clusterIPs") or ())
    if checks.needs_ip(spec) and not checks.headless(spec):
        for i, family in enumerate(spec.get("ipFamilies") or ("IPv4",)):
            wanted = ips[i] if i < len(ips) else ""
            if not wanted or wanted not in had_ips:
                found.ips.append(WantIp(i, family, wanted))
    if checks.needs_ports(spec):
        found.ports = _ports(spec, set(had_ports))
    if checks.needs_health(spec) and (spec.get("healthCheckNodePort") or 0) not in had_ports:
        found.ports.append(WantPort(HEALTH, spec.get("healthCheckNodePort") or 0))
    kept = held_ips(service)
    found.release_ips = [ip for ip in had_ips if ip not in kept]
    found.release_ports = [p for p in had_ports if p not in held_ports(service)]
    return found


def _ports(spec: Json, held: set[int]) -> list[WantPort]:
    automatic = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
    wanted: dict[tuple[int, int], WantPort] = {}
    for i, port in enumerate(spec.get("ports") or ()):
        number, own = port.get("nodePort") or 0, port.get("port") or 0
        if (not number and not automatic) or number in held:
            continue
        key = (number, 0) if number else (0, own)
        if key in wanted:
            first = wanted[key]
            wanted[key] = WantPort(first.index, first.number, (*first.also, i))
        else:
            wanted[key] = WantPort(i, number)
    return list(wanted.values())


def fill(service: Json, found: Plan, ips: list[str], ports: list[int]) -> None:
    """Writes what was taken, in the order of the plan, into the Service."""
    spec = service["spec"]
    if ips:
        listed = list(spec.get("clusterIPs") or ())
        for want, ip in zip(found.ips, ips, strict=True):
            listed[want.index : want.index + 1] = [ip]
        spec["clusterIPs"] = listed
        spec["clusterIP"] = listed[0]
    for port, number in zip(found.ports, ports, strict=True):
        if port.index == HEALTH:
            spec["healthCheckNodePort"] = number
            continue
        for i in (port.index, *port.also):
            spec["ports"][i]["nodePort"] = number


def ip_taken(service: Json, ip: str) -> FieldError:
    return _ip(service, ip, "provided IP is already allocated")


def ip_outside(service: Json, ip: str, valid: str) -> FieldError:
    return _ip(service, ip, f"the provided IP ({ip}) is not in the valid range. The range of valid IPs is {valid}")


def _ip(service: Json, ip: str, why: str) -> FieldError:
    listed = service["spec"].get("clusterIPs") or [ip]
    return invalid_value("spec.clusterIPs", listed, f"failed to allocate IP {ip}: {why}")


def port_taken(want: WantPort) -> FieldError:
    return invalid_value(want.path, want.number, "provided port is already allocated")


def port_outside(want: WantPort, valid: str = "30000-32767") -> FieldError:
    text = f"provided port is not in the valid range. The range of valid ports is {valid}"
    return invalid_value(want.path, want.number, text)
