"""Container logs kept small: a full one is set aside and the runtime told to begin another; older ones are compressed."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from portside.agent.runtime import Container, ContainerRuntime, RuntimeFailure
from portside.base.clock import SYSTEM, Clock

log = logging.getLogger(__name__)
MAX_SIZE = 10 << 20  # bytes of a log before it is set aside (the kubelet's containerLogMaxSize)
MAX_FILES = 5  # of one container, the one being written among them
EVERY = 10.0  # seconds between looks


def rotated(path: Path) -> list[Path]:
    """The files set aside of a log, oldest first. Their names carry the time."""
    return sorted(path.parent.glob(f"{path.name}.[0-9]*"))


def clean(path: Path, keep: int = MAX_FILES) -> None:
    """Make room for one more file set aside: the oldest go, all but the newest are compressed."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink(missing_ok=True)
    files = rotated(path)
    surplus = max(0, len(files) - (keep - 2))
    for old in files[:surplus]:
        old.unlink(missing_ok=True)
    for plain in (f for f in files[surplus:] if f.suffix != ".gz"):
        _compress(plain)


def _compress(path: Path) -> None:
    partial = path.with_name(path.name + ".tmp")
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as source, gzip.open(partial, "wb", compresslevel=1) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    os.chmod(partial, 0o640)
    partial.rename(path.with_name(path.name + ".gz"))
    path.unlink()


class LogRotation:
    """Looks after the logs of the containers that run."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        running: Callable[[], Iterable[Container]],
        *,
        clock: Clock = SYSTEM,
        max_size: int = MAX_SIZE,
    ) -> None:
        self._runtime, self._running, self._clock, self._max_size = runtime, running, clock, max_size

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(EVERY)
            await self.look()

    async def look(self) -> None:
        """Rotate every log that is full."""
        for container in list(self._running()):
            path = Path(container.log_path)
            try:
                if container.log_path and path.lstat().st_size >= self._max_size:
                    await self._rotate(container.id, path)
            except FileNotFoundError:
                continue
            except (OSError, RuntimeFailure) as problem:
                log.warning("log of %s: %s", container.name, problem)

    async def _rotate(self, container_id: str, path: Path) -> None:
        await asyncio.to_thread(clean, path)
        stamp = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y%m%d-%H%M%S")
        aside = path.with_name(f"{path.name}.{stamp}")
        path.rename(aside)
        try:
            await self._runtime.reopen_log(container_id)
        except RuntimeFailure:
            with contextlib.suppress(OSError):
                aside.rename(path)
            raise
