"""Lists given empty: whoever gave one owns it, though it is null, or left out, in what is stored and answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from portside.api.schema_tree import Schema

Path = tuple[str | int, ...]
_ABSENT = object()


def given_empty(schema: Schema, value: Any) -> list[Path]:
    """Where ``value``, not decoded yet, has an empty list that Go would write: names of fields and positions in lists."""
    return list(_walk(schema, value, ()))


def _walk(schema: Schema, value: Any, path: Path) -> Iterator[Path]:
    if isinstance(value, dict) and schema.form == "struct":
        for name, part in value.items():
            child = schema.fields.get(name)
            if child is None or name == "managedFields":
                continue
            if part == [] and child.form == "array":
                if not set(schema.flags[name]) & {"e", "k"} and not schema.keeps_empty_lists:
                    yield (*path, name)
            else:
                yield from _walk(child, part, (*path, name))
    elif isinstance(value, list) and schema.items is not None:
        for at, part in enumerate(value):
            yield from _walk(schema.items, part, (*path, at))


@contextmanager
def with_empty(obj: Any, paths: list[Path]) -> Iterator[None]:
    """``obj`` has its empty lists for a while. A path that is not there any more is left alone."""
    back: list[tuple[dict[str, Any], str, Any]] = []
    for path in paths:
        holder = obj
        for step in path[:-1]:
            inside = (
                step in holder if isinstance(holder, dict) else isinstance(holder, list) and step in range(len(holder))
            )
            holder = holder[step] if inside else None
        name = path[-1]
        if isinstance(holder, dict) and isinstance(name, str) and not holder.get(name):
            back.append((holder, name, holder.get(name, _ABSENT)))
            holder[name] = []
    try:
        yield
    finally:
        for holder, name, was in back:
            if was is _ABSENT:
                del holder[name]
            else:
                holder[name] = was
