"""resource.k8s.io: defaults, what is kept on writes, and which file checks a claim, a class, a slice or a taint rule."""

from __future__ import annotations

from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, too_many
from portside.api.kinds import BY_KIND
from portside.api.meta import validate_annotations, validate_labels
from portside.api.rules import (
    device_authority,
    device_claim,
    device_declared,
    device_selector,
    device_slice,
    device_status,
    resources,
)
from portside.api.rules.conditions import validate_conditions
from portside.api.rules.declared import ABSENT
from portside.api.rules.device_names import configuration, driver, label, pool, taint
from portside.api.rules.pod_shape import dump, parse_shapes
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "resource.k8s.io"
MOST_RULE_CONDITIONS = 8
# Fields of features that upstream leaves switched off: dropped without a word.
_OFF_REQUEST = ("derivedAttributes",)
_OFF_SLICE = ("partitionTypeAttribute", "skipNodeOperations")
_OFF_ATTRIBUTE = ("ints", "bools", "strings", "versions")
_SHAPES = parse_shapes("""
ClaimSpec: Devices devices v:DeviceClaim
DeviceClaim: Requests requests L:DeviceRequest; Constraints constraints L:DeviceConstraint; Config config L:DeviceConfig
DeviceRequest: Name name S; Exactly exactly o:ExactRequest; FirstAvailable firstAvailable L:SubRequest
ExactRequest: DeviceClassName deviceClassName S; Selectors selectors L:DeviceSelector; AllocationMode allocationMode S
 Count count I; AdminAccess adminAccess p; Tolerations tolerations L:DeviceToleration; Capacity capacity o:Capacity
 DerivedAttributes derivedAttributes l
SubRequest: Name name S; DeviceClassName deviceClassName S; Selectors selectors L:DeviceSelector
 AllocationMode allocationMode S; Count count I; Tolerations tolerations L:DeviceToleration; Capacity capacity o:Capacity
 DerivedAttributes derivedAttributes l
DeviceSelector: CEL cel o:CELSelector
CELSelector: Expression expression S
DeviceToleration: Key key s; Operator operator s; Value value s; Effect effect s; TolerationSeconds tolerationSeconds p
Capacity: Requests requests q
DeviceConstraint: Requests requests l; MatchAttribute matchAttribute p; DistinctAttribute distinctAttribute p
DeviceConfig: Requests requests l; Opaque opaque o:OpaqueConfig
OpaqueConfig: Driver driver S; Parameters parameters j
""")


def _default_request(request: Json) -> None:
    exact = request.get("exactly")
    for one in ([exact] if exact is not None else []) + list(request.get("firstAvailable") or ()):
        mode = one.setdefault("allocationMode", "ExactCount")
        if mode == "ExactCount" and not one.get("count"):
            one["count"] = 1
        for toleration in one.get("tolerations") or ():
            toleration.setdefault("operator", "Equal")
        resources.canonicalize((one.get("capacity") or {}).get("requests"))
        for field in _OFF_REQUEST:
            one.pop(field, None)


def default_claim(obj: Json) -> None:
    _default_spec(obj.setdefault("spec", {}))
    results = ((obj.setdefault("status", {}).get("allocation") or {}).get("devices") or {}).get("results")
    for result in results or ():
        result.pop("skipNodeOperations", None)
        for toleration in result.get("tolerations") or ():
            toleration.setdefault("operator", "Equal")
        resources.canonicalize(result.get("consumedCapacity"))


def _default_spec(spec: Json) -> None:
    for request in spec.setdefault("devices", {}).get("requests") or ():
        _default_request(request)


