"""The in-process transport: calls the server's handler directly. Bodies stay bytes, so nothing is shared mutably;
watched objects may be shared read-only (``shared.py``), and what a component's own write made is handed over as it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from portside.client.rest import RestClient, refusal
from portside.client.shared import SharedObjects, parsed

Handler = Callable[[Any], Awaitable[Any]]
RequestFactory = Callable[..., Any]
LINES_AT_ONCE = 32
"""Events of a watch's beginning that are read before others get a turn."""


FEWEST, MOST = 16, 32  # calls that begin or end in one turn of the event loop
SHORT, LONG = 0.008, 0.02  # seconds: turns shorter than this let in more, longer ones fewer


class Turns:
    """Lets the calls of this process begin, and their callers go on, some at a time: a burst of thousands, or the answers
    to all writes of one commit, would hold up everybody else's requests for as long as all of them take together.
    First come, first served; how many follows from how long the turns of the loop are."""

    def __init__(self, fewest: int = FEWEST, most: int = MOST) -> None:
        self._fewest, self._most = fewest, most
        self._size = self._left = fewest
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False
        self._began = 0.0

    async def take(self) -> None:
        """Returns when it is the caller's turn: at once, unless many begin at the same time."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing, self._began = True, loop.time()
            loop.call_soon(self._renew, loop)
        if self._left and not self._waiting:
            self._left -= 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        took, self._began = loop.time() - self._began, loop.time()
        if took > LONG:
            self._size = max(self._size // 2, self._fewest)
        elif took < SHORT and self._waiting:
            self._size = min(self._size * 2, self._most)
        self._left = self._size
        while self._left and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._left -= 1
        self._renewing = self._left < self._size
        if self._renewing:
            loop.call_soon(self._renew, loop)


async def _whole(method: str, answer: Any) -> bytes:
    """A large answer is made while it is read: others get their turns in between."""
    if answer.stream is None:
        return bytes(answer.body)
    if method == "DELETE":
        return b""
    pieces = []
    async for piece in answer.stream:
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)


class InprocessTransport:
    """``make_request(method=, path=, query=, headers=, body=, direct=)`` builds what ``handler`` takes.

    The factory also fixes the caller's identity. What a collection was that is deleted is not read when it is large. Answers have
    ``code``, ``body``, ``content_type``, ``headers`` (pairs) and ``stream`` (an asynchronous iterator of bytes, or None); those to
    direct requests may have ``obj`` instead. ``direct``: the calls are those of a component, which takes objects without
    managedFields.
    """

    def __init__(
        self, handler: Handler, make_request: RequestFactory, turns: Turns | None = None, *, direct: bool = False
    ) -> None:
        self._handler = handler
        self._make_request = make_request
        self._turns = turns or Turns()
        self._direct = direct

    async def _answer(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, direct: bool = False
    ) -> Any:
        plain = unquote(path) if "%" in path else path
        return await self._handler(
            self._make_request(method=method, path=plain, query=query, headers=headers, body=body, direct=direct)
        )

    async def ask(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes | dict[str, Any]]:
        await self._turns.take()
        answer = await self._answer(method, path, query, headers, body, self._direct)
        await self._turns.take()
        obj: dict[str, Any] | None = answer.obj
        if obj is None:
            return answer.code, await _whole(method, answer)
        obj["metadata"].pop("managedFields", None)
        return answer.code, obj

    async def exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        await self._turns.take()
        answer = await self._answer(method, path, query, headers, body)
        await self._turns.take()
        found = {str(k).lower(): str(v) for k, v in answer.headers}
        found.setdefault("content-type", answer.content_type)
        return answer.code, found, await _whole(method, answer)

    async def lines(self, path: str, query: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        answer = await self._answer("GET", path, query, headers, b"")
        if answer.code >= 400 or answer.stream is None:
            raise refusal(answer.code, answer.body)
        rest = b""
        try:
            async for piece in answer.stream:
                if not rest and piece.endswith(b"\n") and piece.find(b"\n") == len(piece) - 1:
                    yield piece
                    continue
                *whole, rest = (rest + piece).split(b"\n")
                for number, line in enumerate(whole, 1):
                    if line:
                        yield line
                    if number % LINES_AT_ONCE == 0:
                        await asyncio.sleep(0)
            if rest.strip():
                yield rest
        finally:
            close = getattr(answer.stream, "aclose", None)
            if close is not None:
                await close()

    async def close(self) -> None:
        """Nothing to release."""


def inprocess_client(
    handler: Handler,
    make_request: RequestFactory,
    *,
    user_agent: str = "portside",
    shared: SharedObjects | None = None,
    turns: Turns | None = None,
) -> RestClient:
    """A client of the server in this process. Clients given the same ``shared`` hold the same watched objects, and get neither
    these nor what they write with managedFields; those given the same ``turns`` begin their calls together a few at a time."""
    transport = InprocessTransport(handler, make_request, turns, direct=shared is not None)
    return RestClient(transport, user_agent=user_agent, decode=shared.event if shared else parsed)
