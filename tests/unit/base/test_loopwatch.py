"""The event loop's stand-stills: found, measured, and told apart from a busy machine's."""

from __future__ import annotations

import asyncio
import time

from portside.base.loopwatch import LoopWatch


async def watched(watch: LoopWatch, work: object) -> None:
    watch.start()
    await asyncio.sleep(0.1)
    work()  # type: ignore[operator]
    await asyncio.sleep(0.1)


def spin() -> None:
    end = time.thread_time() + 0.2
    while time.thread_time() < end:
        pass


async def test_a_callback_that_works_for_long_is_found():
    watch = LoopWatch()
    await watched(watch, spin)
    assert watch.longest >= watch.longest_busy > 0.15 and watch.long >= 1


async def test_a_callback_that_waits_is_late_but_not_busy():
    watch = LoopWatch()
    await watched(watch, lambda: time.sleep(0.3))
    assert watch.longest > 0.25
    text = "\n".join(watch.render())
    assert "# TYPE portside_event_loop_longest_block_seconds gauge" in text
    assert f"portside_event_loop_longest_block_seconds {watch.longest:.4f}" in text
