"""PriorityClass."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
HIGHEST = 1_000_000_000
SYSTEM = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_POLICIES = ("PreemptLowerPriority", "Never")
_RESERVED = "priority class names with 'system-' prefix are reserved for system use only. error: "


def default(obj: Json) -> None:
    obj.setdefault("value", 0)
    obj.setdefault("preemptionPolicy", "PreemptLowerPriority")


def _create(obj: Json, ctx: Context) -> None:
    """The generation of a PriorityClass is 1 for good."""
    obj["metadata"]["generation"] = 1


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["metadata"]["generation"] = old["metadata"].get("generation") or 1


def _policy(obj: Json) -> Errors:
    policy = obj.get("preemptionPolicy")
    if policy is not None and policy not in _POLICIES:
        return [not_supported("preemptionPolicy", policy, _POLICIES)]
    return []


def validate(obj: Json, ctx: Context) -> Errors:
    name, value, errors = obj["metadata"].get("name") or "", obj.get("value") or 0, []
    if name.startswith("system-"):
        if name not in SYSTEM:
            text = f"{_RESERVED}{name} is not a known system priority class"
            errors.append(forbidden_field("metadata.name", text))
        elif value != SYSTEM[name]:
            text = f"{_RESERVED}value of {name} PriorityClass must be {SYSTEM[name]}"
            errors.append(forbidden_field("metadata.name", text))
    elif value > HIGHEST:
        text = f"maximum allowed value of a user defined priority is {HIGHEST}"
        errors.append(forbidden_field("value", text))
    return errors + _policy(obj)


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    errors: Errors = []
    if obj.get("value") != old.get("value"):
        errors.append(forbidden_field("value", "may not be changed in an update."))
    if obj.get("preemptionPolicy") != old.get("preemptionPolicy"):
        errors.append(invalid_value("preemptionPolicy", obj.get("preemptionPolicy"), "field is immutable"))
    return errors


RULES = {
    ("v1", "PriorityClass"): Rules(
        BY_KIND["scheduling.k8s.io", "v1", "PriorityClass"],
        default=default,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate,
        validate_update=validate_update,
    )
}
