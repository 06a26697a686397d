"""When history is dropped: a loop that keeps a window of it, bounded in time and in revisions."""

from __future__ import annotations

import logging
from collections import deque

from portside.base.clock import Clock
from portside.store.backend import Backend, StoreError

log = logging.getLogger(__name__)

KEEP_SECONDS = 3600.0
KEEP_REVISIONS = 100_000
"""Whichever is less; a longer window may hold as many an hour. Watches that fell asleep resume within it; chunked lists finish
within it."""
EVERY_SECONDS = 60.0


class Window:
    """Which revision to compact to: pure, fed with the time and the newest revision now and then."""

    def __init__(self, *, seconds: float = KEEP_SECONDS, revisions: int = KEEP_REVISIONS) -> None:
        self._seconds = seconds
        self._revisions = revisions
        self._marks: deque[tuple[float, int]] = deque()

    def target(self, now: float, revision: int) -> int:
        """The newest revision that is out of the window, 0 when none is known to be."""
        if not self._marks or self._marks[-1][1] < revision:
            self._marks.append((now, revision))
        aged = 0
        while self._marks and self._marks[0][0] <= now - self._seconds:
            aged = self._marks.popleft()[1]
        if aged:  # still the best known mark while nothing newer ages
            self._marks.appendleft((now - self._seconds, aged))
        return max(aged, revision - self._revisions, 0)


async def keep_window(backend: Backend, clock: Clock, seconds: float = KEEP_SECONDS) -> None:
    """Compact ``backend`` for as long as it runs, to ``seconds`` of history. Failures are logged and tried again."""
    window = Window(seconds=seconds, revisions=max(KEEP_REVISIONS, int(KEEP_REVISIONS * seconds / KEEP_SECONDS)))
    while True:
        target = window.target(clock.monotonic(), backend.revision)
        if target > backend.compacted:
            try:
                await backend.compact(target)
            except StoreError as error:
                log.warning("history was not compacted: %s", error)
        await clock.sleep(EVERY_SECONDS)
