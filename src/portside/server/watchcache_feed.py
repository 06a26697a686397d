"""All watch caches of a server, fed by one subscription to the store.

caches = WatchCaches(backend)
await caches.start()                # one range over the store, then the recent changes, then live
pods = caches.of("", "pods")
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Sequence

from portside.server.watchcache import EPHEMERAL, WatchCache, too_large
from portside.server.watchcache_channel import Fanout
from portside.server.watchcache_history import Event
from portside.server.watchcache_object import CachedObject, ViewPool
from portside.store.backend import Backend, Change, Subscription, Unreadable

log = logging.getLogger(__name__)

RESUME_WINDOW = 5_000
"""Revisions replayed at start-up, so that watches opened before a restart resume without listing again."""
LOAD_PAGE = 1_000
VIEWS = 512
"""Parsed views kept over all resources."""
TICK_SECONDS = 5.0
BOOKMARK_SECONDS = 60.0
STALLED_SECONDS = 60.0
"""A watch whose client reads nothing for so long is ended."""

HISTORY_SECONDS = 90.0
"""Events older than this go, down to a least number per resource: a burst must not stay in memory for good."""

Waiting = tuple[int, int, Callable[[], None]]
Follower = Callable[[str, str, CachedObject | None, int], None]
"""Takes a resource's prefix, an object's key, its new state (None: gone) and the revision."""


def prefix_of(group: str, plural: str) -> str:
    """Where a resource's objects live in the store."""
    return f"/{group or 'core'}/{plural}/"


def _prefix(key: str) -> str:
    """The resource's part of a key."""
    return key[: key.index("/", key.index("/", 1) + 1) + 1]


