"""apps/v1 StatefulSet."""

from __future__ import annotations

from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules.claim_template import validate_claim_spec
from portside.api.rules.pod_affinity import validate_label_selector
from portside.api.rules.pod_defaults import default_template, drop_switched_off, tidy_metadata, tidy_selector
from portside.api.rules.pod_shape import dump
from portside.api.rules.pod_spec import validate_template
from portside.api.rules.registry import Context, Rules, SubRules, keep_all_but_status
from portside.api.rules.workload import (
    IMMUTABLE,
    always_running,
    amount,
    at_most_all,
    at_most_replicas,
    available_above_ready,
    drop_zeros,
    immutable_selector,
    int_or_percent,
    matches,
    mismatch,
    not_negative,
    template_warnings,
    tidy_conditions,
    validate_selector,
)

Json = dict[str, Any]
Errors = list[FieldError]

_COUNTS = ("replicas", "readyReplicas", "currentReplicas", "updatedReplicas", "observedGeneration", "collisionCount")
_RETENTION = ("Retain", "Delete")
# The internal claim status, as upstream prints it.
_CLAIM_STATUS: tuple[str, ...] = (
    "AccessModes",
    "Capacity",
    "Conditions",
    "AllocatedResources",
    "AllocatedResourceStatuses",
)
_CLAIM_STATUS += ("CurrentVolumeAttributesClassName", "ModifyVolumeStatus", "HealthStatus")


def tidy_status(status: Json) -> None:
    drop_zeros(status, "observedGeneration", "readyReplicas", "currentReplicas", "updatedReplicas", "conditions")
    drop_zeros(status, "currentRevision", "updateRevision")
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)
    tidy_conditions(status, "lastTransitionTime")


def _default_claims(claims: list[Json]) -> None:
    for i, claim in enumerate(claims):
        spec = claim.setdefault("spec", {})
        spec.setdefault("resources", {})
        if spec.get("volumeMode") is None:
            spec["volumeMode"] = "Filesystem"
        for kind in ("requests", "limits"):
            for name, text in (spec["resources"].get(kind) or {}).items():
                spec["resources"][kind][name] = quantity.canonical(text)
        meta = claim.setdefault("metadata", {})
        tidy_metadata(meta)
        status = claim.setdefault("status", {})
        status.setdefault("phase", "Pending")
        claims[i] = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **claim}
        claims[i] |= {
            "apiVersion": claim.get("apiVersion") or "v1",
            "kind": claim.get("kind") or "PersistentVolumeClaim",
        }


def _default_strategy(spec: Json) -> None:
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        if strategy.get("rollingUpdate") is None:
            strategy["rollingUpdate"] = {}
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] == "RollingUpdate" and rolling is not None:
        rolling.setdefault("partition", 0)
        rolling.setdefault("maxUnavailable", 1)


def default(obj: Json) -> None:
    tidy_metadata(obj["metadata"])
    spec = obj.setdefault("spec", {})
    default_template(spec.setdefault("template", {}))
    tidy_selector(spec, "selector")
    drop_zeros(spec, "minReadySeconds", "volumeClaimTemplates")
    spec.setdefault("serviceName", "")
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    _default_strategy(spec)
    policy = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for name in ("whenDeleted", "whenScaled"):
        if not policy.get(name):
            policy[name] = "Retain"
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    _default_claims(spec.get("volumeClaimTemplates") or [])
    tidy_status(obj.setdefault("status", {}))


def prepare_create(obj: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])
    obj["status"] = {"replicas": 0, "availableReplicas": 0}


def _shown_strategy(strategy: Json) -> Json:
    rolling = strategy.get("rollingUpdate")
    return {"Type": strategy.get("type"), "RollingUpdate": None if rolling is None else _shown_rolling(rolling)}


def _shown_rolling(rolling: Json) -> Json:
    return {"Partition": rolling.get("partition") or 0, "MaxUnavailable": rolling.get("maxUnavailable")}


def _strategy(strategy: Json, path: str) -> Errors:
    kind, rolling = strategy.get("type") or "", strategy.get("rollingUpdate")
    where = f"{path}.rollingUpdate"
    if not kind:
        return [required(path)]
    if kind == "OnDelete":
        if rolling is None:
            return []
        return [invalid_value(where, _shown_rolling(rolling), "only allowed for updateStrategy 'RollingUpdate'")]
    if kind != "RollingUpdate":
        return [invalid_value(path, _shown_strategy(strategy), "must be 'RollingUpdate' or 'OnDelete'")]
    errors = not_negative(rolling or {}, where, "partition")
    unavailable = (rolling or {}).get("maxUnavailable")
    if unavailable is not None:
        errors += int_or_percent(unavailable, f"{where}.maxUnavailable")
        if not errors and amount(unavailable) == 0:
            errors.append(invalid_value(f"{where}.maxUnavailable", unavailable, "cannot be 0"))
        errors += at_most_all(unavailable, f"{where}.maxUnavailable")
    return errors


