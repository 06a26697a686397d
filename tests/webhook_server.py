"""A webhook server for tests: aiohttp over TLS on loopback, in a thread of its own, with an authority made for it."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Json = dict[str, Any]
# From an AdmissionReview's request to its response (uid is filled in), or to a whole answer.
Decide = Callable[[Json], "Json | web.Response"]


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, signer: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] = (),
) -> x509.Certificate:  # fmt: skip
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in names]
        alternatives.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
        made = made.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return made.sign(signer, hashes.SHA256())


class WebhookServer:
    """``with WebhookServer() as hooks``: ``hooks.on("/deny", decide)``, then a clientConfig of ``hooks.at("/deny")``."""

    def __init__(self, names: tuple[str, ...] = ("localhost",)) -> None:
        authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        ca = _certificate("webhook-ca", authority, None, authority)
        leaf = _certificate("webhook", own, ca, authority, names)
        self.bundle = base64.b64encode(ca.public_bytes(serialization.Encoding.PEM)).decode()
        self._pem = leaf.public_bytes(serialization.Encoding.PEM) + own.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.port = 0
        self.connections = 0
        self.asked: dict[str, list[Json]] = {}
        self.queries: dict[str, list[str]] = {}
        self._decide: dict[str, Decide] = {}
        self._delays: dict[str, float] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._up = threading.Event()

    def on(self, path: str, decide: Decide, *, delay: float = 0.0) -> None:
        self._decide[path] = decide
        self._delays[path] = delay
        self.asked[path] = []
        self.queries[path] = []

    def at(self, path: str) -> Json:
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle}

    def __enter__(self) -> WebhookServer:
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
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._runner.cleanup())
        self._loop.close()

    async def _start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            Path(file.name).write_bytes(self._pem)
            context.load_cert_chain(file.name)
        app = web.Application(client_max_size=32 << 20)
        self.routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/{path:.*}", self._answer)

    async def _answer(self, request: web.Request) -> web.Response:
        decide = self._decide.get(request.path)
        if decide is None:
            return web.Response(status=404, text="no such hook")
        review = await request.json()
        self.asked[request.path].append(review)
        self.queries[request.path].append(request.query_string)
        if delay := self._delays[request.path]:
            await asyncio.sleep(delay)
        made = decide(review.get("request") or review)
        if isinstance(made, web.Response):
            return made
        response = {"uid": review["request"]["uid"], **made}
        return web.json_response({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})


def allow(request: Json) -> Json:
    return {"allowed": True}


def deny(why: str) -> Decide:
    return lambda request: {"allowed": False, "status": {"message": why}}


def patching(*operations: Json) -> Decide:
    """A mutating webhook that answers with these JSON patch operations."""
    patch = base64.b64encode(json.dumps(operations).encode()).decode()
    return lambda request: {"allowed": True, "patchType": "JSONPatch", "patch": patch}


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    """Whether it holds within the time; asked again every 50 ms."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return holds()
