"""PodDisruptionBudget."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, not_supported
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
_PERCENT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
_POLICIES = ("AlwaysAllow", "IfHealthyBudget")
_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def default(obj: Json) -> None:
    obj.setdefault("spec", {})
    status = obj.setdefault("status", {})
    for count in _COUNTS:
        status.setdefault(count, 0)


def _create(obj: Json, ctx: Context) -> None:
    obj["status"] = dict.fromkeys(_COUNTS, 0)


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def amount_or_percent(value: Any, path: str) -> Errors:
    """A number that is not negative, or a percentage."""
    if isinstance(value, str):
        number = value.removesuffix("%")
        if not value.endswith("%") or not number.isdigit():
            return [invalid_value(path, value, _PERCENT)]
        return [invalid_value(path, value, "must not be greater than 100%")] if int(number) > 100 else []
    return [invalid_value(path, value, "must be greater than or equal to 0")] if value < 0 else []


def validate(obj: Json, ctx: Context) -> Errors:
    spec, errors = obj.get("spec") or {}, []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        shown = {
            "MinAvailable": least,
            "Selector": spec.get("selector"),
            "MaxUnavailable": most,
            "UnhealthyPodEvictionPolicy": spec.get("unhealthyPodEvictionPolicy"),
        }
        errors.append(invalid_value("spec", shown, "minAvailable and maxUnavailable cannot be both set"))
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is not None:
            errors += amount_or_percent(value, f"spec.{field}")
    errors += validate_object(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _POLICIES:
        errors.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, _POLICIES))
    return errors


def _status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    text = "must be greater than or equal to 0"
    return [invalid_value(f"status.{c}", status[c], text) for c in _COUNTS if (status.get(c) or 0) < 0]


RULES = {
    ("v1", "PodDisruptionBudget"): Rules(
        BY_KIND["policy", "v1", "PodDisruptionBudget"],
        default=default,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate,
        validate_update=lambda obj, old, ctx: validate(obj, ctx),
        name=names.path_segment,
        any_finalizer=True,
        subresources={"status": SubRules(STATUS_ONLY.prepare_update, _status)},
        generation=True,
        unconditional_update=False,
    )
}
