"""Expressions that select devices (``device.attributes["gpu.example"].model == "x1"``): their environment, and matching.

``compile_selector`` is for whoever stores or runs one; ``matches`` runs it on a device of a ResourceSlice.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from portside.api import quantity
from portside.api.cel import CompileFailure, InstantiationFailure, Program, compile_expression
from portside.api.cel.lib_quantity import Quantity
from portside.api.cel.lib_semver import parse as version
from portside.api.cel.types import BOOL, Field, Type, declared_name, map_of, struct

Json = dict[str, Any]
MOST_COST = 1_000_000  # of an expression, estimated and when it runs
_DOMAINS, _NAMES = 32, 32  # entries of attributes and capacity together
_DOMAIN_SIZE, _NAME_SIZE, _VALUE_SIZE = 63, 32, 64  # code points


class SelectorProblem(ValueError):
    """Why an expression selects no devices; the text is upstream's."""


def _named(value: Type) -> Type:
    inner = map_of(Type("string", "string", limit=_NAME_SIZE), value, limit=_NAMES)
    inner.by_name = True
    return map_of(Type("string", "string", limit=_DOMAIN_SIZE), inner, limit=_DOMAINS)


@lru_cache(maxsize=1)
def device_type() -> Type:
    """What an expression sees of a device."""
    attribute = Type("any", "google.protobuf.Any", limit=_VALUE_SIZE)
    return struct(
        "kubernetes.DRADevice",
        {
            "driver": Field(Type("string", "string", limit=_DOMAIN_SIZE), "driver"),
            "allowMultipleAllocations": Field(BOOL, "allowMultipleAllocations"),
            "attributes": Field(_named(attribute), "attributes"),
            "capacity": Field(_named(Type("opaque", "kubernetes.Quantity", limit=1)), "capacity"),
        },
    )


@lru_cache(maxsize=256)
def compile_selector(text: str) -> Program:
    """Raises SelectorProblem."""
    try:
        program = compile_expression(text, variables={"device": device_type()}, bindings=True)
    except InstantiationFailure as problem:
        raise SelectorProblem(f"program instantiation failed: {problem}") from None
    except CompileFailure as problem:
        raise SelectorProblem(f"compilation failed: {problem}") from None
    if program.type.kind not in ("bool", "any"):
        raise SelectorProblem(f"must evaluate to bool or the unknown type, not {declared_name(program.type)}")
    return program


class _Domains(dict[str, Any]):
    """Attributes or capacity by domain. A domain that the device does not have is empty, not an error."""

    def __missing__(self, key: str) -> dict[str, Any]:
        return {}


def device_value(device: Json, driver: str) -> Json:
    """The binding of ``device`` for a device of a slice; names without a domain are in the driver's."""
    attributes, capacity = _Domains(), _Domains()
    for name, held in (device.get("attributes") or {}).items():
        domain, short = _split(name, driver)
        attributes.setdefault(domain, {})[short] = _attribute(held)
    for name, held in (device.get("capacity") or {}).items():
        domain, short = _split(name, driver)
        capacity.setdefault(domain, {})[short] = Quantity(quantity.parse(held.get("value", "0")))
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
        "attributes": attributes,
        "capacity": capacity,
    }


def _split(name: str, driver: str) -> tuple[str, str]:
    domain, slash, short = name.partition("/")
    return (domain, short) if slash else (driver, name)


def _attribute(held: Json) -> Any:
    form, value = next(iter(held.items()), ("string", ""))
    if form == "version":
        return version(value)
    return [version(v) for v in value] if form == "versions" else value


def matches(program: Program, device: Json, driver: str) -> bool:
    """Whether the selector takes the device. Raises CelRuntimeError or CostExceeded."""
    return program.evaluate({"device": device_value(device, driver)}, budget=MOST_COST) is True
