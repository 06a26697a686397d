"""Kubernetes' protobuf form of built-in objects, written: one encoder per message, compiled from the table at first use.

What is absent in JSON is not written; what is there is written though it may be zero, as a pointer to it might matter.
Fields stand in the order of the JSON object, which no reader minds.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from portside.api.protobuf import LISTS, MAGIC, SPECIAL, UNIONS, Field, _table, message_of

Json = dict[str, Any]
Payload = Callable[[Any], bytes]
Put = Callable[[Any, list[bytes]], None]
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_SCHEMA = "apiextensions.v1.JSONSchemaProps"
_TAIL = b"\x1a\x00\x22\x00"  # runtime.Unknown's content encoding and type: empty


def _varint(value: int) -> bytes:
    if value < 0:
        value += 1 << 64
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_SIZES = tuple(_varint(n) for n in range(4096))


def _size(count: int) -> bytes:
    return _SIZES[count] if count < 4096 else _varint(count)


def _field(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _text(value: Any) -> bytes:
    return value.encode() if type(value) is str else str(value).encode()


def _block(tag: bytes, payload: bytes) -> bytes:
    return tag + _size(len(payload)) + payload


@lru_cache(maxsize=8192)
def _time(text: str) -> bytes:
    """seconds and nanoseconds since 1970."""
    whole, _, rest = text.rstrip("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole + "+00:00").timestamp())
    nanos = int(rest.ljust(9, "0")[:9]) if rest else 0
    return b"\x08" + _varint(seconds) + b"\x10" + _varint(nanos)


@lru_cache(maxsize=8192)
def _quantity(text: Any) -> bytes:
    return _block(b"\x0a", _text(text))


def _int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + _block(b"\x1a", value.encode())
    return b"\x08\x00\x10" + _varint(int(value)) + b"\x1a\x00"


def _raw(value: Any) -> bytes:
    return _block(b"\x0a", orjson.dumps(value))


def _field_set(value: Any) -> bytes:
    """Owned fields with their keys in order: Go clients compare these bytes, and theirs made from JSON are sorted."""
    return _block(b"\x0a", orjson.dumps(value, option=orjson.OPT_SORT_KEYS))


_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def _duration(text: str) -> bytes:
    """Go's text of a duration as nanoseconds."""
    import re

    total = sum(float(n) * _UNITS[unit] for n, unit in re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text))
    return b"\x08" + _varint(-round(total) if text.startswith("-") else round(total))


def _strings(value: Any) -> bytes:
    return b"".join(_block(b"\x0a", _text(v)) for v in value)


def _schema_or_list(value: Any) -> bytes:
    encode = _compiled(_SCHEMA)
    if isinstance(value, list):
        return b"".join(_block(b"\x12", encode(v)) for v in value)
    return _block(b"\x0a", encode(value))


