"""Pods that wait for a node: active by priority then age, backing off, or parked until news that may help them.

Parked pods are held by kind: pods that were refused for the same reasons and ask for the same. What helps one of a kind
helps each, so that news is held against a kind once, and wakes as many of it as it may make room for.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 10.0  # seconds, upstream's defaults
UNSCHEDULABLE_LIMIT = 300.0  # seconds after which a pod is tried again without any event


@dataclass(slots=True)
class Waiting:
    """One waiting pod. Times are monotonic seconds. ``kind``: what it was last parked as; ``woken``: and since then woken
    for, but not yet tried."""

    key: str
    priority: int
    since: float
    attempts: int = 0
    ready_at: float = 0.0
    parked_at: float = 0.0
    kind: Hashable = None
    woken: bool = False


class Queue:
    """Holds keys, never objects; every method takes the present time, so tests need no clock. A pod that was woken is tried
    before its back-off ends when nothing else waits, as upstream's SchedulerPopFromBackoffQ has it; one that failed with
    an error is not."""

    def __init__(self, initial: float = INITIAL_BACKOFF, most: float = MAX_BACKOFF) -> None:
        self.initial, self.most = initial, most
        self.parked: dict[Hashable, dict[str, Waiting]] = {}
        self._pods: dict[str, Waiting] = {}
        self._active: list[tuple[int, float, str]] = []
        self._queued: set[str] = set()
        self._backoff: list[tuple[float, str]] = []  # woken, may be tried early
        self._errors: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return len(self._pods)

    def add(self, key: str, priority: int, now: float) -> None:
        """A pod without a node appeared or changed: try it soon."""
        known = self._pods.get(key)
        if known is None:
            self._pods[key] = Waiting(key, priority, now)
            self._activate(key)
        else:
            known.priority = priority
            self._pass_on(known)
            if self._unpark(known):
                self._resume(known, now)

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """Keys by how long they have waited."""
        known = [self._pods[k] for k in keys if k in self._pods]
        return [w.key for w in sorted(known, key=lambda w: (w.since, w.key))]

    def remove(self, key: str) -> None:
        """The pod has a node or is gone. Had it been woken, its turn goes to the others of its kind."""
        waiting = self._pods.pop(key, None)
        self._queued.discard(key)
        if waiting is not None:
            self._unpark(waiting)
            self._pass_on(waiting)

    def _pass_on(self, waiting: Waiting) -> None:
        if waiting.woken:
            waiting.woken = False
            self.wake(waiting.kind)

    def _unpark(self, waiting: Waiting) -> bool:
        held = self.parked.get(waiting.kind)
        if held is None or held.get(waiting.key) is not waiting:
            return False
        del held[waiting.key]
        if not held:
            del self.parked[waiting.kind]
        return True

    def _activate(self, key: str) -> None:
        waiting = self._pods[key]
        if key not in self._queued:
            self._queued.add(key)
            heapq.heappush(self._active, (-waiting.priority, waiting.since, key))

    def _resume(self, waiting: Waiting, now: float) -> None:
        if waiting.ready_at > now:
            heapq.heappush(self._backoff, (waiting.ready_at, waiting.key))
        else:
            self._activate(waiting.key)

    def _backs_off(self, at: float, key: str) -> bool:
        """Whether an entry of a back-off still stands."""
        waiting = self._pods.get(key)
        if waiting is None or waiting.ready_at != at or key in self._queued:
            return False
        return key not in self.parked.get(waiting.kind, ())

    def pop(self, now: float) -> str | None:
        """The next pod to decide for, None when all wait."""
        for heap in (self._backoff, self._errors):
            while heap and heap[0][0] <= now:
                if self._backs_off(*(entry := heapq.heappop(heap))):
                    self._activate(entry[1])
        while self._active:
            _, _, key = heapq.heappop(self._active)
            if key in self._queued:
                self._queued.discard(key)
                return self._tried(key)
        while self._backoff:
            if self._backs_off(*(entry := heapq.heappop(self._backoff))):
                return self._tried(entry[1])
        return None

    def _tried(self, key: str) -> str:
        self._pods[key].woken = False
        return key

    def failed(self, key: str, now: float, kind: Hashable = None) -> None:
        """The attempt failed: back off. With a ``kind`` the pod is parked: it waits for news as well."""
        waiting = self._pods.get(key)
        if waiting is None:
            return
        waiting.attempts += 1
        waiting.ready_at = now + min(self.initial * 2 ** (waiting.attempts - 1), self.most)
        self._queued.discard(key)  # one decision for a gang is an attempt of all its pods
        if kind is None:
            self._unpark(waiting)
            heapq.heappush(self._errors, (waiting.ready_at, key))
        else:
            self._park(waiting, now, kind)

    def hold(self, key: str, now: float, kind: Hashable) -> None:
        """The pod can't be tried yet (something it names is missing): parked, and it counts as no attempt."""
        waiting = self._pods.get(key)
        if waiting is not None:
            self._queued.discard(key)
            self._park(waiting, now, kind)

    def _park(self, waiting: Waiting, now: float, kind: Hashable) -> None:
        self._unpark(waiting)
        waiting.kind, waiting.parked_at, waiting.woken = kind, now, False
        self.parked.setdefault(kind, {})[waiting.key] = waiting

    def wake(self, kind: Hashable, count: int | None = None, first: Collection[str] = ()) -> int:
        """Parked pods of a kind are tried again after their back-off: those named ``first``, and ``count`` of the others
        (None: all), the oldest of them. Returns how many."""
        held = self.parked.get(kind)
        if held is None:
            return 0
        chosen = [w for w in held.values() if w.key in first]
        others = [w for w in held.values() if w.key not in first]
        if count is not None and count < len(others):
            others = heapq.nsmallest(count, others, key=lambda w: (-w.priority, w.since))
        for waiting in (*chosen, *others):
            self._unpark(waiting)
            waiting.woken = True
            heapq.heappush(self._backoff, (waiting.ready_at, waiting.key))
        return len(chosen) + len(others)

    def retry_old(self, now: float) -> None:
        """Pods parked for long are tried again even if nothing was seen to change."""
        old = [w for held in self.parked.values() for w in held.values() if now - w.parked_at > UNSCHEDULABLE_LIMIT]
        for waiting in old:
            self._unpark(waiting)
            self._activate(waiting.key)

    def next_time(self) -> float | None:
        """When the next back-off ends, None when nothing backs off."""
        times = [heap[0][0] for heap in (self._backoff, self._errors) if heap]
        return min(times, default=None)
