"""An extension API server for tests: one group with one resource, over TLS on this machine's own address.

It trusts the front proxy by certificate and records who asked; it answers discovery, a list, a watch and an upgrade.
"""

from __future__ import annotations

import socket
from typing import Any

from aiohttp import web

from tests.tls_server import TlsServer

Json = dict[str, Any]


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


class ExtensionServer(TlsServer):
    """``with ExtensionServer("wardle.example", service, namespace, front_proxy_ca) as server``."""

    def __init__(self, group: str, service: str, namespace: str, front_proxy_ca: str) -> None:
        super().__init__((f"{service}.{namespace}.svc",), address=own_address(), trusted=front_proxy_ca)
        self.group = group
        self.asked: list[Json] = []

    def routes(self, app: web.Application) -> None:
        base = f"/apis/{self.group}/v1alpha1"
        app.router.add_get(base, self._resources)
        app.router.add_get(f"{base}/flunders/elsewhere", self._redirect)
        app.router.add_get(f"{base}/flunders/socket", self._socket)
        app.router.add_route("*", base + "/{tail:.*}", self._flunders)

    async def _resources(self, request: web.Request) -> web.Response:
        verbs = ["create", "delete", "get", "list", "watch"]
        flunders = {"name": "flunders", "singularName": "flunder", "namespaced": False, "kind": "Flunder"}
        body = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{self.group}/v1alpha1"}
        return web.json_response(body | {"resources": [flunders | {"verbs": verbs, "shortNames": ["flu"]}]})

    async def _flunders(self, request: web.Request) -> web.StreamResponse:
        headers = request.headers
        body = await request.json() if request.can_read_body and request.method == "POST" else None
        self.asked.append(
            {
                "method": request.method,
                "path": request.path_qs,
                "user": headers.get("X-Remote-User"),
                "groups": headers.getall("X-Remote-Group", []),
                "authorization": headers.get("Authorization"),
                "body": body,
            }
        )
        head = {"apiVersion": f"{self.group}/v1alpha1"}
        flunder = head | {"kind": "Flunder", "metadata": {"name": "one", "creationTimestamp": None}}
        if request.method == "POST":
            return web.json_response(body, status=201)
        if request.path.endswith("/flunders/one"):
            return web.json_response(flunder)
        return web.json_response(head | {"kind": "FlunderList", "metadata": {}, "items": [flunder]})

    async def _redirect(self, request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "https://elsewhere.example/"})

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(f"{request.headers.get('X-Remote-User')}: {message.data}")
            break
        await answer.close()
        return answer
