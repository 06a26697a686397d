"""Kubernetes' protobuf form of built-in objects, to and from JSON. Driven by the table of published field numbers.

The envelope is ``k8s\\0`` and a ``runtime.Unknown``; names, numbers and types come from ``protobuf_fields.json``, made by
``scripts/protobuf_table.py`` from the published API. Scalars that Go emits though they are zero are left to the schema's
decoding, which drops what Go's JSON would omit.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

from portside.api.status import ApiError, bad_request

Json = dict[str, Any]
MEDIA = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
MAX_DEPTH = 100  # nested messages
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class _Malformed(ValueError):
    """The bytes are no message."""


Field = tuple[int, str, str, str]


@cache
def _table() -> dict[str, list[Field]]:
    raw = json.loads(files("portside.api").joinpath("protobuf_fields.json").read_bytes())
    return {name: [(f[0], f[1], f[2], f[3]) for f in fields] for name, fields in raw.items()}


@cache
def _by_number(message: str) -> dict[int, Field]:
    return {f[0]: f for f in _table().get(message, [])}


def message_of(api_version: str, kind: str) -> str:
    """The message's name in the table. Raises ApiError 400 when there is none."""
    group, _, version = api_version.rpartition("/")
    own = f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
    shared = f"meta.v1.{kind}"
    for name in (own, shared):
        if name in _table():
            return name
    raise bad_request(f'no kind "{kind}" is registered for version "{api_version}" in scheme')


# --- reading -----------------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _Malformed("unexpected EOF")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, at = _varint(data, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise _Malformed(f"illegal wireType {wire}")
        if at + size > end:
            raise _Malformed("unexpected EOF")
        yield number, wire, data[at : at + size]
        at += size


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _scalar(kind: str, value: int | bytes) -> Any:
    if kind in ("string", "bytes"):
        if not isinstance(value, bytes):
            raise _Malformed("wrong wireType")
        return value.decode("utf-8", "replace") if kind == "string" else base64.b64encode(value).decode()
    if kind in ("double", "float"):
        if not isinstance(value, bytes):
            raise _Malformed("wrong wireType")
        return struct.unpack("<d" if len(value) == 8 else "<f", value)[0]
    if not isinstance(value, int):
        raise _Malformed("wrong wireType")
    return bool(value) if kind == "bool" else _signed(value)


def _time(data: bytes, micro: bool) -> str | None:
    found = {number: _signed(value) for number, _, value in _fields(data) if isinstance(value, int)}
    if not found:
        return None
    text = datetime.fromtimestamp(found.get(1, 0), UTC).isoformat()[:19]  # strftime leaves out zeros of early years
    return f"{text}.{found.get(2, 0) // 1000:06d}Z" if micro else f"{text}Z"


def _bytes_field(data: bytes) -> bytes:
    return next((value for number, _, value in _fields(data) if number == 1 and isinstance(value, bytes)), b"")


def _raw_json(data: bytes) -> Any:
    raw = _bytes_field(data)
    return json.loads(raw) if raw else None


def _int_or_string(data: bytes) -> Any:
    found = {number: value for number, _, value in _fields(data)}
    if found.get(1):
        text = found.get(3, b"")
        return text.decode("utf-8", "replace") if isinstance(text, bytes) else ""
    number = found.get(2, 0)
    return _signed(number) if isinstance(number, int) else 0


def _duration(data: bytes) -> str:
    found = {number: _signed(value) for number, _, value in _fields(data) if isinstance(value, int)}
    return f"{found.get(1, 0) / 1e9:g}s"


def _either(data: bytes, depth: int) -> Any:
    """The unions of JSON schema: a schema, a list of them or of names, or a boolean."""
    schemas: list[Any] = []
    names: list[Any] = []
    allows: Any = None
    for number, wire, value in _fields(data):
        if wire == VARINT:
            allows = bool(value)
        elif isinstance(value, bytes):
            try:
                schemas.append(_message("apiextensions.v1.JSONSchemaProps", value, depth + 1))
            except _Malformed:
                names.append(value.decode("utf-8", "replace"))
        if number not in (1, 2):
            raise _Malformed("unknown field")
    if schemas:
        return schemas[0] if len(schemas) == 1 else schemas
    return names if names else allows


