"""HTTP/1.1 on uvloop and httptools: one connection's protocol, its limits, and the listener that owns connections.

Requests of one connection are answered in order; what a client pipelines waits in the socket. Limits: a body beyond
3 MiB is read away and reported to the handler, beyond 64 MiB the connection is cut; headers 64 KiB; idle connections,
slow headers and slow bodies are cut by a sweep (``docs/limits.md``).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools
import orjson

from portside.api.status import ApiError
from portside.server.pieces import LAST_CHUNK, Pieces, chunk, gzipped, packed
from portside.server.request import Request, Response
from portside.server.routes import not_allowed
from portside.server.watchstream import WatchStream

MAX_BODY = 3 * 1024 * 1024
MAX_DISCARD = 64 * 1024 * 1024
MAX_HEADERS = 64 * 1024
IDLE_SECONDS = 180.0
HEADER_SECONDS = 32.0
BODY_SECONDS = 60.0
GZIP_FROM = 128 * 1024
PACKED = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
WRITE_HIGH = 1024 * 1024
READ_HIGH = 256 * 1024

PHRASES = {s.value: s.phrase for s in HTTPStatus}
Handler = Callable[[Request], Awaitable[Response]]
FastHandler = Callable[[Request], "Response | None"]


def _joint(name: str) -> str:
    return "\n" if name.startswith(("impersonate-", "x-remote-")) else ", "


class _Raw:
    """The connection handed to an upgrade handler; see ``RawStream``."""

    def __init__(self, connection: Connection, tail: bytes) -> None:
        self._connection = connection
        self._chunks: deque[bytes] = deque([tail] if tail else [])
        self._size = len(tail)
        self._ended = False
        self._ready = asyncio.Event()
        if tail:
            self._ready.set()

    def feed(self, data: bytes) -> None:
        self._chunks.append(data)
        self._size += len(data)
        if self._size > READ_HIGH:
            self._connection.pause_reading()
        self._ready.set()

    def end(self) -> None:
        self._ended = True
        self._ready.set()

    async def read(self) -> bytes:
        while not self._chunks:
            if self._ended:
                return b""
            self._ready.clear()
            await self._ready.wait()
        data = self._chunks.popleft()
        self._size -= len(data)
        if self._size <= READ_HIGH // 2:
            self._connection.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        self._connection.transport.write(data)

    async def drain(self) -> None:
        await self._connection.drain()

    def close(self) -> None:
        self._connection.transport.close()


class Connection(asyncio.Protocol):
    """One client. The parser's callbacks fill ``_head``; a complete request is answered at once or by a task."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.peer_cert: bytes | None = None
        self.remote = ""
        self.deadline = 0.0
        self.busy = False
        self.raw: _Raw | None = None
        self._watch: WatchStream | None = None
        self._parser: Any = None
        self._pending: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._can_write: asyncio.Event | None = None
        self._lost = False
        self._read_paused = False
        self._reset()

    def _reset(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._header_size = 0
        self._body: list[bytes] = []
        self._body_size = 0

    # --- transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH)
        secure = transport.get_extra_info("ssl_object")
        if secure is not None:
            self.peer_cert = secure.getpeercert(True)
        peer = transport.get_extra_info("peername")
        self.remote = str(peer[0]) if peer else ""
        self._parser = httptools.HttpRequestParser(self)
        self.deadline = self.listener.clock() + HEADER_SECONDS
        self.listener.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.listener.connections.discard(self)
        if self.raw is not None:
            self.raw.end()
        if self._can_write is not None:
            self._can_write.set()
        if self._task is not None and self.raw is None:
            self._task.cancel()

    def eof_received(self) -> bool:
        if self.raw is not None:
            self.raw.end()
        return False

    def data_received(self, data: bytes) -> None:
        if self.raw is not None:
            self.raw.feed(data)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as switch:
            tail = data[switch.args[0] :]
            if self._pending or self.busy:
                # The task of this very request decides; bytes behind it belong to the new protocol.
                self.raw = _Raw(self, tail)
        except httptools.HttpParserInvalidMethodError:
            self._refuse(not_allowed())
        except httptools.HttpParserError:
            self._refuse(None)

    def pause_reading(self) -> None:
        if not self._read_paused and not self._lost:
            self._read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._read_paused and not self._lost:
            self._read_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        self._can_write = asyncio.Event()
        if self._watch is not None:
            self._watch.pause()

    def resume_writing(self) -> None:
        if self._watch is not None:
            self._watch.resume()
        if self._can_write is not None:
            self._can_write.set()
            self._can_write = None

    async def drain(self) -> None:
        if self._can_write is not None:
            await self._can_write.wait()
        if self._lost:
            raise ConnectionResetError("the client is gone")

    # --- parser callbacks ------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self.deadline = self.listener.clock() + HEADER_SECONDS

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._header_size += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1")
        self._header_size += len(name) + len(value)
        if self._header_size > MAX_HEADERS:
            raise ValueError("headers too large")
        old = self._headers.get(key)
        self._headers[key] = text if old is None else old + _joint(key) + text

    def on_headers_complete(self) -> None:
        self.deadline = self.listener.clock() + BODY_SECONDS
        if self._headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._body_size += len(data)
        self.deadline = self.listener.clock() + BODY_SECONDS
        if self._body_size <= MAX_BODY:
            self._body.append(data)
        else:
            self._body.clear()
            if self._body_size > MAX_DISCARD:
                self.transport.close()

    def on_message_complete(self) -> None:
        url = self._url.decode("latin-1")
        if url[:1] != "/":
            url = "/" + url.partition("://")[2].partition("/")[2] if "://" in url else url
        path, _, query = url.partition("?")
        if "%" in path:
            path = unquote(path)
        too_large = self._body_size > MAX_BODY
        body = b"" if too_large else (self._body[0] if len(self._body) == 1 else b"".join(self._body))
        request = Request(
            self._parser.get_method().decode("latin-1"),
            path,
            query,
            self._headers,
            body,
            self.peer_cert,
            self.remote,
            too_large,
        )
        keep = self._parser.should_keep_alive() and not self.listener.draining
        if self.busy:
            self._pending.append((request, keep))
            self.pause_reading()
            return
        self._begin(request, keep)

    # --- answers ---------------------------------------------------------------------------------------------------

    def _begin(self, request: Request, keep: bool) -> None:
        quick = self.listener.fast(request) if self.listener.fast is not None else None
        if quick is not None and not (len(quick.body) >= GZIP_FROM and "gzip" in request.header("accept-encoding")):
            self._write(quick, quick.body, keep, request)
            self._finished(keep)
            return
        self.busy = True
        self.deadline = 0.0
        self._task = self.listener.loop.create_task(self._serve(request, keep))

    def _finished(self, keep: bool) -> None:
        self.deadline = self.listener.clock() + IDLE_SECONDS
        if not keep or self.listener.draining:  # a client that may go on here would begin its next watch
            self.transport.close()

    async def _serve(self, request: Request, keep: bool) -> None:
        try:
            while True:
                keep = await self._answer(request, keep)
                if not keep or not self._pending:
                    break
                request, keep = self._pending.popleft()
            self.busy = False
            self._task = None
            self.resume_reading()
            self._finished(keep)
        except (ConnectionError, asyncio.CancelledError):
            self.transport.close()
        except Exception as error:
            self.listener.report(error)
            self.transport.close()

    async def _answer(self, request: Request, keep: bool) -> bool:
        response = await self.listener.handler(request)
        if response.lasts:
            try:
                return await self._long(response, keep)
            finally:
                if response.ended is not None:
                    response.ended()
        if self.raw is not None:
            keep = False
        if isinstance(response.stream, Pieces):
            await self._send_pieces(response, response.stream, keep, request)
            return keep
        body = response.body
        if len(body) >= GZIP_FROM and "gzip" in request.header("accept-encoding"):
            body = await asyncio.to_thread(gzipped, body)
            response.headers.extend(PACKED)
        self._write(response, body, keep, request)
        if self._can_write is not None:
            await self.drain()
        return keep

    async def _long(self, response: Response, keep: bool) -> bool:
        """An answer that goes on: another protocol, a watch, a stream."""
        if response.upgrade is not None:
            await self._switch(response)
            return False
        if self.raw is not None:
            keep = False
        if isinstance(response.stream, WatchStream):
            await self._push(response, response.stream, keep)
        else:
            await self._stream(response, keep)
        return keep

    def _head(self, response: Response, framing: str, keep: bool) -> bytes:
        lines = [
            f"HTTP/1.1 {response.code} {PHRASES.get(response.code, 'Unknown')}\r\n",
            framing,
            self.listener.date(),
        ]
        if response.content_type:
            lines.append(f"Content-Type: {response.content_type}\r\n")
        for name, value in response.headers:
            lines.append(f"{name}: {value}\r\n")
        lines.append("\r\n" if keep else "Connection: close\r\n\r\n")
        return "".join(lines).encode("utf-8")

    def _write(self, response: Response, body: bytes, keep: bool, request: Request) -> None:
        framing = "" if response.code in (204, 304) else f"Content-Length: {len(body)}\r\n"
        head = self._head(response, framing, keep)
        if request.method == "HEAD" or response.code in (204, 304):
            body = b""
        if len(body) < 65536:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)

    async def _push(self, response: Response, watch: WatchStream, keep: bool) -> None:
        """A watch writes into the transport itself; this only waits for its end."""
        transport = self.transport
        transport.write(self._head(response, "Transfer-Encoding: chunked\r\n", keep))
        over = self.listener.loop.create_future()

        def write(data: bytes) -> None:
            transport.write(chunk(data))

        self._watch = watch
        watch.open(write, lambda: None if over.done() else over.set_result(None))
        try:
            if not self._lost:
                await over
            transport.write(LAST_CHUNK)
        finally:
            self._watch = None
            watch.close()

    async def _send_pieces(self, response: Response, pieces: Pieces, keep: bool, request: Request) -> None:
        """A large body, piece by piece; others get their turns in between."""
        zipped = "gzip" in request.header("accept-encoding")
        if zipped:
            response.headers.extend(PACKED)
        self.transport.write(self._head(response, "Transfer-Encoding: chunked\r\n", keep))
        if request.method == "HEAD":
            return
        async for piece in packed(pieces) if zipped else pieces:
            self.transport.write(chunk(piece))
            await (asyncio.sleep(0) if self._can_write is None else self.drain())
        self.transport.write(LAST_CHUNK)

    async def _stream(self, response: Response, keep: bool) -> None:
        self.transport.write(self._head(response, "Transfer-Encoding: chunked\r\n", keep))
        stream = cast(Any, response.stream)
        try:
            async for piece in stream:
                if piece:
                    self.transport.write(chunk(piece))
                if self._can_write is not None:
                    await self.drain()
            self.transport.write(LAST_CHUNK)
        finally:
            if (close := getattr(stream, "aclose", None)) is not None:
                await close()

    async def _switch(self, response: Response) -> None:
        lines = [f"HTTP/1.1 {response.code} {PHRASES.get(response.code, 'Unknown')}\r\n"]
        lines += [f"{name}: {value}\r\n" for name, value in response.headers]
        self.transport.write(("".join(lines) + "\r\n").encode("latin-1"))
        if self.raw is None:
            self.raw = _Raw(self, b"")
        self.deadline = 0.0
        self._watch = response.stream if isinstance(response.stream, WatchStream) else None
        try:
            await cast(Any, response.upgrade)(self.raw)
        finally:
            self._watch = None
            self.transport.close()

    def _refuse(self, error: ApiError | None) -> None:
        """Answer what is no HTTP (None) or no known method, and hang up."""
        if self.busy:
            self.transport.close()
            return
        response = Response(400, b"400 Bad Request", "text/plain; charset=utf-8")
        if error is not None:
            response = Response(error.code, orjson.dumps(error.status))
        self._write(response, response.body, False, Request("GET", "/"))
        self.transport.close()

    def stop(self) -> None:
        """End a watch or an idle connection; another request in hand is finished."""
        if self._watch is not None:
            self._watch.finish()
        elif not self.busy:
            self.transport.close()


