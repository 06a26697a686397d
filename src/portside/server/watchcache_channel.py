"""Handing one event to many watches: judged and encoded once, sent at once to a few, in turns to many.

A thousand TLS writes take tens of milliseconds. Done within the commit they would stop the server for that long and the
next commit would pay again. So beyond ``AT_ONCE`` watches a delivery is left pending in its channel and sent in slices
between which the loop serves others; a watch whose turn comes late gets everything pending as one write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from portside.server.watchcache_filter import Filter
from portside.server.watchcache_form import Form

if TYPE_CHECKING:
    from portside.server.watchcache_history import Event
    from portside.server.watchcache_watcher import Watcher

AT_ONCE = 64
"""Watches served within the commit, and per slice afterwards."""
PENDING_BYTES = 4 * 1024 * 1024
"""What may be pending in a channel; beyond it its watches read on from the history."""


class Channel:
    """The live watches with one filter and one form."""

    __slots__ = ("_before", "_joined", "_pending", "_round", "_size", "_upto", "form", "queued", "watchers", "where")

    def __init__(self, where: Filter, form: Form) -> None:
        self.where = where
        self.form = form
        self.watchers: dict[Watcher, None] = {}
        self.queued = False
        self._pending: list[tuple[int, bytes]] = []  # revision of the last event, bytes
        self._size = 0
        self._before = 0
        self._round: list[Watcher] = []
        self._upto = 0
        self._joined: dict[int, bytes] = {}

    def encode(self, event: Event, first: bool) -> bytes | None:
        """The event's bytes, None when the filter does not see it. ``first``: nothing of this delivery came before."""
        seen = event.seen(self.where)
        if seen is None:
            return None
        return event.encoded(self.form if first else self.form.then or self.form, *seen)

    @property
    def pending(self) -> bool:
        return bool(self._pending)

    def received(self, watcher: Watcher, revision: int) -> int:
        """Up to which revision a live watch was sent everything, given the cache stands at ``revision``."""
        if not self._pending or self._pending[-1][0] <= watcher.sent:
            return revision
        return max(watcher.sent, self._before)

    def add(self, before: int, revision: int, data: bytes) -> None:
        """Leave ``data``, the events in (before, revision], for ``send_some``."""
        if not self._pending:
            self._before = before
        self._pending.append((revision, data))
        self._size += len(data)
        self._joined.clear()
        if self._size > PENDING_BYTES:
            for watcher in tuple(self.watchers):
                watcher.fall_back()
            self._clear()

    def send_some(self, budget: int) -> int:
        """Serve up to ``budget`` watches; what is left of the budget. Done when nothing is pending afterwards."""
        while self._pending and budget > 0:
            if not self._round:
                self._round = [*self.watchers]
                self._upto = self._pending[-1][0]
            while self._round and budget > 0:
                watcher = self._round.pop()
                if watcher in self.watchers:
                    self.flush(watcher)
                    budget -= 1
            if not self._round:
                self._pending = [entry for entry in self._pending if entry[0] > self._upto]
                self._size = sum(len(data) for _, data in self._pending)
                self._before = max(self._before, self._upto)
                self._joined.clear()
        return budget

    def flush(self, watcher: Watcher) -> None:
        """Send one watch what is pending for it."""
        if not self._pending or self._pending[-1][0] <= watcher.sent:
            return
        sent = max(watcher.sent, self._before)
        data = self._joined.get(sent)
        if data is None:
            data = self._joined[sent] = b"".join([data for revision, data in self._pending if revision > sent])
        watcher.sent = self._pending[-1][0]
        watcher.send(data)

    def _clear(self) -> None:
        self._pending.clear()
        self._round.clear()
        self._joined.clear()
        self._size = 0


class Fanout:
    """Channels with something pending, served a slice at a time."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._queue: deque[Channel] = deque()

    def add(self, channel: Channel) -> None:
        if channel.queued:
            return
        channel.queued = True
        if not self._queue:
            self._call_soon(self._run)
        self._queue.append(channel)

    def _run(self) -> None:
        budget = AT_ONCE
        while self._queue and budget > 0:
            channel = self._queue[0]
            budget = channel.send_some(budget)
            if not channel.pending:
                channel.queued = False
                self._queue.popleft()
            else:
                self._queue.rotate(-1)
        if self._queue:
            self._call_soon(self._run)
