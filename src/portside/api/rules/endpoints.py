"""Endpoints: addresses and ports of a service, in the old form."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import addresses
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
PROTOCOLS = ("SCTP", "TCP", "UDP")
DEPRECATED = "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"


def default(obj: Json) -> None:
    if "subsets" in obj and not obj["subsets"]:
        del obj["subsets"]
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def _address(address: Json, at: str) -> Errors:
    ip = address.get("ip") or ""
    errors = addresses.ip(f"{at}.ip", ip)
    if address.get("hostname"):
        name = address["hostname"]
        errors += [invalid_value(f"{at}.hostname", name, p) for p in names.dns_label(name)]
    if address.get("nodeName") is not None:
        name = address["nodeName"]
        errors += [invalid_value(f"{at}.nodeName", name, p) for p in names.dns_subdomain(name)]
    return errors + addresses.not_special(f"{at}.ip", ip)


def _port(port: Json, at: str, named: bool) -> Errors:
    name, protocol = port.get("name") or "", port.get("protocol") or ""
    errors: Errors = []
    if named and not name:
        errors.append(required(f"{at}.name"))
    elif name:
        errors += [invalid_value(f"{at}.name", name, p) for p in names.dns_label(name)]
    number = port.get("port") or 0
    errors += [invalid_value(f"{at}.port", number, p) for p in names.port_number(number)]
    if not protocol:
        errors.append(required(f"{at}.protocol"))
    elif protocol not in PROTOCOLS:
        errors.append(not_supported(f"{at}.protocol", protocol, PROTOCOLS))
    if port.get("appProtocol") is not None:
        app = port["appProtocol"]
        errors += [invalid_value(f"{at}.appProtocol", app, p) for p in names.qualified_name(app)]
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    errors: Errors = []
    for i, subset in enumerate(obj.get("subsets") or ()):
        at, ports = f"subsets[{i}]", subset.get("ports") or []
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            errors.append(required(at, "must specify `addresses` or `notReadyAddresses`"))
        for field in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(field) or ()):
                errors += _address(address, f"{at}.{field}[{j}]")
        for j, port in enumerate(ports):
            errors += _port(port, f"{at}.ports[{j}]", len(ports) > 1)
    return errors


def _validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx)


def _warn(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return [DEPRECATED]


ENDPOINTS = Rules(
    BY_KIND["", "v1", "Endpoints"],
    default=default,
    validate=validate,
    validate_update=_validate_update,
    warnings=_warn,
    create_on_update=True,
)
