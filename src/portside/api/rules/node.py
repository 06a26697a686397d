"""RuntimeClass (node.k8s.io). The Node of core is in ``core_node``."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, required
from portside.api.kinds import BY_KIND
from portside.api.meta import validate_labels
from portside.api.rules import resources
from portside.api.rules.pod_affinity import validate_tolerations
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
_CONTAINER = ("cpu", "memory", "ephemeral-storage")
_TOLERATION = {"key": "Key", "operator": "Operator", "value": "Value", "effect": "Effect"}


def default(obj: Json) -> None:
    resources.canonicalize((obj.get("overhead") or {}).get("podFixed"))


def _overhead(fixed: Json) -> Errors:
    errors: Errors = []
    for name, amount in sorted(fixed.items()):
        at = f"overhead.limits[{name}]"
        errors += resources.name_problems(name, at)
        if "/" not in name and name not in _CONTAINER and not resources.is_hugepages(name):
            errors.append(invalid_value(at, name, "must be a standard resource for containers"))
        errors += resources.amount_problems(name, amount, at)
    return errors


def _scheduling(scheduling: Json) -> Errors:
    tolerations = scheduling.get("tolerations") or []
    errors = validate_labels(scheduling.get("nodeSelector"), "scheduling.nodeSelector")
    errors += validate_tolerations(tolerations, "scheduling.tolerations")
    for i, one in enumerate(tolerations):
        if one in tolerations[:i]:
            shown: Json = {inner: one.get(f) or "" for f, inner in _TOLERATION.items()}
            shown["TolerationSeconds"] = one.get("tolerationSeconds")
            errors.append(duplicate(f"scheduling.tolerations[{i}]", shown))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    errors = _overhead((obj.get("overhead") or {}).get("podFixed") or {})
    if obj.get("scheduling") is not None:
        errors += _scheduling(obj["scheduling"])
    handler = obj.get("handler") or ""
    if not handler:
        return [*errors, required("handler")]
    return errors + [invalid_value("handler", handler, p) for p in names.is_label(handler)]


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    handler = obj.get("handler") or ""
    if handler == (old.get("handler") or ""):
        return validate(obj, ctx)
    errors = (
        [required("handler")]
        if not handler
        else [invalid_value("handler", handler, p) for p in names.is_label(handler)]
    )
    return [*errors, invalid_value("handler", None, "field is immutable")]


RULES = {
    ("v1", "RuntimeClass"): Rules(
        BY_KIND["node.k8s.io", "v1", "RuntimeClass"],
        default=default,
        validate=validate,
        validate_update=validate_update,
        create_on_update=True,
        unconditional_update=False,
        any_finalizer=True,
    )
}
