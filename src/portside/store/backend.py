"""The store's narrow waist: what every backend offers.

A backend is a revisioned key-value log. One revision is one committed transaction's write; revisions rise by one and never
go back. Keys are text such as ``/apps/deployments/NAMESPACE/NAME``; values are bytes the store never looks into.
A key whose class is ``EPHEMERAL`` (Leases, Events) keeps only its latest version.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class StoreError(Exception):
    """The store could not answer; nothing was written."""


class Compacted(StoreError):
    """The revision asked for is older than the compacted one. ``revision`` is the oldest that can be read."""

    def __init__(self, revision: int) -> None:
        super().__init__(f"revision has been compacted; the oldest kept is {revision}")
        self.revision = revision


class FutureRevision(StoreError):
    """The revision asked for has not been written yet. ``revision`` is the current one."""

    def __init__(self, asked: int, revision: int) -> None:
        super().__init__(f"revision {asked} is ahead of the current revision {revision}")
        self.asked = asked
        self.revision = revision


class Durability(IntEnum):
    """How a key is kept: with its history, or its latest version only."""

    HISTORY = 0
    EPHEMERAL = 1


@dataclass(frozen=True, slots=True)
class Record:
    """One version of one key. ``revision`` wrote it, ``created`` is the revision that made the key."""

    key: str
    value: bytes
    revision: int
    created: int


@dataclass(frozen=True, slots=True)
class Change:
    """One event of a watch. A deletion has ``value`` None; ``previous`` is the record it replaced, None for a new key."""

    key: str
    value: bytes | None
    revision: int
    created: int
    previous: Record | None


@dataclass(frozen=True, slots=True)
class Write:
    """Commit ``value`` (None deletes) to ``key`` if its current revision is ``expected``: 0 means absent, None means any."""

    key: str
    value: bytes | None
    expected: int | None = None
    durability: Durability = Durability.HISTORY


@dataclass(frozen=True, slots=True)
class Committed:
    """The write stands and is on disk."""

    revision: int
    previous: Record | None


@dataclass(frozen=True, slots=True)
class Refused:
    """The expectation did not hold; nothing was written. ``current`` is what stands there, None when absent."""

    current: Record | None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a range, in key order, all as of ``revision``. ``more`` says that keys follow; ``remaining`` how many."""

    records: Sequence[Record]
    revision: int
    more: bool
    remaining: int


class Backend(Protocol):
    """What the server needs of a store. All methods belong to one event loop."""

    async def open(self) -> None:
        """Make ready. Raises StoreError with what, where and what to do when the state can't be used."""

    async def close(self) -> None:
        """Finish acknowledged work and let go."""

    @property
    def revision(self) -> int:
        """The newest committed revision."""

    @property
    def compacted(self) -> int:
        """History up to this revision may be gone; 0 when nothing was compacted."""

    async def write(self, write: Write) -> Committed | Refused:
        """Commit one write. When it returns Committed the data survives ``kill -9`` and power loss, and every watch
        callback for that revision was already called."""

    async def get(self, key: str, *, revision: int | None = None) -> Record | None:
        """The record at ``revision`` (newest when None). Raises Compacted, FutureRevision."""

    async def range(
        self, prefix: str, *, revision: int | None = None, after: str | None = None, limit: int = 0
    ) -> Page:
        """Records whose key starts with ``prefix``, after the key ``after``. Raises Compacted, FutureRevision."""

    def watch(self, prefix: str, *, after: int) -> AsyncIterator[Sequence[Change]]:
        """Every change of revision > ``after``, each once, in order, in batches. Raises Compacted at once or later; a
        revision in the future yields nothing until it is passed."""

    async def compact(self, revision: int) -> None:
        """Drop history before ``revision`` in small steps that never stall writers."""
