"""The API server: one handler over all paths, between the HTTP connection (or the in-process client) and the engine.

Order per request: authentication, the request's attributes, the gate (impersonation, authorization), then the route.
Refusals become Status objects here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import orjson

from portside.api.kinds import KINDS, Kind
from portside.api.status import ApiError
from portside.base.clock import SYSTEM, Clock, rfc3339
from portside.base.loopwatch import LoopWatch
from portside.base.pki import Pki
from portside.server import deletes, forms, history, listing, patches, reads, watchsocket, writes
from portside.server.aggregation.aggregator import Aggregator
from portside.server.attributes import Attributes, User
from portside.server.auth.authenticate import unauthorized
from portside.server.auth.issuer_keys import KeysWanted
from portside.server.auth.tokenuse import TokenUse
from portside.server.custom import routes
from portside.server.custom.keeper import Keeper
from portside.server.custom.table import CustomTable, Key
from portside.server.documents import Documents
from portside.server.flowcontrol.flows import Rejected, too_many
from portside.server.handshake import wants_websocket, with_token
from portside.server.hosting import Hosting
from portside.server.negotiate import PLAIN, Wanted, encode, error_media, negotiate, offers_of, reencode
from portside.server.options import check_export, check_request_timeout
from portside.server.request import Request, Response
from portside.server.request_metrics import RequestMetrics
from portside.server.resource import Resource
from portside.server.routes import Route, attributes_of, not_allowed, resolve
from portside.server.subresources import SUBRESOURCES
from portside.server.warningheaders import warning_headers
from portside.server.watchcache_feed import WatchCaches
from portside.store.backend import Backend

if TYPE_CHECKING:
    from portside.server.custom.resource import CustomResource

log = logging.getLogger(__name__)
Json = dict[str, Any]
# A registered handler of one subresource or virtual kind: takes over the whole answer.
Handler = Callable[["ApiServer", Request, Resource, Route], Awaitable[Response]]
# What every request to a deprecated resource is told.
DEPRECATED = {
    ("", "endpoints"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ("", "componentstatuses"): "v1 ComponentStatus is deprecated in v1.19+",
}
# Subresources that upstream can't show as tables.
NO_TABLE = {("resourceclaims", "status"), ("devicetaintrules", "status")}


class ApiServer(Hosting):
    """Owns the watch caches over ``backend``. ``await start()``, then ``handler(request)`` answers anything."""

    def __init__(
        self, backend: Backend, pki: Pki, *, clock: Clock = SYSTEM, service_cidr: str = "10.96.0.0/16"
    ) -> None:
        self.backend = backend
        self.caches = WatchCaches(backend, clock=clock.monotonic)
        self.table: dict[tuple[str, str, str], Kind] = {(k.group, k.version, k.plural): k for k in KINDS}
        self.handlers: dict[tuple[str, str, str], Handler] = {}
        self.address = ""
        self._second, self._stamp = -1, ""
        super().__init__(pki, clock, service_cidr)
        self.documents = Documents(self)
        self.metrics = RequestMetrics()
        self.loop_watch = LoopWatch()
        self.aggregator = Aggregator(self, pki)
        self.custom = CustomTable(self)
        self.keeper = Keeper(self)
        self.token_use = TokenUse(self._label_secret)
        self.authenticator.on_use = self.token_use.note

    async def start(self) -> None:
        """Load the state and begin to follow the store. Raises StoreError."""
        await self.backend.open()
        await self.caches.start()
        await self.follow()
        self.custom.start()
        self.keeper.start()
        self.aggregator.start()

    async def stop(self) -> None:
        self.authenticator.close()
        await self.keeper.stop()
        await self.token_use.stop()
        await self.webhooks.close()
        await self.caches.close()
        await self.backend.close()

    async def _label_secret(self, namespace: str, name: str, patch: dict[str, Any]) -> bool:
        """A merge patch of a Secret in the server's own name; whether it was written."""
        path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
        headers = {"content-type": "application/merge-patch+json", "user-agent": "kube-apiserver"}
        make = self.make_request(User("system:apiserver", groups=("system:masters", "system:authenticated")))
        answer = await self.handler(
            make(method="PATCH", path=path, query="", headers=headers, body=orjson.dumps(patch))
        )
        return answer.code < 300

    def now(self) -> str:
        """The wall clock as the API writes it."""
        second = int(self.clock.now())
        if second != self._second:
            self._second, self._stamp = second, rfc3339(second)
        return self._stamp

    def set_custom(self, key: Key, resource: CustomResource | None) -> None:
        """Serve a custom resource from now on; None: no longer."""
        if resource is None:
            del self.table[key]
            self._resources.pop(key, None)
        else:
            self.table[key] = resource.kind
            self._resources[key] = resource

    def register(self, group: str, plural: str, subresource: str, handler: Handler) -> None:
        """Let ``handler`` answer a subresource (or, with "", creations of a virtual kind) from now on."""
        self.handlers[(group, plural, subresource)] = handler

    def make_request(self, user: User) -> Callable[..., Request]:
        """The request factory of an in-process client that acts as ``user``."""

        def make(**given: Any) -> Request:
            return Request(**given, user=user, authenticated=True)

        return make

    # --- answering -------------------------------------------------------------------------------------------------

    def fast(self, request: Request) -> Response | None:
        """GET of one object in plain JSON, answered without a task; None sends the request the long way."""
        if request.method != "GET" or request.query or not request.path.startswith("/api"):
            return None
        if self.aggregator.remote and self.aggregator.match(request.path) is not None:
            return None
        headers = request.headers
        accept = headers.get("accept", "")
        if accept not in ("application/json", "*/*", "") or "upgrade" in headers:
            return None
        began = perf_counter()
        try:
            attributes = self.identify(request)
            if not attributes.is_resource or not attributes.name or attributes.subresource:
                return None
            if (attributes.group, attributes.resource) in DEPRECATED:
                return None
            if not self.documents.has_group(attributes.group):
                return None
            custom = self.custom.owns(attributes)
            route = routes.resolve(attributes, self.table) if custom else resolve(request, attributes, self.table)
            if (route.kind.group, route.kind.plural, "") in self.handlers:
                return None
            resource = self.resource(route.kind)
            found = resource.cache.get(attributes.namespace if route.kind.namespaced else "", attributes.name)
            if found is None or resource.warning:
                return None
            raw = resource.raw(found)
            if raw is None:
                return None
            flow = self.flows.of(attributes)
            self.metrics.record(attributes, 200, perf_counter() - began)
            return Response(200, raw, headers=list(flow.headers) if flow is not None else [])
        except ApiError as error:
            refused = self.refusal(request, error)
            self.metrics.record(attributes_of(request), refused.code, perf_counter() - began)
            return refused
        except routes.NoSuchPath:
            return self.documents.nothing()
        except KeysWanted:
            return None

    async def handler(self, request: Request) -> Response:
        """Any request; never raises but for cancellation."""
        flow = None
        began, kind = perf_counter(), "readOnly" if request.method in ("GET", "HEAD") else "mutating"
        self.metrics.in_flight[kind] += 1
        try:
            try:
                attributes = self.identify(request)
            except KeysWanted:
                await self.known(request)
                attributes = self.identify(request)
            flow = self.flows.of(attributes)
            if flow is None or flow.exempt:
                response = await self._answer(request, attributes)
            else:
                await flow.enter()
                try:
                    response = await self._answer(request, attributes)
                finally:
                    flow.level.leave()
        except ApiError as error:
            response = self.refusal(request, error)
        except Rejected:
            response = too_many()
        except Exception as error:
            log.exception("%s %s failed", request.method, request.path)
            response = self.refusal(request, ApiError(500, "InternalError", f"Internal error occurred: {error}"))
        finally:
            self.metrics.in_flight[kind] -= 1
        self.metrics.record(request.attributes or attributes_of(request), response.code, perf_counter() - began)
        if flow is not None:
            response.headers.extend(flow.headers)
        if request.warnings:
            response.headers.extend(warning_headers(request.warnings))
        return response

    def refusal(self, request: Request, error: ApiError) -> Response:
        media = error_media(request.header("accept"))
        headers = [(k, v) for k, v in error.headers.items()]
        return Response(error.code, encode(error.status, media), media, headers)

    async def known(self, request: Request) -> None:
        """``authenticate``, once more when another issuer had to be asked for its keys first. Raises 401."""
        try:
            self.authenticate(request)
        except KeysWanted as wanted:
            await wanted.keys.fetch()
        try:
            self.authenticate(request)
        except KeysWanted:
            raise unauthorized() from None

    def authenticate(self, request: Request) -> None:
        """Whose request it is. Raises 401, and KeysWanted."""
        if not request.authenticated:
            if wants_websocket(request.headers):
                try:
                    request.headers = with_token(request.headers)
                except ValueError:
                    raise unauthorized() from None
            found = self.authenticator.authenticate(request.peer_cert, request.headers, request.warnings)
            request.user = found or self.authenticator.anonymous(request.path)
            request.authenticated = True

    def identify(self, request: Request) -> Attributes:
        """Authentication, impersonation and authorization. Raises 401 and 403, and KeysWanted."""
        if request.attributes is not None:
            # The fast path has asked already; a second look would impersonate from the impersonated identity.
            return cast(Attributes, request.attributes)
        self.authenticate(request)
        attributes = attributes_of(history.asked(request) or request)
        passed = self.gate.pass_gate(attributes, request.headers)
        if passed.user is not request.user:
            request.impersonator = request.user
        request.user = passed.user
        request.attributes = passed
        return passed

    async def _answer(self, request: Request, attributes: Attributes) -> Response:
        if (asked := history.asked(request)) is not None:
            return await history.answer(self, asked, attributes)
        if self.aggregator.remote and (answer := await self._elsewhere(request, attributes)) is not None:
            return answer
        if not attributes.is_resource:
            check_request_timeout(request)
            return await self.documents.answer(request)
        if not self.documents.has_group(attributes.group):
            return self.documents.nothing()
        if self.custom.owns(attributes):
            try:
                route = routes.resolve(attributes, self.table)
            except routes.NoSuchPath:
                return self.documents.nothing()
            return await self._of_route(request, route)
        told = DEPRECATED.get((attributes.group, attributes.resource))
        if told is not None:
            request.notes["k8s.io/deprecated"] = "true"
        try:
            route = resolve(request, attributes, self.table)
        except ApiError as error:
            if told is not None and error.details:  # a watch that the kind does not have is its own answer
                request.warnings.append(told)
            raise
        if told is not None:
            request.warnings.append(told)
        return await self._of_route(request, route)

    async def _of_route(self, request: Request, route: Route) -> Response:
        check_request_timeout(request)
        if route.attributes.verb in history.WRITES:
            history.sign(request, route.attributes, self.now())
        resource = self.resource(route.kind)
        if resource.warning:
            request.warnings.append(resource.warning)
        sub = route.sub.name if route.sub else ""
        taken = self.handlers.get((route.kind.group, route.kind.plural, sub))
        if taken is None:
            taken = SUBRESOURCES.get((route.kind.group, route.kind.plural, sub))
        if taken is None and sub:
            taken = SUBRESOURCES.get(("*", "*", sub))
        if taken is not None:
            return await taken(self, request, resource, route)
        if sub and sub not in resource.rules.subresources and sub != "status":
            raise not_allowed()
        return await self.generic(request, resource, route)

    async def _elsewhere(self, request: Request, attributes: Attributes) -> Response | None:
        """What other servers answer, alone or together with this one."""
        remote = self.aggregator.match(request.path)
        if remote is not None:
            return await self.aggregator.proxy(request, remote)
        return None if attributes.is_resource else await self.aggregator.documents(request)

    async def generic(self, request: Request, resource: Resource, route: Route) -> Response:
        """The engine's answer for a stored kind."""
        verb = route.attributes.verb
        if verb == "patch":
            patches.patch_media(request, resource.kind)
        if verb == "watch":
            watched = await reads.watch(request, resource, route, self._stream_form(request, resource.kind))
            return watchsocket.switched(request, watched) if wants_websocket(request.headers) else watched
        tables = route.sub is None or (route.kind.plural, route.sub.name) not in NO_TABLE
        accept = request.header("accept")
        wanted = negotiate(accept, forms=True, tables=tables, offers=offers_of(resource.kind)) if accept else PLAIN
        if verb == "get":
            check_export(request)
            return await reads.get(request, resource, route, wanted)
        if verb == "list":
            return await reads.list_(request, resource, route, wanted, self.clock.now())
        if verb == "create":
            return self.written(request, resource, await writes.create(self, request, resource, route), wanted)
        if verb == "update":
            return self.written(request, resource, await writes.update(self, request, resource, route), wanted)
        if verb == "patch":
            return self.written(request, resource, await patches.patch(self, request, resource, route), wanted)
        if verb == "delete":
            code, made = await deletes.delete(self, request, resource, route)
            return self._deleted(request, resource, code, made, wanted)
        if verb == "deletecollection":
            return await self._collection_gone(request, resource, route, wanted)
        raise not_allowed()

    def _stream_form(self, request: Request, kind: Kind) -> Wanted:
        accept = request.header("accept")
        try:
            wanted = negotiate(accept, forms=True, offers=offers_of(kind))
        except ApiError as error:
            if error.details is not None:
                raise ApiError(
                    406,
                    "NotAcceptable",
                    error.message + ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
                    details={},
                ) from None
            raise
        if wanted.media == "application/yaml":
            raise ApiError(
                406,
                "NotAcceptable",
                "only the following media types are accepted: application/json;stream=watch, "
                "application/vnd.kubernetes.protobuf;stream=watch",
            )
        return wanted

    def written(self, request: Request, resource: Resource, done: writes.Written, wanted: Wanted) -> Response:
        """The answer to a write: the object, in the wanted form."""
        code = 201 if done.created else 200
        if wanted.form:
            made = forms.object_form(resource.kind, done.obj, wanted, request)
            return Response(code, encode(made, wanted.media), wanted.media)
        if request.direct:
            return Response(code, obj=done.obj)
        raw = done.raw if done.raw is not None else orjson.dumps(done.obj)
        return Response(code, reencode(raw, wanted.media), wanted.media)

    def _deleted(self, request: Request, resource: Resource, code: int, made: Json, wanted: Wanted) -> Response:
        if wanted.form and made.get("kind") == resource.kind.kind:
            made = forms.object_form(resource.kind, made, wanted, request)
        elif request.direct:
            return Response(code, obj=made)
        return Response(code, encode(made, wanted.media), wanted.media)

    async def _collection_gone(self, request: Request, resource: Resource, route: Route, wanted: Wanted) -> Response:
        items = await deletes.delete_collection(self, request, resource, route)
        kind = resource.kind
        meta: Json = {"resourceVersion": str(resource.cache.revision)}
        if resource.continues and not wanted.form:
            meta["continue"] = ""
        slices = await resource.slices(items)
        if wanted.form == "Table":
            return await listing.formed(kind, meta, slices, wanted, forms.include_object(request))
        return await listing.formed(kind, meta, slices, replace(wanted, form=""))
