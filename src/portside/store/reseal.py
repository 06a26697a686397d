"""Bringing what is stored into the form that is written now: after a first key, a new key, or the end of encryption.

Versions are replaced in place, in small transactions between those of the writers: revisions stay, nothing is told to
anybody, and earlier versions are as safe as the newest. What was done is known from the values themselves, so that a
crash in the middle costs nothing. At the end the file is rewritten once: SQLite's free space still holds the old bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from portside.store.backend import StoreError, Unreadable
from portside.store.seal import MARK, Seal

T = TypeVar("T")

LOOK_ROWS = 1_000
REPLACE_ROWS = 64
REPLACE_BYTES = 1 << 20
"""What one step looks at and replaces: a few milliseconds of the writer."""
START_BYTES = 128
"""As much of a value as tells its form."""
TRUNCATE_TRIES = 200
TRUNCATE_PAUSE = 0.05
REPLACED = (
    "resealing"  # in the file's meta: there are replaced values whose old bytes may still be in the file or its log
)
DONE = "sealed"  # in the file's meta: the identity of the seal whose form everything has


class Read(Protocol):
    """Runs a job with the reading connection."""

    def __call__(self, job: Callable[..., T], *arguments: Any) -> Awaitable[T]: ...


class Change(Protocol):
    """Runs a job with the writing connection, between two batches."""

    def __call__(self, job: Callable[[sqlite3.Connection], T]) -> Awaitable[T]: ...


class Resealed(NamedTuple):
    """``changed`` versions were replaced; ``unreadable`` ones were left alone, as no key there is opens them."""

    changed: int = 0
    unreadable: int = 0


class _Part(NamedTuple):
    rows: list[tuple[bytes, int]]
    unreadable: int
    last: int
    """Everything up to this revision was looked at; -1: that was all."""


async def reseal(seal: Seal, read: Read, change: Change) -> Resealed:
    """See ``SqliteBackend.reseal``. Raises StoreError."""
    if await read(_done) == seal.identity:
        return Resealed()
    changed = unreadable = last = 0
    while last >= 0:
        part = await read(_stale, seal, last)
        unreadable, last = unreadable + part.unreadable, part.last
        if part.rows:
            await change(lambda c, rows=part.rows: _replace(c, rows))  # type: ignore[misc]
            changed += len(part.rows)
        await asyncio.sleep(0)
    if changed or await read(_replaced):  # what was replaced before a crash is no longer told from what was written so
        await change(_rewrite)
        await _empty_log(change)
        await change(_forget_replaced)
    if not unreadable:
        await change(lambda c: _set_done(c, seal.identity))
    return Resealed(changed, unreadable)


def any_sealed(connection: sqlite3.Connection) -> bool:
    query = "SELECT 1 FROM log WHERE substr(value, 1, ?) = ? LIMIT 1"
    return connection.execute(query, (len(MARK), MARK)).fetchone() is not None


def forget_other(seal: Seal, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM meta WHERE name = ? AND value != ?", (DONE, seal.identity))


def _done(connection: sqlite3.Connection) -> int | None:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (DONE,)).fetchone()
    return row and int(row[0])


def _set_done(connection: sqlite3.Connection, identity: int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (DONE, identity))


def _replaced(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM meta WHERE name = ?", (REPLACED,)).fetchone() is not None


def _forget_replaced(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM meta WHERE name = ?", (REPLACED,))


def _stale(connection: sqlite3.Connection, seal: Seal, after: int) -> _Part:
    """The next versions that have another form than the one written now, in their new form."""
    looked = connection.execute(
        "SELECT revision, key, substr(value, 1, ?) FROM log WHERE revision > ? AND value IS NOT NULL"
        " ORDER BY revision LIMIT ?",
        (START_BYTES, after, LOOK_ROWS),
    ).fetchall()
    rows: list[tuple[bytes, int]] = []
    unreadable = size = 0
    for revision, key, start in looked:
        if seal.is_current(key, start):
            continue
        found = connection.execute("SELECT value FROM log WHERE revision = ?", (revision,)).fetchone()
        if found is None:  # an ephemeral version that was replaced meanwhile
            continue
        plain = seal.open(key, found[0])
        if isinstance(plain, Unreadable):
            unreadable += 1
            continue
        rows.append((seal.seal(key, plain), revision))
        size += len(plain)
        if len(rows) == REPLACE_ROWS or size > REPLACE_BYTES:
            return _Part(rows, unreadable, revision)
    return _Part(rows, unreadable, looked[-1][0] if len(looked) == LOOK_ROWS else -1)


def _replace(connection: sqlite3.Connection, rows: list[tuple[bytes, int]]) -> None:
    connection.execute("BEGIN")
    try:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (REPLACED,))
        connection.executemany("UPDATE log SET value = ? WHERE revision = ?", rows)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _rewrite(connection: sqlite3.Connection) -> None:
    """Writers wait for it: about a second for 100 MB."""
    connection.execute("PRAGMA temp_store = FILE")
    try:
        connection.execute("VACUUM")
    finally:
        connection.execute("PRAGMA temp_store = MEMORY")


async def _empty_log(change: Change) -> None:
    """The write-ahead log holds the old bytes too: copy it into the file and cut it to nothing. Raises StoreError."""
    for _ in range(TRUNCATE_TRIES):
        busy = await change(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        if not busy:
            return
        await asyncio.sleep(TRUNCATE_PAUSE)
    raise StoreError("the store is read without a pause: values in an earlier form are still in its write-ahead log")
