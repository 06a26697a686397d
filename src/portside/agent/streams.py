"""exec, attach and port-forward: the runtime speaks SPDY; SPDY clients are tunnelled, WebSocket ones translated.

WebSocket subprotocols: v5/v4.channel.k8s.io (the first byte of a message is its channel; v5 adds 255: close a channel),
the older channel.k8s.io and no protocol at all (errors are plain text), base64 forms of these (text messages, the
channel is a digit), and SPDY/3.1+portforward.k8s.io (SPDY bytes inside binary messages).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from portside.agent.runtime import RuntimeFailure, State
from portside.agent.serving import Exchange, HttpProblem
from portside.base import spdy, websocket

if TYPE_CHECKING:
    from portside.agent.agent import Agent
    from portside.agent.worker import PodWorker

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
PLAIN_ERRORS = ("", "channel.k8s.io", "base64.channel.k8s.io")
CHANNELS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    *PLAIN_ERRORS,
)
PORT_FORWARD_TUNNEL = "SPDY/3.1+portforward.k8s.io"
SPDY_STREAMS = "v4.channel.k8s.io"
CHUNK = 32 << 10
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _dial(url: str, head: list[tuple[str, str]], method: str = "POST") -> tuple[Pair, bytes, int]:
    """Ask the runtime's stream server for an upgrade: connection, the answer's head, its status."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *(f"{k}: {v}" for k, v in head), "", ""]
    writer.write("\r\n".join(lines).encode("latin-1"))
    answer = await reader.readuntil(b"\r\n\r\n")
    return (reader, writer), answer, int(answer.split(b" ", 2)[1])


def _upgrade_head(protocols: list[str]) -> list[tuple[str, str]]:
    return [
        ("Connection", "Upgrade"),
        ("Upgrade", "SPDY/3.1"),
        ("Content-Length", "0"),
        *(("X-Stream-Protocol-Version", p) for p in protocols),
    ]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


async def _both(first: asyncio.Task[None], second: asyncio.Task[None]) -> None:
    """Until one of the two directions ends; then the other is given up, so that no side is left half open."""
    await asyncio.wait({first, second}, return_when=asyncio.FIRST_COMPLETED)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def _refused(exchange: Exchange, pair: Pair, head: bytes, status: int) -> None:
    """Hand the runtime's refusal on; both sides are closed."""
    body = await asyncio.wait_for(pair[0].read(4096), 2.0)
    pair[1].close()
    raise HttpProblem(status if status >= 400 else 502, body.decode("utf-8", "replace").strip() or "stream refused")


async def _tunnel_spdy(exchange: Exchange, url: str) -> None:
    """A SPDY client: its bytes are the runtime's bytes."""
    wanted = exchange.request.headers.get("x-stream-protocol-version", "")
    await _tunnel(exchange, await _dial(url, _upgrade_head([p.strip() for p in wanted.split(",") if p.strip()])))


async def _tunnel_websocket(exchange: Exchange, url: str) -> None:
    """A WebSocket whose frames the runtime itself understands."""
    headers = exchange.request.headers
    passed = ("sec-websocket-key", "sec-websocket-version", "sec-websocket-protocol")
    head = [("Connection", "Upgrade"), ("Upgrade", "websocket"), *((k, headers[k]) for k in passed if k in headers)]
    await _tunnel(exchange, await _dial(url, head, "GET"))


async def _tunnel(exchange: Exchange, dialled: tuple[Pair, bytes, int]) -> None:
    pair, head, status = dialled
    if status != 101:
        await _refused(exchange, pair, head, status)
    exchange.writer.write(head)
    try:
        await _both(
            asyncio.create_task(_pump(exchange.reader, pair[1])), asyncio.create_task(_pump(pair[0], exchange.writer))
        )
    finally:
        pair[1].close()


async def _accept(exchange: Exchange, protocol: str) -> None:
    key = exchange.request.headers.get("sec-websocket-key", "")
    chosen = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
    exchange.writer.write(
        (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {websocket.accept_key(key)}\r\n{chosen}\r\n"
        ).encode()
    )
    await exchange.writer.drain()


