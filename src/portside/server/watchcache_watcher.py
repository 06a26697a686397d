"""A running watch. It is either live (gets each event within its commit) or catching up from objects and history.

Nothing queues per watch: while its transport is full the watch pauses and remembers only its place; afterwards it reads
on from the history, and if that no longer reaches back far enough it is ended with 410.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from portside.api.status import ApiError
from portside.server.watchcache_filter import Filter
from portside.server.watchcache_form import Form
from portside.server.watchcache_object import CachedObject

if TYPE_CHECKING:
    from portside.server.watchcache import WatchCache
    from portside.server.watchcache_channel import Channel

log = logging.getLogger(__name__)

SLICE_BYTES = 256 * 1024
"""What one watch may send in a row while it catches up, before the event loop gets a turn."""
SLICE_EVENTS = 512


class Watcher:
    """One watch. It sends nothing before ``resume()`` is called the first time.

    ``sink`` receives whole events, one or several at a time. ``on_end`` is called once when the cache ends the watch,
    with the error to show (410 when it fell behind), or None when the cache closes.
    """

    def __init__(
        self,
        cache: WatchCache,
        sink: Callable[[bytes], None],
        on_end: Callable[[ApiError | None], None],
        where: Filter,
        form: Form,
        *,
        position: int,
        initial: Iterator[CachedObject] | None,
        initial_end: bool,
        bookmarks: bool,
    ) -> None:
        self._cache = cache
        self._sink = sink
        self._on_end = on_end
        self.where = where
        self.form = form
        self.position = position
        self._initial = initial
        self._initial_end = initial_end
        self.bookmarks = bookmarks
        self.live = False
        self.sent = 0
        """Up to which revision the channel's turns have served it; see ``Channel.received``."""
        self.channel: Channel | None = None
        self.paused = True
        self.closed = False
        self.paused_since = cache.clock()
        self.bookmark_due = cache.next_bookmark()
        self._scheduled = False
        self._waiting: tuple[int, int, Callable[[], None]] | None = None

    def pause(self) -> None:
        """The transport is full: send nothing until ``resume``. May be called from within the sink."""
        if self.paused or self.closed:
            return
        self.paused = True
        self.paused_since = self._cache.clock()
        self._leave_live()

    def resume(self) -> None:
        """Start, or go on after ``pause``."""
        if not self.paused or self.closed:
            return
        self.paused = False
        self._schedule()

    def close(self) -> None:
        """The client has gone. ``on_end`` is not called."""
        if not self.closed:
            self.closed = True
            self._leave_live()
            self._initial = None
            if self._waiting is not None:
                self._cache.cancel(self._waiting)
            self._cache.dropped(self)

    def switch(self, form: Form) -> None:
        """Write events in another form from now on."""
        if self.live and self.channel is not None:
            self.channel.flush(self)
        live = self.live
        self._leave_live()
        self.form = form
        if live and not self.closed:
            self._go_live()

    def bookmark(self) -> None:
        """Send a bookmark now if everything up to the current revision was sent."""
        self.bookmark_due = self._cache.next_bookmark()
        if self.live and self.channel is not None:
            self.channel.flush(self)
        if self.live:
            self.send(self.form.bookmark(self._cache.revision, False))

    def end(self, error: ApiError | None) -> None:
        """The cache ends the watch."""
        if self.closed:
            return
        self.close()
        try:
            self._on_end(error)
        except Exception:
            log.exception("the end of a watch was not taken")

    def send(self, data: bytes) -> None:
        try:
            self._sink(data)
        except Exception:
            log.exception("a watch of %s failed; it is closed", self._cache.prefix)
            self.end(None)

    def fall_back(self) -> None:
        """Read on from the history instead of live."""
        if self.live:
            self._leave_live()
            self._schedule()

    def _go_live(self) -> None:
        self.live = True
        self.sent = self._cache.revision
        self.channel = self._cache.join(self)

    def _leave_live(self) -> None:
        if self.live and self.channel is not None:
            self.live = False
            self.position = self.channel.received(self, self._cache.revision)
            self._cache.leave(self, self.channel)
            self.channel = None

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._cache.call_soon(self._pump)

    def _pump(self) -> None:
        self._scheduled = False
        if self.paused or self.closed:
            return
        if self._initial is not None:
            if not self._send_initial(self._initial):
                if not self.paused and not self.closed:
                    self._schedule()
                return
            self._initial = None
            if self._initial_end:
                self.send(self.form.bookmark(self.position, True))
        elif not self._catch_up():
            return
        if self.paused or self.closed:
            return
        if self.position > self._cache.revision:
            self._waiting = self._cache.at_revision(self.position + 1, self._schedule)
        elif self._cache.changed <= self.position:
            self._go_live()
        else:
            self._schedule()

    def _send_initial(self, initial: Iterator[CachedObject]) -> bool:
        """One slice of the initial objects; True when there are no more."""
        parts: list[bytes] = []
        size = 0
        done = True
        for obj in initial:
            data = self._write("ADDED", obj)
            parts.append(data)
            size += len(data)
            if size >= SLICE_BYTES:
                done = False
                break
        if parts:
            self.send(b"".join(parts))
        return done and not self.paused and not self.closed

    def _write(self, kind: str, obj: CachedObject) -> bytes:
        form = self.form
        if form.then is not None:
            self.form = form.then
        return form.event(kind, obj)

    def _catch_up(self) -> bool:
        """One slice of history behind ``position``; False when the watch ended."""
        history = self._cache.history
        if self.position < history.floor:
            self.end(self._cache.too_old(self.position))
            return False
        parts: list[bytes] = []
        size = 0
        where = self.where
        for event in history.after(self.position, SLICE_EVENTS):
            self.position = event.revision
            seen = self._cache.in_scope(where, event) and event.seen(where)
            if seen:
                data = self._write(*seen)
                parts.append(data)
                size += len(data)
                if size >= SLICE_BYTES:
                    break
        if parts:
            self.send(b"".join(parts))
        return True
