"""Container logs in CRI's format: time, stream, tags, text. Tail, since, previous, timestamps, limit, follow, rotation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 64 << 10
POLL = 0.1  # seconds between looks while following; a line is flushed as soon as it is seen


@dataclass(frozen=True, slots=True)
class LogLine:
    """One entry. ``partial`` entries continue in the next; ``stamp`` is RFC 3339 with nanoseconds."""

    stamp: bytes
    stream: bytes
    partial: bool
    text: bytes


@dataclass(frozen=True, slots=True)
class LogOptions:
    """kubectl logs' options. ``tail`` −1: all; ``since`` seconds since the epoch; ``limit`` bytes, −1: all."""

    follow: bool = False
    tail: int = -1
    since: float = 0.0
    timestamps: bool = False
    limit: int = -1
    stream: str = "All"


def parse_line(raw: bytes) -> LogLine | None:
    """An entry without its newline; None when it is none."""
    parts = raw.split(b" ", 3)
    if len(parts) < 3:
        return None
    return LogLine(parts[0], parts[1], parts[2].split(b":")[0] == b"P", parts[3] if len(parts) == 4 else b"")


def stamp_seconds(stamp: bytes) -> float:
    """Seconds since the epoch, 0 when it can't be read."""
    from datetime import datetime

    text = stamp.decode("ascii", "replace")
    main, _, fraction = text.partition(".")
    digits = "".join(c for c in fraction if c.isdigit())[:9] if fraction else ""
    zone = fraction[len(fraction.rstrip("Z+-:0123456789")) :] if fraction else ""
    offset = ""
    for sign in ("+", "-"):
        if sign in zone:
            offset = sign + zone.split(sign, 1)[1]
            digits = "".join(c for c in fraction.split(sign, 1)[0] if c.isdigit())[:9]
    try:
        base = datetime.fromisoformat((main if fraction else text).rstrip("Z") + (offset or "+00:00"))
    except ValueError:
        return 0.0
    return base.timestamp() + (float("0." + digits) if digits else 0.0)


def open_log(path: Path) -> int:
    """A descriptor; links are refused, because the folder's owner may be less trusted than we are."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _line_starts(descriptor: int, start: int, end: int) -> list[int]:
    """Offsets where a log line (with all its partial entries) begins; ``start`` itself is taken for one."""
    found, base, rest, at = [start], start, b"", start
    while at < end:
        block = os.pread(descriptor, min(CHUNK, end - at), at)
        if not block:
            break
        at += len(block)
        *complete, rest = (rest + block).split(b"\n")
        for raw in complete:
            base += len(raw) + 1
            parsed = parse_line(raw)
            if (parsed is None or not parsed.partial) and base < end:
                found.append(base)
    return found


def tail_offset(descriptor: int, lines: int) -> int:
    """Where the last ``lines`` lines begin. Looks at twice as much from the end each time, never at the whole for a few."""
    end = os.fstat(descriptor).st_size
    if lines <= 0:
        return end
    span = CHUNK
    while True:
        start = max(0, end - span)
        starts = _line_starts(descriptor, start, end)
        if start == 0:
            return starts[-lines] if len(starts) >= lines else 0
        if len(starts) > lines:  # the first may be the middle of a line
            return starts[-lines]
        span *= 2


class _Reader:
    """Splits one file into entries, from an offset."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.descriptor = open_log(path)
        self.inode = os.fstat(self.descriptor).st_ino
        self._offset = offset
        self._rest = b""

    def lines(self) -> Iterator[LogLine]:
        """Every complete entry there is now."""
        while block := os.pread(self.descriptor, CHUNK, self._offset):
            self._offset += len(block)
            *complete, self._rest = (self._rest + block).split(b"\n")
            for raw in complete:
                if (line := parse_line(raw)) is not None:
                    yield line

    def close(self) -> None:
        os.close(self.descriptor)


def _inode(path: Path) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except OSError:
        return -1


async def _entries(path: Path, options: LogOptions, ended: Callable[[], bool]) -> AsyncIterator[LogLine]:
    reader = _Reader(path)
    try:
        if options.tail >= 0 and not options.since:
            reader.close()
            descriptor = open_log(path)
            try:
                offset = tail_offset(descriptor, options.tail)
            finally:
                os.close(descriptor)
            reader = _Reader(path, offset)
        while True:
            over = ended()  # asked before the last look, so that nothing written until the end is lost
            for line in reader.lines():
                yield line
            if not options.follow:
                return
            inode = _inode(path)
            if inode not in (reader.inode, -1):
                for line in reader.lines():
                    yield line
                reader.close()
                reader = _Reader(path)
                continue
            if over:
                return
            await asyncio.sleep(POLL)
    finally:
        reader.close()


async def read_log(path: Path, options: LogOptions, *, ended: Callable[[], bool]) -> AsyncIterator[bytes]:
    """The log's bytes as a client sees them. ``ended``: whether the container writes no more. Raises OSError."""
    left = options.limit
    wanted = {"All": (b"stdout", b"stderr"), "Stdout": (b"stdout",), "Stderr": (b"stderr",)}[options.stream]
    begin = True
    kept: list[LogLine] | None = [] if options.tail >= 0 and options.since else None
    async for line in _entries(path, options, ended):
        if line.stream not in wanted or (options.since and stamp_seconds(line.stamp) < options.since):
            continue
        if kept is not None and not options.follow:
            kept = [*kept[-options.tail + 1 :], line] if options.tail else []
            continue
        data = (line.stamp + b" " if options.timestamps and begin else b"") + line.text
        begin = not line.partial
        data += b"" if line.partial else b"\n"
        if left >= 0:
            data = data[:left]
            left -= len(data)
        yield data
        if left == 0:
            return
    for line in kept or ():
        yield (line.stamp + b" " if options.timestamps else b"") + line.text + b"\n"
