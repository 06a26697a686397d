"""The database file: whose it is, that nobody else has it open, what it must contain, and what its errors mean."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from portside.store.backend import FIRST_REVISION, StoreError

APPLICATION_ID = 0x506F7274
SCHEMA_VERSION = 3
PAGE_SIZE = 4096

# ``replaces`` is the revision this row made superfluous: compaction walks it instead of searching. The value comes last,
# so that the other columns are read without its overflow pages. ``note`` is what the writer said about the write. An ephemeral row removes what it replaces at once.
SCHEMA = """
CREATE TABLE log (
  revision INTEGER PRIMARY KEY, key TEXT NOT NULL, created INTEGER NOT NULL, replaces INTEGER NOT NULL,
  ephemeral INTEGER NOT NULL, note BLOB, value BLOB
);
CREATE UNIQUE INDEX log_key ON log (key, revision);
CREATE TRIGGER log_ephemeral AFTER INSERT ON log WHEN NEW.ephemeral AND NEW.replaces > 0
BEGIN DELETE FROM log WHERE revision = NEW.replaces; END;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
# Format 1 had no notes. Its rows keep their place behind the value: read a little slower, until compaction takes them.
# Format 2 had no encrypted values.
FROM = {1: "ALTER TABLE log ADD COLUMN note BLOB;", 2: ""}


class Connections(NamedTuple):
    """One to write, one to read, one to copy the write-ahead log into the database beside the writers."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    beside: sqlite3.Connection


class SqliteFile:
    """One database file and its lock."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._lock: int | None = None

    def open(self) -> Connections:
        """Makes the file when there is none. Raises StoreError."""
        try:
            self._check_owner(self.path.parent, 0o022)
            self._take_lock()
            if not self.path.exists():
                self._create()
            for part in (self.path, *self._companions()):
                if part.exists():
                    self._check_owner(part, 0o077)
        except OSError as error:
            raise self._refusal(error) from error
        with self.explained(), contextlib.ExitStack() as undo:
            made: list[sqlite3.Connection] = []
            for _ in Connections._fields:
                connection = self._connect()
                undo.callback(connection.close)
                if not made:
                    self._check_content(connection)
                made.append(connection)
            connections = Connections(*made)
            connections.reader.execute("PRAGMA query_only = ON")
            undo.pop_all()
            return connections

    def close(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turns SQLite's errors into StoreError."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.explain(error) from error

    def explain(self, error: sqlite3.Error) -> StoreError:
        text = str(error)
        if self.is_full(error):
            return StoreError(
                f"the disk of {self.path} is full ({text}): nothing was written;"
                f" free space there or delete objects, then try again"
            )
        if isinstance(error, sqlite3.OperationalError) and "I/O" in text:
            return StoreError(
                f"reading or writing {self.path} failed ({text}): nothing more is written until a restart;"
                f" check the disk (dmesg) and its free space"
            )
        if isinstance(error, sqlite3.OperationalError) and "lock" in text:
            return StoreError(f"{self.path} is locked by another program ({text}): close it and start again")
        if isinstance(error, sqlite3.OperationalError) and ("readonly" in text or "unable to open" in text):
            return StoreError(f"{self.path} can't be written ({text}): check the owner and mode of it and its folder")
        return StoreError(
            f"{self.path} is damaged ({text}); it was left as it is: restore it from a backup,"
            f" or move it away to start with an empty cluster"
        )

    @staticmethod
    def is_passing(error: sqlite3.Error) -> bool:
        """Whether the next write may well succeed: the file is as it was before."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

    @staticmethod
    def is_full(error: sqlite3.Error) -> bool:
        return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"file:{_quoted(self.path)}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
            timeout=5.0,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
            connection.execute("PRAGMA cache_size = -16384")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA max_page_count = {max(16, self._max_bytes // PAGE_SIZE)}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_content(self, connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise StoreError(
                f"{self.path} is not a Portside store, or it lost its content; it was left as it is:"
                f" restore it from a backup, or move it away to start with an empty cluster"
            )
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version in FROM:
            connection.executescript(f"BEGIN; {FROM[version]} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise StoreError(
                f"{self.path} has format {version}, this Portside reads format {SCHEMA_VERSION}:"
                f" use the version of Portside that wrote it"
            )
        connection.execute("SELECT name, value FROM meta").fetchall()

    def _create(self) -> None:
        """Under another name first, so that a crash here never leaves half a store."""
        draft = self.path.with_name(self.path.name + ".new")
        for part in (draft, draft.with_name(draft.name + "-wal"), draft.with_name(draft.name + "-shm")):
            part.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with self.explained(), contextlib.closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("PRAGMA journal_mode = WAL").fetchall()
            connection.execute("PRAGMA synchronous = FULL")
            connection.executescript("BEGIN;" + SCHEMA + "COMMIT;")
            marks = [("compacted", FIRST_REVISION), ("swept", FIRST_REVISION)]
            connection.executemany("INSERT INTO meta VALUES (?, ?)", marks)
        os.rename(draft, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _take_lock(self) -> None:
        """A file of its own: closing any handle of the database would drop SQLite's own locks."""
        path = self.path.with_name(self.path.name + ".lock")
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise StoreError(
                f"{self.path} is in use by another process (pid {holder}): stop it first, or choose another --home"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle

    def _companions(self) -> list[Path]:
        return [self.path.with_name(self.path.name + suffix) for suffix in ("-wal", "-shm")]

    def _check_owner(self, path: Path, forbidden: int) -> None:
        """Secrets are in there: it must be ours, and nobody else's to read (files) or change (folder)."""
        status = path.lstat()
        me = os.geteuid()
        if status.st_uid != me and not (stat.S_ISDIR(status.st_mode) and status.st_uid == 0):
            raise StoreError(
                f"{path} belongs to user {status.st_uid}, this process runs as user {me}:"
                f" run it as that user, or hand it over with: chown {me} {path}"
            )
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & forbidden and not sticky:
            modes = "0700" if stat.S_ISDIR(status.st_mode) else "0600"
            raise StoreError(
                f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}) and holds secrets:"
                f" close it with: chmod {modes} {path}"
            )

    def _refusal(self, error: OSError) -> StoreError:
        if isinstance(error, FileNotFoundError):
            return StoreError(f"the folder {self.path.parent} does not exist: create it, or choose another --home")
        return StoreError(
            f"{self.path} can't be opened ({error.strerror}): check the owner and mode of it and its folder"
        )


def _quoted(path: Path) -> str:
    """A path in SQLite's URI form."""
    return str(path.absolute()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
