"""The in-process transport: calls the server's handler directly. Bodies stay bytes, so nothing is shared mutably;
watched objects may be shared read-only (``shared.py``)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

from portside.client.rest import RestClient, refusal
from portside.client.shared import SharedObjects, parsed

Handler = Callable[[Any], Awaitable[Any]]
RequestFactory = Callable[..., Any]


class InprocessTransport:
    """``make_request(method=, path=, query=, headers=, body=, raw_path=)`` builds what ``handler`` takes.

    The factory also fixes the caller's identity. Answers have ``code``, ``body``, ``content_type``, ``headers`` (pairs)
    and ``stream`` (an asynchronous iterator of bytes, or None).
    """

    def __init__(self, handler: Handler, make_request: RequestFactory) -> None:
        self._handler = handler
        self._make_request = make_request

    async def _answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Any:
        plain = unquote(path) if "%" in path else path
        request = self._make_request(method=method, path=plain, query=query, headers=headers, body=body, raw_path=path)
        return await self._handler(request)

    async def exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        answer = await self._answer(method, path, query, headers, body)
        data = answer.body
        if answer.stream is not None:
            data = b"".join([piece async for piece in answer.stream])
        found = {str(k).lower(): str(v) for k, v in answer.headers}
        found.setdefault("content-type", answer.content_type)
        return answer.code, found, data

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
                for line in whole:
                    if line:
                        yield line
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
) -> RestClient:
    """A client of the server in this process. Clients given the same ``shared`` hold the same watched objects."""
    transport = InprocessTransport(handler, make_request)
    return RestClient(transport, user_agent=user_agent, decode=shared.event if shared else parsed)
