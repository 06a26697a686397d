"""A watch's answer: pushed straight into a connection, or read as a stream by the in-process client.

The watch cache calls ``write`` with whole events; while the transport is full the watch is paused, and a watch that is
read as a stream is paused when its reader falls behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import orjson

from portside.api.status import ApiError
from portside.server.watchcache import Watcher

BUFFER = 512 * 1024
Start = Callable[[Callable[[bytes], None], Callable[[ApiError | None], None]], Watcher]


def error_event(error: ApiError) -> bytes:
    return b'{"type":"ERROR","object":' + orjson.dumps(error.status) + b"}\n"


class WatchStream:
    """``start(write, on_end)`` opens the watch at the cache; ``seconds`` ends it; ``failed`` writes an ERROR event."""

    def __init__(self, start: Start, seconds: float, *, failed: Callable[[ApiError], bytes] = error_event) -> None:
        self._start = start
        self._seconds = seconds
        self._failed = failed
        self._watcher: Watcher | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._write: Callable[[bytes], None] = lambda data: None
        self._done: Callable[[], None] = lambda: None
        self.ended = False

    def open(self, write: Callable[[bytes], None], done: Callable[[], None]) -> None:
        """Begin. ``done`` is called once when the watch is over (not after ``close``)."""
        self._write, self._done = write, done
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._end, None)
        try:
            self._watcher = self._start(write, self._end)
        except ApiError as error:
            self._end(error)
            return
        self._watcher.resume()

    def finish(self) -> None:
        """End in good order: the server stops."""
        self._end(None)

    def pause(self) -> None:
        if self._watcher is not None:
            self._watcher.pause()

    def resume(self) -> None:
        if self._watcher is not None and not self.ended:
            self._watcher.resume()

    def close(self) -> None:
        """The client has gone."""
        self.ended = True
        self._release()

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._watcher is not None:
            self._watcher.close()

    def _end(self, error: ApiError | None) -> None:
        if self.ended:
            return
        self.ended = True
        self._release()
        if error is not None:
            self._write(self._failed(error))
        self._done()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        buffer: list[bytes] = []
        size = 0
        ready = asyncio.Event()

        def write(data: bytes) -> None:
            nonlocal size
            buffer.append(data)
            size += len(data)
            if size > BUFFER:
                self.pause()
            ready.set()

        self.open(write, ready.set)
        try:
            while True:
                if not buffer:
                    if self.ended:
                        return
                    ready.clear()
                    await ready.wait()
                    continue
                piece = b"".join(buffer)
                buffer.clear()
                size = 0
                yield piece
                self.resume()
        finally:
            self.close()
