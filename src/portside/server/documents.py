"""Paths that are no resources: discovery, OpenAPI, version, health, metrics, and the answers to paths that are nothing."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import orjson

from portside.base import process_metrics
from portside.server import health
from portside.server.discovery import Discovery
from portside.server.negotiate import encode, negotiate
from portside.server.request import Request, Response
from portside.server.routes import not_allowed, not_found

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
# label of kubernetes_build_info -> field of /version
BUILD_FACTS = (("major", "major"), ("minor", "minor"), ("git_version", "gitVersion"), ("platform", "platform"))
CACHED = ("Cache-Control", "public, max-age=3600")
HEALTH = ("healthz", "livez", "readyz")


class Documents:
    """Serves everything outside the resources of one server."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._started = time.time()
        self._asked = health.Asked()
        self._openapi: Any = None
        self._listed: Discovery | None = None
        self._groups = frozenset(kind.group for kind in server.table.values())

    def refresh(self) -> None:
        """The custom resources of the table have changed: documents are made anew when somebody asks."""
        self._listed = None
        if self._openapi is not None:
            self._openapi.stale = True

    @property
    def discovery(self) -> Discovery:
        """Built-in rows first, then the custom ones."""
        if self._listed is None:
            built_in = [k for k in self._server.table.values() if not k.custom]
            self._listed = Discovery([*built_in, *self._server.custom.rows()])
        return self._listed

    def built_in(self, group: str) -> bool:
        return group in self._groups

    def has_group(self, group: str) -> bool:
        return group in self._groups or group in self._server.custom.groups

    def nothing(self) -> Response:
        return Response(404, b"404 page not found\n", health.TEXT)

    async def answer(self, request: Request) -> Response:
        parts = request.path.strip("/").split("/")
        top = parts[0]
        if top in HEALTH:
            return self._health(request, parts)
        if top == "version" and len(parts) == 1:
            if request.method != "GET":
                raise not_allowed()
            return Response(200, orjson.dumps(health.version(), option=orjson.OPT_INDENT_2))
        if top in ("api", "apis"):
            return self._discovery(request, parts)
        if top == "openapi":
            return await self._openapi_answer(request, parts)
        if top == "metrics" and len(parts) == 1:
            return Response(200, self._metrics(), "text/plain; version=0.0.4; charset=utf-8")
        if parts == ["metrics", "slis"]:
            text = "\n".join([*self._asked.render(), *process_metrics.started(self._started), ""])
            return Response(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
        if top in ("", "index.html"):
            return Response(200, orjson.dumps({"paths": self.paths()}))
        if top == ".well-known" and parts[1:] == ["openid-configuration"]:
            return self._issuer()
        if top == "openid" and parts[1:] == ["v1", "jwks"]:
            return self._keys()
        return self.nothing()

    def paths(self) -> list[str]:
        found = ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"]
        for group in self.discovery.groups():
            found.append(f"/apis/{group}")
            found += [f"/apis/{group}/{v}" for v in self.discovery.versions(group)]
        found += [
            "/healthz",
            "/livez",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        return sorted(found)

    def _health(self, request: Request, parts: list[str]) -> Response:
        server = self._server
        check = "/".join(parts[1:])
        return health.answer(request, parts[0], check, lambda: server.ready, lambda: True, self._asked)

    def _discovery(self, request: Request, parts: list[str]) -> Response:
        found = self.discovery
        accept = request.header("accept")
        if len(parts) == 1:
            if request.method != "GET" and parts[0] == "api":
                raise not_allowed()
            wanted = negotiate(accept)
            core = parts[0] == "api"
            if wanted.form:
                kind = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
                etag = found.etag(core)
                headers = [("ETag", etag), ("Vary", "Accept"), ("Cache-Control", "public")]
                if request.header("if-none-match") == etag:
                    return Response(304, b"", kind, headers)
                return Response(200, found.aggregated(core), kind, headers)
            body = found.api_versions(self._server.address) if core else found.group_list()
            return Response(200, encode(body, wanted.media), wanted.media, [("Vary", "Accept")])
        if parts[0] == "api":
            if len(parts) == 2 and found.has("", parts[1]):
                return self._document(request, found.resources("", parts[1]))
            raise not_found()
        group = parts[1]
        if not group or not found.has(group):
            return self.nothing()
        if len(parts) == 2:
            return self._document(request, found.group(group))
        if len(parts) == 3 and found.has(group, parts[2]):
            return self._document(request, found.resources(group, parts[2]))
        if group in self._server.custom.groups:
            return self.nothing()
        raise not_found()

    def _document(self, request: Request, body: Json) -> Response:
        if request.method != "GET":
            raise not_allowed()
        wanted = negotiate(request.header("accept"))
        return Response(200, encode(body, wanted.media), wanted.media)

    async def _openapi_answer(self, request: Request, parts: list[str]) -> Response:
        from portside.server.openapi import OpenApi

        if self._openapi is None:
            self._openapi = OpenApi(k for k in self._server.table.values() if not k.custom)
        if self._openapi.stale:
            self._openapi.stale = False
            self._openapi.set_custom(self._server.custom.documents())
        # Documents take a second to make the first time: the loop goes on meanwhile.
        made: Response | None = await asyncio.to_thread(self._openapi.answer, request, parts)
        return made or self.nothing()

    def _issuer(self) -> Response:
        issuer = self._server.authenticator.signer.issuer
        body = {
            "issuer": issuer,
            "jwks_uri": f"https://{self._server.address}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }
        return Response(200, orjson.dumps(body), headers=[CACHED])

    def _keys(self) -> Response:
        keys = orjson.dumps(self._server.authenticator.signer.jwks())
        return Response(200, keys, "application/jwk-set+json", [CACHED])

    def _metrics(self) -> bytes:
        server = self._server
        version = health.version()
        facts = ",".join(f'{name}="{version[field]}"' for name, field in BUILD_FACTS)
        lines = [
            *server.metrics.render(),
            *server.flows.render(),
            "# HELP kubernetes_build_info What the server says it is.",
            "# TYPE kubernetes_build_info gauge",
            f"kubernetes_build_info{{{facts}}} 1",
            "# HELP apiserver_resource_objects Objects stored, by resource.",
            "# TYPE apiserver_resource_objects gauge",
        ]
        for kind in server.table.values():
            if "list" in kind.verbs:
                count = len(server.caches.of(kind.group, kind.plural))
                lines.append(f'apiserver_resource_objects{{group="{kind.group}",resource="{kind.plural}"}} {count}')
        lines += [
            *process_metrics.lines(self._started),
            "# HELP portside_store_revision The store's newest revision.",
            "# TYPE portside_store_revision gauge",
            f"portside_store_revision {server.backend.revision}",
            *server.loop_watch.render(),
        ]
        return ("\n".join(lines) + "\n").encode()
