"""The work queue on the loop that the control plane runs on."""

from __future__ import annotations

import uvloop

from portside.controllers.queue import WorkQueue


def test_news_within_less_than_a_millisecond_is_one_piece_of_work_at_once() -> None:
    async def work() -> None:
        queue = WorkQueue()
        for _ in range(3):
            queue.add_after("a", 0.0003)
        assert len(queue) == 1
        assert await queue.take() == "a"
        queue.done("a")
        assert queue.idle

    uvloop.run(work())
