"""resource.k8s.io: defaults and first checks of claims, classes and slices."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_many
from portside.api.kinds import BY_KIND
from portside.api.meta import validate_annotations, validate_labels
from portside.api.rules import resources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "resource.k8s.io"
MOST = 32
_NODES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")


def _default_request(request: Json) -> None:
    exact = request.get("exactly")
    for one in ([exact] if exact is not None else []) + list(request.get("firstAvailable") or ()):
        mode = one.setdefault("allocationMode", "ExactCount")
        if mode == "ExactCount" and not one.get("count"):
            one["count"] = 1
        for toleration in one.get("tolerations") or ():
            toleration.setdefault("operator", "Equal")


def default_claim(obj: Json) -> None:
    _default_spec(obj.setdefault("spec", {}))
    obj.setdefault("status", {})


def _default_spec(spec: Json) -> None:
    for request in spec.setdefault("devices", {}).get("requests") or ():
        _default_request(request)


def default_template(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("metadata", {})
    _default_spec(spec.setdefault("spec", {}))


def default_slice(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("pool", {})
    for device in spec.get("devices") or ():
        for capacity in (device.get("capacity") or {}).values():
            if isinstance(capacity, dict) and capacity.get("value") is not None:
                capacity["value"] = resources.shown(capacity["value"])


def _request(request: Json, at: str) -> Errors:
    name, exact, several = request.get("name") or "", request.get("exactly"), request.get("firstAvailable")
    errors = [invalid_value(f"{at}.name", name, p) for p in names.is_label(name)]
    if exact is None and not several:
        return [*errors, required(at, "exactly one of `exactly` or `firstAvailable` is required")]
    if exact is not None and several:
        text = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
        return [*errors, invalid_value(at, None, text)]
    if exact is None:
        return errors
    if not exact.get("deviceClassName"):
        errors.append(required(f"{at}.exactly.deviceClassName"))
    mode, count = exact.get("allocationMode"), exact.get("count") or 0
    if mode == "ExactCount" and count <= 0:
        errors.append(invalid_value(f"{at}.exactly.count", count, "must be greater than zero"))
    if mode == "All" and count:
        text = "must not be specified when allocationMode is 'All'"
        errors.append(invalid_value(f"{at}.exactly.count", count, text))
    return errors


def _claim(spec: Json, at: str) -> Errors:
    requests, path = (spec.get("devices") or {}).get("requests") or [], f"{at}.devices.requests"
    if len(requests) > MOST:
        return [too_many(path, len(requests), MOST)]
    return [e for i, r in enumerate(requests) for e in _request(r, f"{path}[{i}]")]


def validate_claim(obj: Json, ctx: Context) -> Errors:
    return _claim(obj.get("spec") or {}, "spec")


def validate_template(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    meta = spec.get("metadata") or {}
    errors = validate_annotations(meta.get("annotations"), "spec.metadata.annotations")
    errors += validate_labels(meta.get("labels"), "spec.metadata.labels")
    others = (f for f in meta if f not in ("annotations", "labels") and meta[f])
    errors += [forbidden_field(f"spec.metadata.{f}", "cannot be set") for f in others]
    return errors + _claim(spec.get("spec") or {}, "spec.spec")


def validate_class(obj: Json, ctx: Context) -> Errors:
    spec, errors = obj.get("spec") or {}, []
    selectors = spec.get("selectors") or []
    if len(selectors) > MOST:
        errors.append(too_many("spec.selectors", len(selectors), MOST))
    errors += [required(f"spec.selectors[{i}].cel") for i, s in enumerate(selectors) if s.get("cel") is None]
    name = spec.get("extendedResourceName")
    if name is not None and "/" not in name:
        text = "a name must be a domain-prefixed path, such as 'example.com/my-prop'"
        errors.append(invalid_value("spec.extendedResourceName", name, text))
    return errors


def validate_slice(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    pool, set_ = spec.get("pool") or {}, [f for f in _NODES if spec.get(f)]
    errors = [required(f"spec.{f}") for f in ("driver",) if not spec.get(f)]
    if not pool.get("name"):
        errors.append(required("spec.pool.name"))
    if (pool.get("resourceSliceCount") or 0) <= 0:
        count = pool.get("resourceSliceCount") or 0
        errors.append(invalid_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if (pool.get("generation") or 0) < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid_value("spec.pool.generation", pool["generation"], text))
    for i, device in enumerate(spec.get("devices") or ()):
        name = device.get("name") or ""
        errors += [invalid_value(f"spec.devices[{i}].name", name, p) for p in names.is_label(name)]
    if spec.get("sharedCounters") and spec.get("devices"):
        errors.append(invalid_value("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    listed = ", ".join(f"`{f}`" for f in _NODES)
    if not set_:
        errors.append(required("spec", f"exactly one of {listed} is required"))
    elif len(set_) > 1:
        shown = "{" + ", ".join(f"`{f}`" for f in set_) + "}"
        text = f"exactly one of {listed} is required, but multiple fields are set"
        errors.append(invalid_value("spec", shown, text))
    return errors


def _fixed(obj: Json, old: Json, ctx: Context) -> Errors:
    """The spec of a claim and of a template never changes."""
    same = obj.get("spec") == old.get("spec")
    return [] if same else [invalid_value("spec", None, "field is immutable")]


def _clear(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


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
            validate_update=_fixed,
            subresources={"status": STATUS_ONLY},
        ),
        _rules("ResourceClaimTemplate", default=default_template, validate=validate_template, validate_update=_fixed),
        _rules(
            "DeviceClass",
            validate=validate_class,
            validate_update=lambda obj, old, ctx: validate_class(obj, ctx),
            generation=True,
        ),
        _rules(
            "ResourceSlice",
            default=default_slice,
            validate=validate_slice,
            validate_update=lambda obj, old, ctx: validate_slice(obj, ctx),
            generation=True,
        ),
        _rules("DeviceTaintRule", generation=True, subresources={"status": STATUS_ONLY}),
    )
)
