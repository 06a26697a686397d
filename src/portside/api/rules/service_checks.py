"""What makes a Service invalid, in upstream's order."""

from __future__ import annotations

from typing import Any

from portside.api import meta, names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.rules import addresses
from portside.api.rules.endpoints import PROTOCOLS

Json = dict[str, Any]
Errors = list[FieldError]
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
FAMILIES = ("IPv4", "IPv6")
POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
TRAFFIC = ("Cluster", "Local")
DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
RANGES_ANNOTATION = "service.beta.kubernetes.io/load-balancer-source-ranges"
AFFINITY_MAXIMUM = 86400
KUBELET_PORT = 10250
_BALANCER_ONLY = "may only be used when `type` is 'LoadBalancer'"
_ONCE = "may not change once set"
_HEALTH_TEXT = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"


def needs_ip(spec: Json) -> bool:
    return spec.get("type") in ("ClusterIP", "NodePort", "LoadBalancer")


def needs_ports(spec: Json) -> bool:
    return spec.get("type") in ("NodePort", "LoadBalancer")


def needs_health(spec: Json) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def external(spec: Json) -> bool:
    return needs_ports(spec) or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def headless(spec: Json) -> bool:
    return bool((spec.get("clusterIPs") or [""])[0] == "None")


def family_of(ip: str) -> str:
    found = addresses.parse_ip(ip)
    return "" if found is None else f"IPv{found.version}"


def _by_type(spec: Json) -> Errors:
    type_, errors = spec.get("type"), []
    if type_ in ("LoadBalancer", "NodePort"):
        for i, port in enumerate(spec.get("ports") or ()):
            if type_ == "LoadBalancer" and port.get("port") == KUBELET_PORT:
                text = f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                errors.append(invalid_value(f"spec.ports[{i}]", port["port"], text))
        if headless(spec):
            text = f"may not be set to 'None' for {type_} services"
            errors.append(invalid_value("spec.clusterIPs[0]", "None", text))
    elif type_ == "ExternalName":
        for field in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
            if spec.get(field):
                errors.append(forbidden_field(f"spec.{field}", "may not be set for ExternalName services"))
        name = spec.get("externalName") or ""
        if name:
            bare = name.removesuffix(".")
            errors += [invalid_value("spec.externalName", name, p) for p in names.dns_subdomain(bare)]
        else:
            errors.append(required("spec.externalName"))
    return errors


def port_or_name(value: Any, path: str) -> Errors:
    """A port by number or by name."""
    if isinstance(value, str):
        return [invalid_value(path, value, p) for p in names.port_name(value)]
    return [invalid_value(path, value, p) for p in names.port_number(value)]


def _port(port: Json, at: str, named: bool, seen: set[str]) -> Errors:
    name, number, protocol = port.get("name") or "", port.get("port") or 0, port.get("protocol") or ""
    errors: Errors = []
    if named and not name:
        errors.append(required(f"{at}.name"))
    elif name:
        errors += [invalid_value(f"{at}.name", name, p) for p in names.dns_label(name)]
        if name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
    errors += [invalid_value(f"{at}.port", number, p) for p in names.port_number(number)]
    if not protocol:
        errors.append(required(f"{at}.protocol"))
    elif protocol not in PROTOCOLS:
        errors.append(not_supported(f"{at}.protocol", protocol, PROTOCOLS))
    errors += port_or_name(port.get("targetPort", 0), f"{at}.targetPort")
    if port.get("appProtocol") is not None:
        app = port["appProtocol"]
        errors += [invalid_value(f"{at}.appProtocol", app, p) for p in names.qualified_name(app)]
    return errors


def _affinity(spec: Json) -> Errors:
    value, path = spec.get("sessionAffinity") or "", "spec.sessionAffinityConfig"
    if not value:
        return [required("spec.sessionAffinity")]
    if value not in ("ClientIP", "None"):
        return [not_supported("spec.sessionAffinity", value, ("ClientIP", "None"))]
    config = spec.get("sessionAffinityConfig")
    if value == "None":
        text = "must not be set when session affinity is None"
        return [forbidden_field(path, text)] if config is not None else []
    seconds = ((config or {}).get("clientIP") or {}).get("timeoutSeconds")
    if seconds is None:
        return [required(path, "when session affinity type is ClientIP")]
    if 0 < seconds <= AFFINITY_MAXIMUM:
        return []
    text = f"must be greater than 0 and less than {AFFINITY_MAXIMUM}"
    return [invalid_value(f"{path}.clientIP.timeoutSeconds", seconds, text)]


