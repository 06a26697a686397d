"""What a list or a watch wants to see, in the form the watch cache can use cheaply."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Filter:
    """Everything set must hold.

    ``namespace``, ``name`` (metadata.name) and ``node`` (spec.nodeName; "" finds pods without one, None does not care)
    are compared directly and indexed. ``labels`` is the whole label selector over metadata.labels; ``equal`` are label
    pairs every match has (those requirements that are equalities), used as index only. ``fields`` is what remains of
    the field selector, over the parsed object. ``key`` says what labels and fields stand for (their query text, say):
    watches whose filters are equal in everything but the callables share their work. None shares with nobody.
    """

    namespace: str = ""
    name: str = ""
    node: str | None = None
    equal: tuple[tuple[str, str], ...] = ()
    labels: Callable[[Mapping[str, str]], bool] | None = None
    fields: Callable[[Json], bool] | None = None
    key: Hashable = None

    @property
    def selects(self) -> bool:
        """Whether more than the place decides, so that a page can't say how many items remain."""
        return bool(self.name or self.node is not None or self.labels or self.fields)

    @property
    def identity(self) -> Hashable:
        """Equal for filters that see the same."""
        if self.key is None and (self.labels or self.fields):
            return id(self)
        return (self.namespace, self.name, self.node, self.key)

    def matches(self, obj: CachedObject) -> bool:
        """Whether the object is seen. Place first, parsing last."""
        if self.namespace and obj.namespace != self.namespace:
            return False
        if self.name and obj.name != self.name:
            return False
        return self.selected(obj)

    def selected(self, obj: CachedObject) -> bool:
        """``matches`` for an object whose namespace and name are known to fit."""
        if self.node is not None and obj.node != self.node:
            return False
        if self.labels is not None and not self.labels(obj.labels):
            return False
        return self.fields is None or self.fields(obj.view)


ALL = Filter()
