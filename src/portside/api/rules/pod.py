"""The Pod: defaults, creation, and which rules its writes follow."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field
from portside.api.kinds import BY_KIND
from portside.api.rules.pod_affinity import merge_label_keys
from portside.api.rules.pod_annotations import fill_app_armor, validate_app_armor_agreement, validate_pod_annotations
from portside.api.rules.pod_defaults import default_pod, drop_switched_off, tidy_metadata
from portside.api.rules.pod_resources import qos_class
from portside.api.rules.pod_seen import CompleteSpecs, GoodSpecs
from portside.api.rules.pod_spec import validate_pod_spec
from portside.api.rules.pod_status import STATUS
from portside.api.rules.pod_subresources import EPHEMERAL, RESIZE
from portside.api.rules.pod_update import validate_pod_update
from portside.api.rules.pod_warnings import pod_warnings
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]

_VALID = GoodSpecs()
_COMPLETE = CompleteSpecs(default_pod)
GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


def default(pod: Json) -> None:
    """The pod's defaults; the stored form's, so it changes nothing the second time."""
    tidy_metadata(pod["metadata"])
    _COMPLETE.complete(pod)


def prepare_create(pod: Json, ctx: Context) -> None:
    """A new pod is Pending; clients cannot set its status."""
    spec = pod["spec"]
    drop_switched_off(spec)
    if spec["terminationGracePeriodSeconds"] < 0:
        spec["terminationGracePeriodSeconds"] = 1
    status: Json = {"phase": "Pending", "qosClass": qos_class(spec)}
    if spec.get("schedulingGates"):
        condition = {"type": "PodScheduled", "status": "False", "lastProbeTime": None, "lastTransitionTime": ctx.now}
        condition |= {"reason": "SchedulingGated", "message": GATED_MESSAGE}
        status["conditions"] = [condition]
    pod["status"] = status
    if spec.get("affinity") or spec.get("topologySpreadConstraints"):
        merge_label_keys(spec, pod["metadata"].get("labels") or {})
    if pod["metadata"].get("annotations"):
        fill_app_armor(pod)


def prepare_update(pod: Json, old: Json, ctx: Context) -> None:
    """The main resource does not write status."""
    spec = pod["spec"]
    drop_switched_off(spec)
    # Left out means unchanged for what admission set on creation.
    for name in ("priority", "preemptionPolicy"):
        if spec.get(name) is None and old["spec"].get(name) is not None:
            spec[name] = old["spec"][name]
    if "status" in old:
        pod["status"] = old["status"]
    else:
        pod.pop("status", None)


def validate_whole(pod: Json) -> Errors:
    """What holds for a pod at any time, beside its metadata."""
    meta, spec = pod["metadata"], pod["spec"]
    errors = validate_pod_annotations(meta.get("annotations"), spec, "metadata.annotations")
    errors += validate_pod_spec(spec, "spec", is_pod=True, pod_name=meta.get("name") or "")
    return errors


def validate(pod: Json, ctx: Context) -> Errors:
    return _VALID.told(pod, lambda: _invalid(pod))


def _invalid(pod: Json) -> Errors:
    errors = validate_whole(pod)
    spec = pod["spec"]
    if spec.get("ephemeralContainers"):
        errors.append(forbidden_field("spec.ephemeralContainers", "cannot be set on create"))
    if spec.get("schedulingGates") and spec.get("nodeName"):
        text = "cannot be set until all schedulingGates have been cleared"
        errors.append(forbidden_field("spec.nodeName", text))
    return errors + validate_app_armor_agreement(pod)


def validate_update(pod: Json, old: Json, ctx: Context) -> Errors:
    return validate_pod_update(pod, old, validate_whole(pod))


RULES = {
    ("v1", "Pod"): Rules(
        kind=BY_KIND["", "v1", "Pod"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=pod_warnings,
        name=names.dns_subdomain,
        subresources={"status": STATUS, "ephemeralcontainers": EPHEMERAL, "resize": RESIZE},
        generation=True,
        returns_object_on_delete=True,
        graceful=True,
    )
}
