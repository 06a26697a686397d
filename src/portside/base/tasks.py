"""Supervised tasks: a component's loops run under one owner, restart with back-off, and stop together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from portside.base.clock import SYSTEM, Clock

log = logging.getLogger("portside.tasks")


class Tasks:
    """Owns named asyncio tasks. A task that fails is logged; ``keep`` starts it again after 1, 2, 4 … ``ceiling`` s."""

    def __init__(self, clock: Clock = SYSTEM, *, ceiling: float = 30.0) -> None:
        self._clock = clock
        self._ceiling = ceiling
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` once; a failure is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[Any]:
        """Run ``work`` again whenever it ends or fails, until ``stop``. Ten quiet minutes reset the back-off."""

        async def loop() -> None:
            delay = 1.0
            while True:
                began = self._clock.monotonic()
                try:
                    await work()
                    why = "ended"
                except asyncio.CancelledError:
                    raise
                except Exception as problem:
                    log.exception("%s failed", name)
                    why = repr(problem)
                if self._clock.monotonic() - began > 600:
                    delay = 1.0
                log.warning("%s: %s; again in %.0f s", name, why, delay)
                await self._clock.sleep(delay)
                delay = min(delay * 2, self._ceiling)

        return self.start(name, loop())

    async def stop(self) -> None:
        """Cancel every task and wait until all are gone."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("%s failed", task.get_name(), exc_info=problem)
