"""Node: taints, pod ranges, capacity."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, go_value, invalid_value, not_supported, required
from portside.api.gojson import json_problem
from portside.api.kinds import BY_KIND
from portside.api.rules import addresses, resources
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_AVOID = "scheduler.alpha.kubernetes.io/preferAvoidPods"
_FACTS = (
    "machineID",
    "systemUUID",
    "bootID",
    "kernelVersion",
    "osImage",
    "containerRuntimeVersion",
    "kubeletVersion",
    "kubeProxyVersion",
    "operatingSystem",
    "architecture",
)


def default(obj: Json) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    if spec.get("podCIDR") and (spec.get("podCIDRs") or [""])[0] != spec["podCIDR"]:
        spec["podCIDRs"] = [spec["podCIDR"]]
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    for field in ("capacity", "allocatable"):
        resources.canonicalize(status.get(field))
    if status.get("capacity"):
        status["allocatable"] = status["capacity"] | (status.get("allocatable") or {})
    status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
    info = status.setdefault("nodeInfo", {})
    for fact in _FACTS:
        info.setdefault(fact, "")


def taints_problems(taints: list[Json], path: str) -> Errors:
    errors: Errors = []
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(taints):
        at, key, effect = f"{path}[{i}]", taint.get("key") or "", taint.get("effect") or ""
        errors += [invalid_value(f"{at}.key", key, p) for p in names.qualified_name(key)]
        errors += [invalid_value(f"{at}.value", taint["value"], p) for p in names.label_value(taint.get("value") or "")]
        if not effect:
            errors.append(required(f"{at}.effect"))
        elif effect not in EFFECTS:
            errors.append(not_supported(f"{at}.effect", effect, EFFECTS))
        if (key, effect) in seen:
            inner = {
                "Key": key,
                "Value": taint.get("value") or "",
                "Effect": effect,
                "TimeAdded": taint.get("timeAdded"),
            }
            text = f"Duplicate value: {go_value(inner)}: taints must be unique by key and effect pair"
            errors.append(FieldError(at, "FieldValueDuplicate", text))
        seen.add((key, effect))
    return errors


def _amounts(status: Json) -> Errors:
    errors: Errors = []
    for field in ("capacity", "allocatable"):
        for name, amount in sorted((status.get(field) or {}).items()):
            errors += resources.amount_problems(name, amount, f"status.{field}.{name}")
    return errors


def _ranges(spec: Json) -> Errors:
    listed = spec.get("podCIDRs") or []
    errors = [e for i, c in enumerate(listed) for e in addresses.cidr(f"spec.podCIDRs[{i}]", c)]
    if not errors and len(listed) > 1:
        parsed = [n for n in (addresses.parse_cidr(c) for c in listed) if n is not None]
        if not addresses.dual(parsed):
            text = "may specify no more than one CIDR for each IP family"
            errors.append(invalid_value("spec.podCIDRs", listed, text))
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    errors: Errors = []
    annotation = (obj["metadata"].get("annotations") or {}).get(_AVOID)
    problem = json_problem(annotation) if annotation else ""
    if problem:
        errors.append(invalid_value("metadata.annotations.AvoidPods", _AVOID, problem))
    if spec.get("taints"):
        errors += taints_problems(spec["taints"], "metadata.taints")
    return errors + _amounts(status) + _ranges(spec)


def validate_update(obj: Json, old: Json, ctx: Context) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors: Errors = []
    errors += _amounts(obj.get("status") or {})
    errors += _ranges(spec)
    if before.get("podCIDRs") and (spec.get("podCIDRs") or []) != before["podCIDRs"]:
        text = 'node updates may not change podCIDR except from "" to valid'
        errors.append(forbidden_field("spec.podCIDRs", text))
    if before.get("providerID") and spec.get("providerID", "") != before["providerID"]:
        text = 'node updates may not change providerID except from "" to valid'
        errors.append(forbidden_field("spec.providerID", text))
    if spec.get("taints"):
        errors += taints_problems(spec["taints"], "metadata.taints")
    return errors


def _prepare(obj: Json, ctx: Context) -> None:
    """What only old kubelets knew, or future ones will, goes, though its field manager stays."""
    obj["spec"].pop("configSource", None)
    obj["spec"].pop("podPreemptionPolicy", None)
    (obj.get("status") or {}).pop("config", None)


def _keep_status(obj: Json, old: Json, ctx: Context) -> None:
    _prepare(obj, ctx)
    obj["status"] = old.get("status") or {}


NODE = Rules(
    BY_KIND["", "v1", "Node"],
    default=default,
    prepare_create=_prepare,
    prepare_update=_keep_status,
    validate=validate,
    validate_update=validate_update,
    subresources={"status": SubRules(prepare_update=STATUS_ONLY.prepare_update, validate_update=validate_update)},
)