SPECIAL: dict[str, Callable[[bytes], Any]] = {
    "meta.v1.Time": lambda data: _time(data, False),
    "meta.v1.MicroTime": lambda data: _time(data, True),
    "meta.v1.Duration": _duration,
    "meta.v1.FieldsV1": _raw_json,
    "api.resource.Quantity": lambda data: _bytes_field(data).decode(),
    "api.resource.QuantityValue": lambda data: _bytes_field(data).decode(),
    "util.intstr.IntOrString": _int_or_string,
    "pkg.runtime.RawExtension": _raw_json,
    "apiextensions.v1.JSON": _raw_json,
}
UNIONS = (
    "apiextensions.v1.JSONSchemaPropsOrArray",
    "apiextensions.v1.JSONSchemaPropsOrBool",
    "apiextensions.v1.JSONSchemaPropsOrStringArray",
)
LISTS = ("ExtraValue", "Verbs")  # messages that are lists of strings in JSON


def _value(kind: str, value: int | bytes, depth: int) -> Any:
    if "." not in kind:
        return _scalar(kind, value)
    if not isinstance(value, bytes):
        raise _Malformed("wrong wireType")
    if special := SPECIAL.get(kind):
        return special(value)
    if kind in UNIONS:
        return _either(value, depth)
    if kind.endswith(LISTS):
        return [v.decode("utf-8", "replace") for _, _, v in _fields(value) if isinstance(v, bytes)]
    return _message(kind, value, depth + 1)


def _entry(kind: str, data: bytes, depth: int) -> tuple[str, Any]:
    key, value = "", None
    for number, _, part in _fields(data):
        if number == 1 and isinstance(part, bytes):
            key = part.decode("utf-8", "replace")
        elif number == 2:
            value = _value(kind, part, depth)
    if value is None:
        value = "" if kind in ("string", "bytes") else {}
    return key, value


def _packed(kind: str, data: bytes) -> list[Any]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(_scalar(kind, value))
    return found


def _message(name: str, data: bytes, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise _Malformed("nested too deeply")
    known = _by_number(name)
    found: Json = {}
    for number, wire, value in _fields(data):
        field = known.get(number)
        if field is None:
            continue
        _, json_name, kind, shape = field
        if shape == "map":
            if not isinstance(value, bytes):
                raise _Malformed("wrong wireType")
            key, entry = _entry(kind, value, depth)
            found.setdefault(json_name, {})[key] = entry
        elif shape == "repeated":
            target = found.setdefault(json_name, [])
            if isinstance(value, bytes) and wire == BYTES and "." not in kind and kind not in ("string", "bytes"):
                target.extend(_packed(kind, value))
            else:
                target.append(_value(kind, value, depth))
        else:
            read = _value(kind, value, depth)
            if not json_name:
                if isinstance(read, dict):
                    found.update(read)
            elif read is not None or kind in SPECIAL:
                found[json_name] = read
    return found


def decode(raw: bytes, default_version: str = "", default_kind: str = "") -> Json:
    """An object from its enveloped form. Raises ApiError 400 for anything else."""
    if not raw.startswith(MAGIC):
        raise bad_request("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        unknown = {number: value for number, _, value in _fields(raw[4:])}
        types = unknown.get(1, b"")
        meta = {
            n: v.decode() for n, _, v in _fields(types if isinstance(types, bytes) else b"") if isinstance(v, bytes)
        }
        version, kind = meta.get(1) or default_version, meta.get(2) or default_kind
        body = unknown.get(2, b"")
        return {"apiVersion": version, "kind": kind} | _message(
            message_of(version, kind), body if isinstance(body, bytes) else b"", 0
        )
    except ApiError:
        raise
    except (ValueError, OverflowError, OSError, RecursionError) as error:  # OSError: a time beyond the platform's
        raise bad_request(f"unable to decode protobuf: {error}") from error


def in_field_order(value: Any, message: str) -> Any:
    """``value`` with its fields in the published order of ``message``, as Go prints a struct; others stay behind."""
    if not isinstance(value, dict):
        return value
    shown: Json = {}
    for _, name, kind, shape in _table().get(message, []):
        if name in value:
            one = value[name]
            deep = "." in kind and shape != "map" and kind not in SPECIAL
            if deep and shape == "repeated":
                shown[name] = [in_field_order(v, kind) for v in one]
            else:
                shown[name] = in_field_order(one, kind) if deep else one
    return shown | {k: v for k, v in value.items() if k not in shown}
