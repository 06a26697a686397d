"""HorizontalPodAutoscaler, v1 and v2. v1 is checked as the v2 object it becomes."""

from __future__ import annotations

from typing import Any

from portside.api import conversion_hpa, names, quantity
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import resources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
_TYPES = ("ContainerResource", "External", "Object", "Pods", "Resource")
_PARTS = {
    "object": "Object",
    "external": "External",
    "pods": "Pods",
    "resource": "Resource",
    "containerResource": "ContainerResource",
}
_PERCENT_UP = {"type": "Percent", "value": 100, "periodSeconds": 15}
_PODS_UP = {"type": "Pods", "value": 4, "periodSeconds": 15}
_CPU = 80


def default_v2(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    conversion_hpa.drop_annotations(obj)
    spec.setdefault("minReplicas", 1)
    spec.setdefault("scaleTargetRef", {})
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": _CPU}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    for metric in spec["metrics"]:
        for part in _PARTS:
            target = (metric.get(part) or {}).get("target") or {}
            for field in ("value", "averageValue"):
                if target.get(field) is not None:
                    target[field] = resources.shown(target[field])
    if spec.get("behavior") is not None:
        _default_behavior(spec["behavior"])
    status = obj.setdefault("status", {})
    status.setdefault("desiredReplicas", 0)
    status.setdefault("currentMetrics", None)
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)


def _default_behavior(behavior: Json) -> None:
    for name in ("scaleUp", "scaleDown"):
        rules = behavior.setdefault(name, {})
        rules.setdefault("selectPolicy", "Max")
        if name == "scaleUp":
            rules.setdefault("stabilizationWindowSeconds", 0)
        if rules.get("policies") is None:
            rules["policies"] = [dict(p) for p in ((_PODS_UP, _PERCENT_UP) if name == "scaleUp" else (_PERCENT_UP,))]
        if rules.get("tolerance") is not None:
            rules["tolerance"] = resources.shown(rules["tolerance"])


