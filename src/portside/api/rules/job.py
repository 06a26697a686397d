"""batch/v1 Job: defaults, the generated selector and labels, validation, and what may change."""

from __future__ import annotations

import copy
from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.job_policies import validate_failure_policy, validate_success_policy
from portside.api.rules.job_status import prepare_status, tidy_status, validate_status
from portside.api.rules.job_update import validate_job_update
from portside.api.rules.pod_affinity import validate_label_selector
from portside.api.rules.pod_defaults import default_template, drop_switched_off_job, tidy_metadata, tidy_selector
from portside.api.rules.pod_spec import RESTART_POLICIES, validate_template
from portside.api.rules.registry import Context, Rules, SubRules
from portside.api.rules.workload import hostname_warnings, matches, mismatch, not_negative, template_warnings

Json = dict[str, Any]
Errors = list[FieldError]

CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
JOB_NAME = "batch.kubernetes.io/job-name"
_MAX_PARALLEL = 100_000
_INDEXED_WARNING = (
    "spec: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes "
    "might not be able to track completedIndexes when a big number of indexes fail"
)


def tidy_job_spec(spec: Json) -> None:
    """What Go leaves out, and defaults inside the failure policy."""
    tidy_selector(spec, "selector")
    for rule in (spec.get("podFailurePolicy") or {}).get("rules") or ():
        if "onPodConditions" in rule and not rule["onPodConditions"]:
            del rule["onPodConditions"]
        for pattern in rule.get("onPodConditions") or ():
            if not pattern.get("status"):
                pattern["status"] = "True"


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    template = spec.setdefault("template", {})
    default_template(template)
    tidy_job_spec(spec)
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    if spec.get("backoffLimit") is None:
        spec["backoffLimit"] = 2147483647 if spec.get("backoffLimitPerIndex") is not None else 6
    if spec.get("completionMode") is None:
        spec["completionMode"] = "NonIndexed"
    if spec.get("suspend") is None:
        spec["suspend"] = False
    if spec.get("podReplacementPolicy") is None:
        spec["podReplacementPolicy"] = "TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed"
    if spec.get("manualSelector") is None:
        spec["manualSelector"] = False
    labels = template["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = labels  # one mapping, as upstream: the labels generated on creation are in both
    tidy_status(obj.setdefault("status", {}))


def _generate_selector(obj: Json) -> None:
    spec, meta = obj["spec"], obj["metadata"]
    template = spec["template"]["metadata"]
    labels = template.get("labels") or {}
    uid = meta.get("uid", "")
    for key, value in (
        ("controller-uid", uid),
        ("job-name", meta["name"]),
        (CONTROLLER_UID, uid),
        (JOB_NAME, meta["name"]),
    ):
        labels.setdefault(key, value)
    template["labels"] = labels
    selector = spec.get("selector")
    if selector is None:
        selector = spec["selector"] = {}
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), CONTROLLER_UID: uid}


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off_job(obj["spec"])
    obj["status"] = {}
    if not obj["spec"].get("manualSelector") and obj["metadata"].get("name"):
        _generate_selector(obj)


def canonicalize(obj: Json) -> None:
    """Upstream's defaulting, when it reads a stored Job back, gives it its template's labels if it has none."""
    labels = obj["spec"]["template"]["metadata"].get("labels")
    if labels and not obj["metadata"].get("labels"):
        obj["metadata"]["labels"] = dict(labels)


