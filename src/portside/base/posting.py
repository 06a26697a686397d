"""A POST over connections that are kept, as webhooks and extenders get theirs. Errors are worded as upstream's client has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")
PART_BYTES = 64 << 10


def session_over(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """A session without limits of time, cookies or unpacking of its own."""
    import aiohttp

    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def exchange(
    send: Callable[[], AbstractAsyncContextManager[aiohttp.ClientResponse]],
    read: Callable[[aiohttp.ClientResponse], Awaitable[T]],
    *,
    again: bool = True,
) -> T:
    """What ``read`` makes of the answer to ``send``. A connection that was kept and that the other side closes in the same moment
    (it was started anew) is tried once more, on a new one, if ``again``. Raises OSError."""
    import aiohttp

    for last in (not again, True):
        try:
            async with send() as response:
                return await read(response)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as problem:
            if last:
                raise ConnectionError("EOF") from problem
        except aiohttp.ClientPayloadError:
            raise ConnectionError("unexpected EOF") from None
        except aiohttp.ClientError as problem:
            raise ConnectionError(f"net/http: {problem}") from None
    raise AssertionError("the last try returns or raises")


async def whole(response: aiohttp.ClientResponse, limit: int, hint: str = "") -> bytes:
    """The answer's body. Raises ConnectionError when it is larger than ``limit`` bytes; ``hint`` says what to do about it."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(PART_BYTES):
        size += len(part)
        if size > limit:
            raise ConnectionError(f"the answer is larger than the limit of {limit} bytes{hint}")
        parts.append(part)
    return b"".join(parts)
