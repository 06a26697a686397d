"""NetworkPolicy, IngressClass, IPAddress and ServiceCIDR; Ingress is in ``ingress``."""

from __future__ import annotations

import ipaddress
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import addresses, ingress
from portside.api.rules.registry import STATUS_ONLY, Context, Rules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "networking.k8s.io"
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def default_policy(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for field in ("ingress", "egress"):
        for rule in spec.get(field) or ():
            for port in rule.get("ports") or ():
                port.setdefault("protocol", "TCP")
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _port(port: Json, at: str) -> Errors:
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    errors: Errors = []
    if protocol is not None and protocol not in _PROTOCOLS:
        errors.append(not_supported(f"{at}.protocol", protocol, _PROTOCOLS))
    if isinstance(number, str):
        errors += [invalid_value(f"{at}.port", number, p) for p in names.port_name(number)]
    elif number is not None:
        errors += [invalid_value(f"{at}.port", number, p) for p in names.port_number(number)]
    if end is not None:
        if number is None:
            errors.append(invalid_value(f"{at}.endPort", end, "may not be specified when `port` is not specified"))
        elif isinstance(number, str):
            errors.append(invalid_value(f"{at}.endPort", end, "may not be specified when `port` is non-numeric"))
        else:
            if end < number:
                errors.append(invalid_value(f"{at}.endPort", end, "must be greater than or equal to `port`"))
            errors += [invalid_value(f"{at}.endPort", end, p) for p in names.port_number(end)]
    return errors


def strict_cidr(text: str, path: str) -> Errors:
    """A range as new objects must write it: no host bits, no leading zeros, canonical."""
    found = addresses.parse_cidr(text)
    if found is None:
        return [invalid_value(path, text, addresses.CIDR_TEXT)]
    address, _, bits = text.partition("/")
    if "." in address and ":" not in address and any(len(p) > 1 and p[0] == "0" for p in [*address.split("."), bits]):
        return [invalid_value(path, text, "must not have leading 0s in IP or prefix length")]
    if ipaddress.ip_address(address) != found.network_address:
        return [invalid_value(path, text, "must not have bits set beyond the prefix length")]
    return []


def canonical_cidr(text: str, path: str) -> Errors:
    errors = strict_cidr(text, path)
    found = addresses.parse_cidr(text)
    if not errors and found is not None and str(found) != text:
        errors.append(invalid_value(path, text, f'must be in canonical form ("{found}")'))
    return errors


def _block(block: Json, at: str) -> Errors:
    text = block.get("cidr") or ""
    if not text:
        return [required(f"{at}.cidr")]
    errors, whole = strict_cidr(text, f"{at}.cidr"), addresses.parse_cidr(text)
    if whole is None:
        return errors
    for i, part in enumerate(block.get("except") or ()):
        path, found = f"{at}.except[{i}]", strict_cidr(part, f"{at}.except[{i}]")
        inner = addresses.parse_cidr(part)
        errors += found
        if found or inner is None:
            continue
        if inner.version != whole.version or not _inside(inner, whole):
            errors.append(invalid_value(path, part, "must be a strict subset of `cidr`"))
    return errors


def _inside(inner: addresses.Network, whole: addresses.Network) -> bool:
    return inner.network_address in whole and inner.prefixlen > whole.prefixlen


def _peer(peer: Json, at: str) -> Errors:
    errors, count = [], 0
    for field in ("podSelector", "namespaceSelector"):
        if peer.get(field) is not None:
            count += 1
            errors += validate_object(peer[field], f"{at}.{field}")
    if peer.get("ipBlock") is not None:
        errors += _block(peer["ipBlock"], f"{at}.ipBlock")
        if count:
            errors.append(forbidden_field(at, "may not specify both ipBlock and another peer"))
        count += 1
    return errors if count else [*errors, required(at, "must specify a peer")]


def validate_policy(obj: Json, ctx: Context) -> Errors:
    spec, path = obj.get("spec") or {}, "spec"
    errors = validate_object(spec.get("podSelector") or {}, f"{path}.podSelector")
    for field, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(field) or ()):
            for j, port in enumerate(rule.get("ports") or ()):
                errors += _port(port, f"{path}.{field}[{i}].ports[{j}]")
            for j, peer in enumerate(rule.get(side) or ()):
                errors += _peer(peer, f"{path}.{field}[{i}].{side}[{j}]")
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        return [*errors, invalid_value(f"{path}.policyTypes", types, "may not specify more than two policyTypes")]
    known = ("Ingress", "Egress")
    return errors + [not_supported(f"{path}.policyTypes[{i}]", t, known) for i, t in enumerate(types) if t not in known]