def _schema_or_bool(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"\x08\x01" if value else b"\x08\x00"
    return b"\x08\x01" + _block(b"\x12", _compiled(_SCHEMA)(value))


def _schema_or_strings(value: Any) -> bytes:
    if isinstance(value, list):
        return b"".join(_block(b"\x12", _text(v)) for v in value)
    return _block(b"\x0a", _compiled(_SCHEMA)(value))


_WRITTEN: dict[str, Payload] = {
    "meta.v1.Time": _time,
    "meta.v1.MicroTime": _time,
    "meta.v1.Duration": _duration,
    "meta.v1.FieldsV1": _field_set,
    "api.resource.Quantity": _quantity,
    "api.resource.QuantityValue": _quantity,
    "util.intstr.IntOrString": _int_or_string,
    "pkg.runtime.RawExtension": _raw,
    "apiextensions.v1.JSON": _raw,
    "apiextensions.v1.JSONSchemaPropsOrArray": _schema_or_list,
    "apiextensions.v1.JSONSchemaPropsOrBool": _schema_or_bool,
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _schema_or_strings,
}
assert set(_WRITTEN) == set(SPECIAL) | set(UNIONS)


def _payload(kind: str) -> Payload:
    """The encoder of a message's contents; messages that contain themselves are looked up when they are met."""
    if kind in _WRITTEN:
        return _WRITTEN[kind]
    if kind.endswith(LISTS):
        return _strings
    return lambda value: _compiled(kind)(value)


def _scalar(number: int, kind: str) -> Callable[[Any], bytes]:
    """A whole field with its tag."""
    if kind == "string":
        tag = _field(number, BYTES)
        return lambda value: _block(tag, _text(value))
    if kind == "bytes":
        tag = _field(number, BYTES)
        return lambda value: _block(tag, base64.b64decode(value))
    if kind == "double":
        tag = _field(number, FIXED64)
        return lambda value: tag + struct.pack("<d", value)
    if kind == "float":
        tag = _field(number, FIXED32)
        return lambda value: tag + struct.pack("<f", value)
    tag = _field(number, VARINT)
    return lambda value: tag + _varint(int(value))


def _whole(number: int, kind: str) -> Callable[[Any], bytes]:
    if "." not in kind:
        return _scalar(number, kind)
    tag, payload = _field(number, BYTES), _payload(kind)
    return lambda value: _block(tag, payload(value))


def _put(field: Field) -> Put:
    number, _, kind, shape = field
    if shape == "map":
        tag, entry = _field(number, BYTES), _whole(2, kind)

        def put_map(value: Any, out: list[bytes]) -> None:
            for key, held in value.items():
                out.append(_block(tag, _block(b"\x0a", key.encode()) + entry({} if held is None else held)))

        return put_map
    one = _whole(number, kind)
    if shape == "repeated":

        def put_all(value: Any, out: list[bytes]) -> None:
            out.extend([one({} if v is None and "." in kind else v) for v in value])

        return put_all
    return lambda value, out: out.append(one(value))


_made: dict[str, Payload] = {}


def _compiled(name: str) -> Payload:
    found = _made.get(name)
    if found is None:
        found = _made[name] = _compile(name)
    return found


def _compile(name: str) -> Payload:
    fields = _table().get(name, [])  # what has no published numbers is empty
    rows = {f[1]: _put(f) for f in fields if f[1]}
    inline = [(_field(f[0], BYTES), _payload(f[2])) for f in fields if not f[1]]

    def encode(obj: Json) -> bytes:
        out: list[bytes] = []
        for key, value in obj.items():
            if value is not None:
                put = rows.get(key)
                if put is not None:
                    put(value, out)
        for tag, payload in inline:
            if data := payload(obj):
                out.append(_block(tag, data))
        return b"".join(out)

    return encode


def has(api_version: str, kind: str) -> bool:
    """Whether the kind has a protobuf form."""
    group, _, version = api_version.rpartition("/")
    own = f"{group.partition('.')[0] or 'core'}.{version}.{kind}"
    return own in _table() or f"meta.v1.{kind}" in _table()


@lru_cache(maxsize=512)
def _envelope(api_version: str, kind: str) -> bytes:
    types = _block(b"\x0a", api_version.encode()) + _block(b"\x12", kind.encode())
    return MAGIC + _block(b"\x0a", types)


LIST_META = {"selfLink": "", "resourceVersion": "", "continue": ""}
"""What Go writes of a list's metadata when there is nothing to say."""


def wrap(api_version: str, kind: str, payload: bytes) -> bytes:
    """A message in the envelope in which it travels."""
    return _envelope(api_version, kind) + _block(b"\x12", payload) + _TAIL


def encode(obj: Json) -> bytes:
    """An object, a list or a Status, enveloped. Raises ApiError 400 for a kind without a protobuf form."""
    if obj.get("kind") == "Status" and obj.get("apiVersion") == "v1":
        obj = obj | {"metadata": LIST_META | (obj.get("metadata") or {})}
    version, kind = obj.get("apiVersion") or "v1", obj["kind"]
    return wrap(version, kind, _compiled(message_of(version, kind))(obj))


def list_items(api_version: str, kind: str, items: Iterable[Json]) -> bytes:
    """Some items of a list, as they stand between ``list_head`` and ``list_tail``. Raises ApiError 400 as ``encode``."""
    one = _compiled(message_of(api_version, kind))
    return b"".join([_block(b"\x12", one(item)) for item in items])


def list_head(api_version: str, kind: str, meta: Json, size: int) -> bytes:
    """The beginning of a list whose items take ``size`` bytes."""
    said = _block(b"\x0a", _compiled("meta.v1.ListMeta")(meta))
    return _envelope(api_version, f"{kind}List") + b"\x12" + _size(len(said) + size) + said


def list_tail() -> bytes:
    """The end of every list."""
    return _TAIL


def encode_event(kind: str, enveloped: bytes) -> bytes:
    """A watch event as one frame: its length in four bytes, then the event with the object's envelope inside."""
    event = _block(b"\x0a", kind.encode()) + _block(b"\x12", _block(b"\x0a", enveloped))
    return len(event).to_bytes(4, "big") + event