class WatchCaches:
    """Caches by resource. ``clock`` in seconds and ``rng`` (bookmark jitter) are parameters for the simulator."""

    def __init__(
        self,
        backend: Backend,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.backend = backend
        self.clock = clock
        self.revision = 0
        self.ephemeral = frozenset(prefix_of(*resource) for resource in EPHEMERAL)
        self.views = ViewPool(VIEWS)
        self.fanout = Fanout(self._call_later, clock)
        self._rng = rng or random.Random()
        self._caches: dict[str, WatchCache] = {}
        self._floor = 0
        self._subscription: Subscription | None = None
        self._waiting: list[Waiting] = []
        self._followers: list[Follower] = []
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._marks: deque[tuple[float, int]] = deque()  # when the store stood at which revision

    async def start(self) -> None:
        """Load everything and go live. Raises StoreError."""
        self._loop = asyncio.get_running_loop()
        base = max(self.backend.compacted, self.backend.revision - RESUME_WINDOW)
        self.revision = self._floor = base
        for cache in self._caches.values():
            cache.reset(base)
        collecting = gc.isenabled()
        gc.disable()  # nothing that is loaded is garbage; looking for it doubles the time
        try:
            await self._load(base)
        finally:
            if collecting:
                gc.enable()
        self._subscription = await self.backend.subscribe("/", self._feed, after=base)
        self.revision = max(self.revision, self.backend.revision)
        self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    async def _load(self, base: int) -> None:
        """The state at ``base``, page by page in key order."""
        after: str | None = None
        while True:
            page = await self.backend.range("/", revision=base, after=after, limit=LOAD_PAGE)
            for record in page.records:
                self._cache(_prefix(record.key)).load(*record)
            if not page.more:
                return
            after = page.records[-1].key

    async def reread(self) -> int:
        """Try what could not be decrypted again, after the keys have changed; answers how many objects still can't be."""
        for cache in tuple(self._caches.values()):
            for key, held in tuple(cache.unreadable.items()):
                record = await self.backend.get(key)
                if record is None or isinstance(record.value, Unreadable) or cache.unreadable.get(key) is not held:
                    continue
                self._tell(cache, key, cache.restore(record), record.revision)
        return sum(len(cache.unreadable) for cache in self._caches.values())

    async def close(self) -> None:
        """End all watches and stop following the store."""
        if self._subscription is not None:
            self._subscription.close()
        if self._timer is not None:
            self._timer.cancel()
        for cache in self._caches.values():
            cache.close()

    def of(self, group: str, plural: str) -> WatchCache:
        """The cache of a resource (of its storage group), made when first asked for."""
        return self._cache(prefix_of(group, plural))

    def _cache(self, prefix: str) -> WatchCache:
        cache = self._caches.get(prefix)
        if cache is None:
            cache = self._caches[prefix] = WatchCache(self, prefix, floor=self._floor)
        return cache

    def follow(self, follower: Follower) -> None:
        """Call ``follower`` with each change from now on: after the caches, before watches and the writer hear of it."""
        self._followers.append(follower)

    # ---- for the caches -------------------------------------------------------------------------------------------

    def call_soon(self, callback: Callable[[], None]) -> None:
        (self._loop or asyncio.get_running_loop()).call_soon(callback)

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        loop = self._loop or asyncio.get_running_loop()
        if seconds > 0:
            loop.call_later(seconds, callback)
        else:
            loop.call_soon(callback)

    def next_bookmark(self) -> float:
        """When the next bookmark of a watch is due: about a minute, spread so that they don't come all at once."""
        return self.clock() + BOOKMARK_SECONDS * self._rng.uniform(0.75, 1.0)

    def at_revision(self, revision: int, callback: Callable[[], None]) -> Waiting:
        """Call back once the store has reached ``revision``, unless given to ``cancel`` before."""
        waiting = (revision, next(self._order), callback)
        heapq.heappush(self._waiting, waiting)
        return waiting

    def cancel(self, waiting: Waiting) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            heapq.heapify(self._waiting)

    async def wait_for(self, revision: int, timeout: float = 3.0) -> None:
        """Until ``revision`` is reached. Raises ApiError 504 after ``timeout`` seconds."""
        if revision <= self.revision:
            return
        reached: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self.at_revision(revision, lambda: None if reached.done() else reached.set_result(None))
        try:
            async with asyncio.timeout(timeout):
                await reached
        except TimeoutError:
            raise too_large(revision, self.revision) from None
        finally:
            self.cancel(waiting)

    def _feed(self, changes: Sequence[Change]) -> None:
        """Apply a committed batch, then tell the watches: whoever is called back finds all of it applied."""
        before = self.revision
        told: dict[WatchCache, list[Event]] = {}
        for change in changes:
            cache = self._cache(_prefix(change.key))
            event = cache.apply(change)
            if event is not None:
                told.setdefault(cache, []).append(event)
            self._tell(cache, change.key, cache.at(change.key), change.revision)
        self.revision = max(before, changes[-1].revision)
        for cache, events in told.items():
            cache.deliver(events, before)
        while self._waiting and self._waiting[0][0] <= self.revision:
            heapq.heappop(self._waiting)[2]()

    def _tell(self, cache: WatchCache, key: str, obj: CachedObject | None, revision: int) -> None:
        for follower in self._followers:
            try:
                follower(cache.prefix, key, obj, revision)
            except Exception:  # the caches must not lose the rest of the batch
                log.exception("a follower failed at %s, revision %d", key, revision)

    def _tick(self) -> None:
        now = self.clock()
        aged = self._aged(now)
        for cache in self._caches.values():
            cache.tick(now, STALLED_SECONDS, aged)
        if self._loop is not None:
            self._timer = self._loop.call_later(TICK_SECONDS, self._tick)

    def _aged(self, now: float) -> int:
        """The revision that the store had reached ``HISTORY_SECONDS`` ago."""
        self._marks.append((now, self.revision))
        while len(self._marks) > 1 and self._marks[1][0] <= now - HISTORY_SECONDS:
            self._marks.popleft()
        at, revision = self._marks[0]
        return revision if at <= now - HISTORY_SECONDS else 0
