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
    from portside.server.attributes import Attributes
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
        self.groups: dict[str, int] = {}
        """How many served versions of custom resources each group has."""
        self.names: dict[str, tuple[str, Json]] = {}
        """Group and accepted names of every definition, served or not."""
        self._listeners: list[Callable[[str], None]] = []
        self._pieces: dict[Any, bytes] = {}

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call ``listener(name)`` after a definition or an object of a custom resource that is going has changed."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Serve what is defined, and follow."""
        for obj in self._server.caches.of(GROUP, PLURAL).list().objects:
            self._take(obj.name, obj)
        self._server.caches.follow(self._follow)

    def _follow(self, prefix: str, key: str, obj: CachedObject | None, revision: int) -> None:
        if prefix != PREFIX:
            return
        name = key[len(PREFIX) :]
        self._take(name, obj)
        for listener in self._listeners:
            listener(name)

    def _take(self, name: str, obj: CachedObject | None) -> None:
        """The definition is now ``obj``."""
        before = self.definitions.get(name)
        if obj is None:
            self.names.pop(name, None)
            if before is not None:
                self._retire(name, before)
            return
        crd: Json = orjson.loads(obj.full)
        meta = crd["metadata"]
        self.names[name] = (crd["spec"]["group"], (crd.get("status") or {}).get("acceptedNames") or {})
        kinds = kinds_of(crd)
        generation = int(meta.get("generation") or 0)
        since = obj.revision
        if before is not None and before.uid == meta.get("uid") and before.generation == generation:
            if before.kinds == kinds:
                return
            since = before.since
            if [_lasting(k) for k in before.kinds] == [_lasting(k) for k in kinds]:
                # It is going: what is written and watched goes on.
                for resource, kind in zip(before.resources, kinds, strict=True):
                    resource.kind = kind
                self._serve(before.kinds, before.resources)
                before.kinds = kinds
                return
        if before is not None:
            self._retire(name, before)
        if kinds:
            made = self.definitions[name] = Definition(meta.get("uid", ""), generation, kinds, since)
            self._make(name, made)
            self._serve([], made.resources)

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

    def _retire(self, name: str, definition: Definition) -> None:
        """Nothing is written or watched through the old resources any more."""
        del self.definitions[name]
        for resource in definition.resources:
            resource.retired = True
        self._serve(definition.kinds, [])
        definition.resources[0].cache.close()

    def _serve(self, gone: list[CustomKind], come: list[CustomResource]) -> None:
        """Change the rows of the server's table; built-in ones stay what they are."""
        server = self._server
        for kind in gone:
            if server.table.get(_key(kind)) is kind:
                server.set_custom(_key(kind), None)
            self.groups[kind.group] -= 1
            if not self.groups[kind.group]:
                del self.groups[kind.group]
        for resource in come:
            self.groups[resource.kind.group] = self.groups.get(resource.kind.group, 0) + 1
            if _key(resource.kind) not in server.table:
                server.set_custom(_key(resource.kind), resource)
        server.documents.refresh()

    def owns(self, attributes: Attributes) -> bool:
        """Whether a path is answered as upstream's handler of custom resources answers: it lies in one of their groups, and
        is none of a built-in kind that shares the group."""
        if attributes.group not in self.groups:
            return False
        kind = self._server.table.get((attributes.group, attributes.version, attributes.resource))
        return kind.custom if kind is not None else not self._server.documents.built_in(attributes.group)

    def rows(self) -> list[CustomKind]:
        """All rows, as discovery lists them."""
        return in_preference(k for d in self.definitions.values() for k in d.kinds)

    def documents(self) -> Any:
        """What publishes the rows of now in OpenAPI; None without any."""
        if not self.definitions:
            return None
        from portside.server.custom.openapi import CustomDocuments

        return CustomDocuments(self.rows(), self._schema, self._pieces)

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
