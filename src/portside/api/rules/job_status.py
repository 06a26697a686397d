"""A Job's status: what a write keeps, and the conditions and counts that contradict each other."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, duplicate, invalid_value, required
from portside.api.rules.job_policies import index_problem
from portside.api.rules.registry import Context, keep_all_but_status
from portside.api.rules.workload import drop_zeros, not_negative, tidy_conditions

Json = dict[str, Any]
Errors = list[FieldError]


def tidy_status(status: Json) -> None:
    drop_zeros(status, "active", "succeeded", "failed", "completedIndexes", "conditions")
    tidy_conditions(status, "lastProbeTime", "lastTransitionTime")
    uncounted = status.get("uncountedTerminatedPods")
    if uncounted:
        drop_zeros(uncounted, "succeeded", "failed")


def prepare_status(obj: Json, old: Json, ctx: Context) -> None:
    obj.setdefault("status", {})
    keep_all_but_status(obj, old, ctx)


def _true(status: Json, kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _conditions(text: str) -> FieldError:
    return FieldError("status.conditions", "FieldValueInvalid", f"Invalid value: {text}")


def _counts(status: Json, spec: Json) -> Errors:
    errors = not_negative(status, "status", "active", "succeeded", "failed", "ready", "terminating")
    uncounted = status.get("uncountedTerminatedPods") or {}
    seen: set[str] = set()
    for kind in ("succeeded", "failed"):
        for i, uid in enumerate(uncounted.get(kind) or ()):
            where = f"status.uncountedTerminatedPods.{kind}[{i}]"
            if not uid:
                errors.append(invalid_value(where, uid, "must not be empty"))
            elif uid in seen:
                errors.append(duplicate(where, uid))
            seen.add(uid)
    for name in ("completedIndexes", "failedIndexes"):
        text = status.get(name)
        if text:
            problem, _ = index_problem(text, spec.get("completions") or 0)
            if spec.get("completionMode") != "Indexed" and name == "completedIndexes":
                detail = "cannot set non-empty completedIndexes when non-indexed completion mode"
                errors.append(invalid_value(f"status.{name}", text, detail))
            elif name == "failedIndexes" and spec.get("backoffLimitPerIndex") is None:
                detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null"
                errors.append(invalid_value(f"status.{name}", text, detail))
            elif problem:
                errors.append(invalid_value(f"status.{name}", text, f"error parsing {name}: {problem}"))
    return errors


def _terminal(status: Json) -> Errors:
    """Conditions that exclude or need each other."""
    errors: Errors = []
    complete, failed = _true(status, "Complete"), _true(status, "Failed")
    target, met = _true(status, "FailureTarget"), _true(status, "SuccessCriteriaMet")
    if complete and failed:
        errors.append(_conditions("cannot set Complete=True and Failed=true conditions"))
    if complete and target:
        errors.append(_conditions("cannot set Complete=True and FailureTarget=true conditions"))
    if complete and status.get("completionTime") is None:
        errors.append(required("status.completionTime", "completionTime is required for Complete jobs"))
    if not complete and status.get("completionTime") is not None:
        text = "cannot set completionTime when there is no Complete=True condition"
        errors.append(invalid_value("status.completionTime", status["completionTime"], text))
    if complete and not met:
        text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        errors.append(_conditions(text))
    if failed and not target:
        errors.append(_conditions("cannot set Failed=True condition without the FailureTarget=true condition"))
    if met and failed:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions"))
    if met and target:
        errors.append(_conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"))
    return errors


def _finished(status: Json) -> Errors:
    errors: Errors = []
    if _true(status, "Complete") or _true(status, "Failed"):
        if (status.get("active") or 0) > 0:
            text = "active>0 is invalid for finished job"
            errors.append(invalid_value("status.active", status["active"], text))
        if status.get("startTime") is None:
            errors.append(required("status.startTime", "startTime is required for finished job"))
    return errors


def _transitions(status: Json, before: Json, spec: Json) -> Errors:
    errors: Errors = []
    for kind in ("Failed", "Complete"):
        if _true(before, kind) and not _true(status, kind):
            errors.append(_conditions(f"cannot disable the terminal {kind}=True condition"))
    for kind in ("FailureTarget", "SuccessCriteriaMet"):
        if _true(before, kind) and not _true(status, kind):
            errors.append(_conditions(f"cannot disable the {kind}=True condition"))
    started, start = before.get("startTime"), status.get("startTime")
    if started is not None and start != started and not spec.get("suspend"):
        if start is None:
            text = "startTime cannot be removed for unsuspended job"
            errors.append(required("status.startTime", text))
        else:
            text = "field is immutable for unsuspended job once set"
            errors.append(invalid_value("status.startTime", start, text))
    return errors


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    """All errors of a status write; a count that falls is refused too."""
    status, before, spec = obj.get("status") or {}, old.get("status") or {}, obj["spec"]
    errors = _counts(status, spec)
    if (status.get("ready") or 0) > max(status.get("active") or 0, 0) and (status.get("ready") or 0) > 0:
        errors.append(invalid_value("status.ready", status["ready"], "cannot set more ready pods than active"))
    errors += _terminal(status) + _finished(status) + _transitions(status, before, spec)
    for name in ("failed", "succeeded"):
        mine, theirs = status.get(name) or 0, before.get(name) or 0
        if mine < theirs:
            if f"status.{name}" == "status.succeeded" and spec.get("completionMode") == "Indexed":
                continue
            errors.append(invalid_value(f"status.{name}", mine, f"cannot decrease the {name} counter"))
    return errors
