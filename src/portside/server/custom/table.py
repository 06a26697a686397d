"""The live table of custom resources: follows the definitions from within each commit and keeps the server's table of
kinds, its resources and its documents up to date. A cluster without definitions pays for one comparison per change."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.customkind import VERBS, CustomKind, in_preference, kinds_of
from portside.server.live import prefix_of

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.custom.resource import CustomResource
    from portside.server.watchcache_object import CachedObject

log = logging.getLogger(__name__)
Json = dict[str, Any]
GROUP, PLURAL = "apiextensions.k8s.io", "customresourcedefinitions"
PREFIX = prefix_of(GROUP, PLURAL)
Key = tuple[str, str, str]


@dataclass(slots=True)
class Definition:
    """A definition as served: its rows, and what of it makes resources differ."""

    uid: str
    generation: int
    kinds: list[CustomKind]
    since: int
    resources: list[CustomResource] = field(default_factory=list)


class CustomTable:
    """Owns the custom rows of ``server.table``."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self.definitions: dict[str, Definition] = {}
        self.groups: frozenset[str] = frozenset()
        self._listeners: list[Callable[[str], None]] = []
        self._pieces: dict[Any, bytes] = {}

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(name)`` after a definition or an object of a custom resource that is going has changed."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Serve what is defined, and follow."""
        for obj in self._server.caches.of(GROUP, PLURAL).list().objects:
            self._take(obj.name, obj, refresh=False)
        if self.definitions:
            self._rebuild()
        self._server.caches.follow(self._follow)

    def _follow(self, prefix: str, key: str, obj: CachedObject | None, revision: int) -> None:
        if prefix != PREFIX:
            return
        name = key[len(PREFIX) :]
        self._take(name, obj, refresh=True)
        for listener in self._listeners:
            listener(name)

    def _take(self, name: str, obj: CachedObject | None, *, refresh: bool) -> None:
        """The definition is now ``obj``."""
        before = self.definitions.get(name)
        if obj is None:
            if before is not None:
                del self.definitions[name]
                self._retire(before)
                self._rebuild()
            return
        crd: Json = orjson.loads(obj.full)
        meta = crd["metadata"]
        kinds = kinds_of(crd)
        generation = int(meta.get("generation") or 0)
        if before is not None and before.uid == meta.get("uid") and before.generation == generation:
            if before.kinds == kinds:
                return
            since = before.since
            if [_lasting(k) for k in before.kinds] == [_lasting(k) for k in kinds]:
                # It is going: what is written and watched goes on.
                before.kinds = kinds
                for resource, kind in zip(before.resources, kinds, strict=True):
                    resource.kind = kind
                self._rebuild()
                return
        else:
            since = obj.revision
        if before is not None:
            self._retire(before)
        elif not kinds:
            return
        made = self.definitions[name] = Definition(meta.get("uid", ""), generation, kinds, since)
        if not kinds:
            del self.definitions[name]
        self._make(name, made)
        if refresh:
            self._rebuild()

    def _make(self, name: str, definition: Definition) -> None:
        from portside.server.custom.resource import CustomResource, Versions

        caches = self._server.caches
        cached = caches.of(GROUP, PLURAL).at(PREFIX + name)

        def read() -> Json:
            found: Json = orjson.loads(cached.full) if cached is not None else {}
            return found

        if definition.kinds:
            versions = Versions(definition.kinds, read, self._server.webhooks)
            definition.resources = [CustomResource(k, caches, versions, definition.since) for k in definition.kinds]

    def _retire(self, definition: Definition) -> None:
        """Nothing is written or watched through the old resources any more."""
        for resource in definition.resources:
            resource.retired = True
        if definition.resources:
            definition.resources[0].cache.close()

    def _rebuild(self) -> None:
        """The table anew: built-in rows first, then the custom ones as discovery lists them."""
        server = self._server
        custom = in_preference(k for d in self.definitions.values() for k in d.kinds)
        by_key: dict[Key, CustomResource] = {_key(r.kind): r for d in self.definitions.values() for r in d.resources}
        documents = None
        if custom:
            from portside.server.custom.openapi import CustomDocuments

            documents = CustomDocuments(custom, self._schema, self._pieces)
        server.set_custom({_key(k): k for k in custom}, by_key, documents)
        self.groups = frozenset(k.group for k in custom)

    def _schema(self, kind: CustomKind) -> Json:
        """The published schema of a version, read from the definition each time: nothing parsed is kept."""
        cached = self._server.caches.of(GROUP, PLURAL).at(f"{PREFIX}{kind.plural}.{kind.group}")
        versions: list[Json] = orjson.loads(cached.full)["spec"]["versions"] if cached is not None else []
        version: Json = next((v for v in versions if v["name"] == kind.version), {})
        found: Json = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        return found


def _key(kind: Any) -> Key:
    return (kind.group, kind.version, kind.plural)


def _lasting(kind: CustomKind) -> CustomKind:
    """The row without what the end of its definition changes."""
    return replace(kind, terminating=False, verbs=VERBS)
