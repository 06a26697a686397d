"""EndpointSlice."""

from __future__ import annotations

import ipaddress
from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_many
from portside.api.kinds import BY_KIND
from portside.api.rules import addresses
from portside.api.rules.endpoints import PROTOCOLS
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
TYPES = ("FQDN", "IPv4", "IPv6")
MOST_ADDRESSES, MOST_ENDPOINTS, MOST_PORTS, MOST_HINTS = 100, 1000, 20000, 8


def default(obj: Json) -> None:
    obj.setdefault("endpoints", None)
    if obj.setdefault("ports", None) is not None and not obj["ports"]:
        obj["ports"] = None
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _address(text: str, type_: str, at: str, index: int) -> Errors:
    path = f"{at}[{index}]"
    if type_ == "FQDN":
        if text.count(".") < 1 and not names.is_subdomain(text):
            return [invalid_value(path, text, "should be a domain with at least two segments separated by dots")]
        return [invalid_value(path, text, p) for p in names.is_subdomain(text)]
    found = addresses.parse_ip(text)
    if found is None:
        return [invalid_value(path, text, addresses.IP_TEXT)]
    if f"IPv{found.version}" != type_:
        return [invalid_value(at, text, f"must be an {type_} address")]
    if "." in text and str(found) != text:
        return [invalid_value(path, text, "must not have leading 0s")]
    if isinstance(found, ipaddress.IPv6Address) and str(found) != text:
        return [invalid_value(path, text, f'must be in canonical form ("{found}")')]
    return addresses.not_special(path, text)


def _hints(hints: Json, at: str) -> Errors:
    errors: Errors = []
    for field in ("forZones", "forNodes"):
        listed, seen = hints.get(field) or [], set()
        if len(listed) > MOST_HINTS:
            return [*errors, too_many(f"{at}.{field}", len(listed), MOST_HINTS)]
        for i, one in enumerate(listed):
            name = one.get("name") or ""
            if name in seen:
                errors.append(duplicate(f"{at}.{field}[{i}].name", name))
            seen.add(name)
            check = names.label_value if field == "forZones" else names.is_subdomain
            errors += [invalid_value(f"{at}.{field}[{i}].name", name, p) for p in check(name)]
    return errors


def _endpoint(endpoint: Json, type_: str, at: str) -> Errors:
    listed = endpoint.get("addresses") or []
    if not listed:
        return [required(f"{at}.addresses")]
    if len(listed) > MOST_ADDRESSES:
        return [too_many(f"{at}.addresses", len(listed), MOST_ADDRESSES)]
    errors = (
        [e for i, a in enumerate(listed) for e in _address(a, type_, f"{at}.addresses", i)] if type_ in TYPES else []
    )
    node, host = endpoint.get("nodeName"), endpoint.get("hostname")
    if node is not None:
        errors += [invalid_value(f"{at}.nodeName", node, p) for p in names.dns_subdomain(node)]
    for key, value in sorted((endpoint.get("deprecatedTopology") or {}).items()):
        errors += [invalid_value(f"{at}.deprecatedTopology", key, p) for p in names.qualified_name(key)]
        errors += [invalid_value(f"{at}.deprecatedTopology", value, p) for p in names.label_value(value)]
    if host is not None:
        errors += [invalid_value(f"{at}.hostname", host, p) for p in names.is_label(host)]
    return errors + (_hints(endpoint["hints"], f"{at}.hints") if endpoint.get("hints") is not None else [])


def _port(port: Json, at: str, seen: set[str]) -> Errors:
    name, protocol, app = port.get("name") or "", port.get("protocol"), port.get("appProtocol")
    errors: Errors = []
    if name:
        errors += [invalid_value(f"{at}.name", name, p) for p in names.is_label(name)]
    if name in seen:
        errors.append(duplicate(f"{at}.name", name))
    seen.add(name)
    if not protocol:
        errors.append(required(f"{at}.protocol"))
    elif protocol not in PROTOCOLS:
        errors.append(not_supported(f"{at}.protocol", protocol, PROTOCOLS))
    if app is not None:
        errors += [invalid_value(f"{at}.appProtocol", app, p) for p in names.qualified_name(app)]
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    type_, endpoints, ports = obj.get("addressType") or "", obj.get("endpoints") or [], obj.get("ports") or []
    errors: Errors = []
    if len(endpoints) > MOST_ENDPOINTS:
        errors.append(too_many("endpoints", len(endpoints), MOST_ENDPOINTS))
    else:
        errors += [e for i, one in enumerate(endpoints) for e in _endpoint(one, type_, f"endpoints[{i}]")]
    if len(ports) > MOST_PORTS:
        errors.append(too_many("ports", len(ports), MOST_PORTS))
    else:
        seen: set[str] = set()
        errors += [e for i, one in enumerate(ports) for e in _port(one, f"ports[{i}]", seen)]
    if not type_:
        errors.append(required("addressType"))
    elif type_ not in TYPES:
        errors.append(not_supported("addressType", type_, TYPES))
    return errors


def _prepare(obj: Json, ctx: Context) -> None:
    """v1 does not write the topology of v1beta1."""
    for endpoint in obj.get("endpoints") or ():
        endpoint.pop("deprecatedTopology", None)


def _prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    """Labels say whose slice it is: they count as content."""
    if obj.get("endpoints") != old.get("endpoints"):
        _prepare(obj, ctx)
    if (obj["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        obj["metadata"]["generation"] = int(old["metadata"].get("generation") or 0) + 1


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate(obj, ctx)
    if obj.get("addressType") != old.get("addressType"):
        errors.append(invalid_value("addressType", None, "field is immutable"))
    return errors


def _warn(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return ["spec.addressType: FQDN endpoints are deprecated"] if obj.get("addressType") == "FQDN" else []


RULES = {
    ("v1", "EndpointSlice"): Rules(
        BY_KIND["discovery.k8s.io", "v1", "EndpointSlice"],
        default=default,
        prepare_create=_prepare,
        prepare_update=_prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=_warn,
        generation=True,
    )
}
