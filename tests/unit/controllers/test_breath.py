"""Plans share the loop: what begins in one turn is short together, everybody comes, in order."""

from __future__ import annotations

import asyncio

import pytest

from portside.controllers.breath import MOST, SECONDS, Breath


class Turns:
    """Counts the turns of the loop; plans say in which one they ran."""

    def __init__(self) -> None:
        self.now = 0

    async def count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.now += 1


async def planned(breath: Breath, turns: Turns, seconds: float, count: int, ran: list[int]) -> None:
    for _ in range(count):
        await breath.take()
        ran.append(turns.now)
        breath.spent(seconds)
        await asyncio.sleep(0)


@pytest.mark.parametrize(("seconds", "together"), [(SECONDS * 2, 1), (SECONDS / 2, 2), (SECONDS / 10, 10)])
async def test_plans_of_one_turn_are_short_together(seconds: float, together: int) -> None:
    breath, turns, ran = Breath(), Turns(), list[int]()
    counting = asyncio.create_task(turns.count())
    await asyncio.gather(*(planned(breath, turns, seconds, 30, ran) for _ in range(20)))
    counting.cancel()
    assert len(ran) == 600
    settled = ran[300:]  # until then the usual time of a plan has been learned
    assert max(settled.count(turn) for turn in set(settled)) <= 2 * together  # a counted turn may lie across two


async def test_short_plans_do_not_wait() -> None:
    breath, turns, ran = Breath(), Turns(), list[int]()
    counting = asyncio.create_task(turns.count())
    await asyncio.gather(*(planned(breath, turns, 0.0, 1, ran) for _ in range(MOST * 2)))
    counting.cancel()
    assert len(ran) == MOST * 2 and len(set(ran)) == 1


async def test_a_plan_that_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    breath, turns, ran = Breath(), Turns(), list[int]()
    tasks = [asyncio.create_task(planned(breath, turns, SECONDS * 2, 1, ran)) for _ in range(5)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(ran) == 3
