"""Shares the event loop among plans: what begins in one turn of the loop takes a few milliseconds together, or is one plan.

A plan over thousands of objects takes milliseconds, and at a start hundreds of them are due: without this the workers of all
controllers, each of which takes its turn, would hold up everybody else for as long as all their plans take together.
"""

from __future__ import annotations

import asyncio
from collections import deque

SECONDS = 0.005
"""What plans may take of one turn of the loop, the last one excepted."""
MOST = 64
"""Plans that are let in together when they have been short."""
OF_LATE = 16
"""The usual time of a plan follows what was seen as if it were the mean of so many."""


class Breath:
    """``await take()`` before a plan, and tell ``spent`` how many seconds it took. First come, first served."""

    def __init__(self) -> None:
        self._left = SECONDS
        self._usual = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._renewing = False

    async def take(self) -> None:
        """Returns at once while the turn has time left, else in one of the next turns."""
        loop = asyncio.get_running_loop()
        if not self._renewing:
            self._renewing, self._left = True, SECONDS
            loop.call_soon(self._renew, loop)
        if self._left > 0 and not self._waiting:
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        await turn

    def spent(self, seconds: float) -> None:
        self._left -= seconds
        self._usual += (seconds - self._usual) / OF_LATE

    def _renew(self, loop: asyncio.AbstractEventLoop) -> None:
        self._left = SECONDS
        many = MOST if self._usual * MOST <= SECONDS else max(int(SECONDS / self._usual), 1)
        woken = 0
        while woken < many and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                woken += 1
        self._renewing = woken > 0
        if self._renewing:
            loop.call_soon(self._renew, loop)
