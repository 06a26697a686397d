"""A loop whose time passes only when nothing is left to do, so that a test of minutes takes a moment."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any

LOOK = 0.0003  # real seconds given to threads and sockets before the virtual time moves on


class _Selector(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Answers a wait by moving the loop's clock."""

    offset = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = super().select(LOOK if timeout else 0)
        if found or not timeout:
            return found if found or timeout is not None else super().select(None)
        self.offset += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Real order of things, virtual time."""

    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return time.monotonic() + self._jumping.offset


class VirtualClock:
    """The clock of a loop: starts at the real time, runs with the loop's."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._start = time.time() - loop.time()

    def now(self) -> float:
        return self._start + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run(work: Coroutine[Any, Any, Any], loop: VirtualLoop) -> Any:
    """Runs to the end and closes the loop."""
    try:
        return loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
