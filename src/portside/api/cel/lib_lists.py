"""Functions on lists, and lists as sets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cmp_to_key
from typing import Any

from portside.api.cel import members, stdlib
from portside.api.cel.values import MAX_MEMBERS, CelRuntimeError, Duration, Optional, Uint, bounded, equal

_ORDERED = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_LONG = {"duration": "google.protobuf.Duration", "timestamp": "google.protobuf.Timestamp"}
_SUMMED = ("int", "uint", "double", "duration")
DECLARATIONS = (
    """
list_a_index_of_int: list(A) :: indexOf(A) -> int
list_a_last_index_of_int: list(A) :: lastIndexOf(A) -> int
list_distinct: list(T) :: distinct() -> list(T)
list_first: list(V) :: first() -> optional(V)
list_last: list(V) :: last() -> optional(V)
list_flatten: list(list(T)) :: flatten() -> list(T)
list_flatten_int: list(dyn) :: flatten(int) -> list(dyn)
list_reverse: list(T) :: reverse() -> list(T)
list_slice: list(T) :: slice(int, int) -> list(T)
lists_range: lists.range(int) -> list(int)
list_sets_contains_list: sets.contains(list(T), list(T)) -> bool
list_sets_equivalent_list: sets.equivalent(list(T), list(T)) -> bool
list_sets_intersects_list: sets.intersects(list(T), list(T)) -> bool
"""
    + "\n".join(
        f"list_{n}_is_sorted_bool: list({n}) :: isSorted() -> bool\n"
        f"list_{n}_max_{n}: list({n}) :: max() -> {n}\n"
        f"list_{n}_min_{n}: list({n}) :: min() -> {n}\n"
        f"list_{_LONG.get(n, n)}_sort: list({n}) :: sort() -> list({n})\n"
        f"list_{_LONG.get(n, n)}_sortByAssociatedKeys: list(T) :: @sortByAssociatedKeys(list({n})) -> list(T)"
        for n in _ORDERED
    )
    + "\n"
    + "\n".join(f"list_{n}_sum_{n}: list({n}) :: sum() -> {n}" for n in _SUMMED)
)
MAX_RANGE = 1_000_000


def _order(a: Any, b: Any) -> int:
    return -1 if a < b else (1 if b < a else 0)


_KEY = cmp_to_key(_order)


def _is_sorted(values: list[Any]) -> bool:
    return all(not values[i + 1] < values[i] for i in range(len(values) - 1))


def _extreme(name: str, better: Callable[[Any, Any], bool]) -> Callable[[list[Any]], Any]:
    def run(values: list[Any]) -> Any:
        if not values:
            raise CelRuntimeError(f"{name} called on empty list")
        best = values[0]
        for value in values[1:]:
            if better(value, best):
                best = value
        return best

    return run


def _sum(zero: Any, add: Callable[[Any, Any], Any]) -> Callable[[list[Any]], Any]:
    def run(values: list[Any]) -> Any:
        total = zero
        for value in values:
            total = add(total, value)
        return total

    return run


_ZEROS: dict[str, tuple[Any, Callable[[Any, Any], Any]]] = {
    "int": (0, lambda a, b: stdlib.whole(a + b)),
    "uint": (Uint(0), lambda a, b: stdlib.unsigned(a + b)),
    "double": (0.0, lambda a, b: a + b),
    "duration": (Duration(0), lambda a, b: Duration(stdlib.whole(a.nanos + b.nanos))),
}


def _index_of(values: list[Any], item: Any) -> int:
    return next((i for i, v in enumerate(values) if equal(v, item)), -1)


def _last_index_of(values: list[Any], item: Any) -> int:
    return next((i for i in range(len(values) - 1, -1, -1) if equal(values[i], item)), -1)


def _distinct(values: list[Any]) -> list[Any]:
    made: list[Any] = []
    for value in values:
        if not members.contained(value, made):
            made.append(value)
    return made


def _flatten(values: Iterable[Any], levels: int = 1) -> list[Any]:
    if levels < 0:
        raise CelRuntimeError("level must be non-negative")
    made: list[Any] = []
    for value in values:
        if value.__class__ is list and levels:
            made += _flatten(value, levels - 1)
            bounded(len(made), MAX_MEMBERS, "list")
        else:
            made.append(value)
    return made


def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelRuntimeError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelRuntimeError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(values):
        raise CelRuntimeError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


def _range(count: int) -> list[int]:
    if count < 0:
        raise CelRuntimeError(f"lists.range: size must be non-negative, got {count}")
    if count > MAX_RANGE:
        raise CelRuntimeError(f"lists.range: size {count} exceeds maximum allowed {MAX_RANGE}")
    return list(range(count))


def _sort_by_keys(values: list[Any], keys: list[Any]) -> list[Any]:
    if len(values) != len(keys):
        raise CelRuntimeError(
            f"@sortByAssociatedKeys() expected a list of the same size as the associated keys list, but got {len(values)} and {len(keys)} elements respectively."
        )
    return [values[i] for i in sorted(range(len(values)), key=lambda i: _KEY(keys[i]))]


def _contains(values: list[Any], part: list[Any]) -> bool:
    return all(members.contained(v, values) for v in part)


def _intersects(values: list[Any], others: list[Any]) -> bool:
    return any(members.contained(v, others) for v in values)


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "list_a_index_of_int": _index_of,
    "list_a_last_index_of_int": _last_index_of,
    "list_distinct": _distinct,
    "list_first": lambda values: Optional(values[0]) if values else Optional.NONE,
    "list_last": lambda values: Optional(values[-1]) if values else Optional.NONE,
    "list_flatten": _flatten,
    "list_flatten_int": _flatten,
    "list_reverse": lambda values: values[::-1],
    "list_slice": _slice,
    "lists_range": _range,
    "list_sets_contains_list": _contains,
    "list_sets_equivalent_list": lambda a, b: _contains(a, b) and _contains(b, a),
    "list_sets_intersects_list": _intersects,
    **{f"list_{n}_is_sorted_bool": _is_sorted for n in _ORDERED},
    **{f"list_{n}_max_{n}": _extreme("max", lambda a, b: b < a) for n in _ORDERED},
    **{f"list_{n}_min_{n}": _extreme("min", lambda a, b: a < b) for n in _ORDERED},
    **{f"list_{_LONG.get(n, n)}_sort": lambda values: sorted(values, key=_KEY) for n in _ORDERED},
    **{f"list_{_LONG.get(n, n)}_sortByAssociatedKeys": _sort_by_keys for n in _ORDERED},
    **{f"list_{n}_sum_{n}": _sum(*_ZEROS[n]) for n in _SUMMED},
}