class _Channels:
    """One exec or attach: WebSocket channels on one side, SPDY streams on the other."""

    def __init__(
        self, exchange: Exchange, pair: Pair, protocol: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> None:
        self.exchange, self.pair = exchange, pair
        self.text, self.plain = "base64" in protocol, protocol in PLAIN_ERRORS
        self.first = STDOUT if stdout else STDERR if stderr and not tty else ERROR
        self.outcome = b""
        self.frames, self.framer = websocket.Frames(), spdy.Framer()
        self.channels: dict[int, int] = {}  # SPDY stream -> channel
        self.streams: dict[int, int] = {}  # channel -> SPDY stream
        self.open: set[int] = set()
        number = 1
        wanted = {ERROR: ("error", True), STDIN: ("stdin", stdin), STDOUT: ("stdout", stdout)}
        wanted |= {STDERR: ("stderr", stderr and not tty), RESIZE: ("resize", tty)}
        for channel, (kind, needed) in wanted.items():
            if needed:
                pair[1].write(self.framer.open(number, {"streamType": kind}))
                self.channels[number], self.streams[channel] = channel, number
                if channel in (ERROR, STDOUT, STDERR):
                    self.open.add(number)
                number += 2

    async def outward(self) -> None:
        """From the runtime to the client."""
        reader, writer = self.pair[0], self.exchange.writer
        writer.write(self._message(self.first, b""))  # upstream's sign that the streams are there
        while self.open and (data := await reader.read(CHUNK)):
            for event in self.framer.receive(data):
                if isinstance(event, spdy.Data):
                    channel = self.channels.get(event.stream, -1)
                    if channel == ERROR and self.plain:
                        self.outcome += event.data
                    elif event.data and channel >= 0:
                        writer.write(self._message(channel, event.data))
                    if event.fin:
                        self.open.discard(event.stream)
                elif isinstance(event, spdy.Reset):
                    self.open.discard(event.stream)
                elif isinstance(event, spdy.Ping) and event.number % 2 == 0:
                    self.pair[1].write(self.framer.pong(event.number))
                elif isinstance(event, spdy.GoAway):
                    self.open.clear()
            await writer.drain()
        if text := failure_text(self.outcome):
            writer.write(self._message(ERROR, text))
        writer.write(self.frames.close())
        await writer.drain()

    def _message(self, channel: int, data: bytes) -> bytes:
        if self.text:
            return self.frames.frame(b"%d" % channel + base64.b64encode(data), websocket.TEXT)
        return self.frames.frame(bytes([channel]) + data)

    async def inward(self) -> None:
        """From the client to the runtime."""
        reader, writer = self.exchange.reader, self.pair[1]
        while data := await reader.read(CHUNK):
            for message in self.frames.receive(data):
                if message.kind == websocket.PING:
                    self.exchange.writer.write(self.frames.frame(message.data, websocket.PONG))
                elif message.kind == websocket.CLOSE:
                    self.exchange.writer.write(self.frames.close())  # a close is answered by one
                    return
                elif message.data:
                    self._forward(message.data)
            await writer.drain()

    def _forward(self, data: bytes) -> None:
        channel, rest = data[0], data[1:]
        if self.text:
            try:
                channel, rest = int(data[:1]), base64.b64decode(rest)
            except (ValueError, binascii.Error):
                return
        if channel == CLOSE and rest:
            if (stream := self.streams.get(rest[0])) is not None and rest[0] == STDIN:
                self.pair[1].write(self.framer.data(stream, b"", fin=True))
        elif channel in (STDIN, RESIZE) and rest and (stream := self.streams.get(channel)) is not None:
            self.pair[1].write(self.framer.data(stream, rest))


async def _translate(exchange: Exchange, url: str, protocol: str) -> None:
    request = exchange.request
    pair, head, status = await _dial(url, _upgrade_head([SPDY_STREAMS]))
    if status != 101:
        await _refused(exchange, pair, head, status)
    try:
        await _accept(exchange, protocol)
        channels = _Channels(
            exchange,
            pair,
            protocol,
            stdin=request.flag("input"),
            stdout=request.flag("output"),
            stderr=request.flag("error"),
            tty=request.flag("tty"),
        )
        await _both(asyncio.create_task(channels.outward()), asyncio.create_task(channels.inward()))
    finally:
        pair[1].close()


def failure_text(status: bytes) -> bytes:
    """What older protocols say on the error channel: the message of a failure, nothing of a success."""
    if not status:
        return b""
    try:
        told = json.loads(status)
    except ValueError:
        return status
    return b"" if told.get("status") == "Success" else str(told.get("message", "")).encode()


def _chosen(exchange: Exchange, offered: tuple[str, ...]) -> str:
    """The first the client names of those ``offered``. Raises HttpProblem 400."""
    wanted = [p.strip() for p in exchange.request.headers.get("sec-websocket-protocol", "").split(",")]
    for protocol in wanted:
        if protocol in offered:
            return protocol
    raise HttpProblem(
        400, f"unable to upgrade: none of the protocols {wanted} is supported; use one of {list(offered)}"
    )


def _is_websocket(exchange: Exchange) -> bool:
    return exchange.request.headers.get("upgrade", "").lower() == "websocket"


async def _running(agent: Agent, exchange: Exchange) -> tuple[PodWorker, str]:
    """The container a path names. Raises HttpProblem."""
    from portside.agent.node_api import find_worker

    parts = exchange.request.path.strip("/").split("/")
    if len(parts) < 4:
        raise HttpProblem(404, "404 page not found")
    worker = find_worker(agent, parts[1], parts[2])
    await worker.observe()
    container = worker.view.latest(parts[-1])
    if container is None or container.state is not State.RUNNING:
        raise HttpProblem(404, f'container not found ("{parts[-1]}")')
    return worker, container.id


async def _stream(exchange: Exchange, url: str) -> None:
    if _is_websocket(exchange):
        await _translate(exchange, url, _chosen(exchange, CHANNELS))
    elif exchange.request.headers.get("upgrade"):
        await _tunnel_spdy(exchange, url)
    else:
        raise HttpProblem(400, "unable to upgrade: missing upgrade headers in request")


async def execute(agent: Agent, exchange: Exchange) -> None:
    """/exec/NAMESPACE/POD/CONTAINER?command=…&input=1&output=1&error=1&tty=1"""
    request = exchange.request
    _, container = await _running(agent, exchange)
    try:
        url = await agent.runtime.exec_url(
            container,
            request.query.get("command", []),
            stdin=request.flag("input"),
            stdout=request.flag("output"),
            stderr=request.flag("error"),
            tty=request.flag("tty"),
        )
    except RuntimeFailure as failure:
        raise HttpProblem(400, failure.message) from None
    await _stream(exchange, url)


async def attach(agent: Agent, exchange: Exchange) -> None:
    """/attach/NAMESPACE/POD/CONTAINER?input=1&output=1&error=1&tty=1"""
    request = exchange.request
    _, container = await _running(agent, exchange)
    try:
        url = await agent.runtime.attach_url(
            container,
            stdin=request.flag("input"),
            stdout=request.flag("output"),
            stderr=request.flag("error"),
            tty=request.flag("tty"),
        )
    except RuntimeFailure as failure:
        raise HttpProblem(400, failure.message) from None
    await _stream(exchange, url)


async def port_forward(agent: Agent, exchange: Exchange) -> None:
    """/portForward/NAMESPACE/POD?port=…: SPDY streams with the headers port and streamType, alone or within a WebSocket;
    or a WebSocket with two channels for each of the ports, data and errors, each of which begins with its port."""
    from portside.agent.node_api import find_worker

    parts = exchange.request.path.strip("/").split("/")
    if len(parts) < 3:
        raise HttpProblem(404, "404 page not found")
    worker = find_worker(agent, parts[1], parts[2])
    view = await worker.observe()
    if view.sandbox is None or not view.sandbox.ready:
        raise HttpProblem(404, "sandbox not found")
    within = PORT_FORWARD_TUNNEL in exchange.request.headers.get("sec-websocket-protocol", "")
    channels = _is_websocket(exchange) and not within
    try:
        url = await agent.runtime.port_forward_url(view.sandbox.id, _ports(exchange) if channels else ())
    except RuntimeFailure as failure:
        raise HttpProblem(400, failure.message) from None
    if channels:
        await _tunnel_websocket(exchange, url)
    elif within:
        await _port_forward_within(exchange, url)
    else:
        await _stream(exchange, url)


def _ports(exchange: Exchange) -> list[int]:
    """The ports of a forward by channels. Raises HttpProblem 400 in the kubelet's words."""
    words = exchange.request.query.get("port", [])
    if not words:
        raise HttpProblem(400, 'query parameter "port" is required')
    ports = []
    for word in ",".join(words).split(","):
        if not word.isdigit() or int(word) > 65535:
            raise HttpProblem(
                400, f'unable to parse "{word}" as a port: strconv.ParseUint: parsing "{word}": invalid syntax'
            )
        if not int(word):
            raise HttpProblem(400, f'port "{word}" must be > 0')
        ports.append(int(word))
    return ports


async def _port_forward_within(exchange: Exchange, url: str) -> None:
    """SPDY within a WebSocket, as kubectl speaks it."""
    protocol = _chosen(exchange, (PORT_FORWARD_TUNNEL,))
    pair, head, status = await _dial(url, _upgrade_head(["portforward.k8s.io"]))
    if status != 101:
        await _refused(exchange, pair, head, status)
    try:
        await _accept(exchange, protocol)
        frames = websocket.Frames()
        await _both(
            asyncio.create_task(_unwrap(exchange, frames, pair[1])),
            asyncio.create_task(_wrap(exchange, frames, pair[0])),
        )
    finally:
        pair[1].close()


async def _unwrap(exchange: Exchange, frames: websocket.Frames, writer: asyncio.StreamWriter) -> None:
    while data := await exchange.reader.read(CHUNK):
        for message in frames.receive(data):
            if message.kind == websocket.PING:
                exchange.writer.write(frames.frame(message.data, websocket.PONG))
            elif message.kind == websocket.CLOSE:
                exchange.writer.write(frames.close())
                return
            elif message.kind == websocket.BINARY:
                writer.write(message.data)
        await writer.drain()


async def _wrap(exchange: Exchange, frames: websocket.Frames, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        exchange.writer.write(frames.frame(data))
        await exchange.writer.drain()
    exchange.writer.write(frames.close())
    await exchange.writer.drain()
