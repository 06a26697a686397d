"""A work queue of keys: each key once, never in two hands, delayed and rate-limited retries. No polling."""

from __future__ import annotations

import asyncio
from collections import deque

FIRST_RETRY = 0.005  # seconds; doubles with every failure of a key (client-go's figure)
LAST_RETRY = 60.0
SOON = 0.001  # seconds: less is no delay, and some loops make no timer of it


class WorkQueue:
    """Keys added while one is being worked on are worked on once more afterwards."""

    def __init__(self) -> None:
        self._ready: deque[str] = deque()
        self._queued: set[str] = set()
        self._active: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> bool:
        return not self._ready and not self._active

    def add(self, key: str) -> None:
        if key in self._active:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.append(key)
            while self._waiters:
                waiter = self._waiters.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    break

    def add_after(self, key: str, seconds: float) -> None:
        """Adds later; the earliest of several times counts."""
        if seconds < SOON:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        held = self._timers.get(key)
        if held is not None:
            if held.when() <= loop.time() + seconds:
                return
            held.cancel()
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def retry(self, key: str) -> None:
        """Adds after a delay that grows with the key's failures."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(FIRST_RETRY * 2 ** min(failures, 20), LAST_RETRY))

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)

    async def take(self) -> str:
        while not self._ready:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        key = self._ready.popleft()
        self._queued.discard(key)
        self._active.add(key)
        return key

    def done(self, key: str) -> None:
        self._active.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
