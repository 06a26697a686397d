"""The store's narrow waist: what every backend offers.

A backend is a revisioned key-value log. One revision is one committed write; revisions rise by one and never go back.
Keys are text such as ``/apps/deployments/NAMESPACE/NAME``; values are bytes the store never looks into (it may keep them
encrypted: what it can't open it hands out as ``Unreadable``). A key whose class is ``EPHEMERAL`` (Leases, Events) keeps only its latest version. An empty store stands at ``FIRST_REVISION``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import NamedTuple, Protocol

FIRST_REVISION = 100
"""Where a new store starts, already compacted to it, so that a client that names a tiny revision is told it is gone."""


class StoreError(Exception):
    """The store could not answer; nothing was written. The text says what, where and what to do."""


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


class Unreadable(bytes):
    """A value that is there and can't be decrypted: the bytes as they lie on disk. ``why`` is the reason."""

    why: str

    def __new__(cls, stored: bytes, why: str) -> Unreadable:
        made = super().__new__(cls, stored)
        made.why = why
        return made


class Record(NamedTuple):
    """One version of one key. ``revision`` wrote it, ``created`` is the revision that made the key."""

    key: str
    value: bytes
    revision: int
    created: int


class Version(NamedTuple):
    """One write to one key as ``history`` tells it. A deletion has ``value`` None."""

    revision: int
    value: bytes | None
    created: int
    note: bytes


class Change(NamedTuple):
    """One committed write as subscribers see it. A deletion has ``value`` None; a new key has ``created == revision``.

    The state before is not part of it: who needs it keeps it, having seen the change before.
    """

    key: str
    value: bytes | None
    revision: int
    created: int


class Write(NamedTuple):
    """Commit ``value`` (None deletes) to ``key`` if its current revision is ``expected``: 0 means absent, None means any.

    Deleting a key that is absent is refused whatever is expected. ``note`` is kept beside the version for ``history``: the
    store never looks into it either.
    """

    key: str
    value: bytes | None
    expected: int | None = None
    durability: Durability = Durability.HISTORY
    note: bytes = b""


class Committed(NamedTuple):
    """The write stands and is on disk. ``created`` is the revision that made the key."""

    revision: int
    created: int


class Refused(NamedTuple):
    """The expectation did not hold; nothing was written. ``current`` is what stands there, None when absent."""

    current: Record | None


class Page(NamedTuple):
    """Part of a range, in key order, all as of ``revision``. ``more`` says that keys follow."""

    records: Sequence[Record]
    revision: int
    more: bool


Sink = Callable[[Sequence[Change]], None]
"""Receives changes in revision order, in batches, within the event loop. Must not block; must not raise."""


class Subscription(Protocol):
    """A running delivery of changes."""

    def close(self) -> None:
        """Stop. Nothing is delivered afterwards."""


class Backend(Protocol):
    """What the server needs of a store. All methods belong to one event loop."""

    async def open(self) -> None:
        """Make ready. Raises StoreError with what, where and what to do when the state can't be used."""

    async def close(self) -> None:
        """Finish acknowledged work and let go."""

    @property
    def revision(self) -> int:
        """The newest committed revision that subscribers have seen."""

    @property
    def compacted(self) -> int:
        """The oldest revision that can still be read; changes after it can be subscribed to."""

    async def write(self, write: Write) -> Committed | Refused:
        """Commit one write. When it returns Committed the data survives ``kill -9`` and power loss, and every sink was
        already called with it. Raises StoreError when it could not be written (full disk, closed store)."""

    async def get(self, key: str, *, revision: int | None = None) -> Record | None:
        """The record at ``revision`` (newest when None). Raises Compacted, FutureRevision."""

    async def range(
        self, prefix: str, *, revision: int | None = None, after: str | None = None, limit: int = 0
    ) -> Page:
        """Records whose key starts with ``prefix``, after the key ``after``. Raises Compacted, FutureRevision.

        An ephemeral key changed since ``revision`` is missing from the page: its older version is gone.
        """

    async def history(self, key: str, *, limit: int = 0) -> Sequence[Version]:
        """What was written to ``key`` since it was compacted, newest first, deletions and earlier lives included; an
        ephemeral key has its latest version only."""

    async def subscribe(self, prefix: str, sink: Sink, *, after: int) -> Subscription:
        """Call ``sink`` with every change of revision > ``after``, each once, in order: those of the past first (an
        ephemeral key's latest only), then each commit before its writer hears of it. Raises Compacted. A revision in the
        future delivers nothing until it is passed."""

    async def compact(self, revision: int) -> None:
        """Drop history before ``revision`` in small steps that never stall writers. Raises FutureRevision."""
