"""core/v1 ReplicationController."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, required
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata
from portside.api.rules.pod_spec import validate_template
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.replicaset import tidy_status
from portside.api.rules.workload import (
    always_running,
    at_most_replicas,
    available_above_ready,
    drop_zeros,
    hostname_warnings,
    mismatch,
    not_negative,
    template_warnings,
)

Json = dict[str, Any]
Errors = list[FieldError]


def default(obj: Json) -> None:
    """Selector and labels come from the template's labels."""
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    template = spec.get("template")
    if template is not None:
        default_template(template)
        labels = template["metadata"].get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            if not obj["metadata"].get("labels"):
                obj["metadata"]["labels"] = dict(labels)
    drop_zeros(spec, "minReadySeconds", "selector")
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    tidy_status(obj.setdefault("status", {}))


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    errors = not_negative(spec, "spec", "replicas", "minReadySeconds")
    selector = spec.get("selector") or {}
    if not selector:
        errors.append(required("spec.selector"))
    template = spec.get("template")
    if template is None:
        return [*errors, required("spec.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector and any(labels.get(k) != v for k, v in selector.items()):
        errors.append(mismatch(template, "spec.template"))
    errors += validate_template(template, "spec.template")
    return errors + always_running(template, "spec.template", "ReplicationController")


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx)


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off((obj["spec"].get("template") or {}).get("spec") or {})
    obj["status"] = {"replicas": 0}


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    counts = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    errors = not_negative(status, "status", *counts)
    errors += at_most_replicas(status, "fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return errors + available_above_ready(status)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return hostname_warnings(obj, old) + template_warnings(obj, old)


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off((obj["spec"].get("template") or {}).get("spec") or {})


RULES = {
    ("v1", "ReplicationController"): Rules(
        kind=BY_KIND["", "v1", "ReplicationController"],
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
