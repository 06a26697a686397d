"""WebSocket frames (RFC 6455) for the server's side and a client's: pure bytes in, messages out."""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from dataclasses import dataclass, field

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
MAX_MESSAGE = 32 << 20


class WebSocketError(Exception):
    """The peer broke the protocol."""


def accept_key(key: str) -> str:
    """The answer to Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key.encode("latin-1") + GUID, usedforsecurity=False).digest()).decode()


@dataclass(frozen=True, slots=True)
class Message:
    """A complete message, or a control frame (CLOSE, PING, PONG)."""

    kind: int
    data: bytes


def _masked(data: bytes, mask: bytes) -> bytes:
    size = len(data)
    if not size:
        return data
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


@dataclass(slots=True)
class Frames:
    """One end of a connection. ``client``: our frames are masked, as a client's must be."""

    client: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _parts: list[bytes] = field(default_factory=list)
    _kind: int = 0
    _size: int = 0

    def receive(self, data: bytes) -> list[Message]:
        """Messages of all complete frames. Raises WebSocketError."""
        self._buffer += data
        found: list[Message] = []
        while (frame := self._next()) is not None:
            kind, final, body = frame
            if kind >= CLOSE:
                found.append(Message(kind, body))
                continue
            if kind != CONTINUATION:
                self._parts, self._kind, self._size = [], kind, 0
            self._parts.append(body)
            self._size += len(body)
            if self._size > MAX_MESSAGE:
                raise WebSocketError("message too large")
            if final:
                found.append(Message(self._kind, b"".join(self._parts)))
                self._parts = []
        return found

    def _next(self) -> tuple[int, bool, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        size, at = buffer[1] & 0x7F, 2
        if size == 126:
            if len(buffer) < 4:
                return None
            (size,), at = struct.unpack_from(">H", buffer, 2), 4
        elif size == 127:
            if len(buffer) < 10:
                return None
            (size,), at = struct.unpack_from(">Q", buffer, 2), 10
        if size > MAX_MESSAGE:
            raise WebSocketError("frame too large")
        masked = bool(buffer[1] & 0x80)
        end = at + (4 if masked else 0) + size
        if len(buffer) < end:
            return None
        body = bytes(buffer[end - size : end])
        if masked:
            body = _masked(body, bytes(buffer[at : at + 4]))
        kind, final = buffer[0] & 0x0F, bool(buffer[0] & 0x80)
        del buffer[:end]
        return kind, final, body

    def frame(self, data: bytes, kind: int = BINARY) -> bytes:
        """One frame with the whole message."""
        size, bit = len(data), 0x80 if self.client else 0
        if size < 126:
            head = struct.pack(">BB", 0x80 | kind, bit | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | kind, bit | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, bit | 127, size)
        if not self.client:
            return head + data
        mask = os.urandom(4)
        return head + mask + _masked(data, mask)

    def close(self, code: int = 1000, reason: str = "") -> bytes:
        return self.frame(struct.pack(">H", code) + reason.encode()[:120], CLOSE)
