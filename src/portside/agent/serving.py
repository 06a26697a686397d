"""The node's HTTPS server for the control plane: kubelet's paths, client certificates of the control plane only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from portside.agent.agent import Agent

log = logging.getLogger(__name__)
HEAD_LIMIT = 64 << 10  # bytes of a request's head
IDLE = 60.0  # seconds a connection may stay silent before its request
PORT_FILE = "agent-port"  # in the home
USUAL_PORT = 10250  # where monitoring and upstream's tools look for a node
CONTROL_PLANE = "kube-apiserver-kubelet-client"


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head; the body, if any, is still to be read."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    raw_query: str

    def one(self, name: str, default: str = "") -> str:
        values = self.query.get(name)
        return values[0] if values else default

    def flag(self, name: str) -> bool:
        return self.one(name).lower() in ("1", "t", "true")


class HttpProblem(Exception):
    """An answer other than 200, as plain text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Exchange:
    """One request and its raw connection: a handler answers, streams or takes the connection over."""

    def __init__(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request, self.reader, self.writer = request, reader, writer
        self._chunked = False

    async def answer(self, code: int, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        head = f"HTTP/1.1 {code} {REASONS.get(code, 'Status')}\r\nContent-Type: {kind}\r\n"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def begin(self, kind: str = "text/plain; charset=utf-8") -> None:
        """A streamed answer (chunked)."""
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        self.writer.write(head.encode())
        self._chunked = True
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        if data:
            self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    async def body(self, limit: int = 1 << 20) -> bytes:
        size = int(self.request.headers.get("content-length") or 0)
        if size > limit:
            raise HttpProblem(413, "request body too large")
        return await self.reader.readexactly(size)


REASONS = {
    200: "OK",
    101: "Switching Protocols",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}
Handler = Callable[["Agent", Exchange], Awaitable[None]]


def parse_head(head: bytes) -> Request:
    """A request's head. Raises HttpProblem 400."""
    try:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, version = first.split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(version)
    except ValueError:
        raise HttpProblem(400, "malformed request") from None
    parts = urlsplit(target)
    headers: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            name = key.strip().lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
    return Request(method, parts.path, parse_qs(parts.query, keep_blank_values=True), headers, parts.query)


class NodeServer:
    """Listens at once; answers 503 until an agent is attached."""

    def __init__(self) -> None:
        self.port = 0
        self._agent: Agent | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    def attach(self, agent: Agent) -> None:
        self._agent = agent

    async def listen(self, host: str, port: int, context: ssl.SSLContext | None) -> None:
        """Raises OSError when the port is taken."""
        self._server = await asyncio.start_server(self._connected, host, port, ssl=context, limit=HEAD_LIMIT)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the peer left, or the server is being closed: nobody is there to be told
        except Exception:
            log.exception("node server")
        finally:
            self._connections.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(IDLE):
            head = await reader.readuntil(b"\r\n\r\n")
        exchange = Exchange(Request("", "", {}, {}, ""), reader, writer)
        try:
            request = parse_head(head[:-4])
            exchange = Exchange(request, reader, writer)
            certificate = writer.get_extra_info("peercert")
            if not certificate:
                raise HttpProblem(401, "Unauthorized")
            if not allowed(certificate):
                raise HttpProblem(403, "only the control plane may ask this")
            await self._dispatch(exchange)
        except HttpProblem as problem:
            await exchange.answer(problem.code, problem.text.encode())

    async def _dispatch(self, exchange: Exchange) -> None:
        from portside.agent.node_api import ROUTES

        path = exchange.request.path
        if any(part in ("..", ".") for part in unquote(path).split("/")):
            raise HttpProblem(400, "invalid path")
        first = path.split("/")[1] if "/" in path else ""
        handler = ROUTES.get(first)
        if handler is None:
            raise HttpProblem(404, "404 page not found")
        if self._agent is None:
            raise HttpProblem(503, "the node is starting")
        await handler(self._agent, exchange)


def allowed(certificate: object) -> bool:
    """Whether the peer's verified certificate is the control plane's."""
    if not isinstance(certificate, dict):
        return False
    subject = {key: value for pair in certificate.get("subject", ()) for key, value in pair}
    return subject.get("commonName") == CONTROL_PLANE


async def serve_node(home: Path, node: str, ips: tuple[str, ...], port: int) -> NodeServer:
    """Start the node's server with a certificate of the cluster's authority. ``port`` 0: the one it had before, so that a
    restart moves nothing, else the usual one, or a free one where another cluster's node has that. Raises OSError, PortsideError."""
    from portside.base.pki import Pki, ensure_node_server

    pki = Pki(home / "pki")
    name = ensure_node_server(pki, node, ips)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.certificate(name), pki.key(name))
    context.load_verify_locations(pki.ca)
    context.verify_mode = ssl.CERT_OPTIONAL  # who has none is told so, as upstream, instead of a broken connection
    server = NodeServer()
    kept = home / PORT_FILE
    try:
        await server.listen("0.0.0.0", port or _kept_port(kept) or USUAL_PORT, context)
    except OSError:
        if port:
            raise
        await server.listen("0.0.0.0", 0, context)  # somebody else has it meanwhile
    kept.write_text(f"{server.port}\n")
    return server


def _kept_port(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
