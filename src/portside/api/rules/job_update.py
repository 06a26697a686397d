"""What an update of a Job's spec may change."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.rules.job_policies import shown_failure_policy, shown_success_policy
from portside.api.rules.pod_shape import dump_pod_spec

Json = dict[str, Any]
Errors = list[FieldError]

IMMUTABLE = "field is immutable"
# Scheduling directives that a suspended Job that never started may change.
_DIRECTIVES = ("nodeSelector", "tolerations", "schedulingGates")


def shown_template(template: Json) -> Json:
    """A template as upstream's internal type encodes it: metadata inline, then the spec."""
    meta = {k: v for k, v in (template.get("metadata") or {}).items() if v}
    order = ("name", "generateName", "namespace", "labels", "annotations", "finalizers")
    shown: Json = {k: meta[k] for k in order if k in meta}
    for key in ("labels", "annotations"):
        if key in shown:
            shown[key] = dict(sorted(shown[key].items()))
    return {**shown, "Spec": dump_pod_spec(template.get("spec") or {})}


def _completions(new: Json, old: Json) -> Errors:
    mine, theirs = new.get("completions"), old.get("completions")
    if mine == theirs:
        return []
    if old.get("completionMode") != "Indexed" or theirs is None or mine is None:
        return [invalid_value("spec.completions", mine, IMMUTABLE)]
    if mine != new.get("parallelism"):
        text = "can only be modified in tandem with spec.parallelism"
        return [invalid_value("spec.completions", mine, text)]
    return []


def _munged(new: Json, old: Json, started: bool) -> tuple[Json, bool]:
    """The new template with what may change set back, and whether the Job may change scheduling at all."""
    template = new["template"]
    free = bool(old.get("suspend")) and not started
    if not free:
        return template, False
    before = old["template"]
    spec = dict(template["spec"])
    for key in _DIRECTIVES:
        if key in before["spec"]:
            spec[key] = before["spec"][key]
        else:
            spec.pop(key, None)
    mine, theirs = dict(spec.get("affinity") or {}), before["spec"].get("affinity") or {}
    if "nodeAffinity" in theirs:
        mine["nodeAffinity"] = theirs["nodeAffinity"]
    else:
        mine.pop("nodeAffinity", None)
    if mine or "affinity" in before["spec"]:
        spec["affinity"] = mine
    else:
        spec.pop("affinity", None)
    meta = dict(template.get("metadata") or {})
    for key in ("labels", "annotations"):
        if (before.get("metadata") or {}).get(key):
            meta[key] = before["metadata"][key]
        else:
            meta.pop(key, None)
    return {**template, "metadata": meta, "spec": spec}, True


def _template(new: Json, old: Json, started: bool) -> Errors:
    munged, free = _munged(new, old, started)
    before = old["template"]
    if (munged.get("metadata") or {}) == (before.get("metadata") or {}) and munged["spec"] == before["spec"]:
        return []
    if free:
        # Only the spec is left: labels and annotations may change.
        return [invalid_value("spec.template.spec", dump_pod_spec(munged["spec"]), IMMUTABLE)]
    return [invalid_value("spec.template", shown_template(munged), IMMUTABLE)]


def validate_job_update(obj: Json, old: Json) -> Errors:
    """Immutables, in upstream's order."""
    new, before = obj["spec"], old["spec"]
    errors = _completions(new, before)
    if new.get("selector") != before.get("selector"):
        errors.append(invalid_value("spec.selector", new.get("selector"), IMMUTABLE))
    errors += _template(new, before, bool((old.get("status") or {}).get("startTime")))
    for name in ("completionMode",):
        if new.get(name) != before.get(name):
            errors.append(invalid_value(f"spec.{name}", new.get(name), IMMUTABLE))
    if new.get("podFailurePolicy") != before.get("podFailurePolicy"):
        shown = shown_failure_policy(new.get("podFailurePolicy"))
        errors.append(invalid_value("spec.podFailurePolicy", shown, IMMUTABLE))
    if new.get("backoffLimitPerIndex") != before.get("backoffLimitPerIndex"):
        errors.append(invalid_value("spec.backoffLimitPerIndex", new.get("backoffLimitPerIndex"), IMMUTABLE))
    if new.get("managedBy") != before.get("managedBy"):
        errors.append(invalid_value("spec.managedBy", new.get("managedBy"), IMMUTABLE))
    if new.get("successPolicy") != before.get("successPolicy"):
        shown = shown_success_policy(new.get("successPolicy"))
        errors.append(invalid_value("spec.successPolicy", shown, IMMUTABLE))
    return errors
