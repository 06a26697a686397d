"""What an update of a Job's spec may change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.rules.job_policies import shown_failure_policy, shown_success_policy
from portside.api.rules.pod_shape import dump_pod_spec

Json = dict[str, Any]
Errors = list[FieldError]

IMMUTABLE = "field is immutable"
# Scheduling directives that a suspended Job without pods may change, besides the resources of its containers.
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


def _like(mine: Json, theirs: Json, keys: Iterable[str]) -> Json:
    """``mine`` with these keys as in ``theirs``."""
    kept = {k: v for k, v in mine.items() if k not in keys}
    return kept | {k: theirs[k] for k in keys if k in theirs}


def _may_change(old: Json) -> bool:
    """Whether the pods of a Job are free to be made otherwise: it is suspended, as its status says, and has none."""
    status = old.get("status") or {}
    told = any(c.get("type") == "Suspended" and c.get("status") == "True" for c in status.get("conditions") or ())
    return bool(old["spec"].get("suspend")) and (told or not status.get("startTime")) and not status.get("active")


def _containers(mine: list[Json], theirs: list[Json]) -> list[Json]:
    """Containers with the resources of their namesakes at the same place."""
    if len(mine) != len(theirs):
        return mine
    return [
        _like(new, old, ("resources",)) if new.get("name") == old.get("name") else new
        for new, old in zip(mine, theirs, strict=True)
    ]


def _munged(template: Json, before: Json) -> Json:
    """The new template with what may change set back."""
    old: Json = before["spec"]
    spec = _like(template["spec"], old, _DIRECTIVES)
    affinity = _like(spec.get("affinity") or {}, old.get("affinity") or {}, ("nodeAffinity",))
    if affinity or "affinity" in old:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)
    for field in ("containers", "initContainers"):
        if spec.get(field):
            spec[field] = _containers(spec[field], old.get(field) or [])
    return {**template, "spec": spec}


def _template(obj: Json, old: Json) -> Errors:
    new, before = obj["spec"]["template"], old["spec"]["template"]
    if _may_change(old):
        # Labels and annotations may change as well, so only the spec is compared.
        if _munged(new, before)["spec"] == before["spec"]:
            return []
        return [invalid_value("spec.template.spec", dump_pod_spec(new["spec"]), IMMUTABLE)]
    if (new.get("metadata") or {}) == (before.get("metadata") or {}) and new["spec"] == before["spec"]:
        return []
    return [invalid_value("spec.template", shown_template(new), IMMUTABLE)]


def validate_job_update(obj: Json, old: Json) -> Errors:
    """Immutables, in upstream's order."""
    new, before = obj["spec"], old["spec"]
    errors = _completions(new, before)
    if new.get("selector") != before.get("selector"):
        errors.append(invalid_value("spec.selector", new.get("selector"), IMMUTABLE))
    errors += _template(obj, old)
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
