"""One served resource: its kind, rules and schema, its watch cache, and how its objects are stored.

Several resources may share stored objects (Events of two groups, two versions of a HorizontalPodAutoscaler): then the
storage kind differs from the served one and objects are converted on the way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.field import FieldError
from portside.api.kinds import BY_KIND, Kind
from portside.api.rules.registry import Rules, rules_for
from portside.api.schema import schema_for
from portside.api.status import ApiError, invalid
from portside.server.body import Met
from portside.server.watchcache import JsonForm, WatchCache, durability_of, join_items, pieces
from portside.server.watchcache_object import slices

if TYPE_CHECKING:
    from portside.api.schema import Schema
    from portside.server.watchcache_feed import WatchCaches
    from portside.server.watchcache_form import Form
    from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]

# Served kind -> the kind whose form is stored.
STORED_AS: dict[tuple[str, str, str], tuple[str, str, str]] = {
    ("events.k8s.io", "v1", "Event"): ("", "v1", "Event"),
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): ("autoscaling", "v2", "HorizontalPodAutoscaler"),
}


_PLACED = frozenset(("resourceVersion", "managedFields"))


def encode(obj: Json) -> bytes:
    """The stored form: apiVersion, kind and metadata first, managedFields last in it, and no resourceVersion. ``obj`` stays as it
    is."""
    held = obj["metadata"]
    meta = {k: v for k, v in held.items() if k not in _PLACED}
    if "managedFields" in held:
        meta["managedFields"] = held["managedFields"]
    ordered = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "metadata": meta}
    for key, value in obj.items():
        if key not in ordered:
            ordered[key] = value
    return orjson.dumps(ordered)


def refused(kind: Kind, name: str, errors: Sequence[FieldError]) -> ApiError:
    """422: what is wrong with an object that was to be stored. Upstream tells all that a schema of a definition repeats."""
    once = not kind.custom and kind.group != "apiextensions.k8s.io"
    return invalid(kind.kind, name, errors, "" if kind.kind == "Event" else kind.group, once=once)


class Resource:
    """A row of the table of kinds, brought to life for one server.

    What is async may ask a conversion webhook; for built-in kinds it never waits.
    """

    warning = ""
    """What every request is told, for deprecated versions of custom resources."""
    asks = False
    """Whether other versions are converted by somebody else, so that only the async methods can."""
    continues = False
    """Whether a list says ``continue`` even when it is complete."""

    def __init__(self, kind: Kind, caches: WatchCaches) -> None:
        self.kind = kind
        stored = STORED_AS.get((kind.group, kind.version, kind.kind))
        self.stored = BY_KIND[stored] if stored else kind
        self.converts = stored is not None
        self.cache: WatchCache = caches.of(self.stored.group, self.stored.plural)
        self.prefix = self.cache.prefix
        self.durability = durability_of(self.stored.group, self.stored.plural)
        self.met = Met()
        self.list_head = f'{{"kind":"{kind.list_kind}","apiVersion":"{kind.api_version}","metadata":'.encode()

    @cached_property
    def rules(self) -> Rules:
        return rules_for(self.kind.group, self.kind.version, self.kind.kind)

    @cached_property
    def schema(self) -> Schema:
        return schema_for(self.kind)

    def key(self, namespace: str, name: str) -> str:
        return f"{self.prefix}{namespace}/{name}" if namespace else self.prefix + name

    def served(self, obj: CachedObject) -> Json:
        """A private copy of a cached object, in the served version, with its resourceVersion."""
        parsed: Json = orjson.loads(obj.full)
        return self.to_served(parsed) if self.converts else parsed

    def to_served(self, obj: Json) -> Json:
        if not self.converts:
            return obj
        from portside.api.conversion import convert

        return convert(obj, self.kind.api_version)

    def to_stored(self, obj: Json) -> Json:
        if not self.converts:
            return obj
        from portside.api.conversion import convert

        return convert(obj, self.stored.api_version)

    def raw(self, obj: CachedObject) -> bytes | None:
        """The bytes to send for a cached object, None when they have to be made."""
        return None if self.converts else obj.full

    async def full(self, obj: CachedObject) -> bytes:
        """The bytes to send for a cached object."""
        raw = self.raw(obj)
        return orjson.dumps(await self.load(obj)) if raw is None else raw

    def shown(self, view: Json) -> Json:
        """A cached object's shared view in the served version; neither is to be changed."""
        return self.to_served(dict(view))

    async def load(self, obj: CachedObject) -> Json:
        """``served``, also where somebody else has to convert. Raises what conversion raises."""
        return self.served(obj)

    async def load_all(self, objects: Sequence[CachedObject]) -> list[Json]:
        """``load`` of many at once."""
        return [self.served(o) for o in objects]

    async def views(self, objects: Sequence[CachedObject]) -> Sequence[Json]:
        """Parsed objects in the served version, shared and not to be changed."""
        return [self.served(o) for o in objects] if self.converts else [o.view for o in objects]

    async def slices(self, objects: Sequence[CachedObject]) -> Iterator[Sequence[Json]]:
        """``views`` by the slice, each made when it is asked for: of all at once they would take five times their bytes."""
        if self.converts:
            return ([self.served(o) for o in some] for some in slices(objects))
        return ([o.view for o in some] for some in slices(objects))

    async def items(self, objects: list[CachedObject]) -> Iterator[bytes]:
        """The items of a list, in pieces; those of built-in kinds carry neither apiVersion nor kind."""
        return pieces(objects, self._bare if self.converts else join_items)

    def _bare(self, objects: Sequence[CachedObject]) -> bytes:
        items = [self.served(o) for o in objects]
        for item in items:
            del item["apiVersion"], item["kind"]
        return orjson.dumps(items)[1:-1]

    async def stored_form(self, obj: Json) -> Json:
        """The object in the version that is stored."""
        return self.to_stored(obj)

    async def in_version_of(self, obj: Json, other: Resource) -> Json:
        """A copy of an object of this version as ``other`` would serve it."""
        copied: Json = orjson.loads(orjson.dumps(obj))
        return other.to_served(self.to_stored(copied))

    async def answer(self, obj: Json, stored: Json) -> Json:
        """What a write of ``obj`` answers, ``stored`` being what was stored."""
        return obj

    def stored_alike(self, obj: CachedObject, form: Json) -> bool:
        """Whether what is stored is already in the form it would be written in."""
        return True

    def check_managers(self, live: Json) -> None:
        """Before an apply: whether ``live`` can be read in the versions of all its managers. Raises ApiError 500."""

    def form(self) -> Form:
        """How watch events look, objects as they are stored."""
        return JsonForm(self.kind.api_version, self.kind.kind)
