"""apps/v1 Deployment."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata, tidy_selector
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.workload import (
    amount,
    at_most_all,
    at_most_replicas,
    available_above_ready,
    drop_zeros,
    hostname_warnings,
    immutable_selector,
    int_or_percent,
    not_negative,
    selected_template,
    template_warnings,
    tidy_conditions,
    validate_selector,
)

Json = dict[str, Any]
Errors = list[FieldError]

_COUNTS = ("observedGeneration", "replicas", "updatedReplicas", "readyReplicas", "availableReplicas")


def tidy_status(status: Json) -> None:
    drop_zeros(status, *_COUNTS, "unavailableReplicas", "conditions")
    tidy_conditions(status, "lastUpdateTime", "lastTransitionTime")


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    default_template(spec.setdefault("template", {}))
    tidy_selector(spec, "selector")
    drop_zeros(spec, "minReadySeconds", "paused")
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    if spec.get("progressDeadlineSeconds") is None:
        spec["progressDeadlineSeconds"] = 600
    tidy_status(obj.setdefault("status", {}))


def _strategy(strategy: Json, path: str) -> Errors:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    where = f"{path}.rollingUpdate"
    if kind == "Recreate":
        text = "may not be specified when strategy `type` is 'Recreate'"
        return [] if rolling is None else [forbidden_field(where, text)]
    if kind != "RollingUpdate":
        within = (
            None
            if rolling is None
            else {"MaxUnavailable": rolling.get("maxUnavailable"), "MaxSurge": rolling.get("maxSurge")}
        )
        return [not_supported(path, {"Type": kind, "RollingUpdate": within}, ("Recreate", "RollingUpdate"))]
    if rolling is None:
        return [required(where, "this should be defaulted and never be nil")]
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    errors = int_or_percent(unavailable, f"{where}.maxUnavailable") + int_or_percent(surge, f"{where}.maxSurge")
    if not amount(unavailable) and not amount(surge):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid_value(f"{where}.maxUnavailable", unavailable, text))
    return errors + at_most_all(unavailable, f"{where}.maxUnavailable")


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    errors = not_negative(spec, "spec", "replicas")
    errors += validate_selector(spec.get("selector"), "spec.selector", "deployment")
    errors += selected_template(spec, "spec", "ReplicaSet")
    errors += _strategy(spec.get("strategy") or {}, "spec.strategy")
    errors += not_negative(spec, "spec", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        errors.append(invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return errors


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx) + immutable_selector(obj, old)


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])
    obj["status"] = {}


def prepare_status(obj: Json, old: Json, ctx: Context) -> None:
    """A Deployment's status write does not change labels."""
    obj.setdefault("status", {})
    keep_all_but_status(obj, old, ctx)
    labels = old["metadata"].get("labels")
    if labels:
        obj["metadata"]["labels"] = labels
    else:
        obj["metadata"].pop("labels", None)


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    errors = not_negative(status, "status", *_COUNTS, "unavailableReplicas", "terminatingReplicas", "collisionCount")
    errors += at_most_replicas(status, "updatedReplicas", "readyReplicas", "availableReplicas")
    return errors + available_above_ready(status)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return hostname_warnings(obj, old) + template_warnings(obj, old)


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])


RULES = {
    ("v1", "Deployment"): Rules(
        kind=BY_KIND["apps", "v1", "Deployment"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        name=names.dns_subdomain,
        subresources={"status": SubRules(prepare_status, validate_status)},
        generation=True,
        counts_annotations=True,
        status=True,
    )
}
