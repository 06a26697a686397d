"""A watch over a WebSocket: each event is one message, text for JSON and binary for protobuf, as upstream sends them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

from portside.base import websocket
from portside.server import handshake
from portside.server.negotiate import PROTOBUF
from portside.server.request import RawStream, Request, Response
from portside.server.watchstream import WatchStream


def events(data: bytes, framed: bool) -> Iterator[bytes]:
    """The single events of what a watch writes: lines, or (``framed``) pieces behind their length in four bytes."""
    if not framed:
        yield from data.splitlines(keepends=True)
        return
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def switched(request: Request, answer: Response) -> Response:
    """A watch's answer as messages, under the first protocol that the client offers (or none)."""
    watch = answer.stream
    assert isinstance(watch, WatchStream)
    framed = answer.content_type.startswith(PROTOBUF)
    kind = websocket.BINARY if framed else websocket.TEXT
    frames = websocket.Frames()

    async def take_over(raw: RawStream) -> None:
        over = asyncio.Event()

        def write(data: bytes) -> None:
            raw.write(b"".join([frames.frame(event, kind) for event in events(data, framed)]))

        async def listen() -> None:
            """Until the client closes; what else it says does not matter."""
            while data := await raw.read():
                for message in frames.receive(data):
                    if message.kind == websocket.PING:
                        raw.write(frames.frame(message.data, websocket.PONG))
                    elif message.kind == websocket.CLOSE:
                        return

        watch.open(write, over.set)
        tasks = [asyncio.create_task(over.wait()), asyncio.create_task(listen())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            raw.write(frames.close())
        finally:
            watch.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    offered = handshake.protocols(request.headers)
    headers = handshake.accepted(request, offered[0] if offered else "")
    return Response(101, content_type=answer.content_type, headers=headers, stream=watch, upgrade=take_over)
