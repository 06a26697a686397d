"""Who else vouches for users: HOME/authentication.yaml, read at the start and followed while the control plane runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import yaml

from portside.base.clock import Clock
from portside.base.errors import PortsideError
from portside.server.auth.authentication_config import NOBODY_ELSE, Authentication, ConfigError, read
from portside.server.auth.tokens import ISSUER

log = logging.getLogger("portside.authentication")
FILE = "authentication.yaml"
LOOK_SECONDS = 1.0
MOST_BYTES = 1 << 20


def read_file(path: Path) -> Authentication:
    """What the file asks for; without one nobody else vouches for users. Raises PortsideError."""
    todo = "mend the file; see AuthenticationConfiguration of apiserver.config.k8s.io/v1"
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return NOBODY_ELSE
    except OSError as problem:
        raise PortsideError(f"{path} can't be read", why=problem.strerror or str(problem)) from problem
    if len(raw) > MOST_BYTES:
        raise PortsideError(f"{path} is too large", why=f"at most {MOST_BYTES >> 20} MiB are read")
    try:
        return read(yaml.safe_load(raw), (ISSUER,))
    except (yaml.YAMLError, ConfigError) as problem:
        raise PortsideError(f"{path} can't be used", why=str(problem), todo=todo) from problem


class FollowedAuthentication:
    """``use`` is told of every version of the file that holds, the first one by ``prepare``."""

    def __init__(self, home: Path, use: Callable[[Authentication], None]) -> None:
        self._path = home / FILE
        self._use = use
        self._seen: object = None

    def prepare(self) -> None:
        """Raises PortsideError when the file there is can't be used."""
        self._seen = self._stamp()
        self._use(read_file(self._path))

    def _stamp(self) -> object:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    async def run(self, clock: Clock) -> None:
        """Follow the file for good. One that is wrong changes nothing; one that goes ends the logins it allowed."""
        missed = 0
        while True:
            await clock.sleep(LOOK_SECONDS)
            stamp = self._stamp()
            if stamp == self._seen:
                continue
            if stamp is None and not missed:  # an editor may be about to put another in its place
                missed = 1
                continue
            missed = 0
            self._seen = stamp
            try:
                self._use(read_file(self._path))
            except PortsideError as problem:
                log.error("%s; what was read before stays in force", problem)
            else:
                log.info("%s was read again", self._path)