def default_template(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("metadata", {})
    _default_spec(spec.setdefault("spec", {}))


def _default_device(device: Json) -> None:
    device.pop("nodeAllocatableResources", None)
    for attribute in (device.get("attributes") or {}).values():
        for field in _OFF_ATTRIBUTE:
            attribute.pop(field, None)
    for capacity in (device.get("capacity") or {}).values():
        if capacity.get("value") is not None:
            capacity["value"] = resources.shown(capacity["value"])
        policy = capacity.get("requestPolicy") or {}
        for holder in (policy, policy.get("validRange") or {}):
            for field in ("default", "min", "max", "step"):
                if holder.get(field) is not None:
                    holder[field] = resources.shown(holder[field])
        if policy.get("validValues"):
            policy["validValues"] = [resources.shown(v) for v in policy["validValues"]]
    for consumption in device.get("consumesCounters") or ():
        consumption.pop("compatibilityGroups", None)
        _default_counters(consumption)


def _default_counters(holder: Json) -> None:
    for counter in (holder.get("counters") or {}).values():
        if counter.get("value") is not None:
            counter["value"] = resources.shown(counter["value"])


def default_slice(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("pool", {})
    for device in spec.get("devices") or ():
        _default_device(device)
    for counter_set in spec.get("sharedCounters") or ():
        _default_counters(counter_set)


def default_taint_rule(obj: Json) -> None:
    obj.setdefault("spec", {}).setdefault("taint", {})
    obj.setdefault("status", {})


def _time_taints(obj: Json, now: str) -> None:
    """A taint without a time was added now."""
    for device in obj["spec"].get("devices") or ():
        for one in device.get("taints") or ():
            one.setdefault("timeAdded", now)


def _time_taint(obj: Json, now: str) -> None:
    obj["spec"]["taint"].setdefault("timeAdded", now)


def _create_slice(obj: Json, ctx: Context) -> None:
    for field in _OFF_SLICE:
        obj["spec"].pop(field, None)
    _time_taints(obj, ctx.now)


def _administrators(spec: Json, ctx: Context) -> Errors:
    """Access for administration is for namespaces whose label says so."""
    requests = (spec.get("devices") or {}).get("requests") or ()
    asks = next((i for i, r in enumerate(requests) if (r.get("exactly") or {}).get("adminAccess")), None)
    if asks is None:
        return []
    return device_authority.may_administer(f"spec.devices.requests[{asks}].adminAccess", ctx)


def validate_claim(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    return _administrators(spec, ctx) + device_claim.validate(spec, "spec")


def validate_template(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    errors = _administrators(spec.get("spec") or {}, ctx)
    errors += validate_annotations(meta.get("annotations"), "spec.metadata.annotations")
    errors += validate_labels(meta.get("labels"), "spec.metadata.labels")
    others = (f for f in meta if f not in ("annotations", "labels") and meta[f])
    errors += [forbidden_field(f"spec.metadata.{f}", "cannot be set") for f in others]
    return errors + device_claim.validate(spec.get("spec") or {}, "spec.spec")


def _class(spec: Json, old: Json | None) -> Errors:
    """What was compiled or measured when it was stored is not looked at again."""
    selectors, configs = spec.get("selectors"), spec.get("config")
    stored = old is not None and selectors == old.get("selectors")
    errors = device_selector.validate(selectors, "spec.selectors", stored=stored)
    stored = old is not None and configs == old.get("config")
    errors += device_claim.each(
        configs, device_declared.MOST_CONFIGS, lambda c, at: configuration(c, at, stored=stored), "spec.config"
    )
    return errors + device_declared.CLASS_SPEC(spec, ABSENT if old is None else old, "spec")


def validate_class(obj: Json, ctx: Context) -> Errors:
    return _class(obj.get("spec") or {}, None)


def validate_slice(obj: Json, ctx: Context) -> Errors:
    return device_slice.validate(obj.get("spec") or {}, None)


def _taint_rule(spec: Json, old: Json | None) -> Errors:
    selector, path, errors = spec.get("deviceSelector") or {}, "spec.deviceSelector", []
    for field, check in (("driver", driver), ("pool", pool), ("device", label)):
        if selector.get(field) is not None:
            errors += check(selector[field], f"{path}.{field}")
    mine, theirs = spec.get("taint") or {}, ABSENT if old is None else old.get("taint") or {}
    return errors + taint(mine, "spec.taint") + device_declared.TAINT(mine, theirs, "spec.taint")


def validate_taint_rule(obj: Json, ctx: Context) -> Errors:
    return _taint_rule(obj.get("spec") or {}, None)


def _taint_rule_status(obj: Json, old: Json, ctx: Context) -> Errors:
    conditions, path = (obj.get("status") or {}).get("conditions") or [], "status.conditions"
    errors = validate_conditions(conditions, path)
    if len(conditions) > MOST_RULE_CONDITIONS:
        errors.append(too_many(path, len(conditions), MOST_RULE_CONDITIONS))
    return errors


def _fixed_claim(obj: Json, old: Json, ctx: Context) -> Errors:
    same = obj.get("spec") == old.get("spec")
    return [] if same else [invalid_value("spec", None, "field is immutable")]


def _fixed_template(obj: Json, old: Json, ctx: Context) -> Errors:
    """A template never changes; the refusal shows the new one as upstream holds it."""
    spec = obj.get("spec") or {}
    if spec == old.get("spec"):
        return []
    shown = (spec.get("metadata") or {}) | {"Spec": dump(spec.get("spec"), "ClaimSpec", _SHAPES)}
    return [invalid_value("spec", shown, "field is immutable")]


def _claim_status(obj: Json, old: Json, ctx: Context) -> None:
    STATUS_ONLY.prepare_update(obj, old, ctx)
    device_status.drop_deallocated(obj, old)


def _validate_claim_status(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = device_authority.validate(obj.get("status") or {}, old.get("status") or {}, ctx)
    return errors + device_status.validate(obj, old)


def _clear(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def _create_taint_rule(obj: Json, ctx: Context) -> None:
    _clear(obj, ctx)
    _time_taint(obj, ctx.now)


def _update_taint_rule(obj: Json, old: Json, ctx: Context) -> None:
    _keep(obj, old, ctx)
    _time_taint(obj, ctx.now)
    mine, before = obj["spec"]["taint"], (old.get("spec") or {}).get("taint") or {}
    if mine.get("effect") != before.get("effect") and mine["timeAdded"] == before.get("timeAdded"):
        mine["timeAdded"] = ctx.now  # since when it has this effect


def _rules(kind: str, **more: Any) -> tuple[tuple[str, str], Rules]:
    return ("v1", kind), Rules(BY_KIND[GROUP, "v1", kind], returns_object_on_delete=True, **more)


RULES = dict(
    (
        _rules(
            "ResourceClaim",
            default=default_claim,
            prepare_create=_clear,
            prepare_update=_keep,
            validate=validate_claim,
            validate_update=_fixed_claim,
            subresources={
                "status": SubRules(_claim_status, _validate_claim_status),
            },
        ),
        _rules(
            "ResourceClaimTemplate",
            default=default_template,
            validate=validate_template,
            validate_update=_fixed_template,
        ),
        _rules(
            "DeviceClass",
            validate=validate_class,
            validate_update=lambda obj, old, ctx: _class(obj.get("spec") or {}, old.get("spec") or {}),
            generation=True,
        ),
        _rules(
            "ResourceSlice",
            default=default_slice,
            stamp=_time_taints,
            prepare_create=_create_slice,
            prepare_update=lambda obj, old, ctx: _create_slice(obj, ctx),
            validate=validate_slice,
            validate_update=lambda obj, old, ctx: device_slice.validate(obj.get("spec") or {}, old.get("spec") or {}),
            generation=True,
        ),
        _rules(
            "DeviceTaintRule",
            default=default_taint_rule,
            stamp=_time_taint,
            prepare_create=_create_taint_rule,
            prepare_update=_update_taint_rule,
            validate=validate_taint_rule,
            validate_update=lambda obj, old, ctx: _taint_rule(obj.get("spec") or {}, old.get("spec") or {}),
            generation=True,
            subresources={"status": SubRules(STATUS_ONLY.prepare_update, _taint_rule_status)},
        ),
    )
)
