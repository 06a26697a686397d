"""Termination messages: the file a container wrote, or the end of its log when it failed and its policy says so."""

from __future__ import annotations

import os
from pathlib import Path

from portside.agent.logs import LogLine, parse_line

FILE_LIMIT = 4096
LOG_LINES, LOG_LIMIT = 80, 2048


def _read_end(path: Path, size: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - size))
        return file.read(size)


def termination_message(file: Path | None, log: str, *, fall_back: bool) -> str:
    """The message; empty when there is none. ``file`` is the host's side of terminationMessagePath."""
    text = ""
    if file is not None:
        try:
            text = _read_end(file, FILE_LIMIT).decode("utf-8", "replace")
        except OSError:
            text = ""
    if text or not fall_back or not log:
        return text
    try:
        raw = _read_end(Path(log), LOG_LIMIT * 4)
    except OSError:
        return ""
    lines: list[LogLine] = [line for part in raw.split(b"\n") if part and (line := parse_line(part)) is not None]
    joined = b"".join(line.text + (b"" if line.partial else b"\n") for line in lines[-LOG_LINES:])
    return joined[-LOG_LIMIT:].decode("utf-8", "replace")
