"""SPDY/3.1 frames as Kubernetes streams use them: pure bytes in, events out, and frames to send. No flow control.

Headers are compressed with zlib and SPDY/3's fixed dictionary, one context per direction of a connection.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field

VERSION = 3
SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FIN = 1
MAX_FRAME = 1 << 24
DICTIONARY_ID = 0xE3C6A7C2  # zlib's checksum of the dictionary, as the peers announce it

_WORDS = [
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
]
_REST = ("200 OK", "version", "HTTP/1.1", "url", "public", "set-cookie", "keep-alive", "origin")
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def dictionary() -> bytes:
    """SPDY/3's header dictionary: length-prefixed words, then plain text."""
    return b"".join(struct.pack(">I", len(w)) + w.encode() for w in (*_WORDS, *_REST)) + _TAIL.encode()


DICTIONARY = dictionary()


class SpdyError(Exception):
    """The peer broke the protocol; the connection can't go on."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream the peer opened (or, with ``reply``, answered). Header names are lower case."""

    stream: int
    headers: dict[str, list[str]]
    fin: bool = False
    reply: bool = False


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of a stream; ``fin``: the peer sends no more on it."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer ended a stream at once. ``code`` 5: cancelled."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class Ping:
    """To be answered with the same number when it is not ours."""

    number: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The peer takes no new streams."""

    last: int


Event = Opened | Data | Reset | Ping | GoAway


@dataclass(slots=True)
class Framer:
    """One end of a connection. ``receive`` turns bytes into events; the other methods make frames."""

    _buffer: bytearray = field(default_factory=bytearray)
    _inflate: zlib._Decompress = field(default_factory=lambda: zlib.decompressobj(zdict=DICTIONARY))
    _deflate: zlib._Compress = field(
        default_factory=lambda: zlib.compressobj(9, zlib.DEFLATED, 15, 8, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)
    )

    def receive(self, data: bytes) -> list[Event]:
        """Events of all complete frames. Raises SpdyError."""
        self._buffer += data
        events: list[Event] = []
        while len(self._buffer) >= 8:
            first, second = struct.unpack_from(">II", self._buffer)
            size = second & 0xFFFFFF
            if len(self._buffer) < 8 + size:
                break
            body = bytes(self._buffer[8 : 8 + size])
            del self._buffer[: 8 + size]
            flags = second >> 24
            if first >> 31:
                if (first >> 16) & 0x7FFF != VERSION:
                    raise SpdyError("unsupported SPDY version")
                if (event := self._control(first & 0xFFFF, flags, body)) is not None:
                    events.append(event)
            else:
                events.append(Data(first & 0x7FFFFFFF, body, bool(flags & FIN)))
        return events

    def _control(self, kind: int, flags: int, body: bytes) -> Event | None:
        try:
            if kind == SYN_STREAM:
                stream = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
                return Opened(stream, self._headers(body[10:]), bool(flags & FIN))
            if kind in (SYN_REPLY, HEADERS):
                stream = struct.unpack_from(">I", body)[0] & 0x7FFFFFFF
                return Opened(stream, self._headers(body[4:]), bool(flags & FIN), reply=True)
            if kind == RST_STREAM:
                stream, code = struct.unpack_from(">II", body)
                return Reset(stream & 0x7FFFFFFF, code)
            if kind == PING:
                return Ping(struct.unpack_from(">I", body)[0])
            if kind == GOAWAY:
                return GoAway(struct.unpack_from(">I", body)[0] & 0x7FFFFFFF)
        except (struct.error, zlib.error, UnicodeDecodeError) as problem:
            raise SpdyError(f"malformed frame: {problem}") from None
        return None

    def _headers(self, block: bytes) -> dict[str, list[str]]:
        plain = self._inflate.decompress(block, MAX_FRAME)
        (count,) = struct.unpack_from(">I", plain)
        at, found = 4, {}
        for _ in range(count):
            texts = []
            for _ in range(2):
                (size,) = struct.unpack_from(">I", plain, at)
                texts.append(plain[at + 4 : at + 4 + size].decode("latin-1"))
                at += 4 + size
            found[texts[0].lower()] = texts[1].split("\0")
        return found

    def _block(self, headers: dict[str, str]) -> bytes:
        plain = struct.pack(">I", len(headers))
        for key, value in headers.items():
            for text in (key.lower().encode("latin-1"), value.encode("latin-1")):
                plain += struct.pack(">I", len(text)) + text
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    @staticmethod
    def _frame(kind: int, body: bytes, flags: int = 0) -> bytes:
        return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(body)) + body

    def open(self, stream: int, headers: dict[str, str], *, fin: bool = False) -> bytes:
        """A new stream; a client's numbers are odd and rise."""
        return self._frame(SYN_STREAM, struct.pack(">IIH", stream, 0, 0) + self._block(headers), FIN if fin else 0)

    def reply(self, stream: int, headers: dict[str, str] | None = None, *, fin: bool = False) -> bytes:
        return self._frame(SYN_REPLY, struct.pack(">I", stream) + self._block(headers or {}), FIN if fin else 0)

    @staticmethod
    def data(stream: int, data: bytes, *, fin: bool = False) -> bytes:
        return struct.pack(">II", stream, (FIN if fin else 0) << 24 | len(data)) + data

    def reset(self, stream: int, code: int = 5) -> bytes:
        return self._frame(RST_STREAM, struct.pack(">II", stream, code))

    def pong(self, number: int) -> bytes:
        return self._frame(PING, struct.pack(">I", number))

    def go_away(self, last: int = 0) -> bytes:
        return self._frame(GOAWAY, struct.pack(">II", last, 0))
