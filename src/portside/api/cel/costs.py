"""What calls cost while an expression runs: one, unless a table says that the sizes of the arguments count."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Cost = Callable[[list[Any], Any], int]
TRAVERSAL = 0.1  # of a unit for each code point or byte
PATTERN = 0.25  # of a unit for each code point of a regular expression
AUTHORIZER_CHECK = 350_000
LIST_CALL = 11  # a call that makes a new list


def size(value: Any) -> int:
    """The size of what has one, else 1."""
    return len(value) if value.__class__ in (str, bytes, list, dict) else getattr(value, "SIZE", 1)


def nothing(values: list[Any], result: Any) -> int:
    return 0


def compared(a: Any, b: Any) -> int:
    """The cost of comparing two values: a tenth of the smaller size, rounded up."""
    ca = a.__class__
    if ca is int or ca is bool or ca is None:
        return 1
    return math.ceil(min(size(a), size(b)) * TRAVERSAL)


def _first(factor: float) -> Cost:
    return lambda values, result: math.ceil(size(values[0]) * factor)


def _traversal(value: Any) -> int:
    """The cost of looking at each member of a list once; strings in it count by a tenth, rounded down."""
    if value.__class__ in (str, bytes):
        return int(len(value) * TRAVERSAL)
    if value.__class__ is list:
        return sum(map(_traversal, value))
    return len(value) if value.__class__ is dict else 1


def _pattern(values: list[Any], result: Any) -> int:
    return math.ceil((1.0 + size(values[0])) * TRAVERSAL) * math.ceil(size(values[1]) * PATTERN)


def _contains(values: list[Any], result: Any) -> int:
    return math.ceil(size(values[0]) * TRAVERSAL) * math.ceil(size(values[1]) * TRAVERSAL)


def _both(values: list[Any], result: Any) -> int:
    return math.ceil((size(values[0]) + size(values[1])) * TRAVERSAL)


def _smaller(values: list[Any], result: Any) -> int:
    return compared(values[0], values[1])


def _members(values: list[Any], result: Any) -> int:
    return size(values[1]) if values[1].__class__ is list else 1


def _added(values: list[Any], result: Any) -> int:
    return _both(values, result) if values[0].__class__ in (str, bytes) else 1


def _converted(values: list[Any], result: Any) -> int:
    if (
        values[0].__class__ in (str, bytes)
        and result.__class__ in (str, bytes)
        and result.__class__ is not values[0].__class__
    ):
        return math.ceil(size(values[0]) * TRAVERSAL)
    return 1


def _ordered(values: list[Any], result: Any) -> int:
    return _smaller(values, result) if values[0].__class__ in (str, bytes) else 1


def _product(values: list[Any], result: Any) -> int:
    return size(values[0]) * size(values[1]) + 1


def _contained_address(values: list[Any], result: Any) -> int:
    base = math.ceil(size(values[0]) * 2 * TRAVERSAL)
    return base + (math.ceil(len(values[1]) * TRAVERSAL) if values[1].__class__ is str else 0)


def _contained_network(values: list[Any], result: Any) -> int:
    return _contained_address(values, result) + math.ceil(size(values[0]) * TRAVERSAL) + 1


def _sorted(values: list[Any], result: Any) -> int:
    """Sorting compares every pair."""
    compared_ = values[-1] if values[-1].__class__ is list else values[0]
    each = 2 + TRAVERSAL if compared_ and compared_[0].__class__ in (str, bytes) else 2
    return LIST_CALL + int(size(values[0]) ** 2 * each)


def _validated(values: list[Any], result: Any) -> int:
    """Named formats cost what matching their pattern would."""
    return math.ceil((1 + size(values[1])) * TRAVERSAL) * math.ceil(size(values[0]) * PATTERN)


_BY_FUNCTION: dict[str, Cost] = {
    "check": lambda values, result: AUTHORIZER_CHECK,
    **dict.fromkeys(
        ("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), lambda values, result: _traversal(values[0])
    ),
    **dict.fromkeys(("url", "lowerAscii", "upperAscii", "substring", "trim", "jsonpatch.escapeKey"), _first(TRAVERSAL)),
    **dict.fromkeys(("replace", "split", "ip.isCanonical"), _first(2 * TRAVERSAL)),
    "join": lambda values, result: math.ceil(size(result) * 2 * TRAVERSAL) if result is not None else 1,
    **dict.fromkeys(("find", "findAll", "matches"), _pattern),
    **dict.fromkeys(("cidr", "isIP", "isCIDR"), _first(TRAVERSAL)),
    "ip": lambda values, result: math.ceil(len(values[0]) * TRAVERSAL) if values[0].__class__ is str else 1,
    "containsIP": _contained_address,
    "containsCIDR": _contained_network,
    **dict.fromkeys(("quantity", "isQuantity", "semver", "isSemver"), _first(TRAVERSAL)),
    "format": _first(TRAVERSAL),
    "strings.quote": _first(TRAVERSAL),
    **dict.fromkeys(("startsWith", "endsWith"), lambda values, result: math.ceil(size(values[1]) * TRAVERSAL)),
    "contains": _contains,
    "@in": _members,
    "_+_": _added,
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _ordered),
    **dict.fromkeys(("string", "bytes"), _converted),
    **dict.fromkeys(("sets.contains", "sets.intersects"), _product),
    "sets.equivalent": lambda values, result: 2 * size(values[0]) * size(values[1]) + 1,
    **dict.fromkeys(("slice", "lists.range"), lambda values, result: LIST_CALL + size(result)),
    "reverse": lambda values, result: LIST_CALL + size(values[0]),
    "flatten": lambda values, result: LIST_CALL + size(values[0]) * (max(values[1], 0) if len(values) > 1 else 1),
    **dict.fromkeys(("distinct", "sort", "@sortByAssociatedKeys"), _sorted),
    "validate": _validated,
}
_UNIT = frozenset(("in_map", "add_int64", "add_uint64", "add_double", "add_list", "string_to_string", "bytes_to_bytes"))


def of_call(function: str, overload: str) -> Cost | None:
    """The cost of a call by its arguments and result; None when it is one."""
    if overload in _UNIT or (overload.startswith(("less", "greater")) and not overload.endswith(("string", "bytes"))):
        return None
    return _BY_FUNCTION.get(function)