def _families(spec: Json) -> Errors:
    """clusterIPs, ipFamilies and ipFamilyPolicy against each other."""
    if spec.get("type") == "ExternalName":
        return []
    errors: Errors = []
    ips, families = spec.get("clusterIPs") or [], spec.get("ipFamilies") or []
    if ips and not spec.get("clusterIP"):
        errors.append(required("spec.clusterIP", "must be set when `clusterIPs` is specified"))
    elif ips and ips[0] != spec.get("clusterIP"):
        errors.append(invalid_value("spec.clusterIPs", ips, "first value must match `clusterIP`"))
    seen: set[str] = set()
    for i, family in enumerate(families):
        if family not in FAMILIES:
            errors.append(not_supported(f"spec.ipFamilies[{i}]", family, FAMILIES))
        elif family in seen:
            errors.append(duplicate(f"spec.ipFamilies[{i}]", family))
        seen.add(family)
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in POLICIES:
        errors.append(not_supported("spec.ipFamilyPolicy", policy, POLICIES))
    return errors + _cluster_ips(ips, families)


def _cluster_ips(ips: list[str], families: list[str]) -> Errors:
    if ips and ips[0] == "None":
        text = "may not hold more than one value when first is 'None'"
        return [invalid_value("spec.clusterIPs", ips, text)] if len(ips) > 1 else []
    errors = [e for i, ip in enumerate(ips) for e in addresses.ip(f"spec.clusterIPs[{i}]", ip)]
    if len(ips) > 2:
        errors.append(invalid_value("spec.clusterIPs", ips, "may only hold up to 2 values"))
    if errors:
        return errors
    if len(ips) == 2 and family_of(ips[0]) == family_of(ips[1]):
        text = 'may specify no more than one IP for each IP family, i.e ["IPv4", "IPv6"]'
        errors.append(invalid_value("spec.clusterIPs", ips, text))
    for i, (ip, family) in enumerate(zip(ips, families, strict=False)):
        if family in FAMILIES and family_of(ip) != family:
            article = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            errors.append(invalid_value(f"spec.clusterIPs[{i}]", ip, article))
    return errors


def _external_ip(path: str, ip: str) -> Errors:
    parts = ip.split(".")
    if len(parts) == 4 and addresses.parse_ip(ip) is not None and any(len(p) > 1 and p[0] == "0" for p in parts):
        return [invalid_value(path, ip, "must not have leading 0s")]
    return addresses.ip(path, ip) or addresses.not_special(path, ip)


def _numbers(spec: Json) -> Errors:
    errors: Errors = []
    ports = spec.get("ports") or []
    if spec.get("type") == "ClusterIP":
        text = "may not be used when `type` is 'ClusterIP'"
        errors += [forbidden_field(f"spec.ports[{i}].nodePort", text) for i, p in enumerate(ports) if p.get("nodePort")]
    used: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort") and key in used:
            errors.append(duplicate(f"spec.ports[{i}].nodePort", port["nodePort"]))
        used.add(key)
    numbers: set[tuple[Any, Any]] = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in numbers:
            shown = {
                "Name": "",
                "Protocol": key[0],
                "AppProtocol": None,
                "Port": key[1],
                "TargetPort": 0,
                "NodePort": 0,
            }
            errors.append(duplicate(f"spec.ports[{i}]", shown))
        numbers.add(key)
    return errors


def _source_ranges(obj: Json) -> Errors:
    spec = obj["spec"]
    ranges = spec.get("loadBalancerSourceRanges") or []
    annotation = (obj["metadata"].get("annotations") or {}).get(RANGES_ANNOTATION)
    path = "spec.LoadBalancerSourceRanges"
    errors: Errors = []
    if (ranges or annotation is not None) and spec.get("type") != "LoadBalancer":
        errors.append(forbidden_field(path, _BALANCER_ONLY))
    if ranges:
        return errors + [e for i, c in enumerate(ranges) for e in addresses.cidr(f"{path}[{i}]", c.strip())]
    listed = [c.strip() for c in (annotation or "").split(",")] if (annotation or "").strip() else []
    return errors + [e for c in listed for e in addresses.cidr(f"metadata.annotations[{RANGES_ANNOTATION}]", c)]


def _traffic(spec: Json) -> Errors:
    errors: Errors = []
    outer, inner, health = (
        spec.get(f) for f in ("externalTrafficPolicy", "internalTrafficPolicy", "healthCheckNodePort")
    )
    if external(spec):
        if not outer:
            errors.append(required("spec.externalTrafficPolicy"))
        elif outer not in TRAFFIC:
            errors.append(not_supported("spec.externalTrafficPolicy", outer, TRAFFIC))
    elif outer:
        text = "may only be set for externally-accessible services"
        errors.append(invalid_value("spec.externalTrafficPolicy", outer, text))
    if health and not needs_health(spec):
        errors.append(invalid_value("spec.healthCheckNodePort", health, _HEALTH_TEXT))
    if inner is None and needs_ip(spec):
        errors.append(required("spec.internalTrafficPolicy"))
    elif inner is not None and inner not in TRAFFIC:
        errors.append(not_supported("spec.internalTrafficPolicy", inner, TRAFFIC))
    spread = spec.get("trafficDistribution")
    if spread is not None and spread not in DISTRIBUTIONS:
        errors.append(not_supported("spec.trafficDistribution", spread, DISTRIBUTIONS))
    return errors


