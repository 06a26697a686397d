"""Handing one event to many watches: judged and encoded once, sent at once to a few, in turns to many.

A thousand TLS writes take tens of milliseconds. Done within the commit they would stop the server for that long and the
next commit would pay again. So beyond ``AT_ONCE`` watches a delivery is left pending in its channel and sent in slices
between which the loop serves others; a watch whose turn comes late gets everything pending as one write. After a round
the loop belongs to others for as long as the round took: what is written meanwhile goes out together in the next one, so
a thousand watches cost at most half of the loop and the less per event the more there are.
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
LONGEST_REST = 0.04
"""Seconds between two rounds at most, however long the first one took."""


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
        """Serve up to ``budget`` watches of this round; what is left of the budget. ``in_round`` tells whether it is over,
        ``pending`` whether another one is due."""
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

    @property
    def in_round(self) -> bool:
        return bool(self._round)

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
    """Channels with something pending, served in rounds, a slice at a time. ``call_later`` takes seconds."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], None], clock: Callable[[], float]) -> None:
        self._call_later = call_later
        self._clock = clock
        self._round: deque[Channel] = deque()
        self._next: deque[Channel] = deque()
        self._running = False
        self._spent = 0.0
        self._rested = 0.0

    def add(self, channel: Channel) -> None:
        if channel.queued:
            return
        channel.queued = True
        self._next.append(channel)
        if not self._running:
            self._running = True
            self._call_later(max(0.0, self._rested - self._clock()), self._run)

    def _run(self) -> None:
        began = self._clock()
        if not self._round:
            self._round, self._next = self._next, self._round
            self._spent = 0.0
        budget = AT_ONCE
        while self._round and budget > 0:
            channel = self._round[0]
            if channel.pending:
                budget = channel.send_some(budget)
            if not channel.in_round:
                self._round.popleft()
                channel.queued = channel.pending
                if channel.pending:
                    self._next.append(channel)
        now = self._clock()
        self._spent += now - began
        if self._round:
            self._call_later(0.0, self._run)
            return
        rest = min(self._spent, LONGEST_REST)
        self._rested = now + rest
        self._running = bool(self._next)
        if self._next:
            self._call_later(rest, self._run)
