"""Values of custom resources against their schema: types, limits, formats, junctors, as upstream's validator answers.

A schema is compiled once into closures. Order and choice of errors are part of the answer: of alternatives that all
fail, the one is told that agreed most (``Found.matches``). A value equal to its old self is never wrong (ratcheting).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portside.api.custom_formats import FORMATS
from portside.api.custom_numbers import multiple_of, number_text, out_of_range
from portside.api.custom_old import GONE, Old
from portside.api.field import FieldError, invalid_value, not_supported, required, too_long, too_many, type_invalid
from portside.api.goregexp import go_regexp

Json = dict[str, Any]
ROOTLESS = "<nil>"
"""Where an error stands that belongs to no field, as Go prints it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error before its place in the object is known: ``make(field)`` writes it; ``text`` tells equal ones apart."""

    name: str
    text: str
    make: Callable[[str], FieldError]


class Found:
    """What one check found: problems in order, each text once, and how many checks were passed on the way."""

    __slots__ = ("matches", "problems")

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.matches = 0

    def add(self, problem: Problem) -> None:
        if all(p.text != problem.text for p in self.problems):
            self.problems.append(problem)

    def merge(self, other: Found) -> None:
        for problem in other.problems:
            self.add(problem)
        self.matches += other.matches


Check = Callable[[Any, str, Old | None], Found]


def word(value: Any) -> str:
    """The JSON type of a value, as schemas name it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def plain(text: str) -> Problem:
    """A problem without a field."""
    return Problem("", text, lambda field: invalid_value(field or ROOTLESS, "", text))


def wrong(name: str, value: Any, text: str) -> Problem:
    said = f"{name} in body {text}"
    return Problem(name, said, lambda field: invalid_value(field or ROOTLESS, value, said))


def wrong_type(name: str, wanted: str, value: Any) -> Problem:
    shown = value if isinstance(value, str) else str(value)
    said = f'{name} in body must be of type {wanted}: "{shown}"'
    return Problem(name, said, lambda field: type_invalid(field or ROOTLESS, value, said))


class Validator:
    """A compiled schema."""

    __slots__ = ("_check",)

    def __init__(self, schema: Json) -> None:
        self._check = compile_node(schema)

    def errors(self, value: Any, old: Old | None = None, path: str = "") -> list[FieldError]:
        """What is wrong with ``value``; ``path`` is put in front of the fields, not of the texts."""
        told: list[FieldError] = []
        for problem in self._check(value, "", old).problems:
            name = problem.name.removeprefix(".")
            told.append(problem.make(f"{path}.{name}" if path and name else path or name))
        return told


def types_of(schema: Json) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    return (schema["type"],) if schema.get("type") else ()


def compile_node(schema: Json) -> Check:
    """The check of one schema, all its parts in upstream's order."""
    of_type = _type(schema)
    junctors = _junctors(schema)
    text, number = _text(schema), _number(schema)
    items, fields, enum = _items(schema), _fields(schema), _enum(schema)
    format_ = FORMATS.get((schema.get("format") or "").lower().replace("_", "-"))

    def check(value: Any, name: str, old: Old | None) -> Found:
        found = Found()
        if of_type is not None:
            found.merge(of_type(value, name))
        if value is None:
            if enum is not None:
                found.merge(enum(value, name))
            return found if not found.problems or not _same(value, old) else Found()
        found.merge(junctors(value, name, old))
        found.matches += 2
        if isinstance(value, str):
            if text is not None:
                found.merge(text(value, name))
            if format_ is not None:
                found.matches += 2
                if not format_(value):
                    found.add(wrong_type(name, schema["format"], value))
            found.matches += 1
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            if number is not None:
                found.merge(number(value, name))
            found.matches += 2
        elif isinstance(value, list):
            if items is not None:
                found.merge(items(value, name, old))
            found.matches += 2
        if enum is not None:
            found.merge(enum(value, name))
        if isinstance(value, dict):
            found.merge(fields(value, name, old))
            found.matches += 1
        found.matches += 2
        if found.problems and _same(value, old):
            ratcheted = Found()
            ratcheted.matches = found.matches
            return ratcheted
        return found

    return check


def _same(value: Any, old: Old | None) -> bool:
    return old is not None and old.value is not GONE and old.equals(value)