def _balancer(spec: Json) -> Errors:
    errors: Errors = []
    balancer = spec.get("type") == "LoadBalancer"
    if spec.get("allocateLoadBalancerNodePorts") is not None and not balancer:
        errors.append(forbidden_field("spec.allocateLoadBalancerNodePorts", _BALANCER_ONLY))
    class_ = spec.get("loadBalancerClass")
    if class_ is not None and not balancer:
        errors.append(forbidden_field("spec.loadBalancerClass", _BALANCER_ONLY))
    elif class_ is not None:
        errors += [invalid_value("spec.loadBalancerClass", class_, p) for p in names.qualified_name(class_)]
    return errors


def validate(obj: Json) -> Errors:
    """What is wrong with its addresses is told alone: nothing can be allocated then."""
    spec = obj["spec"]
    return _families(spec) or _rest(obj, spec)


def _rest(obj: Json, spec: Json) -> Errors:
    ports, errors = spec.get("ports") or [], []
    if not ports and not headless(spec) and spec.get("type") != "ExternalName":
        errors.append(required("spec.ports"))
    errors += _by_type(spec)
    seen: set[str] = set()
    for i, port in enumerate(ports):
        errors += _port(port, f"spec.ports[{i}]", len(ports) > 1, seen)
    errors += meta.validate_labels(spec.get("selector"), "spec.selector")
    errors += _affinity(spec)
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        errors += _external_ip(f"spec.externalIPs[{i}]", ip)
    if spec.get("type") not in TYPES:
        errors.append(not_supported("spec.type", spec.get("type"), TYPES))
    errors += _numbers(spec) + _source_ranges(obj)
    if spec.get("type") in TYPES:
        errors += _traffic(spec)
    return errors + _balancer(spec)


def validate_update(obj: Json, old: Json) -> Errors:
    spec, before = obj["spec"], old.get("spec") or {}
    errors: Errors = []
    ips, had = spec.get("clusterIPs") or [], before.get("clusterIPs") or []
    if needs_ip(spec) and needs_ip(before) and ips and had and ips[0] != had[0]:
        errors.append(invalid_value("spec.clusterIPs[0]", ips, _ONCE))
    elif needs_ip(spec) and needs_ip(before) and len(ips) > 1 and len(had) > 1 and ips[1] != had[1]:
        errors.append(invalid_value("spec.clusterIPs[1]", ips, _ONCE))
    if alone := errors + _families(spec):
        return alone
    if spec.get("type") == before.get("type") == "LoadBalancer":
        class_ = spec.get("loadBalancerClass")
        if class_ != before.get("loadBalancerClass"):
            errors.append(invalid_value("spec.loadBalancerClass", class_, _ONCE))
    health = before.get("healthCheckNodePort")
    if needs_health(spec) and needs_health(before) and health and spec.get("healthCheckNodePort") != health:
        errors.append(forbidden_field("spec.healthCheckNodePort", "field is immutable"))
    return errors + validate(obj)


def balancer_status(points: list[Json], path: str, *, modes: bool) -> Errors:
    """The entries of a load balancer's status; ``modes``: a Service's, which say how they deliver."""
    errors: Errors = []
    for i, point in enumerate(points):
        at, ip, mode, host = f"{path}[{i}]", point.get("ip") or "", point.get("ipMode"), point.get("hostname") or ""
        if ip:
            errors += addresses.ip(f"{at}.ip", ip)
        if modes and ip and mode is None:
            errors.append(required(f"{at}.ipMode", "must be specified when `ip` is set"))
        elif modes and mode is not None and not ip:
            errors.append(forbidden_field(f"{at}.ipMode", "may not be specified when `ip` is not set"))
        elif modes and mode is not None and mode not in ("Proxy", "VIP"):
            errors.append(not_supported(f"{at}.ipMode", mode, ("Proxy", "VIP")))
        if host:
            errors += [invalid_value(f"{at}.hostname", host, p) for p in names.dns_subdomain(host)]
            if addresses.parse_ip(host) is not None:
                errors.append(invalid_value(f"{at}.hostname", host, "must be a DNS name, not an IP address"))
    return errors


def validate_status(obj: Json) -> Errors:
    points = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    path = "status.loadBalancer.ingress"
    if points and (obj.get("spec") or {}).get("type") != "LoadBalancer":
        return [forbidden_field(path, "may only be used when `spec.type` is 'LoadBalancer'")]
    return balancer_status(points, path, modes=True)
