"""batch/v1 CronJob."""

from __future__ import annotations

import zoneinfo
from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.cron_schedule import ScheduleError, parse
from portside.api.rules.job import tidy_job_spec, validate_job_spec
from portside.api.rules.pod_defaults import default_template, drop_switched_off_job, tidy_metadata
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.workload import drop_zeros, hostname_warnings, not_negative, template_warnings

Json = dict[str, Any]
Errors = list[FieldError]

_POLICIES = ("Allow", "Forbid", "Replace")
_NAME_LIMIT = 52  # jobs append eleven characters and must be labels


def default(obj: Json) -> None:
    """The job template gets the pod's defaults but not the Job's."""
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    job = spec.setdefault("jobTemplate", {})
    tidy_metadata(job.setdefault("metadata", {}))
    job_spec = job.setdefault("spec", {})
    default_template(job_spec.setdefault("template", {}))
    tidy_job_spec(job_spec)
    if not spec.get("concurrencyPolicy"):
        spec["concurrencyPolicy"] = "Allow"
    for name, value in (("suspend", False), ("successfulJobsHistoryLimit", 3), ("failedJobsHistoryLimit", 1)):
        if spec.get(name) is None:
            spec[name] = value
    drop_zeros(obj.setdefault("status", {}), "active")


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off_job(obj["spec"]["jobTemplate"]["spec"])
    obj["status"] = {}


def _schedule(spec: Json) -> Errors:
    schedule = spec.get("schedule") or ""
    where = "spec.schedule"
    if not schedule:
        return [required(where)]
    if "TZ" in schedule:
        text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        return [invalid_value(where, schedule, text)]
    try:
        parse(schedule)
    except ScheduleError as error:
        return [invalid_value(where, schedule, str(error))]
    return []


def _zone(zone: str | None) -> Errors:
    where = "spec.timeZone"
    if zone is None:
        return []
    if not zone:
        return [invalid_value(where, zone, "timeZone must be nil or non-empty string")]
    if zone.lower() == "local":
        text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
        return [invalid_value(where, zone, text)]
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [invalid_value(where, zone, f"unknown time zone {zone}")]
    return []


def _job_template(job: Json, path: str) -> Errors:
    spec = job.get("spec") or {}
    errors: Errors = []
    if spec.get("selector") is not None:
        errors.append(invalid_value(f"{path}.selector", spec["selector"], "`selector` will be auto-generated"))
    if spec.get("manualSelector"):
        errors.append(FieldError(f"{path}.manualSelector", "FieldValueNotSupported", _MANUAL))
    return validate_job_spec(spec, path) + errors


_MANUAL = 'Unsupported value: true: supported values: "nil", "false"'


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    schedule = _schedule(spec)
    errors = schedule if spec.get("schedule") else []
    errors += not_negative(spec, "spec", "startingDeadlineSeconds")
    errors += _zone(spec.get("timeZone"))
    policy = spec.get("concurrencyPolicy")
    if policy not in _POLICIES:
        errors.append(not_supported("spec.concurrencyPolicy", policy, _POLICIES))
    errors += _job_template(spec["jobTemplate"], "spec.jobTemplate.spec")
    errors += not_negative(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit")
    return errors if spec.get("schedule") else errors + schedule


def validate_create(obj: Json, ctx: Context) -> Errors:
    """Only a new one's name is held to the limit."""
    errors = validate(obj, ctx)
    name = obj["metadata"].get("name") or ""
    if len(name) > _NAME_LIMIT:
        errors.append(invalid_value("metadata.name", name, names.too_long(_NAME_LIMIT)))
    return errors


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return validate(obj, ctx)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    return hostname_warnings(obj, old) + template_warnings(obj, old, "spec.jobTemplate.spec.template")


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off_job(obj["spec"]["jobTemplate"]["spec"])


RULES = {
    ("v1", "CronJob"): Rules(
        kind=BY_KIND["batch", "v1", "CronJob"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate_create,
        validate_update=validate_update,
        warnings=warnings,
        name=names.dns_subdomain,
        subresources={"status": SubRules(keep_all_but_status)},
        generation=True,
        status=True,
    )
}
