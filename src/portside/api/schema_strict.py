"""The exact decoder: every path, every text of Go's JSON decoder, in the order of the document. Slow and obvious.

Source of the texts: encoding/json and its strict variant as the API server uses it. The first wrong type is remembered and
told at the end; a value with a reader of its own (time, quantity) that fails is told at once.
"""

from __future__ import annotations

from typing import Any

from portside.api import schema_values
from portside.api.schema_tree import Schema, zero
from portside.api.status import bad_request

Json = dict[str, Any]
STRICT_LIMIT = 100  # upstream stops collecting problems there
DROP = object()
LIMITS = {"int32": 2**31 - 1, "int64": 2**63 - 1}


def go_number(value: float) -> str:
    """A number as it stood in the body, as near as its value tells."""
    return repr(value) if isinstance(value, int) or not value.is_integer() or abs(value) > 1e15 else f"{value:.1f}"


def go_word(value: Any) -> str:
    """What Go calls a JSON value in a refusal."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "number"


class _Walk:
    def __init__(self) -> None:
        self.problems: dict[str, None] = {}
        self.error: str | None = None

    def unknown(self, path: str) -> None:
        if len(self.problems) < STRICT_LIMIT:
            self.problems[f'unknown field "{path}"'] = None

    def wrong(self, word: str, go_type: str, struct: str, stack: str) -> None:
        if self.error is None:
            place = f"Go struct field {struct}.{stack}" if stack else "Go value"
            self.error = f"json: cannot unmarshal {word} into {place} of type {go_type}"

    def value(self, schema: Schema, value: Any, at: tuple[str, str, str], go_type: str) -> Any:
        """``at``: strict path, Go struct, Go field stack. Returns the normalised value, or DROP after a wrong type."""
        path, struct, stack = at
        form = schema.form
        if form == "struct" and isinstance(value, dict):
            return self.struct(schema, value, path, stack)
        if form == "map" and isinstance(value, dict):
            return self.map(schema, value, at, go_type)
        if form == "array" and isinstance(value, list):
            return self.array(schema, value, at, go_type)
        if form == "any":
            return value
        if form in ("time", "microtime", "quantity", "intstr"):
            return self.special(schema, value)
        new, word = _scalar(form, schema.format, value)
        if word:
            self.wrong(word, go_type or schema.go_type, struct, stack)
            return DROP
        return new

    def special(self, schema: Schema, value: Any) -> Any:
        """Values with a reader of their own: their refusal ends the decoding."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if schema.form == "quantity" and (number or isinstance(value, str)):
            return _at_once(schema_values.quantity, value if isinstance(value, str) else str(value))
        if schema.form == "quantity":
            return _at_once(schema_values.quantity, "-" if isinstance(value, bool) else "{")
        if schema.form == "intstr":
            if isinstance(value, str):
                return value
            _, word = _scalar("integer", "int32", value)
            if word:
                raise bad_request(f"json: cannot unmarshal {word} into Go value of type int32")
            return value
        if not isinstance(value, str):
            raise bad_request(f"json: cannot unmarshal {go_word(value)} into Go value of type string")
        return _at_once(lambda text: schema_values.time(text, schema.form == "microtime"), value)

    def struct(self, schema: Schema, obj: Json, path: str, stack: str) -> Json:
        fields = schema.fields
        name = schema.name.rsplit(".", 1)[-1]
        for key in list(obj):
            here = f"{path}.{key}" if path else key
            child = fields.get(key)
            if child is None:
                self.unknown(here)
                del obj[key]
                continue
            value = obj[key]
            if value is not None:
                inner = (here, name, f"{stack}.{key}" if stack else key)
                value = self.value(child, value, inner, schema.go_types.get(key, ""))
            value = settle(schema, key, value)
            if value is DROP:
                del obj[key]
            else:
                obj[key] = value
        for key in fields:
            if key not in obj:
                written, empty = schema.missing(key)
                if written:
                    obj[key] = empty
        return obj

    def map(self, schema: Schema, obj: Json, at: tuple[str, str, str], go_type: str) -> Json:
        values = schema.values
        assert values is not None
        inner_type = go_type.partition("]")[2]
        for key in list(obj):
            value = obj[key]
            here = (f"{at[0]}.{key}" if at[0] else key, at[1], at[2])
            value = zero(values) if value is None else self.value(values, value, here, inner_type)
            obj[key] = zero(values) if value is DROP else value
        return obj

    def array(self, schema: Schema, items: list[Any], at: tuple[str, str, str], go_type: str) -> list[Any]:
        item = schema.items
        if item is None:
            return items
        inner_type = go_type.removeprefix("[]")
        for index, value in enumerate(items):
            here = (f"{at[0]}[{index}]", at[1], at[2])
            value = zero(item) if value is None else self.value(item, value, here, inner_type)
            items[index] = zero(item) if value is DROP else value
        return items


def settle(schema: Schema, field: str, value: Any) -> Any:
    """What Go writes back for a field that was read as ``value`` (None: null): the value, null, a zero, or DROP."""
    flags, child = schema.flags[field], schema.fields[field]
    written, empty = schema.missing(field)
    if value is None or value is DROP:
        return empty if written else DROP
    if "k" in flags:
        return value
    container = child.form in ("array", "map")
    if "p" not in flags and "e" in flags and (container or child.form not in ("struct", "quantity", "intstr", "any")):
        return value or (empty if written and value is None else DROP)
    if container and not value and not schema.keeps_empty_lists:
        return empty if written else DROP
    return value


def _at_once(read: Any, text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise bad_request(str(error)) from None


def _scalar(form: str, fmt: str, value: Any) -> tuple[Any, str]:
    """The value, or the word for what it is instead."""
    if form == "string" and isinstance(value, str):
        return value, ""
    if form == "boolean" and isinstance(value, bool):
        return value, ""
    if form == "byte" and isinstance(value, str):
        problem = schema_values.base64_problem(value)
        if problem:
            raise bad_request(problem)
        return value.replace("\n", "").replace("\r", ""), ""
    if form in ("integer", "number") and isinstance(value, (int, float)) and not isinstance(value, bool):
        if form == "number":
            return value, ""
        most = LIMITS.get(fmt, LIMITS["int64"])
        if isinstance(value, int) and -most - 1 <= value <= most:
            return value, ""
        return None, f"number {go_number(value)}"
    return None, go_word(value)


def decode(schema: Schema, obj: Any) -> list[str]:
    """Decode in place; the strict problems in order. Raises ApiError 400 with Go's text."""
    if schema.form == "crd":
        from portside.api.schema_custom import prune

        return prune(schema, obj)
    walk = _Walk()
    if not isinstance(obj, dict):
        raise bad_request(f"json: cannot unmarshal {go_word(obj)} into Go value of type {schema.go_name}")
    walk.struct(schema, obj, "", "")
    if walk.error is not None:
        raise bad_request(walk.error)
    return list(walk.problems)