def ip_name(name: str, prefix: bool = False) -> list[str]:
    """An IPAddress is named by the address itself, in its canonical form."""
    found = addresses.parse_ip(name)
    if found is None:
        return [addresses.IP_TEXT]
    return [] if str(found) == name else [f'must be in canonical form ("{found}")']


def validate_ipaddress(obj: Json, ctx: Context) -> Errors:
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        return [required("spec.parentRef")]
    group, errors = parent.get("group") or "", []
    errors += [invalid_value("spec.parentRef.group", group, p) for p in names.is_subdomain(group)] if group else []
    for field in ("resource", "name", "namespace"):
        value = parent.get(field) or ""
        path = f"spec.parentRef.{field}"
        if value:
            errors += [invalid_value(path, value, p) for p in names.path_segment(value)]
        elif field != "namespace":
            errors.append(required(path))
    return errors


def _update_ipaddress(obj: Json, old: Json, ctx: Context) -> Errors:
    before = (old.get("spec") or {}).get("parentRef")
    if (obj.get("spec") or {}).get("parentRef") != before:
        errors = [] if (obj.get("spec") or {}).get("parentRef") else [required("spec.parentRef")]
        return [*errors, invalid_value("spec.parentRef", None, "field is immutable")]
    return []


def validate_servicecidr(obj: Json, ctx: Context) -> Errors:
    cidrs, path = (obj.get("spec") or {}).get("cidrs") or [], "spec.cidrs"
    if not cidrs:
        return [required(path, "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid_value(path, {"CIDRs": cidrs}, "may only hold up to 2 values")]
    parsed = [n for n in (addresses.parse_cidr(c) for c in cidrs) if n is not None]
    errors: Errors = []
    if len(cidrs) == 2 and len(parsed) == 2 and not addresses.dual(parsed):
        text = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid_value(path, cidrs, text))
    return errors + [e for i, c in enumerate(cidrs) for e in canonical_cidr(c, f"{path}[{i}]")]


def _update_servicecidr(obj: Json, old: Json, ctx: Context) -> Errors:
    cidrs, before = ((o.get("spec") or {}).get("cidrs") or [] for o in (obj, old))
    if cidrs == before:
        return []
    text = "field is immutable"
    if len(cidrs) != len(before) and (len(before), len(cidrs)) != (1, 2):
        return [invalid_value("spec.cidrs", cidrs or None, text)]
    pairs = enumerate(zip(cidrs, before, strict=False))
    errors = [invalid_value(f"spec.cidrs[{i}]", have, text) for i, (have, had) in pairs if have != had]
    return errors if len(cidrs) == len(before) else errors + validate_servicecidr(obj, ctx)


def _default_servicecidr(obj: Json) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {})


def _create_servicecidr(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep_status(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def validate_class(obj: Json, ctx: Context) -> Errors:
    spec, errors = obj.get("spec") or {}, []
    controller = spec.get("controller") or ""
    if len(controller) > 250:
        text = "Too long: may not be more than 250 bytes"
        errors.append(FieldError("spec.controller", "FieldValueTooLong", text))
    errors += ingress.domain_path(controller, "spec.controller")
    return errors + ingress.class_parameters(spec.get("parameters"), "spec.parameters")


def _update_class(obj: Json, old: Json, ctx: Context) -> Errors:
    controller, before = ((o.get("spec") or {}).get("controller") for o in (obj, old))
    errors = [] if controller == before else [invalid_value("spec.controller", controller, "field is immutable")]
    return errors + validate_class(obj, ctx)


def _default_class(obj: Json) -> None:
    parameters = obj.setdefault("spec", {}).get("parameters")
    if parameters is not None and parameters.get("scope") is None:
        parameters["scope"] = "Cluster"


RULES = {
    ("v1", "Ingress"): ingress.INGRESS,
    ("v1", "NetworkPolicy"): Rules(
        BY_KIND[GROUP, "v1", "NetworkPolicy"],
        default=default_policy,
        validate=validate_policy,
        validate_update=lambda obj, old, ctx: validate_policy(obj, ctx),
        generation=True,
    ),
    ("v1", "IngressClass"): Rules(
        BY_KIND[GROUP, "v1", "IngressClass"],
        default=_default_class,
        validate=validate_class,
        validate_update=_update_class,
        generation=True,
    ),
    ("v1", "IPAddress"): Rules(
        BY_KIND[GROUP, "v1", "IPAddress"],
        validate=validate_ipaddress,
        validate_update=_update_ipaddress,
        name=ip_name,
    ),
    ("v1", "ServiceCIDR"): Rules(
        BY_KIND[GROUP, "v1", "ServiceCIDR"],
        default=_default_servicecidr,
        prepare_create=_create_servicecidr,
        prepare_update=_keep_status,
        validate=validate_servicecidr,
        validate_update=_update_servicecidr,
        subresources={"status": STATUS_ONLY},
    ),
}
