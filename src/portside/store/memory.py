"""The store in memory: for tests, simulations and clusters that may vanish. Same behaviour as on disk, durable in nothing."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import NamedTuple

from portside.store.backend import (
    FIRST_REVISION,
    Change,
    Committed,
    Compacted,
    Durability,
    FutureRevision,
    Page,
    Record,
    Refused,
    Sink,
    StoreError,
    Version,
    Write,
)
from portside.store.feed import Feed, FeedSubscription

COMPACT_STEP = 500
"""Keys looked at per compaction step before others get a turn."""


class _Version(NamedTuple):
    revision: int
    value: bytes | None
    created: int
    note: bytes


class MemoryBackend:
    """Versions per key, oldest first; a tombstone is a version without a value."""

    def __init__(self) -> None:
        self._versions: dict[str, list[_Version]] = {}
        self._keys: list[str] = []
        self._revision = FIRST_REVISION
        self._compacted = FIRST_REVISION
        self._feed = Feed()
        self._open = False

    async def open(self) -> None:
        self._open = True

    async def close(self) -> None:
        self._open = False

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        return self._compacted

    async def write(self, write: Write) -> Committed | Refused:
        if not self._open:
            raise StoreError("the store is closed; nothing was written")
        versions = self._versions.get(write.key)
        head = versions[-1] if versions and versions[-1].value is not None else None
        current = head.revision if head else 0
        if (write.expected is not None and write.expected != current) or (write.value is None and head is None):
            return Refused(_record(write.key, head))
        revision = self._revision = self._revision + 1
        version = _Version(revision, write.value, head.created if head else revision, write.note)
        if versions is None:
            self._versions[write.key] = [version]
            insort(self._keys, write.key)
        elif write.durability is Durability.EPHEMERAL:
            versions[:] = [version]
        else:
            versions.append(version)
        self._feed.deliver([Change(write.key, write.value, revision, version.created)])
        return Committed(revision, version.created)

    async def get(self, key: str, *, revision: int | None = None) -> Record | None:
        return self._at(key, self._check(revision))

    async def range(
        self, prefix: str, *, revision: int | None = None, after: str | None = None, limit: int = 0
    ) -> Page:
        at = self._check(revision)
        records: list[Record] = []
        start = bisect_right(self._keys, after) if after is not None and after >= prefix else 0
        if not start:
            start = bisect_right(self._keys, prefix)
            start -= bool(start and self._keys[start - 1] == prefix)
        for index in range(start, len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                break
            record = self._at(key, at)
            if record is None:
                continue
            if limit and len(records) == limit:
                return Page(records, at, True)
            records.append(record)
        return Page(records, at, False)

    async def history(self, key: str, *, limit: int = 0) -> Sequence[Version]:
        self._check(None)
        found = [Version(*version) for version in reversed(self._versions.get(key, ()))]
        return found[:limit] if limit else found

    async def subscribe(self, prefix: str, sink: Sink, *, after: int) -> FeedSubscription:
        if after < self._compacted:
            raise Compacted(self._compacted)
        subscription = self._feed.attach(prefix, sink, after)
        backlog = [
            Change(key, v.value, v.revision, v.created)
            for key, versions in self._versions.items()
            for v in versions
            if v.revision > after
        ]
        backlog.sort(key=lambda change: change.revision)
        subscription.release(backlog)
        return subscription

    async def compact(self, revision: int) -> None:
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        if revision <= self._compacted:
            return
        self._compacted = revision
        keys = list(self._keys)
        for start in range(0, len(keys), COMPACT_STEP):
            for key in keys[start : start + COMPACT_STEP]:
                self._compact_key(key, revision)
            await asyncio.sleep(0)

    def _compact_key(self, key: str, revision: int) -> None:
        versions = self._versions.get(key, [])
        keep = bisect_right(versions, revision, key=lambda v: v.revision) - 1
        if keep >= 0 and versions[keep].value is None:
            keep += 1
        if keep > 0:
            del versions[:keep]
        if not versions and self._versions.pop(key, None) is not None:
            del self._keys[bisect_left(self._keys, key)]

    def _check(self, revision: int | None) -> int:
        if not self._open:
            raise StoreError("the store is closed")
        if revision is None:
            return self._revision
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        if revision < self._compacted:
            raise Compacted(self._compacted)
        return revision

    def _at(self, key: str, revision: int) -> Record | None:
        for version in reversed(self._versions.get(key, ())):
            if version.revision <= revision:
                return _record(key, version)
        return None


def _record(key: str, version: _Version | None) -> Record | None:
    if version is None or version.value is None:
        return None
    return Record(key, version.value, version.revision, version.created)
