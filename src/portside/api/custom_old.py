"""The old state of a value beside the new one, found by the schema's list types: what ratcheting compares with."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
GONE: Any = object()
"""No old value."""


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1 is not True."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


class Old:
    """An old value and the schema of its place. Children of atomic lists and maps have no old selves."""

    __slots__ = ("_by_key", "schema", "value")

    def __init__(self, value: Any, schema: Json | None) -> None:
        self.value = value
        self.schema = schema or {}
        self._by_key: dict[tuple[str, ...], Any] | None = None

    def equals(self, value: Any) -> bool:
        return same(value, self.value)

    def field(self, key: str) -> Old | None:
        """The old value of a struct's field or a map's entry."""
        if self.schema.get("x-kubernetes-map-type") == "atomic" or not isinstance(self.value, dict):
            return None
        if key not in self.value:
            return None
        child = (self.schema.get("properties") or {}).get(key)
        if child is None and isinstance(more := self.schema.get("additionalProperties"), dict):
            child = more
        return Old(self.value[key], child)

    def item(self, entry: Any) -> Old | None:
        """The old self of a keyed list's entry."""
        if self.schema.get("x-kubernetes-list-type") != "map" or not isinstance(self.value, list):
            return None
        if not isinstance(entry, dict):
            return None
        keys = self.schema.get("x-kubernetes-list-map-keys") or ()
        if self._by_key is None:
            self._by_key = {}
            for one in self.value:
                if isinstance(one, dict):
                    self._by_key.setdefault(_key(one, keys), one)
        found = self._by_key.get(_key(entry, keys), GONE)
        return None if found is GONE else Old(found, self.schema.get("items"))


def _key(entry: Json, keys: Any) -> tuple[str, ...]:
    return tuple(repr(entry.get(k)) for k in keys)
