"""A served version of a custom resource: objects as bytes where they can be sent as they are stored, else converted,
pruned and defaulted by the schemas of now.

An object can be sent as stored when it has the served version and was written since the schemas last changed; of others
it is remembered once looked at. A definition's change makes new resources and retires the old ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.custom import Custom
from portside.api.customkind import CustomKind
from portside.api.managed_merge import problems
from portside.api.managed_tree import shape
from portside.api.rules.registry import Rules
from portside.api.schema import Schema
from portside.api.status import ApiError
from portside.server.custom.conversion import Converter
from portside.server.resource import Resource
from portside.server.watchcache import pieces
from portside.server.watchcache_form import TYPES, JsonForm
from portside.server.watchcache_object import slices

if TYPE_CHECKING:
    from portside.server.watchcache_feed import WatchCaches
    from portside.server.watchcache_object import CachedObject
    from portside.server.webhooks.client import WebhookClient

Json = dict[str, Any]
REMEMBERED = 20_000
"""Objects of one version whose bytes are known to be good, or kept converted."""
CONVERTED_AT_ONCE = 32
"""Objects in a slice of what somebody else converted."""


class Versions:
    """The compiled versions of one definition, shared by its resources."""

    def __init__(self, kinds: Sequence[CustomKind], definition: Callable[[], Json], client: WebhookClient) -> None:
        self._client = client
        self.kinds = {k.api_version: k for k in kinds}
        self._definition = definition
        self._made: dict[str, Custom] = {}

    @cached_property
    def spec(self) -> Json:
        found: Json = self._definition()["spec"]
        return found

    @cached_property
    def storage(self) -> str:
        """The stored apiVersion."""
        version = next(v["name"] for v in self.spec["versions"] if v.get("storage"))
        return f"{self.spec['group']}/{version}"

    @cached_property
    def converter(self) -> Converter:
        return Converter(self.spec, self._client)

    def of(self, api_version: str) -> Custom | None:
        """A compiled version, served or not; None when the definition does not have it."""
        found = self._made.get(api_version)
        if found is None:
            version = next(
                (v for v in self.spec["versions"] if f"{self.spec['group']}/{v['name']}" == api_version), None
            )
            if version is None:
                return None
            published = (version.get("schema") or {}).get("openAPIV3Schema") or {
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
            }
            kind = self.kinds.get(api_version) or next(iter(self.kinds.values()))
            found = self._made[api_version] = Custom(kind, published)
        return found


class CustomResource(Resource):
    """One version. ``since`` is the revision of the definition's state that it was made for."""

    continues = True

    def __init__(self, kind: CustomKind, caches: WatchCaches, versions: Versions, since: int) -> None:
        super().__init__(kind, caches)
        self.versions = versions
        self.since = since
        self.retired = False
        self.warning = kind.warning
        self.converts = True
        self._head = f'{{"apiVersion":"{kind.api_version}","kind":"{kind.kind}",'.encode()
        self._seen: dict[str, tuple[int, bytes | None]] = {}

    @cached_property
    def custom(self) -> Custom:
        found = self.versions.of(self.kind.api_version)
        assert found is not None
        return found

    @property
    def rules(self) -> Rules:  # type: ignore[override]
        return self.custom.rules

    @property
    def schema(self) -> Schema:  # type: ignore[override]
        return self.custom.schema

    @cached_property
    def asks(self) -> bool:  # type: ignore[override]
        return self.versions.converter.hook is not None

    def form(self) -> JsonForm:
        """Events as they are sent; as they are stored when a webhook is still to be asked."""
        return JsonForm(self.kind.api_version, self.kind.kind) if self.asks else CustomForm(self)

    # --- reading ---------------------------------------------------------------------------------------------------

    def raw(self, obj: CachedObject) -> bytes | None:
        if obj.head == self._head and obj.revision > self.since:
            return obj.full
        seen = self._seen.get(obj.key)
        if seen is not None and seen[0] == obj.revision:
            return seen[1] or obj.full
        if obj.head != self._head and self.asks:
            return None
        return self._look(obj)

    def _look(self, obj: CachedObject) -> bytes:
        before: Json = orjson.loads(obj.full)
        after = self.to_served(orjson.loads(obj.full))
        made = None if before == after else orjson.dumps(after)
        if len(self._seen) >= REMEMBERED:
            self._seen.clear()
        self._seen[obj.key] = (obj.revision, made)
        return made or obj.full

    def last_state(self, obj: CachedObject) -> bytes:
        """The bytes of a deleted object, whose revision says nothing about when its content was written."""
        if obj.head == self._head and obj.created > self.since:
            return obj.full
        return orjson.dumps(self.to_served(orjson.loads(obj.full)))

    def served(self, obj: CachedObject) -> Json:
        parsed: Json = orjson.loads(obj.full)
        if obj.head == self._head and obj.revision > self.since:
            return parsed
        return self.to_served(parsed)

    def shown(self, view: Json) -> Json:
        if view["apiVersion"] == self.kind.api_version and int(view["metadata"]["resourceVersion"]) > self.since:
            return view
        return self.to_served(orjson.loads(orjson.dumps(view)))

    def to_served(self, obj: Json) -> Json:
        """Pruned and defaulted by the stored version's schema, then in the served version, pruned by its schema."""
        self._refresh(obj)
        if obj["apiVersion"] != self.kind.api_version:
            obj["apiVersion"] = self.kind.api_version
            self.custom.coerce(obj)
        return obj

    def _refresh(self, obj: Json) -> None:
        stored = self.versions.of(obj["apiVersion"])
        if stored is not None:
            stored.coerce(obj)
            stored.fill(obj)
        if not obj["metadata"].get("generation"):
            obj["metadata"]["generation"] = 1

    async def load(self, obj: CachedObject) -> Json:
        return (await self.load_all((obj,)))[0]

    async def load_all(self, objects: Sequence[CachedObject]) -> list[Json]:
        if not self.asks:
            return [self.served(o) for o in objects]
        return await self.read_all([orjson.loads(o.full) for o in objects])

    async def read_all(self, stored: list[Json]) -> list[Json]:
        """Stored objects, changed in place where that is enough, in the served version."""
        for obj in stored:
            self._refresh(obj)
        return await self.convert(stored, self.kind.api_version)

    async def views(self, objects: Sequence[CachedObject]) -> list[Json]:
        return await self.load_all(objects)

    async def slices(self, objects: Sequence[CachedObject]) -> Iterator[Sequence[Json]]:
        if not self.asks:
            return ([self.served(o) for o in some] for some in slices(objects))
        views = await self.load_all(objects)
        return (views[at : at + CONVERTED_AT_ONCE] for at in range(0, len(views), CONVERTED_AT_ONCE))

    async def items(self, objects: list[CachedObject]) -> Iterator[bytes]:
        if self.asks and any(o.head != self._head for o in objects):
            return iter((orjson.dumps(await self.load_all(objects)),))
        return pieces(objects, lambda some: b",".join([self.raw(o) or b"" for o in some]))

    # --- writing ---------------------------------------------------------------------------------------------------

    async def convert(self, objects: list[Json], api_version: str) -> list[Json]:
        """Objects of any versions in one version, pruned by its schema."""
        target = self.versions.of(api_version)
        others = [obj["apiVersion"] != api_version for obj in objects]
        done = await self.versions.converter.convert(objects, api_version)
        for obj, other in zip(done, others, strict=True):
            if other and target is not None:
                target.coerce(obj)
        return done

    async def stored_form(self, obj: Json) -> Json:
        if self.retired:
            raise ApiError(
                429,
                "TooManyRequests",
                "storage is (re)initializing",
                details={"retryAfterSeconds": 1},
                headers={"Retry-After": "1"},
            )
        copied: Json = orjson.loads(orjson.dumps(obj))
        if copied["apiVersion"] == self.versions.storage:
            return copied
        # Defaults of the stored version come with the first read at the latest; here they need no second look.
        form = (await self.convert([copied], self.versions.storage))[0]
        self._refresh(form)
        return form

    async def in_version_of(self, obj: Json, other: Resource) -> Json:
        copied: Json = orjson.loads(orjson.dumps(obj))
        return (await self.convert([copied], other.kind.api_version))[0]

    async def answer(self, obj: Json, stored: Json) -> Json:
        if stored["apiVersion"] == self.kind.api_version:
            return obj
        copied: Json = orjson.loads(orjson.dumps(stored))
        self._refresh(copied)
        return (await self.convert([copied], self.kind.api_version))[0]

    def stored_alike(self, obj: CachedObject, form: Json) -> bool:
        stored: Json = orjson.loads(obj.full)
        revision = stored["metadata"].pop("resourceVersion", None)
        meta = {k: v for k, v in form["metadata"].items() if k != "resourceVersion"}
        return revision is not None and stored == form | {"metadata": meta}

    def check_managers(self, live: Json) -> None:
        """The object as it is must be typed in the version of every manager; managers of versions that are gone go."""
        entries = live["metadata"].get("managedFields") or []
        known = [e for e in entries if self.versions.of(e.get("apiVersion", "")) is not None]
        if len(known) != len(entries):
            live["metadata"]["managedFields"] = known
        if self.asks:
            return
        for version in {e["apiVersion"] for e in known} - {self.kind.api_version}:
            custom = self.versions.of(version)
            found = problems(shape(custom.schema), live) if custom is not None else []
            if found:
                text = found[0] if len(found) == 1 else "errors:\n" + "\n".join(f"  {line}" for line in found)
                raise ApiError(500, "", text)


class CustomForm(JsonForm):
    """Watch events of a custom resource that converts without asking."""

    __slots__ = ("_resource",)

    def __init__(self, resource: CustomResource) -> None:
        super().__init__(resource.kind.api_version, resource.kind.kind)
        self.key = ("custom", resource.kind.api_version, resource.kind.kind, id(resource))
        self._resource = resource

    def event(self, kind: str, obj: CachedObject) -> bytes:
        raw = self._resource.last_state(obj) if kind == "DELETED" else self._resource.raw(obj)
        return TYPES[kind] + (raw or b"{}") + b"}\n"