def validate_job_spec(spec: Json, path: str) -> Errors:
    """A Job's spec, of its own or in a CronJob's template."""
    errors = not_negative(spec, path, "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit")
    errors += not_negative(spec, path, "ttlSecondsAfterFinished", "backoffLimitPerIndex")
    failed, limit = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    if failed is not None:
        errors += not_negative(spec, path, "maxFailedIndexes")
        if limit is None:
            errors.append(required(f"{path}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    errors += _managed_by(spec.get("managedBy"), f"{path}.managedBy")
    mode = spec.get("completionMode")
    if mode is not None and mode not in ("NonIndexed", "Indexed"):
        errors.append(not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed":
        errors += _indexed(spec, path)
    if mode != "Indexed" and limit is not None:
        errors.append(invalid_value(f"{path}.backoffLimitPerIndex", limit, "requires indexed completion mode"))
    if mode != "Indexed" and failed is not None:
        errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, "requires indexed completion mode"))
    if spec.get("podFailurePolicy") is not None:
        errors += validate_failure_policy(spec, f"{path}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        errors += validate_success_policy(spec, f"{path}.successPolicy")
    errors += _replacement(spec, f"{path}.podReplacementPolicy")
    return errors + _template(spec, path)


def _managed_by(value: str | None, path: str) -> Errors:
    if value is None:
        return []
    prefix, slash, rest = value.partition("/")
    errors: Errors = []
    if not value:
        errors.append(required(path))
    elif not slash or not prefix or not rest:
        errors.append(invalid_value(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")'))
    else:
        errors += [invalid_value(path, prefix, p) for p in names.is_subdomain(prefix)]
    if len(value) > 63:
        errors.append(FieldError(path, "FieldValueTooLong", "Too long: may not be more than 63 bytes"))
    return errors


def _indexed(spec: Json, path: str) -> Errors:
    errors: Errors = []
    completions, parallel = spec.get("completions"), spec.get("parallelism")
    failed, limit = spec.get("maxFailedIndexes"), spec.get("backoffLimitPerIndex")
    if completions is None:
        errors.append(required(f"{path}.completions", "when completion mode is Indexed"))
    if parallel is not None and parallel > _MAX_PARALLEL:
        text = f"must be less than or equal to {_MAX_PARALLEL} when completion mode is Indexed"
        errors.append(invalid_value(f"{path}.parallelism", parallel, text))
    if completions is not None and failed is not None and failed > completions:
        errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, "must be less than or equal to completions"))
    if failed is not None and failed > _MAX_PARALLEL:
        text = f"must be less than or equal to {_MAX_PARALLEL}"
        errors.append(invalid_value(f"{path}.maxFailedIndexes", failed, text))
    if completions is not None and completions > _MAX_PARALLEL and limit is not None:
        if failed is None:
            text = f"must be specified when completions is above {_MAX_PARALLEL}"
            errors.append(required(f"{path}.maxFailedIndexes", text))
        if parallel is not None and parallel > 10_000:
            text = f"must be less than or equal to 10000 when completions are above {_MAX_PARALLEL} and used with backoff limit per index"
            errors.append(invalid_value(f"{path}.parallelism", parallel, text))
    return errors


def _replacement(spec: Json, path: str) -> Errors:
    policy = spec.get("podReplacementPolicy")
    if policy is None:
        return []
    if spec.get("podFailurePolicy") is not None:
        return [] if policy == "Failed" else [not_supported(path, policy, ("Failed",))]
    supported = ("Failed", "TerminatingOrFailed")
    return [] if policy in supported else [not_supported(path, policy, supported)]


def _template(spec: Json, path: str) -> Errors:
    template = spec.get("template") or {}
    errors = validate_template(template, f"{path}.template")
    restart = (template.get("spec") or {}).get("restartPolicy") or ""
    where = f"{path}.template.spec.restartPolicy"
    if restart in ("", "Always"):
        errors.append(required(where, 'valid values: "OnFailure", "Never"'))
    elif restart not in RESTART_POLICIES:
        errors.append(not_supported(where, restart, ("OnFailure", "Never")))
    elif spec.get("podFailurePolicy") is not None and restart != "Never":
        text = 'only "Never" is supported when podFailurePolicy is specified'
        errors.append(invalid_value(where, restart, text))
    return errors


def _generated(obj: Json) -> Errors:
    """The selector the server makes must have stayed as made, unless the user said he gives one."""
    spec = obj["spec"]
    if spec.get("manualSelector"):
        return []
    uid = obj["metadata"].get("uid", "")
    selector = spec.get("selector") or {}
    if selector.get("matchLabels") != {CONTROLLER_UID: uid} or selector.get("matchExpressions"):
        legacy = {"controller-uid": uid}
        if selector.get("matchLabels") != legacy or selector.get("matchExpressions"):
            return [invalid_value("spec.selector", _sorted(selector), "`selector` not auto-generated")]
    return []


def _sorted(selector: Json) -> Json:
    shown = copy.copy(selector)
    if shown.get("matchLabels"):
        shown["matchLabels"] = dict(sorted(shown["matchLabels"].items()))
    return shown


def validate_selector_and_spec(obj: Json) -> Errors:
    """In upstream's order: generated selector, spec, selector against the template."""
    spec = obj["spec"]
    selector = spec.get("selector")
    errors: Errors = []
    if selector is None:
        errors.append(required("spec.selector"))
    else:
        errors += validate_label_selector(selector, "spec.selector")
    if not matches(selector, spec["template"]["metadata"].get("labels")):
        errors.append(mismatch(spec["template"], "spec.template"))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    spec, name = obj["spec"], obj["metadata"].get("name") or ""
    errors = _generated(obj) + validate_job_spec(spec, "spec") + validate_selector_and_spec(obj)
    completions = spec.get("completions")
    if spec.get("completionMode") == "Indexed" and completions is not None and completions > 0:
        pod = f"{name}-{completions - 1}"
        if names.is_label(pod):
            text = f"will not able to create pod with invalid DNS label: {pod}"
            errors.append(invalid_value("metadata.name", name, text))
    return errors


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate_job_spec(obj["spec"], "spec") + validate_selector_and_spec(obj)
    return errors + validate_job_update(obj, old)


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    found = hostname_warnings(obj, old)
    spec = obj["spec"]
    many = (spec.get("completions") or 0) > _MAX_PARALLEL and (spec.get("parallelism") or 0) > 10_000
    if spec.get("completionMode") == "Indexed" and many:
        found.append(_INDEXED_WARNING)
    return found + template_warnings(obj, old)


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off_job(obj["spec"])


RULES = {
    ("v1", "Job"): Rules(
        kind=BY_KIND["batch", "v1", "Job"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        canonicalize=canonicalize,
        name=names.dns_subdomain,
        subresources={"status": SubRules(prepare_status, validate_status)},
        generation=True,
        status=True,
    )
}
