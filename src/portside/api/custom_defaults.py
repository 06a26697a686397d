"""Defaults of custom resources: what a schema's ``default`` fills in, and the nulls that go because nothing may be null.

Compiled once per schema; parts without defaults and without anything that could hold a null are walked all the same,
since a null may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

Json = dict[str, Any]
Filler = Callable[[Any], None]


def _nothing(value: Any) -> None:
    return None


def compile_defaults(schema: Json) -> Filler:
    """A function that fills a value of the schema in place: absent fields, and nulls where there is a default; other
    nulls of fields that are not nullable are taken away."""
    properties: Json = schema.get("properties") or {}
    more = schema.get("additionalProperties")
    items = schema.get("items")
    if not properties and not isinstance(more, dict) and not isinstance(items, dict):
        return _nothing
    given = {k: child["default"] for k, child in properties.items() if child.get("default") is not None}
    nullable = {k for k, child in properties.items() if child.get("nullable")}
    inner = {k: f for k, child in properties.items() if (f := compile_defaults(child)) is not _nothing}
    rest = compile_defaults(more) if isinstance(more, dict) else None
    each = compile_defaults(items) if isinstance(items, dict) else None

    def fill(value: Any) -> None:
        if isinstance(value, dict):
            for key, default in given.items():
                if key not in value or (value[key] is None and key not in nullable):
                    value[key] = deepcopy(default)
            for key in [k for k, v in value.items() if v is None and k in properties and k not in nullable]:
                del value[key]
            for key, filler in inner.items():
                if key in value:
                    filler(value[key])
            if rest is not None and isinstance(more, dict):
                _fill_rest(value, more, rest, properties)
        elif isinstance(value, list) and each is not None and isinstance(items, dict):
            default = items.get("default")
            for at, entry in enumerate(value):
                if entry is None and default is not None and not items.get("nullable"):
                    value[at] = deepcopy(default)
                each(value[at])

    return fill


def _fill_rest(value: Json, more: Json, rest: Filler, properties: Json) -> None:
    """The entries of a map."""
    default, nullable = more.get("default"), more.get("nullable")
    for key in [k for k in value if k not in properties]:
        if value[key] is None and not nullable:
            if default is None:
                del value[key]
                continue
            value[key] = deepcopy(default)
        rest(value[key])
