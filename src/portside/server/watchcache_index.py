"""Index of one resource's objects by label pair and by node, built when first asked for."""

from __future__ import annotations

from collections.abc import Mapping

from portside.server.watchcache_filter import Filter
from portside.server.watchcache_object import CachedObject

_Keys = dict[str, set[str]]


class Index:
    """Key sets by label key and value, and by spec.nodeName. Only label keys someone selected by are indexed."""

    __slots__ = ("_labels", "_nodes")

    def __init__(self) -> None:
        self._labels: dict[str, _Keys] = {}
        self._nodes: _Keys | None = None

    def find(self, where: Filter, objects: Mapping[str, CachedObject]) -> set[str] | None:
        """The smallest known set of keys that holds every match; None when nothing narrows it."""
        best: set[str] | None = None
        if where.node is not None:
            if self._nodes is None:
                self._nodes = _gather((o.node, o.key) for o in objects.values())
            best = self._nodes.get(where.node, set())
        for label, value in where.equal:
            by_value = self._labels.get(label)
            if by_value is None:
                by_value = _gather((o.labels[label], o.key) for o in objects.values() if label in o.labels)
                self._labels[label] = by_value
            hits = by_value.get(value, set())
            if best is None or len(hits) < len(best):
                best = hits
        return best

    def update(self, previous: CachedObject | None, obj: CachedObject | None) -> None:
        """Follow a change."""
        if self._nodes is not None:
            _move(self._nodes, previous, previous.node if previous else None, obj, obj.node if obj else None)
        for label, by_value in self._labels.items():
            old = previous.labels.get(label) if previous else None
            new = obj.labels.get(label) if obj else None
            _move(by_value, previous, old, obj, new)


def _gather(pairs: object) -> _Keys:
    found: _Keys = {}
    for value, key in pairs:  # type: ignore[attr-defined]
        found.setdefault(value, set()).add(key)
    return found


def _move(
    index: _Keys, previous: CachedObject | None, old: str | None, obj: CachedObject | None, new: str | None
) -> None:
    if old == new:
        return
    if previous is not None and old is not None:
        keys = index[old]
        keys.discard(previous.key)
        if not keys:
            del index[old]
    if obj is not None and new is not None:
        index.setdefault(new, set()).add(obj.key)