def _as_pod(spec: Json) -> Json:
    """The template as a pod gets it, so what is validated: claims are volumes, host name and subdomain the controller's."""
    template: Json = spec["template"]
    own = {k: v for k, v in template["spec"].items() if k not in ("hostname", "subdomain")}
    claims = spec.get("volumeClaimTemplates") or ()
    if not claims:
        return {**template, "spec": own}
    volumes: list[Json] = []
    for claim in claims:
        name = claim["metadata"].get("name") or ""
        volumes.append({"name": name, "persistentVolumeClaim": {"claimName": name}})
    taken = {v["name"] for v in volumes}
    volumes += [v for v in template["spec"].get("volumes") or () if v.get("name") not in taken]
    return {**template, "spec": {**own, "volumes": volumes}}


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj["spec"]
    errors: Errors = []
    policy = spec.get("podManagementPolicy")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        errors.append(invalid_value("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'"))
    errors += _strategy(spec["updateStrategy"], "spec.updateStrategy")
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for name in ("whenDeleted", "whenScaled"):
        if retention.get(name) not in _RETENTION:
            where = f"spec.persistentVolumeClaimRetentionPolicy.{name}"
            errors.append(not_supported(where, retention.get(name), _RETENTION))
    for i, claim in enumerate(spec.get("volumeClaimTemplates") or ()):
        errors += validate_claim_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec")
    errors += not_negative(spec, "spec", "replicas", "minReadySeconds")
    errors += not_negative(spec.get("ordinals") or {}, "spec.ordinals", "start")
    service = spec.get("serviceName")
    if service:
        errors += [invalid_value("spec.serviceName", service, p) for p in names.is_label(service)]
    return errors + _selected(spec)


def _selected(spec: Json) -> Errors:
    """The selector and the template it must match; an absent selector matches nothing, an empty one everything."""
    selector, template = spec.get("selector"), spec["template"]
    errors = validate_selector(selector, "spec.selector", "statefulset")
    if selector is not None and validate_label_selector(selector, ""):
        errors.append(invalid_value("spec.selector", selector, ""))
    else:
        if not matches(selector, (template.get("metadata") or {}).get("labels")):
            errors.append(mismatch(template, "spec.template"))
        errors += validate_template(_as_pod(spec), "spec.template")
    return errors + always_running(template, "spec.template", "StatefulSet")


def _shown_claim(claim: Json) -> Json:
    meta = {k: v for k, v in (claim.get("metadata") or {}).items() if v}
    status = {"Phase": "Pending"} | dict.fromkeys(_CLAIM_STATUS)
    spec = dump(claim.get("spec"), "ClaimSpec")
    spec["Resources"].pop("Claims", None)
    return {**meta, "Spec": spec, "Status": status}


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    """What may change: replicas, ordinals, template, strategies, history and readiness."""
    errors = validate(obj, ctx) + immutable_selector(obj, old)
    mine, theirs = obj["spec"], old["spec"]
    for name in ("serviceName", "podManagementPolicy"):
        if mine.get(name) != theirs.get(name):
            errors.append(invalid_value(f"spec.{name}", mine.get(name), IMMUTABLE))
    if mine.get("volumeClaimTemplates") != theirs.get("volumeClaimTemplates"):
        shown = [_shown_claim(c) for c in mine.get("volumeClaimTemplates") or ()] or None
        errors.append(invalid_value("spec.volumeClaimTemplates", shown, IMMUTABLE))
    return errors


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    status = obj.get("status") or {}
    errors = not_negative(status, "status", *_COUNTS, "availableReplicas")
    errors += at_most_replicas(status, "readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    total = status.get("replicas") or 0
    if total < 0:
        errors = [e for e in errors if "cannot be" not in e.detail_text]
        for name in ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"):
            value = status.get(name) or 0
            if value > total:
                errors.append(invalid_value(f"status.{name}", value, "cannot be greater than status.replicas"))
    return errors + available_above_ready(status, "cannot be greater than status.readyReplicas")


def warnings(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    found = template_warnings(obj, old)
    if (obj["spec"].get("revisionHistoryLimit") or 0) < 0:
        text = "a negative value retains all historical revisions; a value >= 0 is recommended"
        found.append(f"spec.revisionHistoryLimit: {text}")
    return found


def prepare_update(obj: Json, old: Json, ctx: Context) -> None:
    drop_switched_off(obj["spec"]["template"]["spec"])


RULES = {
    ("v1", "StatefulSet"): Rules(
        kind=BY_KIND["apps", "v1", "StatefulSet"],
        default=default,
        prepare_create=prepare_create,
        prepare_update=prepare_update,
        validate=validate,
        validate_update=validate_update,
        warnings=warnings,
        name=names.dns_label,
        subresources={"status": SubRules(keep_all_but_status, validate_status)},
        generation=True,
        status=True,
    )
}
