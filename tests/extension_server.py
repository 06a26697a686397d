"""An extension API server for tests: one group with one resource, over TLS on this machine's own address.

It trusts the front proxy by certificate and records who asked; it answers discovery, a list, a watch and an upgrade.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import tempfile
import threading
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.webhook_server import _certificate

Json = dict[str, Any]


def own_address() -> str:
    """An address of this machine that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


class ExtensionServer:
    """``with ExtensionServer("wardle.example", service, namespace, front_proxy_ca) as server``."""

    def __init__(self, group: str, service: str, namespace: str, front_proxy_ca: str) -> None:
        self.group, self.address, self.port = group, own_address(), 0
        self.asked: list[Json] = []
        self._trusted = front_proxy_ca
        authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("extension-ca", authority, None, authority)
        leaf = _certificate("extension", own, ca, authority, (f"{service}.{namespace}.svc",))
        self.bundle = base64.b64encode(ca.public_bytes(serialization.Encoding.PEM)).decode()
        self._pem = leaf.public_bytes(serialization.Encoding.PEM) + own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def __enter__(self) -> ExtensionServer:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._up.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            Path(file.name).write_bytes(self._pem)
            context.load_cert_chain(file.name)
        context.load_verify_locations(cadata=self._trusted)
        context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        base = f"/apis/{self.group}/v1alpha1"
        app.router.add_get(base, self._resources)
        app.router.add_get(f"{base}/flunders/elsewhere", self._redirect)
        app.router.add_get(f"{base}/flunders/socket", self._socket)
        app.router.add_route("*", base + "/{tail:.*}", self._flunders)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.address, 0, ssl_context=context)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

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
