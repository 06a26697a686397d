"""HorizontalPodAutoscaler v1 <-> v2. What v1 cannot say travels in annotations, encoded as upstream encodes it."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]
PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, CURRENT, CONDITIONS, BEHAVIOR = (
    PREFIX + word for word in ("metrics", "current-metrics", "conditions", "behavior")
)
ANNOTATIONS = (METRICS, CURRENT, CONDITIONS, BEHAVIOR)
_PARTS = {
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "External": "external",
}


def _set(out: Json, **fields: Any) -> Json:
    out.update({k: v for k, v in fields.items() if v is not None})
    return out


def _is_cpu(metric: Json, holder: str) -> bool:
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return False
    return holder == "current" or (resource.get(holder) or {}).get("averageUtilization") is not None


def _reference(ref: Json | None) -> Json:
    ref = ref or {}
    return _set({"kind": ref.get("kind", ""), "name": ref.get("name", "")}, apiVersion=ref.get("apiVersion"))


def _old_metric(metric: Json, holder: str) -> Json:
    """A v2 metric (or, holder "current", its status) in v1's words and order of fields."""
    part = _PARTS.get(metric.get("type", ""), "")
    out: Json = {"type": metric.get("type", "")}
    if not isinstance(metric.get(part), dict):
        return out
    new = metric[part]
    amount, name, selector = (
        new.get(holder) or {},
        (new.get("metric") or {}).get("name", ""),
        (new.get("metric") or {}).get("selector"),
    )
    average, value = amount.get("averageValue"), amount.get("value")
    if part in ("resource", "containerResource"):
        old = _set({"name": new.get("name", "")}, **{f"{holder}AverageUtilization": amount.get("averageUtilization")})
        _set(old, **{f"{holder}AverageValue": average})
        if part == "containerResource":
            old["container"] = new.get("container", "")
    elif part == "pods":
        old = _set(
            {"metricName": name, f"{holder}AverageValue": average if average is not None else "0"}, selector=selector
        )
    elif part == "object":
        old = {"target": _reference(new.get("describedObject")), "metricName": name}
        _set(old, **{f"{holder}Value": value if value is not None else "0"}, selector=selector, averageValue=average)
    else:
        old = _set({"metricName": name}, metricSelector=selector)
        shown = value if value is not None or holder == "target" else "0"
        _set(old, **{f"{holder}Value": shown, f"{holder}AverageValue": average})
    out[part] = old
    return out


def _new_metric(metric: Json, holder: str) -> Json:
    """A v1 metric (or its status) as v2 says it."""
    part = _PARTS.get(metric.get("type", ""), "")
    out: Json = {"type": metric.get("type", "")}
    old = metric.get(part)
    if not isinstance(old, dict):
        return out
    average = old.get(f"{holder}AverageValue", old.get("averageValue"))
    value, utilization = old.get(f"{holder}Value"), old.get(f"{holder}AverageUtilization")
    if part == "object" and average is not None and holder == "target":
        value = None
    amount: Json = _set({}, averageUtilization=utilization, averageValue=average, value=value)
    if holder == "target":
        kind = "Utilization" if utilization is not None else "AverageValue" if average is not None else "Value"
        amount = {"type": kind} | amount
    new: Json = {holder: amount}
    if part in ("resource", "containerResource"):
        _set(new, name=old.get("name"), container=old.get("container"))
    else:
        selector = old.get("selector") or old.get("metricSelector")
        new["metric"] = _set({"name": old.get("metricName", "")}, selector=selector)
    if part == "object":
        new["describedObject"] = _reference(old.get("target"))
    out[part] = new
    return out


_RULES = ("scaleUp", "scaleDown")


def _old_behavior(behavior: Json) -> Json:
    """Upstream writes its internal struct, capital names and nulls included."""
    out: Json = {}
    for name in _RULES:
        rules = behavior.get(name)
        out[name[0].upper() + name[1:]] = (
            None
            if rules is None
            else {
                "StabilizationWindowSeconds": rules.get("stabilizationWindowSeconds"),
                "SelectPolicy": rules.get("selectPolicy"),
                "Policies": [
                    {"Type": p.get("type"), "Value": p.get("value"), "PeriodSeconds": p.get("periodSeconds")}
                    for p in rules.get("policies") or ()
                ]
                or None,
                "Tolerance": rules.get("tolerance"),
            }
        )
    return out


