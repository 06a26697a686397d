"""The live list of steps on stderr: what is being done, how long it took, why it waits."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
                    sys.stderr.write(f"\r\x1b[K  … {title:<32} {time.monotonic() - started:5.1f} s  {why}"[:160])
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
        say(f"{lead}  {mark} {title:<32} {time.monotonic() - started:5.1f} s  {note}".rstrip())

    def skipped(self, title: str, why: str) -> None:
        say(f"  {self.off} {title:<32}          {why}".rstrip())
