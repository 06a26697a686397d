"""Service: defaults, what an update keeps or drops by itself, warnings and status. Checks are in ``service_checks``."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError
from portside.api.kinds import BY_KIND
from portside.api.rules import service_checks as checks
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
AFFINITY_SECONDS = 10800
_EXTERNAL_IPS = "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
_PREFER_CLOSE = 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def default(obj: Json) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    status.setdefault("loadBalancer", {})
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", AFFINITY_SECONDS)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if not spec.get("externalTrafficPolicy") and checks.external(spec):
        spec["externalTrafficPolicy"] = "Cluster"
    if checks.needs_ip(spec) and not spec.get("internalTrafficPolicy"):
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for point in status["loadBalancer"].get("ingress") or ():
            if point.get("ip"):
                point.setdefault("ipMode", "VIP")
    for field in ("clusterIP", "clusterIPs", "ports", "externalIPs", "selector"):
        if field in spec and not spec[field]:
            del spec[field]


def prepare_create(obj: Json, ctx: Context) -> None:
    obj["status"] = {"loadBalancer": {}}
    spec = obj["spec"]
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]


def _keep_allocated(spec: Json, old: Json) -> None:
    """A replacement that does not speak of addresses and ports keeps those it has."""
    if checks.needs_ip(old) and checks.needs_ip(spec):
        if not spec.get("clusterIP") and old.get("clusterIP"):
            spec["clusterIP"] = old["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == old.get("clusterIP") and old.get("clusterIPs"):
            spec["clusterIPs"] = list(old["clusterIPs"])
    if checks.needs_ports(old) and checks.needs_ports(spec):
        used = {p["nodePort"] for p in spec.get("ports") or () if p.get("nodePort")}
        by_name = {p.get("name") or "": p.get("nodePort") for p in old.get("ports") or ()}
        for port in spec.get("ports") or ():
            had = by_name.get(port.get("name") or "")
            if not port.get("nodePort") and had and had not in used:
                port["nodePort"] = had
                used.add(had)
    had = old.get("healthCheckNodePort")
    if had and checks.needs_health(old) and checks.needs_health(spec) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = had


def _normalise(spec: Json, old: Json) -> None:
    """clusterIP is the first of clusterIPs; a change of the one alone carries the other along."""
    have, had = spec.get("clusterIP") or "", old.get("clusterIP") or ""
    if have != had and (spec.get("clusterIPs") or []) == (old.get("clusterIPs") or []):
        if have:
            spec["clusterIPs"] = [have]
        else:
            spec.pop("clusterIPs", None)
    if have and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [have]


def _drop(spec: Json, old: Json, *fields: str) -> None:
    for field in fields:
        if field in spec and spec[field] == old.get(field):
            del spec[field]


def _drop_by_type(spec: Json, old: Json) -> None:
    """Leaving a type drops what only it had, unless the caller changed it in the same breath."""
    if checks.needs_ip(old) and not checks.needs_ip(spec):
        if (spec.get("clusterIPs") or []) == (old.get("clusterIPs") or []):
            _drop(spec, old, "clusterIP", "clusterIPs")
        _drop(spec, old, "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if checks.needs_ports(old) and not checks.needs_ports(spec):
        ports, before = spec.get("ports") or [], old.get("ports") or []
        if {p.get("nodePort") or 0 for p in ports} <= {p.get("nodePort") or 0 for p in before}:
            for port in ports:
                port.pop("nodePort", None)
    if checks.needs_health(old) and not checks.needs_health(spec):
        _drop(spec, old, "healthCheckNodePort")
    if old.get("type") == "LoadBalancer" and spec.get("type") != "LoadBalancer":
        _drop(spec, old, "allocateLoadBalancerNodePorts", "loadBalancerClass")
    if checks.external(old) and not checks.external(spec):
        _drop(spec, old, "externalTrafficPolicy")


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    spec, before = obj["spec"], old.get("spec") or {}
    _normalise(spec, before)
    _keep_allocated(spec, before)
    _drop_by_type(spec, before)
    obj["status"] = dict(old.get("status") or {})
    if spec.get("type") != "LoadBalancer":
        obj["status"]["loadBalancer"] = {}


def validate(obj: Json, ctx: Context) -> Errors:
    return checks.validate(obj)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    spec = obj.get("spec") or {}
    found: list[str] = []
    if spec.get("clusterIP") == "None":
        found += [
            f"spec.{f} is ignored for headless services" for f in ("loadBalancerIP", "externalIPs") if spec.get(f)
        ]
        if spec.get("sessionAffinity") == "ClientIP":
            found.append("spec.SessionAffinity is ignored for headless services")
    if spec.get("externalIPs"):
        found.append(_EXTERNAL_IPS)
        if spec.get("type") == "ExternalName":
            found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.get("externalName") and spec.get("type") != "ExternalName":
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append(_PREFER_CLOSE)
    return found


SERVICE = Rules(
    BY_KIND["", "v1", "Service"],
    default=default,
    prepare_create=prepare_create,
    prepare_update=prepare_update,
    validate=validate,
    validate_update=lambda obj, old, ctx: checks.validate_update(obj, old),
    warnings=warnings,
    name=names.dns_label,
    subresources={
        "status": SubRules(STATUS_ONLY.prepare_update, lambda obj, old, ctx: checks.validate_status(obj)),
    },
    create_on_update=True,
    returns_object_on_delete=True,
)