def _new_behavior(behavior: Json) -> Json:
    out: Json = {}
    for name in _RULES:
        rules = behavior.get(name[0].upper() + name[1:])
        if isinstance(rules, dict):
            policies = [
                {"type": p.get("Type"), "value": p.get("Value"), "periodSeconds": p.get("PeriodSeconds")}
                for p in rules.get("Policies") or ()
            ]
            out[name] = _set(
                {},
                stabilizationWindowSeconds=rules.get("StabilizationWindowSeconds"),
                selectPolicy=rules.get("SelectPolicy"),
                policies=policies or None,
                tolerance=rules.get("Tolerance"),
            )
    return out


def _read(annotations: Json, key: str, kind: type) -> Any:
    """The decoded annotation; None if absent or not of that form."""
    try:
        value = json.loads(annotations.get(key) or "null")
    except ValueError:
        return None
    if not isinstance(value, kind) or (isinstance(value, list) and not all(isinstance(v, dict) for v in value)):
        return None
    return value


def metrics_annotated(obj: Json) -> bool:
    """Whether a v1 object carries metrics in its annotation, so that no CPU target is defaulted."""
    return bool(_read((obj.get("metadata") or {}).get("annotations") or {}, METRICS, list))


def drop_annotations(obj: Json) -> None:
    """Takes the round-trip annotations away, in place: v2 says everything itself."""
    meta = obj.get("metadata") or {}
    annotations = meta.get("annotations")
    if annotations and any(a in annotations for a in ANNOTATIONS):
        kept = {k: v for k, v in annotations.items() if k not in ANNOTATIONS}
        meta.pop("annotations")
        if kept:
            meta["annotations"] = kept


def v1_to_v2(obj: Json) -> Json:
    """An autoscaling/v1 object as v2; broken annotations count as absent."""
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics = [_new_metric(m, "target") for m in _read(annotations, METRICS, list) or ()]
    cpu = spec.pop("targetCPUUtilizationPercentage", None)
    if cpu is not None:
        target = {"type": "Utilization", "averageUtilization": cpu}
        metrics.append({"type": "Resource", "resource": {"name": "cpu", "target": target}})
    if metrics:
        spec["metrics"] = metrics
    behavior = _read(annotations, BEHAVIOR, dict)
    if behavior:
        spec["behavior"] = _new_behavior(behavior)
    current = [_new_metric(m, "current") for m in _read(annotations, CURRENT, list) or ()]
    cpu = status.pop("currentCPUUtilizationPercentage", None)
    if cpu is not None:
        current.append({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": cpu}}})
    if current:
        status["currentMetrics"] = current
    conditions = _read(annotations, CONDITIONS, list)
    if conditions:
        status["conditions"] = conditions
    return _rebuilt(obj, "autoscaling/v2", spec, status, {})


def v2_to_v1(obj: Json) -> Json:
    """An autoscaling/v2 object as v1."""
    spec, status, notes = dict(obj.get("spec") or {}), dict(obj.get("status") or {}), {}
    metrics, current = spec.pop("metrics", None) or [], status.pop("currentMetrics", None) or []
    for metric in metrics:
        if _is_cpu(metric, "target"):
            spec["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
    for metric in current:
        used = ((metric.get("resource") or {}).get("current") or {}).get("averageUtilization")
        if _is_cpu(metric, "current") and used is not None:
            status["currentCPUUtilizationPercentage"] = used
    others = [_old_metric(m, "target") for m in metrics if not _is_cpu(m, "target")]
    if others:
        notes[METRICS] = _text(others)
    others = [_old_metric(m, "current") for m in current if not _is_cpu(m, "current")]
    if others:
        notes[CURRENT] = _text(others)
    conditions = status.pop("conditions", None)
    if conditions:
        order = ("type", "status", "lastTransitionTime", "reason", "message")
        notes[CONDITIONS] = _text([{k: c[k] for k in order if c.get(k) is not None} for c in conditions])
    behavior = spec.pop("behavior", None)
    if behavior:
        notes[BEHAVIOR] = _text(_old_behavior(behavior))
    return _rebuilt(obj, "autoscaling/v1", spec, status, notes)


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _rebuilt(obj: Json, version: str, spec: Json, status: Json, notes: Json) -> Json:
    out = dict(obj)
    if "apiVersion" in out:
        out["apiVersion"] = version
    out["metadata"] = dict(obj.get("metadata") or {})
    drop_annotations(out)
    if notes:
        out["metadata"]["annotations"] = (out["metadata"].get("annotations") or {}) | notes
    out["spec"] = spec
    if "status" in obj:
        out["status"] = status
    return out
