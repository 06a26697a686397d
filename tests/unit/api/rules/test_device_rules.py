"""Device requests, slices, classes and taint rules: what is filled in, what is refused and in which order."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portside.api.rules.device_names import shortened
from portside.api.rules.registry import Context, rules_for

Json = dict[str, Any]
CTX = Context(now="2026-01-01T00:00:00Z", user="admin")
REQUEST: Json = {"name": "r0", "exactly": {"deviceClassName": "gpu.example"}}
SLICE: Json = {
    "driver": "gpu.example",
    "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1},
    "nodeName": "node",
    "devices": [{"name": "d0"}],
}


def _create(kind: str, spec: Json) -> tuple[Json, list[str]]:
    rules = rules_for("resource.k8s.io", "v1", kind)
    obj = {"apiVersion": "resource.k8s.io/v1", "kind": kind, "metadata": {"name": "x"}, "spec": copy.deepcopy(spec)}
    if rules.kind.namespaced:
        obj["metadata"]["namespace"] = "n"
    rules.default(obj)
    return obj, [str(e) for e in rules.before_create(obj, CTX)]


def _update(kind: str, old: Json, spec: Json) -> list[str]:
    rules = rules_for("resource.k8s.io", "v1", kind)
    new = copy.deepcopy(old) | {"spec": copy.deepcopy(spec)}
    rules.default(new)
    return [str(e) for e in rules.before_update(new, copy.deepcopy(old), CTX)]


def _status(claim: Json, status: Json) -> tuple[Json, list[str]]:
    rules = rules_for("resource.k8s.io", "v1", "ResourceClaim")
    new = copy.deepcopy(claim) | {"status": copy.deepcopy(status)}
    rules.default(new)
    return new, [str(e) for e in rules.before_sub_update("status", new, copy.deepcopy(claim), CTX)]


def test_administration_is_for_namespaces_that_are_labelled_for_it() -> None:
    exactly = {"deviceClassName": "gpu.example", "adminAccess": True}
    spec = {"devices": {"requests": [REQUEST, {"name": "r1", "exactly": exactly}]}}
    rules = rules_for("resource.k8s.io", "v1", "ResourceClaim")
    claim = {"metadata": {"name": "x", "namespace": "n"}, "spec": spec}
    rules.default(claim)
    refused = rules.before_create(copy.deepcopy(claim), Context(space=lambda: {"metadata": {}}))
    assert [e.field for e in refused] == ["spec.devices.requests[1].adminAccess"]
    labelled = {"metadata": {"labels": {"resource.kubernetes.io/admin-access": "true"}}}
    assert rules.before_create(claim, Context(space=lambda: labelled)) == []


def test_a_request_is_for_one_device_unless_it_says_more() -> None:
    claim, errors = _create("ResourceClaim", {"devices": {"requests": [REQUEST]}})
    assert errors == []
    assert claim["spec"]["devices"]["requests"][0]["exactly"] == {
        "deviceClassName": "gpu.example",
        "allocationMode": "ExactCount",
        "count": 1,
    }


def test_written_checks_come_before_declared_ones() -> None:
    spec = {
        "devices": {
            "requests": [REQUEST, REQUEST],
            "constraints": [{"requests": ["no"], "matchAttribute": "x"}],
            "config": [{"opaque": {"driver": "", "parameters": {"a": 1}}}],
        }
    }
    _, errors = _create("ResourceClaim", spec)
    assert [e.partition(":")[0] for e in errors] == [
        "spec.devices.constraints[0].requests[0]",
        "spec.devices.requests[1]",
        "spec.devices.constraints[0].matchAttribute",
        "spec.devices.config[0].opaque.driver",
    ]


def test_a_repeated_request_is_shown_in_the_order_of_its_type() -> None:
    odd = {"exactly": {"count": 2, "deviceClassName": "b"}, "name": "r0"}
    _, errors = _create("ResourceClaim", {"devices": {"requests": [REQUEST, odd]}})
    shown = '{"name":"r0","exactly":{"deviceClassName":"b","allocationMode":"ExactCount","count":2}}'
    assert errors == [f"spec.devices.requests[1]: Duplicate value: {shown}"]


def test_a_claim_of_too_many_requests_is_told_once() -> None:
    many = [REQUEST | {"name": f"r{i}", "exactly": {}} for i in range(33)]
    _, errors = _create("ResourceClaim", {"devices": {"requests": many}})
    assert errors == ["spec.devices.requests: Too many: 33: must have at most 32 items"]


def test_features_that_are_off_are_dropped_in_silence() -> None:
    exactly = {"deviceClassName": "c", "derivedAttributes": [{"name": "a/b", "expression": "1"}]}
    claim, errors = _create("ResourceClaim", {"devices": {"requests": [{"name": "r", "exactly": exactly}]}})
    assert errors == []
    assert "derivedAttributes" not in claim["spec"]["devices"]["requests"][0]["exactly"]


def test_an_allocation_is_made_once_and_then_only_taken_back() -> None:
    claim, _ = _create("ResourceClaim", {"devices": {"requests": [REQUEST]}})
    claim["metadata"]["resourceVersion"] = "1"
    result = {"request": "r0", "driver": "gpu.example", "pool": "p", "device": "d0"}
    allocated, errors = _status(claim, {"allocation": {"devices": {"results": [result]}}})
    assert errors == []
    other = {"allocation": {"devices": {"results": [result | {"device": "d1"}]}}}
    assert _status(allocated, other)[1] == ["status.allocation: Invalid value: null: field cannot be modified once set"]
    assert _status(allocated, {})[1] == []


def test_a_devices_report_goes_with_its_device() -> None:
    claim, _ = _create("ResourceClaim", {"devices": {"requests": [REQUEST]}})
    claim["metadata"]["resourceVersion"] = "1"
    device = {"driver": "gpu.example", "pool": "p", "device": "d0"}
    status = {"allocation": {"devices": {"results": [device | {"request": "r0"}]}}, "devices": [device]}
    allocated, errors = _status(claim, status)
    assert errors == []
    freed, errors = _status(allocated, {"devices": [device]})
    assert (freed["status"], errors) == ({}, [])


@pytest.mark.parametrize(("change", "refusal"), [
    ({"nodeName": ""}, 'spec.nodeName: Invalid value: "": must be either unset or set to a non-empty string'),
    ({"pool": {"name": "a//b", "resourceSliceCount": 1}}, 'spec.pool.name: Invalid value: "": a lowercase RFC 1123 subdomain'),
    ({"devices": [{"name": "d", "allNodes": True}]}, "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only"),
    ({"devices": [{"name": "d", "bindingConditions": ["a"]}]}, "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required"),
    ({"devices": [{"name": "d", "capacity": {"m": {"value": "1", "requestPolicy": {}}}}]}, "spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"),
    ({"devices": [{"name": "d", "consumesCounters": [{"counterSet": "", "counters": {"a": {"value": "1"}}}]}]}, "spec.devices[0].consumesCounters[0].counterSet: Required value"),
    ({"devices": [{"name": f"d{i}", "taints": [{"key": "k", "effect": "None"}]} for i in range(65)]}, "spec.devices: Too many: 65: must have at most 64 items"),
])  # fmt: skip
def test_a_slice_says_what_is_wrong_with_it(change: Json, refusal: str) -> None:
    _, errors = _create("ResourceSlice", SLICE | change)
    assert errors[0].startswith(refusal)


def test_shared_capacity_has_a_default_that_its_range_allows() -> None:
    policy = {"default": "3", "validRange": {"min": "2", "max": "8", "step": "2"}}
    device = {
        "name": "d",
        "allowMultipleAllocations": True,
        "capacity": {"m": {"value": "8", "requestPolicy": policy}},
    }
    _, errors = _create("ResourceSlice", SLICE | {"devices": [device]})
    where = "spec.devices[0].capacity[m].requestPolicy.validRange.step"
    assert errors == [f'{where}: Invalid value: "3": value is not a multiple of a given step (2) from (2)']


def test_a_taint_was_added_when_it_came() -> None:
    taints = [{"key": "k", "effect": "NoSchedule"}]
    stored, errors = _create("ResourceSlice", SLICE | {"devices": [{"name": "d0", "taints": taints}]})
    assert errors == []
    assert stored["spec"]["devices"][0]["taints"][0]["timeAdded"] == CTX.now


def test_a_class_may_not_pretend_to_be_a_standard_resource() -> None:
    _, errors = _create("DeviceClass", {"extendedResourceName": "requests.a/b"})
    assert errors[0] == 'spec.extendedResourceName: Invalid value: "requests.a/b": must not have "requests." prefix'


@pytest.mark.parametrize(("expression", "refusal"), [
    ('device.driver == "a" && device.attributes["a"].model == "x1"', ""),
    ('device.capacity["a"].memory.compareTo(quantity("8Gi")) >= 0', ""),
    ('cel.bind(own, device.attributes["a"], own.one && own.two)', ""),
    ('device.attributes["a"].version.isGreaterThan(semver("1.0.0"))', ""),
    ("device.driver", "must evaluate to bool or the unknown type, not string"),
    ("device.colour == 1", "undefined field 'colour'"),
    ('device.attributes.all(a, device.attributes["a"].all(b, device.attributes["a"].all(c, device.attributes["a"].all(d, true))))', "too complex, exceeds cost limit"),
])  # fmt: skip
def test_a_selector_is_compiled_before_it_is_stored(expression: str, refusal: str) -> None:
    _, errors = _create("DeviceClass", {"selectors": [{"cel": {"expression": expression}}]})
    assert errors == [] if not refusal else refusal in errors[0]


def test_what_is_stored_is_not_checked_again() -> None:
    rules = rules_for("resource.k8s.io", "v1", "DeviceTaintRule")
    old, _ = _create("DeviceTaintRule", {"taint": {"key": "k", "effect": "NoSchedule"}})
    old["spec"]["taint"]["effect"] = "Unknown"
    assert rules.before_update(copy.deepcopy(old), old, CTX) == []
    changed = old["spec"] | {"taint": old["spec"]["taint"] | {"effect": "Other"}}
    assert "spec.taint.effect" in _update("DeviceTaintRule", old, changed)[0]


@given(st.text(alphabet="abcdef/", max_size=200), st.integers(0, 120))
def test_a_shortened_key_is_never_longer_than_asked(key: str, most: int) -> None:
    assert len(shortened(key, most)) <= max(most, 16)
