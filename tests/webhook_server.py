"""A webhook server for tests: what it is asked is kept, what it answers is a function per path."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.tls_server import TlsServer

Json = dict[str, Any]
# From an AdmissionReview's request to its response (uid is filled in), or to a whole answer.
Decide = Callable[[Json], "Json | web.Response"]


class WebhookServer(TlsServer):
    """``with WebhookServer() as hooks``: ``hooks.on("/deny", decide)``, then a clientConfig of ``hooks.at("/deny")``."""

    def __init__(self, names: tuple[str, ...] = ("localhost",)) -> None:
        super().__init__(names)
        self.asked: dict[str, list[Json]] = {}
        self.queries: dict[str, list[str]] = {}
        self._decide: dict[str, Decide] = {}
        self._delays: dict[str, float] = {}
        self._together: dict[str, asyncio.Barrier] = {}

    def on(self, path: str, decide: Decide, *, delay: float = 0.0, together: asyncio.Barrier | None = None) -> None:
        """``together``: no answer before as many have been asked as meet there."""
        self._decide[path] = decide
        self._delays[path] = delay
        self._together[path] = together or asyncio.Barrier(1)
        self.asked[path] = []
        self.queries[path] = []

    def at(self, path: str) -> Json:
        return {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle}

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
        await self._together[request.path].wait()
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
