"""Time that passes only when there is nothing to do: hours of a cluster's life in seconds, the same for the same seed."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z: where the wall clock of every simulation begins


class StoodStill(RuntimeError):
    """Nothing is scheduled any more: the simulation would wait for ever."""


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Never waits: where the loop would sleep, its clock is moved instead."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        found = super().select(0)
        if not found:
            if timeout is None:
                raise StoodStill("the simulation stands still")
            self.loop.passed += max(timeout, 0.0)
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose seconds are virtual. Only for work within this process: sockets and threads don't wait with it."""

    def __init__(self) -> None:
        chosen = _Selector()
        super().__init__(chosen)
        self.passed = 0.0
        chosen.loop = self

    def time(self) -> float:
        return self.passed


class VirtualClock:
    """``base.clock.Clock`` over a VirtualLoop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return START + self._loop.passed

    def monotonic(self) -> float:
        return self._loop.passed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
