"""The thread that writes: batches and small jobs, one at a time, in order.

A batch is one multi-row INSERT in autocommit mode, so that Python's lock is released and taken once per batch and not
once per row; with a busy event loop each taking may cost a whole switch interval.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from portside.store.backend import StoreError
from portside.store.sqlite_file import SqliteFile

T = TypeVar("T")

# revision, key, created, revision it replaces (0: none), ephemeral, note, value (None: deletion)
Row = tuple[int, str, int, int, bool, bytes | None, bytes | None]

CHECKPOINT_PAGES = 2_000
"""Pages in the write-ahead log after which it is copied into the database."""


class Batch(NamedTuple):
    """Rows for one transaction and whom to tell, in which loop."""

    rows: Sequence[Row]
    loop: asyncio.AbstractEventLoop
    done: Callable[[StoreError | None], None]


class SqliteWriter:
    """Owns the writing connection and one ``beside`` it that copies the log. After an error that leaves the file's state unknown it refuses everything."""

    def __init__(self, connection: sqlite3.Connection, beside: sqlite3.Connection, file: SqliteFile) -> None:
        self._connection = connection
        self._beside = beside
        self._file = file
        self._jobs: queue.SimpleQueue[Batch | Callable[[], None] | None] = queue.SimpleQueue()
        self._broken: StoreError | None = None
        self._since_checkpoint = 0
        self._copying = False
        self._copy = ThreadPoolExecutor(1, thread_name_prefix="store-copy")
        self._thread = threading.Thread(target=self._run, name="store-write", daemon=True)
        self._thread.start()

    def commit(self, batch: Batch) -> None:
        """Write the batch, then call ``done`` in its loop."""
        self._jobs.put(batch)

    async def call(self, loop: asyncio.AbstractEventLoop, job: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``job`` with the connection, between batches."""
        answer: asyncio.Future[T] = loop.create_future()

        def settle(result: T | None, error: BaseException | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def run() -> None:
            result: T | None = None
            error: BaseException | None = None
            try:
                with self._file.explained():
                    if self._broken is not None:
                        raise self._broken
                    result = job(self._connection)
            except BaseException as caught:
                error = caught
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        self._jobs.put(run)
        return await answer

    def close(self) -> None:
        """Finish what was given, then close the connection. Blocks."""
        self._copy.shutdown(wait=True)
        self._jobs.put(None)
        self._thread.join()
        self._beside.close()
        self._connection.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not isinstance(job, Batch):
                job()
                continue
            error = self._broken or self._write(job.rows)
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits
                job.loop.call_soon_threadsafe(job.done, error)
            self._checkpoint(job.rows)

    def _write(self, rows: Sequence[Row]) -> StoreError | None:
        try:
            self._connection.execute(
                "INSERT INTO log (revision, key, created, replaces, ephemeral, note, value) VALUES "
                + ",".join(["(?,?,?,?,?,?,?)"] * len(rows)),
                [field for row in rows for field in row],
            )
        except sqlite3.Error as caught:
            error = self._file.explain(caught)
            if not self._file.is_passing(caught):
                self._broken = error
            return error
        return None

    def _checkpoint(self, rows: Sequence[Row]) -> None:
        """Have the write-ahead log copied into the database now and then.

        The bulk goes beside the writers, on a connection of its own; what they added meanwhile is copied between two
        batches, so that the log is empty for a moment and starts anew. Failures are tried again: the log has the data.
        """
        self._since_checkpoint += sum(2 + (len(row[6]) >> 12 if row[6] else 0) for row in rows)
        if self._since_checkpoint >= CHECKPOINT_PAGES and not self._copying:
            self._since_checkpoint = 0
            self._copying = True
            self._copy.submit(self._copy_bulk)

    def _copy_bulk(self) -> None:
        _copy(self._beside)
        self._jobs.put(self._copy_rest)

    def _copy_rest(self) -> None:
        _copy(self._connection)
        self._copying = False

    @staticmethod
    def set_meta(connection: sqlite3.Connection, name: str, value: int) -> None:
        connection.execute("UPDATE meta SET value = ? WHERE name = ?", (value, name))

    @staticmethod
    def get_meta(connection: sqlite3.Connection, name: str) -> int:
        return int(connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()[0])


def _copy(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
