"""The live list of steps on stderr: what is being done, how long it took, why it waits."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class CliError(Exception):
    """A failure a person reads: what, why, and what to do. ``code`` is the exit code (docs/reference/exit-codes.md)."""

    def __init__(self, what: str, *, why: str = "", todo: str = "", code: int = 1) -> None:
        super().__init__(what)
        self.what, self.why, self.todo, self.code = what, why, todo, code

    def __str__(self) -> str:
        lines = [f"portside: {self.what}"]
        if self.why:
            lines.append(f"  why: {self.why}")
        if self.todo:
            lines.append(f"  what to do: {self.todo}")
        return "\n".join(lines)


# Control characters but line feed and tab, and those that turn the direction of writing: shown, never obeyed.
_STEERING = {c: f"\\x{c:02x}" for c in (*range(32), *range(127, 160)) if c not in (9, 10)}
_STEERING |= {c: f"\\u{c:04x}" for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def plain(text: str) -> str:
    """Text that may be somebody else's, as a terminal may show it."""
    return text.translate(_STEERING)


class Plain:
    """A text stream that shows what steers terminals instead of passing it on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(plain(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def say(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


class Steps:
    """Prints one line a step; on a terminal the line shows the elapsed time and the reason it waits while it runs."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        color = self.live and "NO_COLOR" not in os.environ
        self.ok, self.bad, self.off = (
            ("\x1b[32m✓\x1b[0m", "\x1b[31m✗\x1b[0m", "\x1b[2m-\x1b[0m") if color else ("✓", "✗", "-")
        )

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Yields a function that says why the step waits; the last thing said stands on the finished line."""
        started = time.monotonic()
        note = ""

        def waiting(why: str) -> None:
            nonlocal note
            if why != note or self.live:
                note = why
                if self.live:
                    line = f"  … {title:<32} {time.monotonic() - started:5.1f} s  {plain(why)}"[:150]
                    sys.stderr.write(f"\r\x1b[K{line}")
                    sys.stderr.flush()

        if self.live:
            waiting("")
        try:
            yield waiting
        except BaseException:
            self._end(self.bad, title, started, note)
            raise
        self._end(self.ok, title, started, note)

    def _end(self, mark: str, title: str, started: float, note: str) -> None:
        lead = "\r\x1b[K" if self.live else ""
        line = f"{title:<32} {time.monotonic() - started:5.1f} s  {plain(note)}".rstrip()
        print(f"{lead}  {mark} {line}", file=sys.stderr, flush=True)

    def skipped(self, title: str, why: str) -> None:
        print(f"  {self.off} {title:<32}          {plain(why)}".rstrip(), file=sys.stderr, flush=True)
