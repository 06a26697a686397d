"""apps/v1 ReplicaSet."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata, tidy_selector
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.workload import (
    at_most_replicas,
    available_above_ready,
    drop_zeros,
    hostname_warnings,
    immutable_selector,
    not_negative,
    selected_template,
    template_warnings,
    tidy_conditions,
    validate_selector,
)

Json = dict[str, Any]
Errors = list[FieldError]

_COUNTS = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas")


def tidy_status(status: Json) -> None:
    drop_zeros(status, *_COUNTS[1:4], "observedGeneration", "conditions")
    status.setdefault("replicas", 0)
    tidy_conditions(status, "lastTransitionTime")


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    default_template(spec.setdefault("template", {}))
    tidy_selector(spec, "selector")
    drop_zeros(spec, "minReadySeconds")
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    tidy_status(obj.setdefault("status", {}))


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    errors = not_negative(spec, "spec", "replicas", "minReadySeconds")
    errors += validate_selector(spec.get("selector"), "spec.selector", "deployment")
    return errors + selected_template(spec, "spec", "ReplicaSet")


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx) + immutable_selector(obj, old)


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])
    obj["status"] = {"replicas": 0}


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    errors = not_negative(status, "status", *_COUNTS[:4], "observedGeneration", "terminatingReplicas")
    errors += at_most_replicas(status, "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return errors + available_above_ready(status)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return hostname_warnings(obj, old) + template_warnings(obj, old)


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])


RULES = {
    ("v1", "ReplicaSet"): Rules(
        kind=BY_KIND["apps", "v1", "ReplicaSet"],
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
