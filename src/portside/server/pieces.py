"""Bodies by the piece: large ones that are made while they are sent, chunks, and their packing."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from typing import Any

LAST_CHUNK = b"0\r\n\r\n"


class Pieces:
    """``head``, what ``middle`` yields, ``tail``: a body that never stands in memory as a whole. To be read once."""

    def __init__(self, head: bytes, middle: Iterator[bytes], tail: bytes) -> None:
        self._start = [head, *islice(middle, 2)]
        self._middle = middle
        self._tail = tail

    @property
    def large(self) -> bool:
        """Whether there is more than one piece in the middle, so that it is worth sending them one by one."""
        return len(self._start) > 2

    def joined(self) -> bytes:
        return b"".join(self)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._start
        self._start = []
        yield from self._middle
        yield self._tail

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def bracketed(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The items of a JSON list, some in each of ``parts``: with brackets around and commas between, in as many pieces."""
    opening, held = b"[", b""
    for part in parts:
        if held:
            yield opening + held
            opening = b","
        held = part
    yield opening + held + b"]"


def chunk(data: bytes) -> bytes:
    """A chunk of HTTP's chunked transfer coding. ``data`` must not be empty: that would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def _packer() -> Any:
    return zlib.compressobj(1, zlib.DEFLATED, 31)


def gzipped(body: bytes) -> bytes:
    """The body packed, quickly rather than well."""
    packer = _packer()
    return bytes(packer.compress(body) + packer.flush())


async def packed(pieces: Pieces) -> AsyncIterator[bytes]:
    """The same by the piece, in another thread."""
    packer = _packer()
    for piece in pieces:
        if data := await asyncio.to_thread(packer.compress, piece):
            yield data
    yield packer.flush()
