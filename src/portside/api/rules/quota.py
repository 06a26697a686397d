"""ResourceQuota and LimitRange: names of resources, scopes, and the order of minimum, default and maximum."""

from __future__ import annotations

from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, required
from portside.api.kinds import BY_KIND
from portside.api.rules import resources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
_PODS = frozenset({"pods", "cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_EXISTS = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort", "CrossNamespacePodAffinity")
SCOPES: dict[str, frozenset[str]] = {name: _PODS for name in (*_EXISTS, "PriorityClass")} | {
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_EXISTS_TEXT = (
    "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, "
    "ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)


def default_quota(obj: Json) -> None:
    resources.canonicalize(obj.setdefault("spec", {}).get("hard"))
    status = obj.setdefault("status", {})
    for field in ("hard", "used"):
        resources.canonicalize(status.get(field))


def _prepare_quota(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep_status(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def _amounts(amounts: Json | None, path: str) -> Errors:
    errors: Errors = []
    for name, amount in sorted((amounts or {}).items()):
        at = f"{path}[{name}]"
        errors += resources.name_problems(name, at)
        if "/" not in name and not resources.is_quota(name):
            errors.append(invalid_value(at, name, "must be a standard resource for quota"))
        errors += resources.amount_problems(name, amount, at)
    return errors


def _applied(scope: str, hard: Json, path: str, shown: Any) -> Errors:
    offered = SCOPES.get(scope)
    if offered is None:
        return []
    text = "unsupported scope applied to resource"
    return [invalid_value(path, shown, text) for r in sorted(hard) if resources.is_quota(r) and r not in offered]


def _scopes(spec: Json) -> Errors:
    scopes, path, errors = spec.get("scopes") or [], "spec.scopes", []
    for scope in scopes:
        if scope not in SCOPES:
            errors.append(invalid_value(path, scopes, "unsupported scope"))
        errors += _applied(scope, spec.get("hard") or {}, path, scopes)
    errors += [invalid_value(path, scopes, "conflicting scopes") for pair in _CONFLICTS if pair <= set(scopes)]
    return errors


def _selector(spec: Json) -> Errors:
    expressions = (spec.get("scopeSelector") or {}).get("matchExpressions") or []
    path, errors = "spec.scopeSelector.matchExpressions", []
    for e in expressions:
        scope, op, values = e.get("scopeName") or "", e.get("operator") or "", e.get("values") or []
        if scope not in SCOPES:
            errors.append(invalid_value(f"{path}.scopeName", scope, "unsupported scope"))
        errors += _applied(scope, spec.get("hard") or {}, path, spec["scopeSelector"])
        if scope in _EXISTS and op != "Exists":
            errors.append(invalid_value(f"{path}.operator", op, _EXISTS_TEXT))
        if op in ("In", "NotIn"):
            if not values:
                text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
                errors.append(required(f"{path}.values", text))
        elif op in ("Exists", "DoesNotExist"):
            if values:
                text = "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector"
                errors.append(invalid_value(f"{path}.values", values, text))
        else:
            errors.append(invalid_value(f"{path}.operator", op, "not a valid selector operator"))
    found = {e.get("scopeName") for e in expressions}
    errors += [invalid_value(path, expressions, "conflicting scopes") for pair in _CONFLICTS if pair <= found]
    return errors


def validate_quota(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors = _amounts(spec.get("hard"), "spec.hard") + _scopes(spec) + _selector(spec)
    status = obj.get("status") or {}
    return errors + _amounts(status.get("hard"), "status.hard") + _amounts(status.get("used"), "status.used")


def _update_quota(obj: Json, old: Json, ctx: Context) -> Errors:
    errors, scopes = validate_quota(obj, ctx), (obj.get("spec") or {}).get("scopes") or []
    if sorted(scopes) != sorted((old.get("spec") or {}).get("scopes") or []):
        errors.append(invalid_value("spec.scopes", scopes, "field is immutable"))
    return errors


def _update_quota_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    return _amounts(status.get("hard"), "status.hard") + _amounts(status.get("used"), "status.used")


def default_range(obj: Json) -> None:
    for limit in obj.setdefault("spec", {}).setdefault("limits", []) or ():
        for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
            resources.canonicalize(limit.get(field))
        if limit.get("type") != "Container":
            continue
        limits = (limit.get("max") or {}) | (limit.get("default") or {})
        requests = (limit.get("min") or {}) | limits | (limit.get("defaultRequest") or {})
        if limits:
            limit["default"] = limits
        if requests:
            limit["defaultRequest"] = requests


_FIELDS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def _range_name(type_: str, name: str, path: str) -> Errors:
    if type_ in ("Pod", "Container"):
        errors = [invalid_value(path, name, p) for p in names.qualified_name(name)]
        if not errors and "/" not in name and not resources.is_standard(name):
            errors.append(invalid_value(path, name, "must be a standard resource type or fully qualified"))
        if "/" not in name and name not in ("cpu", "memory", "ephemeral-storage") and not resources.is_hugepages(name):
            errors.append(invalid_value(path, name, "must be a standard resource for containers"))
        return errors
    return resources.name_problems(name, path)


# (greater, smaller, field blamed, value shown, text)
_ORDER = (
    ("min", "max", "min", "min", "min value {min} is greater than max value {max}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {min} is greater than default request value {defaultRequest}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {defaultRequest} is greater than max value {max}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {defaultRequest} is greater than default limit value {default}",
    ),
    ("min", "default", "default", "min", "min value {min} is greater than default value {default}"),
    ("default", "max", "default", "max", "default value {default} is greater than max value {max}"),
)


def _ordered(limit: Json, name: str, at: str) -> Errors:
    have = {f: limit[f][name] for f in _FIELDS if name in (limit.get(f) or {})}
    errors: Errors = []
    for greater, smaller, blamed, value, text in _ORDER:
        if greater in have and smaller in have and quantity.compare(have[greater], have[smaller]) > 0:
            errors.append(invalid_value(f"{at}.{blamed}[{name}]", have[value], text.format_map(have)))
    ratio, path = have.get("maxLimitRequestRatio"), f"{at}.maxLimitRequestRatio[{name}]"
    if ratio is not None and quantity.compare(ratio, "1") < 0:
        errors.append(invalid_value(path, ratio, f"ratio {ratio} is less than 1"))
    if ratio is not None and "min" in have and "max" in have and quantity.parse(have["min"]) > 0:
        most = quantity.parse(have["max"]) / quantity.parse(have["min"])
        if quantity.parse(ratio) > most:
            errors.append(invalid_value(path, ratio, f"ratio {ratio} is greater than max/min = {float(most):f}"))
    strict = resources.is_extended(name) or resources.is_hugepages(name)
    if strict and "default" in have and "defaultRequest" in have:
        limit_, request = have["default"], have["defaultRequest"]
        if quantity.compare(limit_, request) != 0:
            text = f"default value {limit_} must equal to defaultRequest value {request} in {name}"
            errors.append(invalid_value(f"{at}.defaultRequest[{name}]", request, text))
    return errors


def validate_range(obj: Json, ctx: Context) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, limit in enumerate((obj.get("spec") or {}).get("limits") or ()):
        at, type_ = f"spec.limits[{i}]", limit.get("type") or ""
        problems = [invalid_value(f"{at}.type", type_, p) for p in names.qualified_name(type_)]
        if not problems and "/" not in type_ and type_ not in ("Pod", "Container", "PersistentVolumeClaim"):
            problems = [invalid_value(f"{at}.type", type_, "must be a standard limit type or fully qualified")]
        errors += problems
        if type_ in seen:
            errors.append(duplicate(f"{at}.type", type_))
        seen.add(type_)
        for field in _FIELDS:
            if type_ == "Pod" and field in ("default", "defaultRequest"):
                if limit.get(field):
                    errors.append(forbidden_field(f"{at}.{field}", "may not be specified when `type` is 'Pod'"))
                continue
            bounded = any("storage" in (limit.get(f) or {}) for f in ("min", "max"))
            if field == "maxLimitRequestRatio" and type_ == "PersistentVolumeClaim" and not bounded:
                text = "either minimum or maximum storage value is required, but neither was provided"
                errors.append(required(f"{at}.limits", text))
            for name in sorted(limit.get(field) or ()):
                errors += _range_name(type_, name, f"{at}.{field}[{name}]")
        for name in sorted({n for f in _FIELDS for n in limit.get(f) or ()}):
            errors += _ordered(limit, name, at)
    return errors


def _update_range(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate_range(obj, ctx)


QUOTA = Rules(
    BY_KIND["", "v1", "ResourceQuota"],
    default=default_quota,
    prepare_create=_prepare_quota,
    prepare_update=_keep_status,
    validate=validate_quota,
    validate_update=_update_quota,
    subresources={"status": SubRules(STATUS_ONLY.prepare_update, _update_quota_status)},
    returns_object_on_delete=True,
)
LIMITRANGE = Rules(
    BY_KIND["", "v1", "LimitRange"],
    default=default_range,
    validate=validate_range,
    validate_update=_update_range,
    create_on_update=True,
)
