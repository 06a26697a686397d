"""Priority levels: seats for requests, queues for those that wait, and fairness between flows.

A level has seats by its share. Seats that another level may lend and does not use are borrowed one by one. Who finds no seat
waits in the shortest of the queues its flow was dealt; queues take turns, so that one flow cannot hold up all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import deque
from typing import Any

Json = dict[str, Any]
SEATS = 600
"""Requests at work at once, over all levels with limits."""
WAIT_SECONDS = 15.0
"""The longest wait in a queue."""


class Rejected(Exception):
    """No seat, and no place to wait or no time left: 429."""


class Level:
    """One PriorityLevelConfiguration at work. ``exempt``: no limit at all."""

    def __init__(self, said: Json, seats: int, room: Room) -> None:
        spec = said.get("spec") or {}
        limited = spec.get("limited") or {}
        queuing = (limited.get("limitResponse") or {}).get("queuing") or {}
        self.uid = str(said["metadata"].get("uid") or "")
        self.exempt = spec.get("type") == "Exempt"
        self.seats = seats
        self.lendable = round(seats * int(limited.get("lendablePercent") or 0) / 100)
        percent = limited.get("borrowingLimitPercent")
        self.most = SEATS if percent is None else seats + round(seats * int(percent) / 100)
        self.hand = int(queuing.get("handSize") or 0)
        self.limit = int(queuing.get("queueLengthLimit") or 0)
        self.queues: tuple[deque[asyncio.Future[None]], ...] = tuple(
            deque() for _ in range(int(queuing.get("queues") or 0))
        )
        self.used = 0
        self.waiting = 0
        self._turns: deque[int] = deque()
        self._room = room

    def take(self) -> bool:
        """A seat at once, unless others wait for one already."""
        if self.waiting or not self._room.has_seat(self):
            return False
        self.used += 1
        return True

    async def wait(self, dealt: tuple[int, ...]) -> None:
        """A seat after waiting in the shortest of the dealt queues. Raises Rejected."""
        if not dealt:
            raise Rejected
        at = min(dealt, key=lambda i: len(self.queues[i]))
        queue = self.queues[at]
        if len(queue) >= self.limit:
            raise Rejected
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not queue:
            self._turns.append(at)
        queue.append(place)
        self.waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await place
        except BaseException as problem:
            if place.done() and not place.cancelled():
                self.leave()  # the seat came in the moment of giving up
            else:
                self.waiting -= 1
                with contextlib.suppress(ValueError):  # skipped already, as it was given up
                    queue.remove(place)
            if isinstance(problem, TimeoutError):
                raise Rejected from None
            raise

    def leave(self) -> None:
        """The seat is free: the next who waits has it."""
        self.used -= 1
        self._room.serve(self)

    def call_next(self) -> bool:
        """Give a seat to who waits first in the queue whose turn it is; False when nobody waits."""
        while self._turns:
            at = self._turns.popleft()
            queue = self.queues[at]
            while queue and queue[0].done():
                queue.popleft()
            if not queue:
                continue
            place = queue.popleft()
            if queue:
                self._turns.append(at)
            self.waiting -= 1
            self.used += 1
            place.set_result(None)
            return True
        return False

    def deal(self, schema: str, flow: str) -> tuple[int, ...]:
        """The queues of a flow, as shuffle sharding deals them: always the same, other flows' overlapping little."""
        left = list(range(len(self.queues)))
        number = int.from_bytes(hashlib.sha256(f"{schema}\n{flow}".encode()).digest()[:16], "big")
        hand = []
        for _ in range(min(self.hand, len(left))):
            number, at = divmod(number, len(left))
            hand.append(left.pop(at))
        return tuple(hand)


class Room:
    """All levels, and the seats they share."""

    def __init__(self, objects: list[Json], total: int = SEATS) -> None:
        shares = {str(o["metadata"]["name"]): _shares(o) for o in objects}
        whole = sum(shares.values()) or 1
        self.levels = {
            str(o["metadata"]["name"]): Level(o, math.ceil(total * shares[str(o["metadata"]["name"])] / whole), self)
            for o in objects
        }

    def has_seat(self, level: Level) -> bool:
        """Its own seats first, then what others lend and do not use."""
        if level.used < level.seats:
            return True
        if level.used >= level.most:
            return False
        spare = borrowed = 0
        for other in self.levels.values():
            over = other.used - other.seats
            if over > 0:
                borrowed += over
            elif not other.exempt:
                spare += min(other.lendable, -over)
        return borrowed < spare

    def serve(self, first: Level) -> None:
        """A seat came free: for its own level, or for another that may borrow it."""
        if first.waiting and self.has_seat(first) and first.call_next():
            return
        for level in self.levels.values():
            if level.waiting and self.has_seat(level) and level.call_next():
                return


def _shares(said: Json) -> int:
    spec = said.get("spec") or {}
    if spec.get("type") == "Exempt":
        return 0
    return int((spec.get("limited") or {}).get("nominalConcurrencyShares") or 0)
