"""ResourceSlice: the devices a driver has, where they are, what they can do, what several of them share."""

from __future__ import annotations

import re
from typing import Any

from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, required, too_long, too_many
from portside.api.meta import IMMUTABLE
from portside.api.rules import device_capacity
from portside.api.rules import device_declared as declared
from portside.api.rules.declared import ABSENT
from portside.api.rules.device_names import (
    LONGEST_KEY,
    attribute_key,
    binding_conditions,
    driver,
    label,
    node,
    pool,
    shortened,
    taint,
)
from portside.api.rules.pod_affinity import validate_node_selector
from portside.api.rules.pod_shape import dump

Json = dict[str, Any]
Errors = list[FieldError]
MOST_DEVICES = 128
MOST_ADVANCED_DEVICES = 64
MOST_KEYS = 32
MOST_VALUES = 48
MOST_TAINTS = 16
MOST_COUNTERS = 32
LONGEST_VALUE = 64
_PLACES = ("nodeName", "nodeSelector", "allNodes", "perDeviceNodeSelection")
_ONE_PLACE = f"exactly one of {', '.join(f'`{p}`' for p in _PLACES)} is required"
_DEVICE_PLACE = (
    "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in "
    "the ResourceSlice spec"
)
_NO_DEVICE_PLACE = (
    "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the "
    "ResourceSlice spec"
)
_NUMBER, _PRE, _BUILD = r"(0|[1-9]\d*)", r"(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)", r"[0-9a-zA-Z-]+"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_PRE}(\.{_PRE})*)?(\+{_BUILD}(\.{_BUILD})*)?\Z", re.ASCII)


def _pool(spec: Json) -> Errors:
    given = spec.get("pool") or {}
    errors = pool(given.get("name") or "", "spec.pool.name")
    count, generation = given.get("resourceSliceCount") or 0, given.get("generation") or 0
    if count <= 0:
        errors.append(invalid_value("spec.pool.resourceSliceCount", count, "must be greater than zero"))
    if generation < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid_value("spec.pool.generation", generation, text))
    return errors


def _fixed(spec: Json, old: Json) -> Errors:
    mine, theirs = (s.get("pool") or {} for s in (spec, old))
    errors: Errors = []
    if mine.get("name") != theirs.get("name"):
        errors.append(invalid_value("spec.pool.name", mine.get("name") or "", IMMUTABLE))
    for field in ("driver", "nodeName"):
        if spec.get(field) != old.get(field):
            errors.append(invalid_value(f"spec.{field}", spec.get(field), IMMUTABLE))
    return errors


def _place(spec: Json) -> Errors:
    """Where the slice's devices are: one of four ways to say it."""
    errors: Errors = []
    given: list[str] = []
    if (name := spec.get("nodeName")) is not None:
        if name:
            given.append("nodeName")
            errors += node(name, "spec.nodeName")
        else:
            text = "must be either unset or set to a non-empty string"
            errors.append(invalid_value("spec.nodeName", name, text))
    if (selector := spec.get("nodeSelector")) is not None:
        given.append("nodeSelector")
        errors += validate_node_selector(selector, "spec.nodeSelector")
        terms = selector.get("nodeSelectorTerms") or []
        if len(terms) != 1:
            shown = [dump(t, "NodeSelectorTerm") for t in terms] or None
            text = "must have exactly one node selector term"
            errors.append(invalid_value("spec.nodeSelector.nodeSelectorTerms", shown, text))
    for field in ("allNodes", "perDeviceNodeSelection"):
        if spec.get(field):
            given.append(field)
        elif spec.get(field) is not None:
            errors.append(invalid_value(f"spec.{field}", False, "must be either unset or set to true"))
    if not given:
        errors.append(required("spec", _ONE_PLACE))
    elif len(given) > 1:
        shown_fields = "{" + ", ".join(f"`{f}`" for f in given) + "}"
        errors.append(invalid_value("spec", shown_fields, f"{_ONE_PLACE}, but multiple fields are set"))
    return errors


def _value(value: Json, path: str) -> Errors:
    errors: Errors = []
    if (text := value.get("string")) is not None and len(text.encode()) > LONGEST_VALUE:
        errors.append(too_long(f"{path}.string", LONGEST_VALUE))
    if (version := value.get("version")) is not None:
        if not _SEMVER.match(version):
            wrong = "must be a string compatible with semver.org spec 2.0.0"
            errors.append(invalid_value(f"{path}.version", version, wrong))
        if len(version.encode()) > LONGEST_VALUE:
            errors.append(too_long(f"{path}.version", LONGEST_VALUE))
    return errors


