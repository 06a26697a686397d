"""The server's inner side: what auth, admission, bootstrap and the write path ask of it (see ``host.Host``)."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from portside.api import quantity
from portside.api.kinds import KINDS, Kind
from portside.api.status import forbidden
from portside.api.usage import pod_amounts
from portside.base.clock import Clock, rfc3339
from portside.base.pki import Pki
from portside.server.admission import chain
from portside.server.admission.dynamic import Dynamic
from portside.server.admission.review import Review
from portside.server.admission.subject import Gvr
from portside.server.allocate import Allocator, Records
from portside.server.attributes import Attributes
from portside.server.auth.authenticate import Authenticator
from portside.server.auth.authorize import Authorizer
from portside.server.auth.gate import Gate
from portside.server.flowcontrol.flows import Flows
from portside.server.live import LIVE, Live, prefix_of
from portside.server.options import DeleteOptions
from portside.server.request import Request
from portside.server.resource import Resource, encode
from portside.server.watchcache import CachedObject, durability_of
from portside.server.webhooks.client import WebhookClient
from portside.store.backend import Backend, Committed, Write

if TYPE_CHECKING:
    from portside.server.watchcache_feed import WatchCaches

Json = dict[str, Any]
KIND_OF: dict[tuple[str, str], Kind] = {(k.group, k.plural): k for k in reversed(KINDS)}


class Hosting:
    """State and services behind the routes; ``app.ApiServer`` adds the routes."""

    backend: Backend
    caches: WatchCaches
    table: dict[tuple[str, str, str], Kind]

    def __init__(self, pki: Pki, clock: Clock, service_cidr: str) -> None:
        self.pki = pki
        self.clock = clock
        self._resources: dict[tuple[str, str, str], Resource] = {}
        self.live = Live()
        self.dynamic = Dynamic(self.live)
        self.flows = Flows(self.live)
        self.authenticator = Authenticator(pki, self.live, clock)
        self.authorizer = Authorizer(self.live)
        self.gate = Gate(self.authorizer)
        ranges, addresses = (self.live.of(n, "networking.k8s.io") for n in ("servicecidrs", "ipaddresses"))
        self.allocator = Allocator(service_cidr, records=Records(ranges.items, addresses.get))
        self.webhooks = WebhookClient(self.caches)
        self.ready = False
        self.needs_accounts = True  # pods run as service accounts; off where no controller makes the default ones
        self._prefixes = {prefix_of(*key): key for key in LIVE}

    async def follow(self) -> None:
        """Fill the live mirror and the allocator, and keep the mirror up to date from within each commit."""
        for group, plural in self._prefixes.values():
            for obj in self.caches.of(group, plural).list().objects:
                self.live.feed(group, plural, obj.key, obj, obj.revision)
        for service in self.caches.of("", "services").list().objects:
            self.allocator.take(orjson.loads(service.full))
        self.caches.follow(self._feed)

    def _feed(self, prefix: str, key: str, obj: CachedObject | None, revision: int) -> None:
        resource = self._prefixes.get(prefix)
        if resource is not None:
            self.live.feed(*resource, key, obj, revision)

    # --- kinds -------------------------------------------------------------------------------------------------------

    def resource(self, kind: Kind) -> Resource:
        """The engine's view of a served kind, made once."""
        key = (kind.group, kind.version, kind.plural)
        found = self._resources.get(key)
        if found is None:
            found = self._resources[key] = Resource(kind, self.caches)
        return found

    def kind_of(self, group: str, version: str, plural: str) -> Kind | None:
        return self.table.get((group, version, plural))

    def equivalents(self, group: str, version: str, plural: str) -> list[Kind]:
        own = self.table.get((group, version, plural))
        if own is None:
            return []
        stored = self.resource(own).stored
        same = (stored.group, stored.plural)
        return [k for k in self.table.values() if k is not own and k.plural == plural and self._stored_of(k) == same]

    def _stored_of(self, kind: Kind) -> tuple[str, str]:
        stored = self.resource(kind).stored
        return stored.group, stored.plural

    def named(self, api_version: str, kind: str) -> Kind | None:
        return next((k for k in self.table.values() if k.kind == kind and k.api_version == api_version), None)

    async def converted(self, obj: Json, source: Gvr, target: Gvr) -> Json:
        one, other = self.table[source], self.table[target]
        return await self.resource(one).in_version_of(obj, self.resource(other))

    # --- objects -----------------------------------------------------------------------------------------------------

    async def read(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        """The stored object, None when absent."""
        found = self.caches.of(group, plural).get(namespace, name)
        return None if found is None else orjson.loads(found.full)

    async def put(self, group: str, plural: str, obj: Json, *, expected: int | None) -> bool:
        """Store as it is; see ``Host``."""
        meta = obj["metadata"]
        if not meta.get("uid"):
            obj = obj | {"metadata": {"name": meta["name"]} | meta | {"uid": str(uuid.uuid4())}}
            obj["metadata"].setdefault("creationTimestamp", rfc3339(self.clock.now()))
        if "apiVersion" not in obj:
            kind = KIND_OF[(group, plural)]
            obj = {"apiVersion": kind.api_version, "kind": kind.kind} | obj
        space = meta.get("namespace", "")
        key = prefix_of(group, plural) + (f"{space}/{meta['name']}" if space else meta["name"])
        result = await self.backend.write(Write(key, encode(obj), expected, durability_of(group, plural)))
        if isinstance(result, Committed) and (group, plural) == ("", "services"):
            self.allocator.take(obj)
        return isinstance(result, Committed)

    # --- the write path's hooks --------------------------------------------------------------------------------------

    async def mutate(
        self, attributes: Attributes, obj: Json, old: Json | None, operation: str, dry_run: bool, request: Request
    ) -> Json:
        """Mutating admission."""
        return await chain.mutate(
            Review(attributes, obj, old, operation, dry_run, self, request.warnings, request=request)
        )

    async def validate(
        self, attributes: Attributes, obj: Json, old: Json | None, operation: str, dry_run: bool, request: Request
    ) -> None:
        """Validating admission."""
        await chain.validate(Review(attributes, obj, old, operation, dry_run, self, request.warnings, request=request))

    async def admit(self, attributes: Attributes, obj: Json, operation: str, dry_run: bool, request: Request) -> Json:
        """Both halves, for what is not stored: connections and subresources with a shape of their own."""
        return await chain.admit(
            Review(attributes, obj, None, operation, dry_run, self, request.warnings, request=request)
        )

    async def admit_delete(self, attributes: Attributes, old: Json, options: DeleteOptions, request: Request) -> None:
        """Admission of a deletion."""
        dry_run = bool(options.dry_run)
        await chain.admit(
            Review(attributes, {}, old, "DELETE", dry_run, self, request.warnings, request=request, deletion=options)
        )

    async def admit_collection(self, attributes: Attributes, options: DeleteOptions, request: Request) -> None:
        """Admission of a collection's deletion."""

    def check_room(self, pod: Json) -> None:
        """A bound pod may not grow beyond its node. Raises 403."""
        node = self.live.of("nodes").get(pod["spec"].get("nodeName") or "")
        if node is None:
            return
        allocatable = (node.get("status") or {}).get("allocatable") or {}
        wanted = pod_amounts(pod["spec"], "requests")
        for name, measure in (("cpu", quantity.milli), ("memory", quantity.value)):
            asked, there = measure(wanted.get(name, "0")), measure(allocatable.get(name, "0"))
            if asked > there:
                why = f"node didn't have enough allocatable resources: {name}, requested: {asked}, allocatable: {there}"
                raise forbidden("pods", pod["metadata"]["name"], why)

    def allocate(
        self, resource: Resource, obj: Json, old: Json | None
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """Give a Service its addresses and ports; answers what to call when the write fails and when it stands."""
        if resource.kind.plural == "services" and not resource.kind.group:
            return self.allocator.assign(obj, old)
        return _nothing, _nothing

    def released(self, resource: Resource, old: Json) -> None:
        """An object is gone: what it held is free."""
        if resource.kind.plural == "services" and not resource.kind.group:
            self.allocator.release(old)


def _nothing() -> None:
    return None
