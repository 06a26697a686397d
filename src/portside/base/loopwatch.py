"""How long the event loop stands still: while one callback runs, nobody else is answered.

A timer that should fire every ``EVERY_SECONDS`` tells by how much it was late. What was late because the machine ran
something else shows too, so the processor time the loop's thread used meanwhile is kept beside it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

EVERY_SECONDS = 0.02
LONG_SECONDS = 0.05
"""What no callback should take."""


class LoopWatch:
    """``start`` it in the loop; ``longest``, ``longest_busy`` and ``long`` then say what was seen since.

    A block is found out to ``EVERY_SECONDS``: it may have been so much longer when it began between two looks.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._processor = processor
        self._due = 0.0
        self._used = 0.0
        self.longest = 0.0
        """Seconds that the loop was late at most."""
        self.longest_busy = 0.0
        """The most processor time within one lateness, in seconds: what the process itself is to blame for."""
        self.long = 0
        """How often the loop was busy for longer than ``LONG_SECONDS``."""

    def start(self, after: float = 0.0) -> None:
        """Begin to look, in the running loop, for as long as it runs; ``after`` some seconds, when the start is over."""
        loop = asyncio.get_running_loop()
        loop.call_later(after, lambda: self._wait(loop, self._processor()))

    def _wait(self, loop: asyncio.AbstractEventLoop, used: float) -> None:
        self._due = self._clock() + EVERY_SECONDS
        self._used = used
        loop.call_later(EVERY_SECONDS, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        used = self._processor()  # read once per look: on some machines that takes a tenth of a millisecond
        late = self._clock() - self._due
        busy = min(late, used - self._used)
        self.longest = max(self.longest, late)
        self.longest_busy = max(self.longest_busy, busy)
        self.long += busy > LONG_SECONDS
        self._wait(loop, used)

    def render(self) -> Iterator[str]:
        """Lines of the text format of metrics."""
        for name, kind, value, told in (
            ("longest_block_seconds", "gauge", f"{self.longest:.4f}", "The longest time the event loop was late."),
            ("longest_busy_seconds", "gauge", f"{self.longest_busy:.4f}", "The same, in processor time of its thread."),
            ("long_blocks_total", "counter", str(self.long), f"How often it was busy for over {LONG_SECONDS:g} s."),
        ):
            yield f"# HELP portside_event_loop_{name} {told}"
            yield f"# TYPE portside_event_loop_{name} {kind}"
            yield f"portside_event_loop_{name} {value}"
