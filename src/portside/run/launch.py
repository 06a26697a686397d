"""Starts a component as a process of its own that outlives the command that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from portside.run.home import Home, ProcessRecord

LOG_LIMIT = 20 * 1024 * 1024  # bytes; a larger log is set aside as NAME.log.1 when its component starts


def start(home: Home, name: str, module: str, arguments: list[str], **environment: str) -> ProcessRecord:
    """Run ``python -m MODULE`` detached, its output appended to the component's log; ``environment`` is added to ours. An
    interruption waits until the process is recorded: nobody would know of it. For the main thread. Raises OSError."""
    path = home.log(name)
    if path.exists() and path.stat().st_size > LOG_LIMIT:
        path.replace(path.with_suffix(".log.1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    with _uninterrupted():
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                cwd="/",
                start_new_session=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
            )
        finally:
            os.close(descriptor)
        return home.save_record(name, process.pid)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block. A process started in it has the usual handling of its own."""
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def last_lines(path: Path, count: int = 5) -> str:
    """The end of a log, for a message about why its component did not come up."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n    ".join(line for line in lines[-count:] if line.strip())