def _type(schema: Json) -> Callable[[Any, str], Found] | None:
    types, format_ = types_of(schema), schema.get("format") or ""
    if not types and not format_:
        return None
    nullable = bool(schema.get("nullable"))
    numeric = "integer" in types or "number" in types
    listed = ",".join(types)

    def check(value: Any, name: str) -> Found:
        found = Found()
        found.matches = 2
        kind = word(value)
        if value is None:
            if types and not nullable:
                found.add(wrong_type(name, listed, "null"))
            return found
        fits = kind in types or (kind == "number" and "integer" in types and float(value).is_integer())
        fits = fits or (kind == "integer" and "number" in types)
        if format_ and kind in ("string", "array") and not numeric:
            return found
        if format_ and kind not in ("string", "array") and not fits:
            native = {"integer": "int64", "number": "float64"}.get(kind, "")
            if native != format_:
                found.add(wrong_type(name, format_, native))
        elif not fits:
            found.add(wrong_type(name, listed, kind))
        return found

    return check


def _text(schema: Json) -> Callable[[str, str], Found] | None:
    most, least, pattern = schema.get("maxLength"), schema.get("minLength"), schema.get("pattern") or ""
    if most is None and least is None and not pattern:
        return None
    compiled = go_regexp(pattern) if pattern else None

    def check(value: str, name: str) -> Found:
        found = Found()
        if most is not None and len(value) > most:
            said = f"{name} in body should be at most {most} chars long"
            found.add(Problem(name, said, lambda field: too_long(field or ROOTLESS, most)))
        elif least is not None and len(value) < least:
            found.add(wrong(name, value, f"should be at least {least} chars long"))
        elif compiled is not None and not compiled.search(value):
            found.add(wrong(name, value, f"should match '{pattern}'"))
        return found

    return check


def _number(schema: Json) -> Callable[[Any, str], Found] | None:
    types, format_ = types_of(schema), schema.get("format") or ""
    of = types[0] if len(types) == 1 else ""
    most, least, factor = schema.get("maximum"), schema.get("minimum"), schema.get("multipleOf")
    if (most, least, factor) == (None, None, None) and of != "integer" and format_ not in ("float", "float32"):
        return None
    below, above = bool(schema.get("exclusiveMaximum")), bool(schema.get("exclusiveMinimum"))

    def check(value: Any, name: str) -> Found:
        found = Found()
        if problem := out_of_range(value, of, format_, "Checked", name):
            found.add(plain(problem))
        if factor is not None and not multiple_of(value, factor):
            found.add(wrong(name, value, f"should be a multiple of {number_text(factor)}"))
        if least is not None and (value < least or (above and value == least)):
            told = "greater than" if above else "greater than or equal to"
            found.add(wrong(name, value, f"should be {told} {number_text(least)}"))
        if most is not None and (value > most or (below and value == most)):
            told = "less than" if below else "less than or equal to"
            found.add(wrong(name, value, f"should be {told} {number_text(most)}"))
        return found

    return check


def _items(schema: Json) -> Check | None:
    inner = schema.get("items")
    each = compile_node(inner) if isinstance(inner, dict) else None
    least, most, unique = schema.get("minItems"), schema.get("maxItems"), bool(schema.get("uniqueItems"))
    if each is None and least is None and most is None and not unique:
        return None

    def check(value: Any, name: str, old: Old | None) -> Found:
        found = Found()
        if each is not None:
            for at, entry in enumerate(value):
                found.merge(each(entry, f"{name}[{at}]", old.item(entry) if old is not None else None))
        size = len(value)
        if least is not None and size < least:
            found.add(wrong(name, size, f"should have at least {least} items"))
        if most is not None and size > most:
            said = f"{name} in body should have at most {most} items"
            found.add(Problem(name, said, lambda field: too_many(field or ROOTLESS, size, most)))
        if unique and any(entry in value[:at] for at, entry in enumerate(value)):
            found.add(wrong(name, "", "shouldn't contain duplicates"))
        return found

    return check


