"""The HTTP connection by itself: keep-alive, pipelining, chunks, limits, upgrades."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from portside.server.http import MAX_BODY, Listener
from portside.server.pieces import Pieces
from portside.server.request import RawStream, Request, Response

PIECE, PIECES = 100_000, 100
Talk = Callable[[bytes], Awaitable[bytes]]


async def handler(request: Request) -> Response:
    if request.path == "/upgrade":

        async def echo(stream: RawStream) -> None:
            stream.write(b"<" + await stream.read() + b">")

        return Response(101, headers=[("Connection", "Upgrade"), ("Upgrade", "echo")], upgrade=echo)
    if request.path == "/stream":

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"one", b"two"):
                yield piece

        return Response(200, stream=pieces())
    if request.path == "/large":
        return Response(200, stream=Pieces(b"<", (b"x" * PIECE for _ in range(PIECES)), b">"))
    if request.path == "/slow":
        await asyncio.sleep(0.02)
    text = f"{request.method} {request.path}?{request.query} {len(request.body)} {request.too_large}"
    return Response(200, text.encode(), "text/plain")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    listener = Listener(handler)
    yield await listener.listen("127.0.0.1", 0, None)
    await listener.close(0.2)


async def exchange(port: int, *sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for data in sent:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.01)
    try:
        return await asyncio.wait_for(reader.read(), 60)
    finally:
        writer.close()


async def test_pipelined_requests_are_answered_in_order(port: int) -> None:
    answer = await exchange(
        port,
        b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /b%20c?q=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert answer.index(b"GET /slow? 0 False") < answer.index(b"GET /b c?q=1 0 False")
    assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_chunked_bodies_arrive_whole(port: int) -> None:
    head = b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert b"POST /x? 8 False" in await exchange(port, head, b"3\r\nabc\r\n", b"5\r\ndefgh\r\n0\r\n\r\n")


async def test_a_body_beyond_the_limit_is_read_away_and_told(port: int) -> None:
    size = MAX_BODY + 1
    head = f"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n".encode()
    assert b"POST /x? 0 True" in await exchange(port, head, b"x" * size)


async def test_streams_are_chunked(port: int) -> None:
    answer = await exchange(port, b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


def unchunked(answer: bytes) -> bytes:
    body, rest = b"", answer.partition(b"\r\n\r\n")[2]
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    return body


async def test_a_large_body_arrives_whole_packed_or_not(port: int) -> None:
    whole = b"<" + b"x" * PIECE * PIECES + b">"
    plain = await exchange(port, b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert unchunked(plain) == whole
    asked = b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n"
    packed = await exchange(port, asked)
    assert b"Content-Encoding: gzip\r\n" in packed and gzip.decompress(unchunked(packed)) == whole
    head = await exchange(port, b"HEAD /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.endswith(b"\r\n\r\n") and b"x" * 100 not in head


async def test_others_are_answered_while_a_large_body_waits_for_its_reader(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
    writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"GET /other" in await exchange(port, b"GET /other HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    writer.transport.abort()


async def test_an_upgrade_hands_over_the_bytes_behind_the_request(port: int) -> None:
    head = b"POST /upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
    answer = await exchange(port, head + b"hello")
    assert answer.startswith(b"HTTP/1.1 101 Switching Protocols") and answer.endswith(b"\r\n\r\n<hello>")


async def test_a_failed_upgrade_closes_the_connection(port: int) -> None:
    answer = await exchange(port, b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    assert b"200 OK" in answer and b"Connection: close" in answer


@pytest.mark.parametrize(("sent", "code"), [(b"nonsense\r\n\r\n", b"405"), (b"GET / HTTP/9.9\r\n\r\n", b"400")])
async def test_what_is_no_request_is_refused(port: int, sent: bytes, code: bytes) -> None:
    assert (await exchange(port, sent)).startswith(b"HTTP/1.1 " + code)


async def test_an_answer_under_way_at_the_end_is_the_last_of_its_connection() -> None:
    """A client that could go on there would begin its next watch, and the end would wait for it in vain."""
    listener = Listener(handler)
    port = await listener.listen("127.0.0.1", 0, None)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
    await asyncio.sleep(0.01)
    ending = asyncio.create_task(listener.close(3600))
    assert b"GET /slow? 0 False" in await asyncio.wait_for(reader.read(), 60)
    await asyncio.wait_for(ending, 60)
    writer.close()
