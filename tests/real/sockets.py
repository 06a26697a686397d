"""A WebSocket to the API of a lab, by hand."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
from collections.abc import Iterator

from portside.base import websocket
from tests.real.lab import Lab


@contextlib.contextmanager
def dialled(lab: Lab, path: str, protocol: str) -> Iterator[Iterator[websocket.Message]]:
    """The messages of a WebSocket."""
    host, port = lab.server.hostname or "", lab.server.port
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        f"Sec-WebSocket-Protocol: {protocol}",
    ]
    with socket.create_connection((host, port), 20) as plain, lab.tls.wrap_socket(plain, server_hostname=host) as wire:
        wire.sendall("\r\n".join([*head, "", ""]).encode())
        data = b""
        while b"\r\n\r\n" not in data:
            data += wire.recv(4096)
        answer, _, rest = data.partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101") and protocol.encode() in answer, answer
        frames = websocket.Frames(client=True)

        def messages(rest: bytes) -> Iterator[websocket.Message]:
            while True:
                for message in frames.receive(rest):
                    if message.kind == websocket.CLOSE:
                        return
                    yield message
                rest = wire.recv(4096)
                if not rest:
                    return

        yield messages(rest)
