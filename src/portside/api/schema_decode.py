"""Decoding as Go's JSON decoder and encoder do it: a compiled fast path for what fits, an exact slow path for the rest.

The fast path knows no field paths: at anything unusual (an unknown field, a wrong type) it gives up and
``schema_strict`` decodes again, slowly, with every path and text. Both leave the same object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api import schema_strict, schema_values
from portside.api.schema_tree import Decoder, Schema, zero

Json = dict[str, Any]
DROP = object()
_STAYING: dict[str, type] = {"string": str, "boolean": bool}
INT32 = 2147483647
INT64 = 9223372036854775807


class Unusual(Exception):
    """Something only the slow path can tell exactly."""


def decode(schema: Schema, obj: Json) -> list[str]:
    """See Schema.decode."""
    try:
        fast(schema)(obj)
    except (Unusual, ValueError):
        return schema_strict.decode(schema, obj)
    return []


def fast(schema: Schema) -> Decoder:
    """The compiled decoder of a type, made on first use. Recursive types reach themselves through the Schema."""
    if schema._fast is not None:
        return schema._fast
    if schema._loading:
        return lambda value: fast(schema)(value)
    schema._loading = True
    schema._fast = _COMPILERS[schema.form](schema)
    return schema._fast


def _string(schema: Schema) -> Decoder:
    def read(value: Any) -> Any:
        if value.__class__ is str:
            return value
        raise Unusual

    return read


def _boolean(schema: Schema) -> Decoder:
    def read(value: Any) -> Any:
        if value is True or value is False:
            return value
        raise Unusual

    return read


def _integer(schema: Schema) -> Decoder:
    most = INT32 if schema.format == "int32" else INT64

    def read(value: Any) -> Any:
        if value.__class__ is int and -most - 1 <= value <= most:
            return value
        raise Unusual

    return read


def _number(schema: Schema) -> Decoder:
    def read(value: Any) -> Any:
        if value.__class__ is int or value.__class__ is float:
            return value
        raise Unusual

    return read


def _byte(schema: Schema) -> Decoder:
    def read(value: Any) -> Any:
        if value.__class__ is str and schema_values.base64_problem(value) is None:
            return value.replace("\n", "").replace("\r", "") if "\n" in value or "\r" in value else value
        raise Unusual

    return read


def _time(schema: Schema) -> Decoder:
    micro = schema.form == "microtime"

    def read(value: Any) -> Any:
        if value.__class__ is str:
            return schema_values.time(value, micro)
        raise Unusual

    return read


def _quantity(schema: Schema) -> Decoder:
    canonical = schema_values.quantity

    def read(value: Any) -> Any:
        if value.__class__ is str:
            return canonical(value)
        if value.__class__ is int or value.__class__ is float:
            return canonical(str(value))
        raise Unusual

    return read


def _intstr(schema: Schema) -> Decoder:
    def read(value: Any) -> Any:
        if value.__class__ is str or (value.__class__ is int and -INT32 - 1 <= value <= INT32):
            return value
        raise Unusual

    return read


def _any(schema: Schema) -> Decoder:
    if schema.name.endswith(("FieldsV1", "RawExtension", "Patch")):

        def raw(value: Any) -> Any:
            if value.__class__ is dict:
                return value
            raise Unusual

        return raw
    return lambda value: value


def _array(schema: Schema) -> Decoder:
    item = schema.items
    if item is None:
        return lambda value: value
    read_item = fast(item)
    plain = item.form == "string"

    def read(value: Any) -> Any:
        if value.__class__ is not list:
            raise Unusual
        if plain:
            for at, entry in enumerate(value):
                if entry.__class__ is not str:
                    if entry is not None:
                        raise Unusual
                    value[at] = ""
            return value
        for at, entry in enumerate(value):
            new = zero(item) if entry is None else read_item(entry)
            if new is not entry:
                value[at] = new
        return value

    return read


def _map(schema: Schema) -> Decoder:
    values = schema.values
    assert values is not None
    read_value = fast(values)
    plain = values.form == "string"

    def read(value: Any) -> Any:
        if value.__class__ is not dict:
            raise Unusual
        if plain:
            for key, entry in value.items():
                if entry.__class__ is not str:
                    if entry is not None:
                        raise Unusual
                    value[key] = ""
            return value
        for key, entry in value.items():
            new = zero(values) if entry is None else read_value(entry)
            if new is not entry:
                value[key] = new
        return value

    return read


def _field(schema: Schema, name: str) -> Decoder:
    """The decoder of one field of a struct: what null and empty values become is decided here."""
    child, flags = schema.fields[name], schema.flags[name]
    read = fast(child)
    written, _ = schema.missing(name)
    pointer = "p" in flags
    null_to: Callable[[], Any] = (lambda: None if pointer else zero(child)) if written else (lambda: DROP)
    container = child.form in ("array", "map")
    if "k" in flags:
        return lambda value: null_to() if value is None else read(value)
    if "e" in flags and not pointer and (container or child.form not in ("struct", "quantity", "intstr", "any")):

        def omit_empty(value: Any) -> Any:
            if value is None:
                return null_to()
            return read(value) or DROP

        return omit_empty
    if container and not schema.keeps_empty_lists:

        def null_when_empty(value: Any) -> Any:
            if value is None:
                return null_to()
            return read(value) or null_to()

        return null_when_empty
    return lambda value: null_to() if value is None else read(value)


def _stays(schema: Schema, name: str) -> bool:
    """Whether every text or truth of a field stays as it is, also the empty one."""
    flags = schema.flags[name]
    return schema.fields[name].form in _STAYING and ("k" in flags or "e" not in flags or "p" in flags)


def _struct(schema: Schema) -> Decoder:
    table: dict[str, Any] = {}
    staying = {name: _STAYING[child.form] for name, child in schema.fields.items() if _stays(schema, name)}
    always: list[tuple[str, Schema | None]] = []
    for name, child in schema.fields.items():
        flags = schema.flags[name]
        table[name] = str if child.form == "string" and flags == "e" else _field(schema, name)
        if schema.missing(name)[0]:
            always.append((name, None if "p" in flags else child))
    get, stays = table.get, staying.get
    plain = str

    def read(obj: Any) -> Any:
        if obj.__class__ is not dict:
            raise Unusual
        dropped: list[str] | None = None
        for key, value in obj.items():
            if value.__class__ is stays(key):
                continue
            handler = get(key)
            if handler is plain:
                if value.__class__ is plain and value:
                    continue
                if value is not None and value != "":
                    raise Unusual
                new: Any = DROP
            elif handler is None:
                raise Unusual
            else:
                new = handler(value)
                if new is value:
                    continue
            if new is DROP:
                dropped = [key] if dropped is None else [*dropped, key]
            else:
                obj[key] = new
        if dropped:
            for key in dropped:
                del obj[key]
        for key, child in always:
            if key not in obj:
                obj[key] = None if child is None else zero(child)
        return obj

    return read


def _custom(schema: Schema) -> Decoder:
    """Custom resources are pruned by schema_custom, which needs paths: no fast path here."""

    def read(value: Any) -> Any:
        raise Unusual

    return read


_COMPILERS: dict[str, Callable[[Schema], Decoder]] = {
    "string": _string,
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "byte": _byte,
    "time": _time,
    "microtime": _time,
    "quantity": _quantity,
    "intstr": _intstr,
    "any": _any,
    "array": _array,
    "map": _map,
    "struct": _struct,
    "crd": _custom,
}