def _enum(schema: Json) -> Callable[[Any, str], Found] | None:
    allowed = schema.get("enum")
    if not allowed:
        return None

    def equal(value: Any, one: Any) -> bool:
        if isinstance(value, bool) or isinstance(one, bool):
            return value is one
        if isinstance(value, float) and isinstance(one, int):
            return math.trunc(value) == one
        return bool(value == one) and value is not None

    shown = [
        a if isinstance(a, str) else number_text(a) if word(a) in ("integer", "number") else _json(a) for a in allowed
    ]

    def check(value: Any, name: str) -> Found:
        found = Found()
        if not any(equal(value, one) for one in allowed):
            said = f"{name} in body should be one of {shown}"
            found.add(Problem(name, said, lambda field: not_supported(field or ROOTLESS, value, shown)))
        return found

    return check


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


def _fields(schema: Json) -> Check:
    named = {key: compile_node(child) for key, child in sorted((schema.get("properties") or {}).items())}
    defaulted = {k for k, child in (schema.get("properties") or {}).items() if child.get("default") is not None}
    more = schema.get("additionalProperties")
    rest = compile_node(more) if isinstance(more, dict) else None
    least, most = schema.get("minProperties"), schema.get("maxProperties")
    needed = schema.get("required") or ()

    def check(value: Any, name: str, old: Old | None) -> Found:
        found = Found()
        size = len(value)
        if least is not None and size < least:
            found.add(wrong(name, size, f"should have at least {least} properties"))
            return found
        if most is not None and size > most:
            said = f"{name} in body should have at most {most} properties"
            found.add(Problem(name, said, lambda field: too_many(field or ROOTLESS, size, most)))
            return found
        if more is False:
            for key in sorted(value.keys() - named.keys()):
                found.add(wrong(f"{name}.{key}", "", "is a forbidden property"))
        elif rest is not None:
            for key in sorted(value.keys() - named.keys()):
                found.merge(rest(value[key], f"{name}.{key}", old.field(key) if old is not None else None))
        for key, inner in named.items():
            if key in value:
                here = f"{name}.{key}" if name else key
                found.merge(inner(value[key], here, old.field(key) if old is not None else None))
        for key in needed:
            if key not in value and key not in defaulted:
                here = f"{name}.{key}"
                found.add(Problem(here, f"{here} in body is required", lambda field: required(field or ROOTLESS)))
        return found

    return check


def _junctors(schema: Json) -> Check:
    any_of, one_of, all_of = ([compile_node(s) for s in schema.get(key) or ()] for key in ("anyOf", "oneOf", "allOf"))
    denied = compile_node(schema["not"]) if isinstance(schema.get("not"), dict) else None

    def check(value: Any, name: str, old: Old | None) -> Found:
        found = Found()
        if any_of:
            _any(any_of, value, name, old, found)
        if one_of:
            _one(one_of, value, name, old, found)
        if all_of:
            results = [inner(value, name, old) for inner in all_of]
            for result in results:
                found.merge(result)
            valid = sum(not r.problems for r in results)
            if valid < len(results):
                told = ". None validated" if not valid else ""
                found.add(plain(f'"{name}" must validate all the schemas (allOf){told}'))
        if denied is not None and not denied(value, name, old).problems:
            found.add(plain(f'"{name}" must not validate the schema (not)'))
        return found

    return check


def _any(choices: list[Check], value: Any, name: str, old: Old | None, found: Found) -> None:
    best: Found | None = None
    for inner in choices:
        result = inner(value, name, old)
        if not result.problems:
            found.merge(result)
            return
        if best is None or result.matches > best.matches:
            best = result
    found.add(plain(f'"{name}" must validate at least one schema (anyOf)'))
    if best is not None:
        found.merge(best)


def _one(choices: list[Check], value: Any, name: str, old: Old | None, found: Found) -> None:
    best: Found | None = None
    first: Found | None = None
    valid = 0
    for inner in choices:
        result = inner(value, name, old)
        if not result.problems:
            valid += 1
            best = None
            first = first or result
        elif not valid and (best is None or result.matches > best.matches):
            best = result
    if valid == 1 and first is not None:
        found.merge(first)
        return
    told = f"Found {valid} valid alternatives" if valid else "Found none valid"
    found.add(plain(f'"{name}" must validate one and only one schema (oneOf). {told}'))
    if best is not None:
        found.merge(best)
