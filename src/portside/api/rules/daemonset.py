"""apps/v1 DaemonSet. The template's generation lives in an annotation, as upstream keeps it since apps/v1."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_affinity import validate_label_selector
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata, tidy_selector
from portside.api.rules.pod_spec import validate_template
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.workload import (
    always_running,
    amount,
    at_most_all,
    drop_zeros,
    empty_selector,
    immutable_selector,
    int_or_percent,
    matches,
    mismatch,
    not_negative,
    template_warnings,
    tidy_conditions,
)

Json = dict[str, Any]
Errors = list[FieldError]

TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_WRITTEN = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
_LEFT_OUT = ("observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable")


def tidy_status(status: Json) -> None:
    for name in _WRITTEN:
        status.setdefault(name, 0)
    drop_zeros(status, *_LEFT_OUT, "conditions")
    tidy_conditions(status, "lastTransitionTime")


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    default_template(spec.setdefault("template", {}))
    tidy_selector(spec, "selector")
    drop_zeros(spec, "minReadySeconds")
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    elif strategy.get("rollingUpdate") is not None:
        # Not defaulted, but numbers of the internal type, so that they are there once anything is.
        for name in ("maxUnavailable", "maxSurge"):
            strategy["rollingUpdate"].setdefault(name, 0)
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    tidy_status(obj.setdefault("status", {}))
    # Upstream's conversion writes the annotation on every object it decodes.
    obj["metadata"].setdefault("annotations", {}).setdefault(TEMPLATE_GENERATION, "0")


def _set_generation(obj: Json, number: int) -> None:
    obj["metadata"].setdefault("annotations", {})[TEMPLATE_GENERATION] = str(number)


def _generation(obj: Json) -> int:
    text = (obj["metadata"].get("annotations") or {}).get(TEMPLATE_GENERATION, "")
    return int(text) if text.isdigit() else 0


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])
    obj["status"] = dict.fromkeys(_WRITTEN, 0)
    _set_generation(obj, max(_generation(obj), 1))


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])
    changed = obj["spec"].get("template") != old["spec"].get("template")
    _set_generation(obj, _generation(old) + changed)


def _strategy(strategy: Json, path: str) -> Errors:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        shown = {"Type": kind, "RollingUpdate": None if rolling is None else _shown(rolling)}
        return [not_supported(path, shown, ("RollingUpdate", "OnDelete"))]
    where = f"{path}.rollingUpdate"
    if rolling is None:
        return [required(where)]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent(unavailable, f"{where}.maxUnavailable") + int_or_percent(surge, f"{where}.maxSurge")
    errors += at_most_all(unavailable, f"{where}.maxUnavailable") + at_most_all(surge, f"{where}.maxSurge")
    if amount(unavailable) and amount(surge):
        errors.append(invalid_value(f"{where}.maxSurge", surge, "may not be set when maxUnavailable is non-zero"))
    elif not amount(unavailable) and not amount(surge):
        errors.append(required(f"{where}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def _shown(rolling: Json) -> Json:
    return {"MaxUnavailable": rolling.get("maxUnavailable", 0), "MaxSurge": rolling.get("maxSurge", 0)}


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    selector, template = spec.get("selector"), spec["template"]
    errors = validate_label_selector(selector, "spec.selector")
    if not errors and not matches(selector, (template.get("metadata") or {}).get("labels")):
        errors.append(mismatch(template, "spec.template"))
    if selector is not None and empty_selector(selector):
        errors.append(invalid_value("spec.selector", selector, "empty selector is invalid for daemonset"))
    errors += validate_template(template, "spec.template")
    errors += always_running(template, "spec.template", "DaemonSet")
    errors += not_negative(spec, "spec", "minReadySeconds")
    errors += _strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")
    return errors + not_negative(spec, "spec", "revisionHistoryLimit")


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx) + immutable_selector(obj, old)


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
    more = ("observedGeneration", "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount")
    return not_negative(obj.get("status") or {}, "status", *counts, *more)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return template_warnings(obj, old)


RULES = {
    ("v1", "DaemonSet"): Rules(
        kind=BY_KIND["apps", "v1", "DaemonSet"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        subresources={"status": SubRules(keep_all_but_status, validate_status)},
        generation=True,
        status=True,
    )
}
