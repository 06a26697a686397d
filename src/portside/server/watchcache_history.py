"""The recent events of one resource: what a watch that starts in the past, or fell behind, is served from."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Sequence
from operator import attrgetter

from portside.server.watchcache_filter import Filter
from portside.server.watchcache_form import Form
from portside.server.watchcache_object import CachedObject

_REVISION = attrgetter("revision")


class Event:
    """One change: ``obj`` is the state after (None: deleted), ``previous`` the state before (None: new)."""

    __slots__ = ("_bytes", "_gone", "obj", "previous", "revision")

    def __init__(self, revision: int, obj: CachedObject | None, previous: CachedObject | None) -> None:
        self.revision = revision
        self.obj = obj
        self.previous = previous
        self._gone: CachedObject | None = None
        self._bytes: dict[tuple[str, Hashable], bytes] | None = None

    @property
    def size(self) -> int:
        """Bytes the event holds on to."""
        return (len(self.obj.tail) if self.obj else 0) + (len(self.previous.tail) if self.previous else 0)

    def seen(self, where: Filter) -> tuple[str, CachedObject] | None:
        """What a watch with that filter is told: entering is ADDED, leaving is DELETED with the last state it saw."""
        obj, previous = self.obj, self.previous
        now = obj is not None and where.selected(obj)
        before = previous is not None and where.selected(previous)
        if now and obj is not None:
            return ("MODIFIED" if before else "ADDED"), obj
        if before and previous is not None:
            if self._gone is None:
                self._gone = previous.at(self.revision)
            return "DELETED", self._gone
        return None

    def encoded(self, form: Form, kind: str, obj: CachedObject) -> bytes:
        """The event in that form, made once until ``settle``."""
        made = self._bytes
        if made is None:
            made = self._bytes = {}
        key = (kind, form.key)
        data = made.get(key)
        if data is None:
            data = made[key] = form.event(kind, obj)
        return data

    def settle(self) -> None:
        """Delivered to all live watches: drop the encoded forms. Later readers encode anew."""
        self._bytes = None
        self._gone = None


class History:
    """Events in revision order, bounded in count and bytes; every event after ``floor`` is there."""

    __slots__ = ("_bytes", "_events", "_start", "floor", "max_bytes", "max_events")

    def __init__(self, floor: int, *, max_events: int, max_bytes: int) -> None:
        self.floor = floor
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._events: list[Event] = []
        self._start = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._events) - self._start

    def append(self, event: Event) -> None:
        self._events.append(event)
        self._bytes += event.size
        while len(self) > self.max_events or (self._bytes > self.max_bytes and len(self) > 1):
            self._drop_oldest()
        if self._start > 256 and self._start * 2 > len(self._events):
            self._close_up()

    def shed(self, upto: int, least: int) -> None:
        """Drop events up to the revision ``upto`` as long as more than ``least`` remain."""
        while len(self) > least and self._events[self._start].revision <= upto:
            self._drop_oldest()
        self._close_up()

    def _drop_oldest(self) -> None:
        oldest = self._events[self._start]
        self._bytes -= oldest.size
        self.floor = oldest.revision
        self._start += 1

    def _close_up(self) -> None:
        del self._events[: self._start]
        self._start = 0

    def forget(self, floor: int) -> None:
        """Drop everything up to ``floor``: what happened there can't be told."""
        self._events.clear()
        self._start = self._bytes = 0
        self.floor = floor

    def after(self, revision: int, limit: int) -> Sequence[Event]:
        """The next events behind ``revision``, at most ``limit``."""
        at = bisect_right(self._events, revision, lo=self._start, key=_REVISION)
        return self._events[at : at + limit]
