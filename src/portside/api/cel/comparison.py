"""Equality by declared type: lists that are sets or maps by key are compared without order, converted values by what they mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.cel.types import Type
from portside.api.cel.values import Typed, equal

Same = Callable[[Any, Any], bool]
_NATIVE = frozenset(("string", "int", "uint", "double", "bytes", "bool", "timestamp", "duration"))


def equality(first: Type, second: Type) -> Same:
    """How values of two types that may be compared are compared."""
    if first.kind == second.kind and first.kind in _NATIVE and first.kind != "bool":
        return _native
    if _special(first, ()):
        return _by_type(first)
    if not _special(second, ()):
        return equal
    return _ordered(_by_type(second.params[0])) if second.kind == "list" else _by_type(second)


def _native(a: Any, b: Any) -> bool:
    return bool(a == b)


def _special(type_: Type, above: tuple[Type, ...]) -> bool:
    """Whether values of the type may be equal though they are written differently."""
    if type_ in above:
        return False
    if type_.list_type or (type_.convert is not None and type_.kind not in ("list", "map")):
        return True
    inner = [*type_.params, *(f.type for f in type_.fields.values())]
    return any(_special(child, (*above, type_)) for child in inner)


def _converted(type_: Type, value: Any) -> Any:
    return type_.convert(value) if type_.convert is not None and value is not None else value


def _by_type(type_: Type) -> Same:
    if type_.kind == "struct":
        return _structs(type_)
    if type_.kind == "list":
        return _lists(type_)
    if type_.kind == "map":
        same = _by_type(type_.params[1])
        return lambda a, b: a is not None and b is not None and _maps(a, b, same)
    return lambda a, b: equal(_converted(type_, a), _converted(type_, b))


def _maps(a: Any, b: Any, same: Same) -> bool:
    return len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())


def _structs(type_: Type) -> Same:
    made: dict[str, Same] = {}

    def same(a: Any, b: Any) -> bool:
        a, b = (v.data if v.__class__ is Typed else v for v in (a, b))
        if a.__class__ is not dict or b.__class__ is not dict:
            return a is b
        if not made:
            made.update({f.source: _by_type(f.type) for f in type_.fields.values()})
        return len(a) == len(b) and all(k in b and made.get(k, equal)(v, b[k]) for k, v in a.items())

    return same


def _ordered(item: Same) -> Same:
    return lambda a, b: len(a) == len(b) and all(map(item, a, b))


def _lists(type_: Type) -> Same:
    item = _by_type(type_.params[0])

    def as_set(a: Any, b: Any) -> bool:
        return len(a) == len(b) and all(any(item(x, y) for y in b) for x in a)

    if type_.list_type == "set":
        return as_set
    if type_.list_type == "map":
        keys = type_.keys

        def keyed(a: Any, b: Any) -> bool:
            if len(a) != len(b):
                return False
            found = {tuple(x.get(k) for k in keys): x for x in b}
            return all((other := found.get(tuple(x.get(k) for k in keys))) is not None and item(x, other) for x in a)

        return keyed
    return _ordered(item)


def appended(type_: Type) -> Callable[[Any, Any], list[Any]]:
    """``a + b`` of a list that is a set or a map by key: what is there already is not added again, or is replaced."""
    item = _by_type(type_.params[0])
    if type_.list_type == "set":

        def union(a: list[Any], b: list[Any]) -> list[Any]:
            made = list(a)
            for value in b:
                if not any(item(value, have) for have in made):
                    made.append(value)
            return made

        return union
    keys = type_.keys

    def merge(a: list[Any], b: list[Any]) -> list[Any]:
        made = list(a)
        at = {tuple(v.get(k) for k in keys): i for i, v in enumerate(made)}
        for value in b:
            key = tuple(value.get(k) for k in keys)
            if key in at:
                made[at[key]] = value
            else:
                at[key] = len(made)
                made.append(value)
        return made

    return merge
