"""Pods that wait for a node: active by priority then age, backing off, or unschedulable until something changes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

INITIAL_BACKOFF, MAX_BACKOFF = 1.0, 10.0  # seconds, upstream's defaults
UNSCHEDULABLE_LIMIT = 300.0  # seconds after which a pod is tried again without any event


@dataclass(slots=True)
class Waiting:
    """One waiting pod. Times are monotonic seconds."""

    key: str
    priority: int
    since: float
    attempts: int = 0
    ready_at: float = 0.0
    parked_at: float = 0.0


class Queue:
    """Holds keys, never objects; every method takes the present time, so tests need no clock."""

    def __init__(self) -> None:
        self._pods: dict[str, Waiting] = {}
        self._active: list[tuple[int, float, str]] = []
        self._queued: set[str] = set()
        self._backoff: list[tuple[float, str]] = []
        self._parked: set[str] = set()

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
            if key in self._parked:
                self._parked.discard(key)
                self._resume(known, now)

    def in_order(self, keys: Iterable[str]) -> list[str]:
        """Keys by how long they have waited."""
        known = [self._pods[k] for k in keys if k in self._pods]
        return [w.key for w in sorted(known, key=lambda w: (w.since, w.key))]

    def remove(self, key: str) -> None:
        """The pod has a node or is gone."""
        self._pods.pop(key, None)
        self._queued.discard(key)
        self._parked.discard(key)

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

    def pop(self, now: float) -> str | None:
        """The next pod to decide for, None when all wait."""
        while self._backoff and self._backoff[0][0] <= now:
            _, key = heapq.heappop(self._backoff)
            if key in self._pods and key not in self._parked:
                self._activate(key)
        while self._active:
            _, _, key = heapq.heappop(self._active)
            if key in self._queued:
                self._queued.discard(key)
                return key
        return None

    def failed(self, key: str, now: float, *, park: bool) -> None:
        """The attempt failed: back off, and with ``park`` wait for a change of the cluster as well."""
        waiting = self._pods.get(key)
        if waiting is None:
            return
        waiting.attempts += 1
        waiting.ready_at = now + min(INITIAL_BACKOFF * 2 ** (waiting.attempts - 1), MAX_BACKOFF)
        waiting.parked_at = now
        self._queued.discard(key)  # one decision for a gang is an attempt of all its pods
        if park:
            self._parked.add(key)
        else:
            heapq.heappush(self._backoff, (waiting.ready_at, key))

    def cluster_changed(self, now: float, helps: Callable[[str], bool] | None = None) -> None:
        """Something changed that could make room: parked pods that it ``helps`` (None: all) are tried again after their
        back-off."""
        for key in list(self._parked):
            if helps is not None and not helps(key):
                continue
            self._parked.discard(key)
            if key in self._pods:
                self._resume(self._pods[key], now)

    def retry_old(self, now: float) -> None:
        """Pods parked for long are tried again even if nothing was seen to change."""
        for key in list(self._parked):
            waiting = self._pods.get(key)
            if waiting is None or now - waiting.parked_at > UNSCHEDULABLE_LIMIT:
                self._parked.discard(key)
                if waiting is not None:
                    self._activate(key)

    def next_time(self) -> float | None:
        """When the next pod's back-off ends, None when nothing backs off."""
        return self._backoff[0][0] if self._backoff else None
