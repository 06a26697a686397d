"""PodGroup and Workload: pods that are scheduled together. Served with the gate GenericWorkload alone.

Fields of gates that stay off (topology, shared claims, composite groups, preemption policy) are dropped, as upstream does.
"""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, required, too_many
from portside.api.kinds import BY_KIND
from portside.api.names import is_label, is_subdomain
from portside.api.rules.registry import STATUS_ONLY, Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
GROUP, VERSION = "scheduling.k8s.io", "v1beta1"
HIGHEST = 1_000_000_000
MOST_TEMPLATES = 8
_OFF = ("parentCompositePodGroupName", "schedulingConstraints", "resourceClaims", "preemptionPolicy")
_FIXED = ("workloadRef", "disruptionMode", "priorityClassName", "priority")
IMMUTABLE = "field is immutable"


def _drop(spec: Json) -> None:
    for key in _OFF:
        spec.pop(key, None)


def default(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("disruptionMode") is None:
        spec["disruptionMode"] = {"single": {}}


def default_workload(obj: Json) -> None:
    obj.setdefault("spec", {})


def _create_group(obj: Json, ctx: Context) -> None:
    _drop(obj["spec"])


def _update_group(obj: Json, old: Json, ctx: Context) -> None:
    _drop(obj["spec"])


def _one_of(value: Json | None, names: tuple[str, str], path: str, *, needed: bool) -> Errors:
    """A union: exactly one member, or none where it is not needed."""
    given = [n for n in names if (value or {}).get(n) is not None]
    if len(given) == 1 or (value is None and not needed):
        return []
    listed = ", ".join(f"`{n}`" for n in names)
    if not given:
        return [invalid_value(path, "", f"must specify one of: {listed}")]
    shown = "{" + ", ".join(given) + "}"
    return [invalid_value(path, shown, f"must specify exactly one of: {listed}")]


def _policy(policy: Json, path: str) -> Errors:
    errors = _one_of(policy, ("basic", "gang"), path, needed=True)
    gang = policy.get("gang")
    if gang is not None:
        count = gang.get("minCount")
        if not count:
            errors.append(required(f"{path}.gang.minCount"))
        elif count < 1:
            errors.append(invalid_value(f"{path}.gang.minCount", count, "must be greater than or equal to 1"))
    return errors


def _common(spec: Json, path: str) -> Errors:
    """What groups and their templates share."""
    errors = _policy(spec.get("schedulingPolicy") or {}, f"{path}.schedulingPolicy")
    errors += _one_of(spec.get("disruptionMode"), ("single", "all"), f"{path}.disruptionMode", needed=False)
    if name := spec.get("priorityClassName"):
        errors += [invalid_value(f"{path}.priorityClassName", name, why) for why in is_subdomain(name)]
    if (priority := spec.get("priority")) is not None and priority > HIGHEST:
        errors.append(invalid_value(f"{path}.priority", priority, f"must be less than or equal to {HIGHEST}"))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    errors: Errors = []
    if (reference := spec.get("workloadRef")) is not None:
        for key, check in (("workloadName", is_subdomain), ("templateName", is_label)):
            path, name = f"spec.workloadRef.{key}", reference.get(key) or ""
            errors += [invalid_value(path, name, why) for why in check(name)] if name else [required(path)]
    return errors + _common(spec, "spec")


def _fixed(spec: Json, was: Json, path: str, keys: tuple[str, ...]) -> Errors:
    """What stays as it was made, of a group or a template; a gang's size may change."""
    errors = [invalid_value(f"{path}.{k}", spec.get(k), IMMUTABLE) for k in keys if spec.get(k) != was.get(k)]
    now, then = spec.get("schedulingPolicy") or {}, was.get("schedulingPolicy") or {}
    path = f"{path}.schedulingPolicy"
    if now.get("basic") != then.get("basic"):
        errors.append(invalid_value(f"{path}.basic", now.get("basic"), IMMUTABLE))
    if (now.get("gang") is None) != (then.get("gang") is None):
        what = "cleared once set" if now.get("gang") is None else "set once created"
        errors.append(invalid_value(f"{path}.gang", now.get("gang"), f"field cannot be {what}"))
    return errors


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return _fixed(obj["spec"], old["spec"], "spec", _FIXED) + validate(obj, ctx)


def _create_workload(obj: Json, ctx: Context) -> None:
    obj["spec"].pop("compositePodGroupTemplates", None)
    for template in obj["spec"].get("podGroupTemplates") or ():
        _drop(template)


def _update_workload(obj: Json, old: Json, ctx: Context) -> None:
    _create_workload(obj, ctx)


def validate_workload(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    templates = spec.get("podGroupTemplates") or []
    path = "spec.podGroupTemplates"
    errors: Errors = [] if templates else [required(path)]
    if len(templates) > MOST_TEMPLATES:
        errors.append(too_many(path, len(templates), MOST_TEMPLATES))
    seen: set[str] = set()
    for i, template in enumerate(templates):
        name = template.get("name") or ""
        where = f"{path}[{i}].name"
        errors += [invalid_value(where, name, why) for why in is_label(name)] if name else [required(where)]
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", {"name": name}))
        seen.add(name)
        errors += _common(template, f"{path}[{i}]")
    if len({(t.get("priorityClassName") or "", t.get("priority")) for t in templates}) > 1:
        errors.append(invalid_value("spec", None, "detected multiple priority configurations"))
    if (controller := spec.get("controllerRef")) is not None:
        errors += [required(f"spec.controllerRef.{k}") for k in ("kind", "name") if not controller.get(k)]
    return errors


def validate_workload_update(obj: Json, old: Json, ctx: Context) -> Errors:
    """Templates stay, but for the size of their gangs."""
    spec, was = obj["spec"], old["spec"]
    errors = validate_workload(obj, ctx)
    if spec.get("controllerRef") != was.get("controllerRef"):
        errors.append(invalid_value("spec.controllerRef", spec.get("controllerRef"), IMMUTABLE))
    before = {t.get("name"): t for t in was.get("podGroupTemplates") or ()}
    now = {t.get("name"): t for t in spec.get("podGroupTemplates") or ()}
    for i, (name, template) in enumerate(now.items()):
        path = f"spec.podGroupTemplates[{i}]"
        if name not in before:
            errors.append(forbidden_field(path, "item may not be added"))
            continue
        errors += _fixed(template, before[name], path, ("disruptionMode", "priorityClassName", "priority"))
    errors += [forbidden_field("spec.podGroupTemplates", "item may not be removed") for n in before if n not in now]
    return errors


RULES = {
    (VERSION, "PodGroup"): Rules(
        BY_KIND[GROUP, VERSION, "PodGroup"],
        default=default,
        prepare_create=_create_group,
        prepare_update=_update_group,
        validate=validate,
        validate_update=validate_update,
        generation=True,
        status=True,
        unconditional_update=False,
        subresources={"status": STATUS_ONLY},
    ),
    (VERSION, "Workload"): Rules(
        BY_KIND[GROUP, VERSION, "Workload"],
        default=default_workload,
        prepare_create=_create_workload,
        prepare_update=_update_workload,
        validate=validate_workload,
        validate_update=validate_workload_update,
        generation=True,
        unconditional_update=False,
    ),
}
