"""Reading the log: state at a revision, changes after one, and what the backend keeps in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from portside.store.backend import Change, Page, Record, Version
from portside.store.seal import MARK, Seal

# The newest version of each key not after :at, in key order: the inner query walks the index of key and revision alone and
# CROSS JOIN keeps its order, so that neither values are sorted nor more of them read than :limit.
_RANGE = (
    "SELECT log.key, log.value, log.revision, log.created FROM"
    " (SELECT key, max(revision) AS newest FROM log WHERE key >= :low AND key < :high AND revision <= :at"
    " GROUP BY key ORDER BY key) AS keys"
    " CROSS JOIN log ON log.revision = keys.newest WHERE log.value IS NOT NULL LIMIT :limit"
)


class Heads(NamedTuple):
    """The newest version of every living key, as (key, revision, created), and where the log stands."""

    heads: list[tuple[str, int, int]]
    revision: int
    compacted: int


def revisions(connection: sqlite3.Connection) -> tuple[int, int]:
    """Newest and compacted revision. Compaction may have removed the newest rows; its mark remembers them."""
    compacted = int(connection.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()[0])
    newest = connection.execute("SELECT max(revision) FROM log").fetchone()[0]
    return max(int(newest or 0), compacted), compacted


def heads(connection: sqlite3.Connection) -> Heads:
    rows = connection.execute(
        "SELECT key, revision, created FROM log WHERE revision IN (SELECT max(revision) FROM log GROUP BY key)"
        " AND value IS NOT NULL"
    ).fetchall()
    return Heads(rows, *revisions(connection))


def read_one(connection: sqlite3.Connection, seal: Seal, key: str, revision: int | None) -> Record | None:
    row = connection.execute(
        "SELECT key, value, revision, created FROM log WHERE key = ? AND revision <= ? ORDER BY revision DESC LIMIT 1",
        (key, _last(revision)),
    ).fetchone()
    if row is None or row[1] is None:
        return None
    return Record(key, seal.open(key, row[1]), row[2], row[3])


def read_history(connection: sqlite3.Connection, seal: Seal, key: str, limit: int) -> Sequence[Version]:
    rows = connection.execute(
        "SELECT revision, value, created, note FROM log WHERE key = ? ORDER BY revision DESC LIMIT ?",
        (key, limit or -1),
    ).fetchall()
    return [
        Version(revision, None if value is None else seal.open(key, value), created, note or b"")
        for revision, value, created, note in rows
    ]


def read_range(
    connection: sqlite3.Connection, seal: Seal, prefix: str, revision: int | None, after: str | None, limit: int
) -> Page:
    """Within one read transaction, so that page and revision agree."""
    low, high = prefix, _end(prefix)
    if after is not None and after >= low:
        low = after + "\0"
    bounds = {"low": low, "high": high, "at": _last(revision), "limit": limit + 1 if limit else -1}
    connection.execute("BEGIN")
    try:
        newest, _ = revisions(connection)
        rows = connection.execute(_RANGE, bounds).fetchall()
    finally:
        connection.execute("COMMIT")
    more = 0 < limit < len(rows)
    touched = seal.touched
    records = [
        Record(key, seal.open(key, value), written, created)
        if value.startswith(MARK) or key.startswith(touched)
        else Record(key, value, written, created)
        for key, value, written, created in (rows[:limit] if more else rows)
    ]
    return Page(records, newest if revision is None else revision, more)


def backlog(connection: sqlite3.Connection, seal: Seal, prefix: str, after: int, last: int) -> Sequence[Change]:
    """Changes of revision in (after, last], in order."""
    rows = connection.execute(
        "SELECT key, value, revision, created FROM log WHERE revision > ? AND revision <= ? ORDER BY revision",
        (after, last),
    ).fetchall()
    return [
        Change(key, None if value is None else seal.open(key, value), written, created)
        for key, value, written, created in rows
        if key.startswith(prefix)
    ]


def _last(revision: int | None) -> int:
    return 2**62 if revision is None else revision


def _end(prefix: str) -> str:
    """The first text behind all that start with ``prefix``."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else "\U0010ffff"