class Listener:
    """A listening socket and its connections. ``fast`` may answer a request at once, without a task."""

    def __init__(
        self,
        handler: Handler,
        *,
        fast: FastHandler | None = None,
        report: Callable[[BaseException], None] = lambda error: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handler = handler
        self.fast = fast
        self.report = report
        self.clock = clock
        self.connections: set[Connection] = set()
        self.draining = False
        self.loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._servers: list[asyncio.AbstractServer] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._date = ("", -1.0)

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None, bound: socket.socket | None = None) -> int:
        """Bind and serve, or serve on what is ``bound``; answers the bound port. Raises OSError when the address can't be
        used."""
        self.loop = asyncio.get_running_loop()
        where: dict[str, Any] = {"host": host, "port": port, "reuse_address": True}
        if bound is not None:  # reused only from now on: before, somebody else could have shared the port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            where = {"sock": bound}
        server = await self.loop.create_server(lambda: Connection(self), **where, ssl=tls, backlog=1024)
        self._servers.append(server)
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        return int(server.sockets[0].getsockname()[1])

    def date(self) -> str:
        """The Date header's line, made once a second."""
        now = self.clock()
        if now - self._date[1] >= 1.0:
            self._date = (f"Date: {formatdate(usegmt=True)}\r\n", now)
        return self._date[0]

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(5)
            now = self.clock()
            for connection in list(self.connections):
                if connection.deadline and connection.deadline < now:
                    connection.transport.close()

    async def close(self, patience: float = 10.0) -> None:
        """Stop accepting, close idle connections, wait ``patience`` seconds for requests in hand, then cut."""
        self.draining = True
        for server in self._servers:
            server.close()
        for connection in list(self.connections):
            connection.stop()
        end = self.clock() + patience
        while self.connections and self.clock() < end:
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.transport.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
