"""Encryption at rest of one cluster: HOME/encryption.yaml, made for a new store, followed while the control plane runs.

After every change, and at every start, what is stored is brought into the form of the file's first keys; HOME/run/
encryption.json says how far that is, for `portside secrets`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portside.base.clock import Clock
from portside.base.errors import PortsideError
from portside.run.encryption_config import first_form, read_file
from portside.run.home import write_private
from portside.store.backend import StoreError
from portside.store.seal import Seal
from portside.store.sqlite import SqliteBackend

log = logging.getLogger("portside.encryption")
FILE = "encryption.yaml"
STATE = "run/encryption.json"
LOOK_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""After a step that failed."""


def fingerprint(raw: bytes) -> str:
    """Names a file's content without telling it."""
    return hashlib.sha256(b"portside encryption file" + raw).hexdigest()[:32]


def read_state(home: Path) -> dict[str, Any]:
    """What the control plane last said; {} when it said nothing. ``file``: the fingerprint in force; ``done``: everything
    stored has its form; ``unreadable``: versions no key opens; ``error``: why the file as it is now is not in force."""
    try:
        found = json.loads((home / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class Encryption:
    """The file of ``home`` over ``backend``. ``prepare`` before anything is written, ``run`` for good."""

    def __init__(self, home: Path, backend: SqliteBackend) -> None:
        self._home = home
        self._path = home / FILE
        self._backend = backend
        self._seen: object = None
        self._raw = b""

    async def prepare(self) -> None:
        """Open the store with the file's keys; a store without encrypted values gets a file. Raises PortsideError, StoreError."""
        seal = self._read()
        if seal is not None:
            await self._backend.use(seal)
        await self._backend.open()
        if seal is None:
            if await self._backend.has_sealed():
                await self._backend.close()
                raise PortsideError(
                    f"{self._path} is missing, and the store has values encrypted with its keys",
                    why="without them Secrets can't be read; nothing was changed",
                    todo="bring the file back from its backup. To give those values up: a file with other keys lets the"
                    " cluster start, see docs/how-to/encrypt-secrets.md",
                )
            write_private(self._path, first_form())
            await self._backend.use(self._read() or Seal())

    def _read(self) -> Seal | None:
        self._seen = self._stamp()
        try:
            self._raw, seal = read_file(self._path)
        except FileNotFoundError:
            return None
        return seal

    def _stamp(self) -> object:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode

    async def run(self, clock: Clock, reread: Callable[[], Awaitable[int]]) -> None:
        """Follow the file. ``reread`` tries objects again that could not be decrypted."""
        await self._settle(clock, reread)
        while True:
            await clock.sleep(LOOK_SECONDS)
            if self._stamp() == self._seen:
                continue
            try:
                seal = self._read()
                if seal is None:
                    raise PortsideError(f"{self._path} is gone", todo="put it back: the next start needs its keys")
            except PortsideError as problem:
                log.error("%s; the keys read before stay in force", problem)
                self._say(done=False, error=str(problem))
                continue
            log.info("%s was read again", self._path)
            await self._backend.use(seal)
            await self._settle(clock, reread)

    async def _settle(self, clock: Clock, reread: Callable[[], Awaitable[int]]) -> None:
        """Bring everything into the present form, again after a failure, until the file changes."""
        await reread()
        self._say(done=False)
        while True:
            try:
                done = await self._backend.reseal()
            except StoreError as problem:
                log.error("what is stored was not encrypted anew: %s; tried again in %d s", problem, RETRY_SECONDS)
                self._say(done=False, error=str(problem))
                await clock.sleep(RETRY_SECONDS)
                if self._stamp() != self._seen:
                    return
                continue
            if done.changed:
                log.info("%d stored versions are in the form of the first keys of %s now", done.changed, self._path)
            if done.unreadable:
                log.error(
                    "%d stored versions can't be decrypted with the keys of %s: they stay as they are; put the key that"
                    " is missing back",
                    done.unreadable,
                    self._path,
                )
            self._say(done=True, unreadable=done.unreadable)
            return

    def _say(self, *, done: bool, unreadable: int = 0, error: str = "") -> None:
        state = {"file": fingerprint(self._raw), "done": done, "unreadable": unreadable, "error": error}
        path = self._home / STATE
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, json.dumps(state) + "\n")
