"""A log over a WebSocket: each piece of the stream is one message (binary.k8s.io, or text in base64)."""

from __future__ import annotations

import asyncio
import base64
import contextlib

from portside.api.status import bad_request
from portside.base import websocket
from portside.server import handshake
from portside.server.request import RawStream, Request, Response

PROTOCOLS = ("", "binary.k8s.io", "base64.binary.k8s.io")


def switched(request: Request, answer: Response) -> Response:
    """The answer's stream as messages. Raises ApiError 400 when no protocol the client names is known."""
    wanted = handshake.protocols(request.headers) or [""]
    protocol = next((p for p in wanted if p in PROTOCOLS), None)
    if protocol is None:
        raise bad_request(f"unable to upgrade: none of the protocols {wanted} is supported; use one of {PROTOCOLS[1:]}")
    headers = handshake.accepted(request, protocol)
    frames = websocket.Frames()

    async def send(raw: RawStream) -> None:
        assert answer.stream is not None
        async for piece in answer.stream:
            if protocol.startswith("base64"):
                raw.write(frames.frame(base64.b64encode(piece), websocket.TEXT))
            else:
                raw.write(frames.frame(piece))
            await raw.drain()
        raw.write(frames.close())
        await raw.drain()

    async def listen(raw: RawStream) -> None:
        """Until the client closes; what else it says does not matter."""
        while data := await raw.read():
            for message in frames.receive(data):
                if message.kind == websocket.PING:
                    raw.write(frames.frame(message.data, websocket.PONG))
                elif message.kind == websocket.CLOSE:
                    return

    async def take_over(raw: RawStream) -> None:
        tasks = [asyncio.create_task(send(raw)), asyncio.create_task(listen(raw))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(Exception):
                await asyncio.gather(*tasks, return_exceptions=True)
            raw.close()

    return Response(101, headers=headers, upgrade=take_over)
