"""Printer columns of custom resources: the name, then what additionalPrinterColumns say, else the age."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import orjson

from portside.api.custom_numbers import number_text
from portside.api.customkind import CustomKind
from portside.api.jsonpath import PathError, parse_path
from portside.api.tables_column import Column
from portside.api.tables_format import since

Json = Mapping[str, Any]
Cell = Callable[[Any, float], Any]
AGE = (("Age", "date", "", "When the object was created.", 0, ".metadata.creationTimestamp"),)


@lru_cache(maxsize=1024)
def columns(kind: CustomKind) -> tuple[Column, ...]:
    told = _told(kind)
    made = [Column(name, type_, format_, priority, text) for name, type_, format_, text, priority, _ in told]
    return (Column("Name", format="name"), *made)


@lru_cache(maxsize=1024)
def _finders(kind: CustomKind) -> tuple[tuple[Callable[[Any], list[Any]], Cell], ...]:
    return tuple((parse_path(path), CELLS.get(type_, _other)) for _, type_, _, _, _, path in _told(kind))


def _told(kind: CustomKind) -> tuple[tuple[str, str, str, str, int, str], ...]:
    """What the definition says, or the age when it says nothing, or a path that can't be read."""
    try:
        for column in kind.columns or ():
            parse_path(column[5])
    except PathError:
        return AGE
    return AGE if kind.columns is None else kind.columns


def cells(kind: CustomKind, obj: Json, now: float) -> list[Any]:
    """The cells of one object; a column that finds nothing, or nothing of its type, is null."""
    made: list[Any] = [(obj.get("metadata") or {}).get("name", "")]
    for find, cell in _finders(kind):
        found = find(obj)
        made.append(cell(found[0], now) if found and found[0] is not None else None)
    return made


def _text(value: Any, now: float) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _integer(value: Any, now: float) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return math.trunc(value)


def _number(value: Any, now: float) -> Any:
    return None if isinstance(value, bool) or not isinstance(value, (int, float)) else value


def _boolean(value: Any, now: float) -> Any:
    return value if isinstance(value, bool) else None


def _date(value: Any, now: float) -> Any:
    if not isinstance(value, str):
        return None
    try:
        return since(value, now)
    except ValueError:
        return "<invalid>"


def _other(value: Any, now: float) -> Any:
    return None


CELLS: dict[str, Cell] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "date": _date,
}
