"""The OpenAPI v2 document in the protobuf form that Go clients ask for (gnostic's ``openapi.v2.Document``).

Field numbers are facts of that published message. Only definitions are carried: paths are read from v3.
"""

from __future__ import annotations

from typing import Any

import orjson

Json = dict[str, Any]
MEDIA = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
SWAGGER, INFO, PATHS, DEFINITIONS = 1, 2, 8, 9  # Document
REF, FORMAT, DESCRIPTION, DEFAULT, REQUIRED = 1, 2, 4, 5, 19  # Schema
ADDITIONAL, TYPE, ITEMS, PROPERTIES, EXTENSION = 21, 22, 23, 25, 31


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _any(value: Any) -> bytes:
    return _field(2, orjson.dumps(value))  # Any.yaml: JSON is YAML


def _named(number: int, name: str, value: bytes) -> bytes:
    return _field(number, _text(1, name) + _field(2, value))


def _schema(schema: Json) -> bytes:
    parts: list[bytes] = []
    if ref := schema.get("$ref"):
        parts.append(_text(REF, ref))
    for key, number in (("format", FORMAT), ("description", DESCRIPTION)):
        if schema.get(key):
            parts.append(_text(number, schema[key]))
    if "default" in schema:
        parts.append(_field(DEFAULT, _any(schema["default"])))
    parts += [_text(REQUIRED, name) for name in schema.get("required", ())]
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        parts.append(_field(ADDITIONAL, _field(1, _schema(additional))))
    elif additional:
        parts.append(_field(ADDITIONAL, _varint(2 << 3) + b"\x01"))
    if kind := schema.get("type"):
        parts.append(_field(TYPE, b"".join(_text(1, k) for k in ([kind] if isinstance(kind, str) else kind))))
    if isinstance(schema.get("items"), dict):
        parts.append(_field(ITEMS, _field(1, _schema(schema["items"]))))
    if properties := schema.get("properties"):
        parts.append(_field(PROPERTIES, b"".join(_named(1, n, _schema(s)) for n, s in properties.items())))
    parts += [_named(EXTENSION, k, _any(v)) for k, v in schema.items() if k.startswith("x-")]
    return b"".join(parts)


def encode(document: bytes) -> bytes:
    """The v2 document, given as JSON, as protobuf."""
    body = orjson.loads(document)
    info = _text(1, body["info"]["title"]) + _text(2, body["info"]["version"])
    definitions = b"".join(_named(1, name, _schema(schema)) for name, schema in body["definitions"].items())
    return _text(SWAGGER, body["swagger"]) + _field(INFO, info) + _field(PATHS, b"") + _field(DEFINITIONS, definitions)


def more_definitions(document: bytes) -> bytes:
    """Definitions given as a JSON object, to be put behind an encoded document."""
    found = orjson.loads(document)
    return _field(DEFINITIONS, b"".join(_named(1, name, _schema(schema)) for name, schema in found.items()))
