"""Types as values, and the names of values' types as errors and ``type()`` give them."""

from __future__ import annotations

from typing import Any

from portside.api.cel import types
from portside.api.cel.values import CelRuntimeError, Duration, Optional, Timestamp, Uint


def no_overload(*_: Any) -> Any:
    raise CelRuntimeError("no such overload")


_NAMES = {
    bool: "bool",
    int: "int",
    Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    list: "list",
    dict: "map",
    Timestamp: "google.protobuf.Timestamp",
    Duration: "google.protobuf.Duration",
    Optional: "optional_type",
    types.Type: "type",
}


_GO_TYPES = {
    bool: "types.Bool",
    int: "types.Int",
    Uint: "types.Uint",
    float: "types.Double",
    str: "types.String",
    bytes: "types.Bytes",
    type(None): "types.Null",
    list: "[]interface {}",
    dict: "map[string]interface {}",
    Timestamp: "types.Timestamp",
    Duration: "types.Duration",
    Optional: "*types.Optional",
}


def go_type(value: Any) -> str:
    """The Go type that a few errors name."""
    found = _GO_TYPES.get(value.__class__)
    return found or ("*types.Type" if value.__class__ is TypeValue else f"cel.{type_name(value).rpartition('.')[2]}")


def type_name(value: Any) -> str:
    """The name of a value's type."""
    name = _NAMES.get(value.__class__)
    if name is not None:
        return name
    return str(getattr(value, "TYPE_NAME", "") or value.type.name)


class TypeValue:
    """A type as a value: equal to every type of the same name."""

    __slots__ = ("name",)
    TYPE_NAME = "type"

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeValue) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name
