"""The store on disk: one SQLite file, every acknowledged write synced, waiting writers sharing one sync.

The loop decides each write against an in-memory map of newest revisions, the writer thread appends a whole batch in one
statement (one transaction, one sync), the loop delivers the changes and answers the writers. Reads that the watch cache
does not serve use a connection and a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from portside.store.backend import (
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
from portside.store.reseal import Resealed, any_sealed, forget_other, reseal
from portside.store.seal import Seal
from portside.store.sqlite_file import SqliteFile
from portside.store.sqlite_reads import backlog, heads, read_history, read_one, read_range
from portside.store.sqlite_writer import Batch, Row, SqliteWriter

T = TypeVar("T")

BATCH_WRITES = 256
BATCH_BYTES = 8 * 1024 * 1024
"""What one transaction takes; the rest waits for the next."""
COMPACT_ROWS = 256
"""Log rows one compaction step looks at: a few milliseconds at most."""


class _Head(NamedTuple):
    """The newest version of a key. Deleted keys have no head."""

    revision: int
    created: int


class _Waiting(NamedTuple):
    write: Write
    answer: asyncio.Future[Committed | Refused]


class SqliteBackend:
    """A backend in the file ``path``. ``max_bytes`` bounds the file; beyond it writes fail as on a full disk. ``seal`` says
    what is encrypted there."""

    def __init__(self, path: Path | str, *, max_bytes: int = 8 * 1024**3, seal: Seal | None = None) -> None:
        self._file = SqliteFile(Path(path), max_bytes)
        self._seal = seal or Seal()
        self._feed = Feed()
        self._heads: dict[str, _Head] = {}
        self._revision = 0
        self._compacted = 0
        self._queue: deque[_Waiting] = deque()
        self._batch: list[tuple[_Waiting, Change | None]] | None = None
        self._decided: dict[str, _Head | None] = {}
        self._scheduled = False
        self._closed = True
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: SqliteWriter | None = None
        self._reader: sqlite3.Connection | None = None
        self._reads: ThreadPoolExecutor | None = None
        self._idle: asyncio.Event = asyncio.Event()
        self._compacting = asyncio.Lock()

    async def open(self) -> None:
        if not self._closed:
            return
        self._loop = asyncio.get_running_loop()
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="store-read")
        try:
            connections = await self._loop.run_in_executor(self._reads, self._file.open)
            self._reader = connections.reader
            self._writer = SqliteWriter(connections.writer, connections.beside, self._file)
            await self._settle()
            state = await self._read(heads)
        except BaseException:
            await self._let_go()
            raise
        self._heads = {key: _Head(revision, created) for key, revision, created in state.heads}
        self._revision = state.revision
        self._compacted = state.compacted
        self._idle.set()
        self._closed = False

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self._idle.wait()
        async with self._compacting:
            await self._let_go()

    async def _let_go(self) -> None:
        if self._writer is not None:
            await asyncio.get_running_loop().run_in_executor(self._reads, self._writer.close)
            self._writer = None
        if self._reads is not None:
            self._reads.shutdown(wait=True)
            self._reads = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._file.close()

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        return self._compacted

    # ---- writing ------------------------------------------------------------------------------------------------

    async def write(self, write: Write) -> Committed | Refused:
        loop = self._loop
        if self._closed or loop is None:
            raise StoreError(f"the store {self._file.path} is closed; nothing was written")
        answer: asyncio.Future[Committed | Refused] = loop.create_future()
        self._queue.append(_Waiting(write, answer))
        if self._batch is None and not self._scheduled:
            self._scheduled = True
            self._idle.clear()
            loop.call_soon(self._send_batch)
        result = await answer
        if isinstance(result, Refused) and result.current is not None:
            return Refused(await self.get(write.key))
        return result

    def _send_batch(self) -> None:
        """Decide the waiting writes in order and hand them to the writer thread as one batch."""
        self._scheduled = False
        assert self._writer is not None and self._loop is not None
        batch: list[tuple[_Waiting, Change | None]] = []
        rows: list[Row] = []
        decided: dict[str, _Head | None] = {}
        revision = self._revision
        size = 0
        while self._queue and len(batch) < BATCH_WRITES and size < BATCH_BYTES:
            waiting = self._queue.popleft()
            key, value, expected, durability, note = waiting.write
            head = decided[key] if key in decided else self._heads.get(key)
            current = head.revision if head else 0
            if (expected is not None and expected != current) or (value is None and head is None):
                batch.append((waiting, None))
                continue
            revision += 1
            created = head.created if head else revision
            decided[key] = None if value is None else _Head(revision, created)
            batch.append((waiting, Change(key, value, revision, created)))
            stored = self._seal.seal(key, value) if value is not None and key.startswith(self._seal.touched) else value
            rows.append((revision, key, created, current, durability is Durability.EPHEMERAL, note or None, stored))
            size += len(value) if value is not None else 0
        if not batch:
            self._idle.set()
            return
        self._batch, self._decided = batch, decided
        if rows:
            self._writer.commit(Batch(rows, self._loop, self._committed))
        else:
            self._committed(None)

    def _committed(self, error: StoreError | None) -> None:
        """In the loop, after the batch is on disk: tell the sinks, then the writers, then go on."""
        batch = self._batch or []
        self._batch = None
        if error is not None:
            for waiting, _ in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(StoreError(str(error)))
        else:
            self._publish(batch)
        if self._queue:
            self._send_batch()
        else:
            self._idle.set()

    def _publish(self, batch: list[tuple[_Waiting, Change | None]]) -> None:
        changes = [change for _, change in batch if change is not None]
        for key, head in self._decided.items():
            if head is None:
                self._heads.pop(key, None)
            else:
                self._heads[key] = head
        if changes:
            self._revision = changes[-1].revision
            self._feed.deliver(changes)
        for waiting, change in batch:
            if waiting.answer.done():
                continue
            if change is not None:
                waiting.answer.set_result(Committed(change.revision, change.created))
            else:
                # Only whether something stands there is known here; ``write`` reads what.
                head = self._heads.get(waiting.write.key)
                current = Record(waiting.write.key, b"", head.revision, head.created) if head else None
                waiting.answer.set_result(Refused(current))

    # ---- reading ------------------------------------------------------------------------------------------------

    async def get(self, key: str, *, revision: int | None = None) -> Record | None:
        self._check(revision)
        record = await self._read(read_one, self._seal, key, revision)
        self._check(revision)
        return record

    async def range(
        self, prefix: str, *, revision: int | None = None, after: str | None = None, limit: int = 0
    ) -> Page:
        self._check(revision)
        page = await self._read(read_range, self._seal, prefix, revision, after, limit)
        self._check(revision)
        return page

    async def history(self, key: str, *, limit: int = 0) -> Sequence[Version]:
        self._check(None)
        return await self._read(read_history, self._seal, key, limit)

    async def subscribe(self, prefix: str, sink: Sink, *, after: int) -> FeedSubscription:
        if after < self._compacted:
            raise Compacted(self._compacted)
        subscription = self._feed.attach(prefix, sink, after)
        missed: Sequence[Change] = ()
        if after < self._revision:
            try:
                missed = await self._read(backlog, self._seal, prefix, after, self._revision)
            except BaseException:
                subscription.close()
                raise
            if after < self._compacted:
                subscription.close()
                raise Compacted(self._compacted)
        subscription.release(missed)
        return subscription

    def _check(self, revision: int | None) -> None:
        if self._closed:
            raise StoreError(f"the store {self._file.path} is closed")
        if revision is None:
            return
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        if revision < self._compacted:
            raise Compacted(self._compacted)

    async def _read(self, job: Callable[..., T], *arguments: Any) -> T:
        assert self._reads is not None and self._reader is not None
        with self._file.explained():
            return await asyncio.get_running_loop().run_in_executor(self._reads, job, self._reader, *arguments)

    # ---- encryption ---------------------------------------------------------------------------------------------

    async def use(self, seal: Seal) -> None:
        """Write with ``seal`` from now on, and read with it. What is stored stays as it is until ``reseal``."""
        self._seal = seal
        await self._settle()

    async def _settle(self) -> None:
        """Forget on disk that everything is in the form of another seal: the next write makes it untrue."""
        if self._writer is not None and self._loop is not None:
            await self._writer.call(self._loop, partial(forget_other, self._seal))

    async def has_sealed(self) -> bool:
        """Whether any stored version is encrypted. Looks at all of them."""
        return await self._read(any_sealed)

    async def reseal(self) -> Resealed:
        """Bring every stored version, earlier ones included, into the form ``seal`` writes now, in small steps beside the
        writers; then leave nothing of the old forms in the file. Ends at once when nothing is left to do. A crash in the
        middle loses nothing: the next call goes on. Revisions stay, and nobody is told of a change."""
        async with self._compacting:
            if self._closed or self._writer is None or self._loop is None:
                raise StoreError(f"the store {self._file.path} is closed")
            writer, loop = self._writer, self._loop

            async def change(job: Callable[[sqlite3.Connection], T]) -> T:
                return await writer.call(loop, job)

            return await reseal(self._seal, self._read, change)

    # ---- compaction ---------------------------------------------------------------------------------------------

    async def compact(self, revision: int) -> None:
        if self._closed:
            raise StoreError(f"the store {self._file.path} is closed")
        if revision > self._revision:
            raise FutureRevision(revision, self._revision)
        async with self._compacting:
            writer = self._writer
            if self._closed or writer is None:
                return
            loop = asyncio.get_running_loop()
            if revision > self._compacted:
                # On disk before any row goes: the revision never falls behind a row that compaction removed.
                await writer.call(loop, lambda c: writer.set_meta(c, "compacted", revision))
                self._compacted = revision
            swept = await writer.call(loop, lambda c: writer.get_meta(c, "swept"))
            while swept < self._compacted and not self._closed:
                step = min(swept + COMPACT_ROWS, self._compacted)
                await writer.call(loop, _sweep(writer, swept, step))
                swept = step
                await asyncio.sleep(0)


def _sweep(writer: SqliteWriter, start: int, end: int) -> Callable[[sqlite3.Connection], None]:
    """One compaction step as its own transaction: rows in (start, end] make the row they replaced superfluous."""

    def step(connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        try:
            connection.execute(
                "DELETE FROM log WHERE revision IN"
                " (SELECT replaces FROM log WHERE revision > ? AND revision <= ? AND replaces > 0)",
                (start, end),
            )
            connection.execute("DELETE FROM log WHERE revision > ? AND revision <= ? AND value IS NULL", (start, end))
            writer.set_meta(connection, "swept", end)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise

    return step
