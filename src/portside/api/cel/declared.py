"""Types of variables from OpenAPI schemas: what a custom resource's schema, or that of a built-in kind, lets expressions read.

Fields whose schema says nothing are not readable. Sizes come from the schema's maxima, or from what fits into a request, and
bound the estimated cost. Values stay JSON; a type says how one is converted when it is read (dates, durations, bytes, doubles).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any

from portside.api.cel import stdlib_time, types
from portside.api.cel.parser import WORDS
from portside.api.cel.types import Field, Type
from portside.api.cel.values import CelRuntimeError

Json = Mapping[str, Any]
MAX_REQUEST = 3 * 1024 * 1024  # bytes
MAX_DEPTH = 100
_STRING = {"type": "string"}
_META: dict[str, Any] = {"type": "object", "properties": {"name": _STRING, "generateName": _STRING}}
ROOT_FIELDS: dict[str, Any] = {"apiVersion": _STRING, "kind": _STRING, "metadata": _META}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_ESCAPED = re.compile(r"__|[.\-/]")
# smallest JSON text and largest size of a string by its format
_MIN_SIZE = {"duration": 4, "date": 12, "date-time": 22}
_MAX_SIZE = {"duration": 32, "date": 12, "date-time": 33}


def escape(name: str) -> str | None:
    """A property's name within expressions; None when it cannot be written."""
    if name in WORDS:
        return f"__{name}__"
    escaped = _ESCAPED.sub(lambda m: _ESCAPES[m.group()], name)
    return escaped if _NAME.match(escaped) else None


def from_schema(schema: Json, *, root: bool = False, name: str = "object") -> Type | None:
    """The type of values of a schema, or None when expressions may not read them. ``root``: a resource with its metadata."""
    found = _Reader().read(schema, root, name, 0)
    return found[0] if found else None


def smallest(schema: Json, *, root: bool = False) -> int:
    """The least bytes that a value of the schema takes as JSON."""
    found = _Reader().read(schema, root, "object", 0)
    return found[1] if found else 0


class _Reader:
    """Returns types with the smallest size of their JSON text, which bounds how many of them fit into a request."""

    def read(self, schema: Json, root: bool, name: str, depth: int) -> tuple[Type, int] | None:
        if depth > MAX_DEPTH:
            return None
        if schema.get("x-kubernetes-int-or-string"):
            limit = schema.get("maxLength")
            return Type("dyn", "dyn", limit=max(limit, 0) * 4 if limit is not None else MAX_REQUEST - 2), 1
        if root:
            schema = with_root(schema)
        reader = _READERS.get(str(schema.get("type") or ""))
        return reader(self, schema, name, depth) if reader is not None else None

    def array(self, schema: Json, name: str, depth: int) -> tuple[Type, int] | None:
        items = schema.get("items")
        if not isinstance(items, Mapping):
            return None
        child = self.read(items, bool(items.get("x-kubernetes-embedded-resource")), f"{name}.@idx", depth + 1)
        if child is None:
            return None
        limit = schema.get("maxItems")
        size = max(limit, 0) if limit is not None else (MAX_REQUEST - 2) // (child[1] + 1)
        made = types.list_of(child[0], limit=size)
        made.list_type = schema.get("x-kubernetes-list-type") or ""
        made.keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        convert = child[0].convert
        if convert is not None:
            made.convert = lambda values: [v if v is None else convert(v) for v in values]
        if made.list_type == "atomic":
            made.list_type = ""
        return made, 2

    def object(self, schema: Json, name: str, depth: int) -> tuple[Type, int] | None:
        more = schema.get("additionalProperties")
        if isinstance(more, Mapping):
            return self.map(schema, more, name, depth)
        fields: dict[str, Field] = {}
        required = frozenset(schema.get("required") or ())
        smallest = 2
        for key, child in (schema.get("properties") or {}).items():
            found = self.read(child, bool(child.get("x-kubernetes-embedded-resource")), f"{name}.{key}", depth + 1)
            if found is None:
                continue
            escaped = escape(key)
            if escaped is not None:
                fields[escaped] = Field(found[0], key, key in required)
            if key in required and child.get("default") is None:
                smallest += len(key) + found[1] + 4
        return types.struct(name, fields), smallest

    def map(self, schema: Json, more: Json, name: str, depth: int) -> tuple[Type, int] | None:
        child = self.read(more, bool(more.get("x-kubernetes-embedded-resource")), f"{name}.@elem", depth + 1)
        if child is None:
            return None
        limit = schema.get("maxProperties")
        size = max(limit, 0) if limit is not None else (MAX_REQUEST - 2) // (child[1] + 6)
        made = types.map_of(types.STRING, child[0], limit=size)
        convert = child[0].convert
        if convert is not None:
            made.convert = lambda values: {k: v if v is None else convert(v) for k, v in values.items()}
        return made, 2

    def string(self, schema: Json, name: str, depth: int) -> tuple[Type, int]:
        format_, limit = schema.get("format") or "", schema.get("maxLength")
        if format_ in _MIN_SIZE:
            base = types.DURATION if format_ == "duration" else types.TIMESTAMP
            made = Type(base.kind, base.name, limit=_MAX_SIZE[format_])
            made.convert = _CONVERT[format_]
            return made, _MIN_SIZE[format_]
        if format_ == "byte":
            size = max(limit, 0) if limit is not None else MAX_REQUEST - 2
            made = Type("bytes", "bytes", limit=size)
            made.convert = _bytes
            return made, 2
        if limit is not None:
            size = max(limit, 0) * 4
        elif schema.get("enum"):
            size = max((len(v.encode()) for v in schema["enum"] if isinstance(v, str)), default=0)
        else:
            size = MAX_REQUEST - 2
        return Type("string", "string", limit=size), 2

    def boolean(self, schema: Json, name: str, depth: int) -> tuple[Type, int]:
        return Type("bool", "bool", limit=0), 4

    def number(self, schema: Json, name: str, depth: int) -> tuple[Type, int]:
        made = Type("double", "double", limit=0)
        made.convert = float
        return made, 1

    def integer(self, schema: Json, name: str, depth: int) -> tuple[Type, int]:
        return Type("int", "int", limit=0), 1


_READERS: dict[str, Callable[[_Reader, Json, str, int], tuple[Type, int] | None]] = {
    "array": _Reader.array,
    "object": _Reader.object,
    "string": _Reader.string,
    "boolean": _Reader.boolean,
    "number": _Reader.number,
    "integer": _Reader.integer,
}


def with_root(schema: Json) -> dict[str, Any]:
    """A resource's schema with what every resource has: apiVersion, kind, metadata.name and metadata.generateName."""
    return {**schema, "properties": {**(schema.get("properties") or {}), **ROOT_FIELDS}}


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        at = next((i for i, c in enumerate(value) if not (c.isalnum() or c in "+/=")), len(value) - len(value) % 4)
        text = f"Invalid byte formatted string {value}: illegal base64 data at input byte {at}"
        raise CelRuntimeError(text) from None


def _converter(parse: Callable[[str], Any], what: str, layout: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        made = parse(value)
        if made is None:
            why = f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "{layout[:4]}"'
            if not layout:
                why = f'time: invalid duration "{value}"'
            raise CelRuntimeError(f"Invalid {what} formatted string {value}: {why}")
        return made

    return convert


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "duration": _converter(stdlib_time.parse_duration, "duration", ""),
    "date": _converter(stdlib_time.parse_date, "date", "2006-01-02"),
    "date-time": _converter(stdlib_time.parse_timestamp, "date-time", "2006-01-02T15:04:05Z07:00"),
}
