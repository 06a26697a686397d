"""Selectors of devices: what is refused, what they may cost, and which devices they take."""

from __future__ import annotations

import pytest

from portside.api.cel import CelRuntimeError
from portside.api.device_selectors import SelectorProblem, compile_selector, matches

DEVICE = {
    "name": "gpu-0",
    "attributes": {
        "model": {"string": "x1"},
        "cores": {"int": 8},
        "driverVersion": {"version": "1.2.3"},
        "other.example/fast": {"bool": True},
    },
    "capacity": {"memory": {"value": "16Gi"}},
}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("device.driver", "must evaluate to bool or the unknown type, not string"),
        ("dyn(1)", "must evaluate to bool or the unknown type, not dyn"),
        ("device", "must evaluate to bool or the unknown type, not kubernetes.DRADevice"),
        ("device.x", "compilation failed: ERROR: <input>:1:7: undefined field 'x'\n | device.x\n | ......^"),
        ("int('x') == 1", "program instantiation failed: type conversion error from 'string' to 'int'"),
    ],
)
def test_a_selector_that_selects_nothing_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SelectorProblem) as raised:
        compile_selector(text)
    assert str(raised.value) == problem


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("device.driver == 'a'", 3),
        ("device.attributes.all(k, k == 'a')", 163),
        ("device.attributes['a'].all(k, k.matches('a'))", 260),
        ("device.capacity['a'].exists(k, device.capacity['a'][k].isGreaterThan(quantity('1')))", 356),
        ("device.driver.matches('a.*b') && device.attributes['a'].b.matches('x')", 20),
        ("cel.bind(dra, device.attributes['a'], dra.b == 'c')", 16),
    ],
)
def test_a_selector_is_estimated_as_upstream_estimates_it(text: str, most: int) -> None:
    assert compile_selector(text).estimate()[1] == most


@pytest.mark.parametrize(
    "text",
    [
        "device.driver == 'gpu.example' && device.attributes['gpu.example'].model == 'x1'",
        "device.capacity['gpu.example'].memory.compareTo(quantity('8Gi')) > 0",
        "device.attributes['gpu.example'].driverVersion.isGreaterThan(semver('1.2.0'))",
        "device.attributes['other.example'].fast",
        "cel.bind(own, device.attributes['gpu.example'], own.cores > 4)",
        "!('anything' in device.attributes['unknown.example'])",
        "device.attributes['gpu.example'].?nothing.orValue('none') == 'none'",
    ],
)
def test_a_selector_takes_the_device_it_describes(text: str) -> None:
    assert matches(compile_selector(text), DEVICE, "gpu.example")


def test_an_attribute_that_a_device_lacks_is_an_error() -> None:
    with pytest.raises(CelRuntimeError, match="no such key: nothing"):
        matches(compile_selector("device.attributes['gpu.example'].nothing == 1"), DEVICE, "gpu.example")
