"""Calls within one process take turns, and so does reading many events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from portside.client.inprocess import InprocessTransport, Turns


async def _burst(turns: Turns, count: int) -> list[int]:
    """How many calls began in each turn of the loop."""
    begun = 0

    async def call() -> None:
        nonlocal begun
        await turns.take()
        begun += 1

    work = asyncio.gather(*(call() for _ in range(count)))
    seen = []
    while not work.done():
        before = begun
        await asyncio.sleep(0)
        seen.append(begun - before)
    await work
    return seen


def test_a_burst_of_calls_begins_a_few_at_a_time_and_all_of_them_begin() -> None:
    seen = asyncio.run(_burst(Turns(4, 4), 50))
    assert sum(seen) == 50
    assert max(seen) <= 8  # those let in last turn and those that find room in this one


def test_a_call_alone_does_not_wait() -> None:
    async def alone() -> bool:
        turns = Turns(1, 1)
        task = turns.take()
        try:
            task.send(None)
        except StopIteration:
            return True
        return False

    assert asyncio.run(alone())


def test_a_call_given_up_while_it_waits_holds_up_nobody() -> None:
    async def run() -> None:
        turns = Turns(1, 1)
        tasks = [asyncio.create_task(turns.take()) for _ in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks[:2], *tasks[3:]), 60)

    asyncio.run(run())


async def test_others_get_turns_while_many_events_are_read():
    async def stream() -> AsyncIterator[bytes]:
        yield b"".join(b'{"n":%d}\n' % number for number in range(1000)) + b'{"rest":'
        yield b"1}\n"

    async def handler(request: Any) -> Any:
        return SimpleNamespace(code=200, body=b"", stream=stream())

    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    transport = InprocessTransport(handler, lambda **given: given)
    lines = [line async for line in transport.lines("/", "", {})]
    task.cancel()
    assert (lines[0], lines[-1].strip(), len(lines)) == (b'{"n":0}', b'{"rest":1}', 1001)
    assert turns > 20