def _attributes(device: Json, path: str) -> Errors:
    attributes, capacity = device.get("attributes") or {}, device.get("capacity") or {}
    errors: Errors = []
    if (count := len(attributes) + len(capacity)) > MOST_KEYS:
        text = f"the total number of attributes and capacities must not exceed {MOST_KEYS}"
        errors.append(invalid_value(path, count, text))
    if len(attributes) > MOST_VALUES:
        text = f"the total number of attribute values must not exceed {MOST_VALUES}"
        errors.append(invalid_value(path, len(attributes), text))
    for key, value in attributes.items():
        errors += attribute_key(key, f"{path}.attributes")
        errors += _value(value, f"{path}.attributes[{shortened(key, LONGEST_KEY)}]")
    return errors


def _capacity(device: Json, path: str) -> Errors:
    shared = bool(device.get("allowMultipleAllocations"))
    errors: Errors = []
    for key, capacity in (device.get("capacity") or {}).items():
        errors += attribute_key(key, f"{path}.capacity")
        policy, at = capacity.get("requestPolicy"), f"{path}.capacity[{shortened(key, LONGEST_KEY)}].requestPolicy"
        if policy is not None and not shared:
            errors.append(forbidden_field(at, "allowMultipleAllocations must be true"))
        elif policy is not None:
            errors += device_capacity.policy(capacity.get("value"), policy, at)
    return errors


def _device_place(device: Json, path: str, per_device: bool) -> Errors:
    if not per_device:
        if any(device.get(f) is not None for f in ("nodeName", "nodeSelector", "allNodes")):
            return [invalid_value(path, None, _NO_DEVICE_PLACE)]
        return []
    errors: Errors = []
    given: list[str] = []
    if (name := device.get("nodeName")) is not None:
        if name:
            given.append("nodeName")
            errors += node(name, f"{path}.nodeName")
        else:
            errors.append(invalid_value(f"{path}.nodeName", name, "must not be empty"))
    if device.get("nodeSelector") is not None:
        given.append("nodeSelector")
        errors += validate_node_selector(device["nodeSelector"], f"{path}.nodeSelector")
    if device.get("allNodes"):
        given.append("allNodes")
    elif device.get("allNodes") is not None:
        errors.append(invalid_value(f"{path}.allNodes", False, "must be either unset or set to true"))
    if not given:
        errors.append(required(path, _DEVICE_PLACE))
    elif len(given) > 1:
        shown = "{" + ", ".join(f"`{f}`" for f in given) + "}"
        errors.append(invalid_value(path, shown, _DEVICE_PLACE))
    return errors


def _device(device: Json, old: Json | None, path: str, per_device: bool) -> Errors:
    errors = label(device.get("name") or "", f"{path}.name") + _attributes(device, path)
    if old is None or old.get("capacity") != device.get("capacity"):
        errors += _capacity(device, path)
    taints = device.get("taints") or []
    if old is None or old.get("taints") != taints:
        if len(taints) > MOST_TAINTS:
            errors.append(too_many(f"{path}.taints", len(taints), MOST_TAINTS))
        else:
            errors += [e for i, t in enumerate(taints) for e in taint(t, f"{path}.taints[{i}]")]
    for i, consumption in enumerate((device.get("consumesCounters") or [])[: declared.MOST_CONSUMPTIONS]):
        errors += _counters(consumption, f"{path}.consumesCounters[{i}]")
    return errors + _device_place(device, path, per_device) + binding_conditions(device, path)


def _counters(holder: Json, path: str) -> Errors:
    counters = holder.get("counters") or {}
    return [too_many(f"{path}.counters", len(counters), MOST_COUNTERS)] if len(counters) > MOST_COUNTERS else []


def _devices(spec: Json, old: Json) -> Errors:
    devices, path = spec.get("devices") or [], "spec.devices"
    advanced = any(d.get("taints") or d.get("consumesCounters") for d in devices)
    most = MOST_ADVANCED_DEVICES if advanced else MOST_DEVICES
    if len(devices) > most:
        return [too_many(path, len(devices), most)]
    before = {d.get("name"): d for d in old.get("devices") or ()}
    per_device = bool(spec.get("perDeviceNodeSelection"))
    errors = [
        e for i, d in enumerate(devices) for e in _device(d, before.get(d.get("name")), f"{path}[{i}]", per_device)
    ]
    seen: set[str] = set()
    for i, device in enumerate(devices):
        name = device.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)
    return errors


def validate(spec: Json, old: Json | None) -> Errors:
    errors = driver(spec.get("driver") or "", "spec.driver") + _pool(spec)
    if old is not None:
        errors += _fixed(spec, old)
    errors += _place(spec)
    if spec.get("sharedCounters") is not None and spec.get("devices") is not None:
        errors.append(invalid_value("spec", "", "only one of `sharedCounters` or `devices` is allowed"))
    errors += _devices(spec, old or {})
    for i, counter_set in enumerate((spec.get("sharedCounters") or [])[: declared.MOST_COUNTER_SETS]):
        errors += _counters(counter_set, f"spec.sharedCounters[{i}]")
    if len(spec.get("devices") or ()) > MOST_DEVICES:
        return errors
    return errors + declared.SLICE_SPEC(spec, ABSENT if old is None else old, "spec")
