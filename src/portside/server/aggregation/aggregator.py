"""Requests for groups that another server serves go there; their discovery and OpenAPI join our own.

A cluster without such APIServices pays one look at an empty dictionary per request.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from portside.api.status import ApiError
from portside.base.pki import Pki
from portside.server.aggregation.local import GROUP, PLURAL, rank_of
from portside.server.aggregation.remote import Remote, Unreachable, identity
from portside.server.attributes import User
from portside.server.forward import forward, whole
from portside.server.request import Request, Response
from portside.server.watchcache_filter import Filter

if TYPE_CHECKING:
    from portside.server.aggregation.metrics import Metrics
    from portside.server.app import ApiServer
    from portside.server.forward import Target
    from portside.server.watchcache_object import CachedObject

Json = dict[str, Any]
PREFIX = f"/{GROUP}/{PLURAL}/"
METRICS = "v1beta1.metrics.k8s.io"
MOST_DOCUMENT = 16 << 20  # bytes of discovery or OpenAPI that another server may answer
SELF = User("system:kube-aggregator", groups=("system:masters",))
TEXT = "text/plain; charset=utf-8"
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def _text(code: int, message: str) -> Response:
    return Response(code, f"{message}\n".encode(), TEXT, [("X-Content-Type-Options", "nosniff")])


class Aggregator:
    """Knows the APIServices of other servers by group and version; ``start`` follows them."""

    def __init__(self, server: ApiServer, pki: Pki) -> None:
        self._server = server
        self._pki = pki
        self.remote: dict[tuple[str, str], Remote] = {}
        self._metrics: Metrics | None = None
        self._roots_made: list[tuple[bytes, Any, bytes, str]] = []  # of /apis, in its two forms
        self.changed: list[Any] = []  # called after each change of an APIService

    def start(self) -> None:
        """Take what is stored, and follow changes."""
        for obj in self._server.caches.of(GROUP, PLURAL).list().objects:
            self._take(obj.key.removeprefix(PREFIX), obj)
        self._server.caches.follow(self._follow)

    def _follow(self, prefix: str, key: str, obj: CachedObject | None, revision: int) -> None:
        if prefix == PREFIX:
            self._take(key.removeprefix(PREFIX), obj)
            for told in self.changed:
                told()

    def _take(self, name: str, cached: CachedObject | None) -> None:
        obj: Json | None = None if cached is None else orjson.loads(cached.full)
        version, _, group = name.partition(".")
        if name == METRICS and obj is not None and (obj.get("spec") or {}).get("service") is None:
            self.remote[group, version] = self._own_metrics(obj)
            return
        if obj is None or (obj.get("spec") or {}).get("service") is None:
            self.remote.pop((group, version), None)
            return
        held = self.remote.get((group, version))
        if held is not None and held.obj["spec"] == obj["spec"]:
            held.obj = obj
        else:
            self.remote[group, version] = Remote(obj)

    def _own_metrics(self, obj: Json) -> Remote:
        """metrics.k8s.io is served here when its APIService names no service."""
        from portside.server.aggregation import metrics
        from portside.server.aggregation.availability import from_resources

        if self._metrics is None:
            self._metrics = metrics.Metrics(self._server)
        found = from_resources(metrics.VERSION, metrics.resources())
        return Remote(obj, discovery=found, inner=self._metrics.answer)

    # --- requests --------------------------------------------------------------------------------------------------

    def match(self, path: str) -> Remote | None:
        """The other server of a path below ``/apis/GROUP/VERSION``."""
        parts = path.split("/", 4)
        if len(parts) < 4 or parts[1] != "apis":
            return None
        return self.remote.get((parts[2], parts[3]))

    def target(self, remote: Remote) -> Target:
        """Raises Unreachable and ValueError."""
        service = remote.spec["service"]
        caches, namespace = self._server.caches, service["namespace"]
        held = caches.of("", "services").get(namespace, service["name"])
        listing = caches.of("discovery.k8s.io", "endpointslices").list(Filter(namespace=namespace))
        slices = (orjson.loads(item.full) for item in listing.objects)
        return remote.target(self._pki, None if held is None else orjson.loads(held.full), slices)

    async def proxy(self, request: Request, remote: Remote) -> Response:
        """The other server's answer. Its redirects are not followed and not passed on."""
        if remote.inner is not None:
            return await remote.inner(request)
        if not remote.available:
            return _text(503, "service unavailable")
        try:
            target = self.target(remote)
        except (Unreachable, ValueError):
            return _text(503, "service unavailable")
        path = quote(request.path, safe="/:@!$&'()*+,;=~-._")
        try:
            answer = await forward(
                target,
                request.method,
                path + (f"?{request.query}" if request.query else ""),
                request.headers,
                request.body,
                upgrade=bool(request.header("upgrade")),
                identity=identity(request.user),
            )
        except ApiError as error:
            return _text(503, error.message)
        if 300 <= answer.code < 400 and answer.code != 304:
            if answer.stream is not None:
                await answer.stream.aclose()  # type: ignore[attr-defined]
            return _text(502, "the backend attempted to redirect this request, which is not permitted")
        return answer

    async def ask(self, remote: Remote, path: str, accept: str = "application/json") -> tuple[int, bytes]:
        """A question of our own to the other server. Raises Unreachable, ValueError and ApiError."""
        target = self.target(remote)
        answer = await forward(target, "GET", path, {"accept": accept}, b"", upgrade=False, identity=identity(SELF))
        return answer.code, await whole(answer, MOST_DOCUMENT)

    # --- documents -------------------------------------------------------------------------------------------------

    def _groups(self) -> dict[str, list[Remote]]:
        """The other servers' group versions, preferred first."""
        found: dict[str, list[Remote]] = {}
        for remote in self.remote.values():
            found.setdefault(remote.group_version[0], []).append(remote)
        for versions in found.values():
            versions.sort(key=lambda r: (-(r.spec.get("versionPriority") or 0), r.group_version[1]))
        return found

    def _group(self, group: str, versions: list[Remote]) -> Json:
        listed = [{"groupVersion": f"{group}/{r.group_version[1]}", "version": r.group_version[1]} for r in versions]
        return {"name": group, "versions": listed, "preferredVersion": dict(listed[0])}

    def _merged(self, own: list[Json], name: Any, others: dict[str, Json]) -> list[Json]:
        """Groups in the order of their ranks; what both have is our own."""
        ours = {name(entry) for entry in own}
        ranked = [(rank_of(name(entry)), entry) for entry in own]
        for group, entry in others.items():
            if group not in ours:
                rank = max(r.spec.get("groupPriorityMinimum") or 0 for r in self._groups()[group])
                ranked.append((rank, entry))
        return [entry for _, entry in sorted(ranked, key=lambda pair: -pair[0])]

    async def documents(self, request: Request) -> Response | None:
        """Discovery and OpenAPI with the other servers' parts; None when ours alone is the answer."""
        parts = request.path.strip("/").split("/")
        groups = self._groups()
        if parts == ["apis"]:
            return await self._roots(request, groups)
        if len(parts) == 2 and parts[0] == "apis" and parts[1] in groups:
            if self._server.documents.has_group(parts[1]):
                return None
            head = {"kind": "APIGroup", "apiVersion": "v1"}
            return Response(200, orjson.dumps(head | self._group(parts[1], groups[parts[1]])))
        if parts[:2] == ["openapi", "v3"]:
            return await self._openapi(request, parts)
        return None

    async def _roots(self, request: Request, groups: dict[str, list[Remote]]) -> Response:
        plain = Request(request.method, request.path, request.query, dict(request.headers) | {"if-none-match": ""})
        plain.user, plain.authenticated, plain.attributes = request.user, True, request.attributes
        answer = await self._server.documents.answer(plain)
        if answer.code != 200 or not answer.content_type.startswith("application/json"):
            return answer
        answer.body, etag = self._root(answer.body, groups)
        if not etag:
            return answer
        answer.headers = [(k, etag if k == "ETag" else v) for k, v in answer.headers]
        if request.header("if-none-match") == etag:
            return Response(304, b"", answer.content_type, answer.headers)
        return answer

    def _root(self, own: bytes, groups: dict[str, list[Remote]]) -> tuple[bytes, str]:
        """Our document with the other servers' groups, and its ETag when it is the aggregated one. Kept while nothing
        changes, as every kubectl asks."""
        state = tuple((gv, r.available, id(r.discovery), id(r.obj)) for gv, r in self.remote.items())
        for held_own, held_state, made, etag in self._roots_made:
            if held_state == state and held_own == own:
                return made, etag
        body = orjson.loads(own)
        if "groups" in body:
            others = {g: self._group(g, versions) for g, versions in groups.items()}
            body["groups"] = self._merged(body["groups"], lambda e: e["name"], others)
            made, etag = orjson.dumps(body), ""
        else:
            entries = {g: self._aggregated(g, versions) for g, versions in groups.items()}
            body["items"] = self._merged(body["items"], lambda e: e["metadata"].get("name", ""), entries)
            made = orjson.dumps(body)
            etag = '"' + hashlib.sha512(made).hexdigest().upper() + '"'
        current = [kept for kept in self._roots_made if kept[1] == state]
        self._roots_made = [*current[-1:], (own, state, made, etag)]
        return made, etag

    def _aggregated(self, group: str, versions: list[Remote]) -> Json:
        entries = []
        for remote in versions:
            known = remote.discovery or {"version": remote.group_version[1], "resources": []}
            fresh = remote.available and remote.discovery is not None
            entries.append(known | {"freshness": "Current" if fresh else "Stale"})
        return {"metadata": {"name": group}, "versions": entries}

    async def _openapi(self, request: Request, parts: list[str]) -> Response | None:
        """The index with the other servers' places; a place of theirs is asked of them."""
        if len(parts) == 2:
            answer = await self._server.documents.answer(request)
            if answer.code != 200:
                return answer
            body = orjson.loads(answer.body)
            for remote in self.remote.values():
                place = "apis/" + "/".join(remote.group_version)
                if remote.available and remote.inner is None:
                    body["paths"].setdefault(place, {"serverRelativeURL": f"/openapi/v3/{place}"})
            answer.body = orjson.dumps(body)
            answer.headers = [(k, v) for k, v in answer.headers if k.lower() != "etag"]
            return answer
        found = self.match("/" + "/".join(parts[2:]))
        return None if found is None or found.inner is not None or len(parts) != 5 else await self.proxy(request, found)
