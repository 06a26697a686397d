"""A small scheduler extender for tests: what it answers to each verb is a function or a plain value, what it was asked is kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.tls_server import TlsServer

Json = dict[str, Any]
Answer = Callable[[Json], Any] | Any


class ExtenderServer(TlsServer):
    """``verbs``: answers by verb; bytes go out as they are, an int is a status code, a float a delay in seconds (then nothing
    useful). ``asked``: verbs with the arguments they came with, in order."""

    def __init__(self, *, tls: bool = False, port: int = 0, trusted: str = "", **verbs: Answer) -> None:
        super().__init__(tls=tls, port=port, trusted=trusted)
        self.verbs: dict[str, Answer] = verbs
        self.asked: list[tuple[str, Json]] = []
        self.at_once = self.most_at_once = 0
        self.delay = 0.0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.address}:{self.port}/scheduler"

    def routes(self, app: web.Application) -> None:
        app.router.add_post("/scheduler/{verb}", self._answer)

    def calls(self, verb: str) -> list[Json]:
        return [args for name, args in self.asked if name == verb]

    async def _answer(self, request: web.Request) -> web.Response:
        verb = request.match_info["verb"]
        args = json.loads(await request.read())
        self.asked.append((verb, args))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay)
            said = self.verbs[verb]
            found = said(args) if callable(said) else said
            if isinstance(found, float):
                await asyncio.sleep(found)
            if isinstance(found, int) and not isinstance(found, bool):
                return web.Response(status=found)
            return web.Response(body=found if isinstance(found, bytes) else json.dumps(found).encode())
        finally:
            self.at_once -= 1


def leaving(*names: str, failed: dict[str, str] | None = None, final: dict[str, str] | None = None) -> Answer:
    """A filter that leaves these of the nodes it is asked about, in the form it was asked in."""

    def answer(args: Json) -> Json:
        said: Json = {"FailedNodes": failed, "FailedAndUnresolvableNodes": final}
        if args["NodeNames"] is not None:
            return said | {"NodeNames": [n for n in args["NodeNames"] if n in names]}
        items = [n for n in args["Nodes"]["items"] if n["metadata"]["name"] in names]
        return said | {"Nodes": {"metadata": {}, "items": items}}

    return answer
