"""Index of one resource's objects by label and by node, built when first asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from portside.server.watchcache_filter import Filter
from portside.server.watchcache_object import CachedObject

_Keys = dict[str, set[str]]
NODE = None
"""Stands for spec.nodeName where else a label key stands."""
FEW = 10_000
"""Objects that are looked at in one go; of more, a slice at a time."""
FEW_CHOSEN = 1_000
"""The same where a selector has to look into each."""
SLICE = 2_000
SLICE_PARSED = 250
"""Objects in a slice that have to be parsed, some 50 µs each."""


def _value(obj: CachedObject, by: str | None) -> str | None:
    return obj.node if by is NODE else obj.labels.get(by)


def _pairs(where: Filter) -> Iterator[tuple[str | None, str]]:
    if where.node is not None:
        yield NODE, where.node
    yield from where.equal


class Index:
    """Key sets by label key and value, and by spec.nodeName. Only what someone selected by is indexed."""

    __slots__ = ("_building", "_made")

    def __init__(self) -> None:
        self._made: dict[str | None, _Keys] = {}
        self._building: dict[str | None, _Keys] = {}

    def find(self, where: Filter, objects: Mapping[str, CachedObject]) -> set[str] | None:
        """The smallest known set of keys that holds every match; None when nothing narrows it."""
        if len(objects) <= FEW_CHOSEN:
            for _ in self.build(where, objects):
                pass
        best: set[str] | None = None
        for by, value in _pairs(where):
            if (by_value := self._made.get(by)) is not None:
                hits = by_value.get(value, set())
                if best is None or len(hits) < len(best):
                    best = hits
        return best

    def build(self, where: Filter, objects: Mapping[str, CachedObject]) -> Iterator[None]:
        """Make what ``find`` uses, stopping after every slice. ``objects`` may change meanwhile, if ``update`` hears of it."""
        for by, _ in _pairs(where):
            if by in self._made or by in self._building:
                continue
            made = self._building[by] = {}
            try:
                for number, obj in enumerate([*objects.values()], 1):
                    value = _value(obj, by)
                    if value is not None and objects.get(obj.key) is obj:
                        made.setdefault(value, set()).add(obj.key)
                    if number % (SLICE_PARSED if by is NODE else SLICE) == 0:
                        yield
                self._made[by] = made
            finally:
                del self._building[by]

    def update(self, previous: CachedObject | None, obj: CachedObject | None) -> None:
        """Follow a change."""
        for made in (self._made, self._building):
            for by, by_value in made.items():
                old = _value(previous, by) if previous is not None else None
                new = _value(obj, by) if obj is not None else None
                if old == new and made is self._made:
                    continue
                if previous is not None and old is not None and (keys := by_value.get(old)) is not None:
                    keys.discard(previous.key)
                    if not keys:
                        del by_value[old]
                if obj is not None and new is not None:
                    by_value.setdefault(new, set()).add(obj.key)