def default_v1(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if spec.get("targetCPUUtilizationPercentage") is None and not conversion_hpa.metrics_annotated(obj):
        spec["targetCPUUtilizationPercentage"] = _CPU
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    if conversion_hpa.METRICS in annotations and not conversion_hpa.metrics_annotated(obj):
        del annotations[conversion_hpa.METRICS]
        if not annotations:
            del obj["metadata"]["annotations"]
    status = obj.setdefault("status", {})
    status.setdefault("currentReplicas", 0)
    status.setdefault("desiredReplicas", 0)


def _reference(ref: Json, path: str) -> Errors:
    errors: Errors = []
    for field in ("kind", "name"):
        value = ref.get(field) or ""
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            errors += [invalid_value(f"{path}.{field}", value, p) for p in names.path_segment(value)]
    return errors


def _version_problem(ref: Json, grouped: bool) -> str:
    """What is wrong with a reference's apiVersion; ``grouped``: it must name a group."""
    version = ref.get("apiVersion") or ""
    if version.count("/") > 1:
        return f"unexpected GroupVersion string: {version}"
    return "apiVersion must specify API group" if grouped and "/" not in version.strip("/") else ""


def _version(ref: Json, path: str, grouped: bool = False) -> Errors:
    problem = _version_problem(ref, grouped)
    return [invalid_value(f"{path}.apiVersion", ref.get("apiVersion") or "", problem)] if problem else []


def _identifier(metric: Json, path: str) -> Errors:
    name = metric.get("name") or ""
    if not name:
        return [required(f"{path}.name", "must specify a metric name")]
    return [invalid_value(f"{path}.name", name, p) for p in names.path_segment(name)]


def _target(target: Json, path: str) -> Errors:
    type_, errors = target.get("type") or "", []
    if not type_:
        errors.append(required(f"{path}.type", "must specify a metric target type"))
    if type_ not in ("Utilization", "Value", "AverageValue"):
        errors.append(invalid_value(f"{path}.type", type_, "must be either Utilization, Value, or AverageValue"))
    for field in ("value", "averageValue"):
        if target.get(field) is not None and quantity.parse(target[field]) <= 0:
            errors.append(invalid_value(f"{path}.{field}", target[field], "must be positive"))
    used = target.get("averageUtilization")
    if used is not None and used < 1:
        errors.append(invalid_value(f"{path}.averageUtilization", used, "must be greater than 0"))
    return errors


def _resource(source: Json, path: str, container: bool) -> Errors:
    errors: Errors = []
    if not source.get("name"):
        errors.append(required(f"{path}.name", "must specify a resource name"))
    if container and not source.get("container"):
        errors.append(required(f"{path}.container", "must specify a container"))
    target = source.get("target") or {}
    errors += _target(target, f"{path}.target")
    used, value = target.get("averageUtilization"), target.get("averageValue")
    if used is None and value is None:
        text = "must set either a target raw value or a target utilization"
        errors.append(required(f"{path}.target.averageUtilization", text))
    if used is not None and value is not None:
        text = "may not set both a target raw value and a target utilization"
        errors.append(forbidden_field(f"{path}.target.averageValue", text))
    return errors


def _source(part: str, source: Json, path: str, lenient: bool) -> Errors:
    target = source.get("target") or {}
    value, average = target.get("value"), target.get("averageValue")
    if part in ("resource", "containerResource"):
        return _resource(source, path, part == "containerResource")
    errors: Errors = []
    if part == "object":
        described = source.get("describedObject") or {}
        errors += _reference(described, f"{path}.describedObject")
        errors += [] if lenient else _version(described, f"{path}.describedObject")
    errors += _identifier(source.get("metric") or {}, f"{path}.metric") + _target(target, f"{path}.target")
    if part == "pods":
        if average is None or quantity.parse(average) <= 0:
            text = "must specify a positive target averageValue"
            errors.append(required(f"{path}.target.averageValue", text))
        return errors
    if value is None and average is None:
        text = "must set either a target value for metric or a per-pod target"
        if part == "object":
            text = "must set either a target value or averageValue"
        errors.append(required(f"{path}.target.averageValue", text))
    if part == "external" and value is not None and average is not None:
        text = "may not set both a target value for metric and a per-pod target"
        errors.append(forbidden_field(f"{path}.target.value", text))
    return errors


def _metric(metric: Json, path: str, lenient: bool) -> Errors:
    type_, errors = metric.get("type") or "", []
    if not type_:
        errors.append(required(f"{path}.type", "must specify a metric source type"))
    if type_ not in _TYPES:
        errors.append(not_supported(f"{path}.type", type_, _TYPES))
    present = [p for p in _PARTS if metric.get(p) is not None]
    if present:
        errors += _source(present[0], metric[present[0]], f"{path}.{present[0]}", lenient)
    expected = next((p for p, t in _PARTS.items() if t == type_), "")
    if expected and expected not in present:
        text = "must populate information for the given metric source"
        errors.append(required(f"{path}.{expected}", text))
    if len(present) != 1:
        text = "must populate the given metric source only"
        errors += [forbidden_field(f"{path}.{p}", text) for p in sorted(present) if p != expected]
    return errors


def _rules(rules: Json | None, path: str) -> Errors:
    if rules is None:
        return []
    errors: Errors = []
    window, select = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None and window < 0:
        errors.append(
            invalid_value(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
        )
    if window is not None and window > 3600:
        errors.append(invalid_value(f"{path}.stabilizationWindowSeconds", window, "must be less than or equal to 3600"))
    if select is not None and select not in ("Disabled", "Max", "Min"):
        errors.append(not_supported(f"{path}.selectPolicy", select, ("Disabled", "Max", "Min")))
    policies = rules.get("policies") or []
    if not policies:
        errors.append(required(f"{path}.policies", "must specify at least one Policy"))
    for i, policy in enumerate(policies):
        at = f"{path}.policies[{i}]"
        if policy.get("type") not in ("Percent", "Pods"):
            errors.append(not_supported(f"{at}.type", policy.get("type") or "", ("Percent", "Pods")))
        for field in ("value", "periodSeconds"):
            if (policy.get(field) or 0) <= 0:
                errors.append(invalid_value(f"{at}.{field}", policy.get(field) or 0, "must be greater than zero"))
        if (policy.get("periodSeconds") or 0) > 1800:
            errors.append(
                invalid_value(f"{at}.periodSeconds", policy["periodSeconds"], "must be less than or equal to 1800")
            )
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantity.parse(tolerance) < 0:
        errors.append(invalid_value(f"{path}.tolerance", tolerance, "must be greater than or equal to 0"))
    return errors


NO_METRIC_AT_ZERO = "must specify at least one Object or External metric to support scaling to zero replicas"


def _target_ref(spec: Json, old: Json) -> Errors:
    """The target's reference. Its apiVersion is checked when it is new; only replication controllers need no group."""
    ref, before = spec.get("scaleTargetRef") or {}, old.get("scaleTargetRef")
    errors = _reference(ref, "spec.scaleTargetRef")
    if before and all(before.get(field) == ref.get(field) for field in ("apiVersion", "kind")):
        return errors
    return errors + _version(ref, "spec.scaleTargetRef", ref.get("kind") != "ReplicationController")


def _had_bad_object(old: Json) -> bool:
    objects = [m.get("object") or {} for m in old.get("metrics") or () if m.get("type") == "Object"]
    return any(_version_problem(o.get("describedObject") or {}, False) for o in objects)


def validate_v2(obj: Json, ctx: Context, old: Json | None = None) -> Errors:
    """What is wrong with an autoscaler; ``old`` is the stored one on an update."""
    spec, before = obj.get("spec") or {}, (old or {}).get("spec") or {}
    least, most = spec.get("minReplicas", 1), spec.get("maxReplicas") or 0
    errors: Errors = []
    if least is not None and most < least:
        text = "must be greater than or equal to `minReplicas`"
        errors.append(invalid_value("spec.maxReplicas", most, text))
    errors += _target_ref(spec, before)
    metrics, lenient = spec.get("metrics") or (), _had_bad_object(before)
    for i, metric in enumerate(metrics):
        errors += _metric(metric, f"spec.metrics[{i}]", lenient)
    if least == 0 and not any(m.get("type") in ("Object", "External") for m in metrics):
        errors.append(forbidden_field("spec.metrics", NO_METRIC_AT_ZERO))
    behavior = spec.get("behavior") or {}
    for name in ("scaleUp", "scaleDown"):
        errors += _rules(behavior.get(name), f"spec.behavior.{name}")
    if least is not None and least < 0:
        errors.append(invalid_value("spec.minReplicas", least, "must be greater than or equal to 0"))
    if most == 0:
        errors.append(required("spec.maxReplicas"))
    elif most < 0:
        errors.append(invalid_value("spec.maxReplicas", most, "must be greater than or equal to 1"))
    return errors


def validate_v1(obj: Json, ctx: Context, old: Json | None = None) -> Errors:
    return validate_v2(conversion_hpa.v1_to_v2(obj), ctx, conversion_hpa.v1_to_v2(old) if old is not None else None)


def _status(obj: Json, old: Json, ctx: Context) -> Errors:
    status, text = obj.get("status") or {}, "must be greater than or equal to 0"
    fields = ("currentReplicas", "desiredReplicas")
    return [invalid_value(f"status.{f}", status[f], text) for f in fields if (status.get(f) or 0) < 0]


def _status_v1(obj: Json, old: Json, ctx: Context) -> None:
    """A v1 status says in annotations what v2 has fields for; the metrics that v1 cannot say stay."""
    new, before = conversion_hpa.v1_to_v2(obj), conversion_hpa.v1_to_v2(old)
    new["spec"] = before.get("spec") or {}
    obj.update(conversion_hpa.v2_to_v1(new))
    STATUS_ONLY.prepare_update(obj, old, ctx)


def _create(obj: Json, ctx: Context) -> None:
    v1 = obj.get("apiVersion") == "autoscaling/v1"
    obj["status"] = (
        {"currentReplicas": 0, "desiredReplicas": 0} if v1 else {"desiredReplicas": 0, "currentMetrics": None}
    )


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {"desiredReplicas": 0}


RULES = {
    ("v2", "HorizontalPodAutoscaler"): Rules(
        BY_KIND["autoscaling", "v2", "HorizontalPodAutoscaler"],
        default=default_v2,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate_v2,
        validate_update=lambda obj, old, ctx: validate_v2(obj, ctx, old),
        subresources={"status": SubRules(STATUS_ONLY.prepare_update, _status)},
        generation=True,
    ),
    ("v1", "HorizontalPodAutoscaler"): Rules(
        BY_KIND["autoscaling", "v1", "HorizontalPodAutoscaler"],
        default=default_v1,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate_v1,
        validate_update=lambda obj, old, ctx: validate_v1(obj, ctx, old),
        subresources={"status": SubRules(_status_v1, _status)},
        generation=True,
    ),
}
