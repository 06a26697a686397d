"""How memory is cleaned up without pauses: the garbage collector, and what the C library keeps of freed memory.

glibc returns memory only from the end of its heaps; after a burst of large bodies a process would look full for good.
Where the library has no such calls (other systems) nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from typing import Any

from portside.base.clock import Clock

M_ARENA_MAX = -8  # malloc.h
ARENAS = 2
"""Heaps for all threads together: one per thread would multiply what stays behind."""
EVERY_SECONDS = 10.0
THRESHOLDS = (2_000, 2, 100_000)
"""Objects until the young are looked at, such looks until the middle-aged are, and those until all are. The first two
stay below 15 ms. The last takes half a second per ten thousand pods, and finds next to nothing, as cached objects have no
cycles and go when nobody holds them: once in a thousand million objects is enough."""


def _library() -> Any:
    try:
        return ctypes.CDLL(None)
    except OSError:
        return None


def few_arenas() -> None:
    """Bound the number of heaps. Call it before threads start."""
    if (mallopt := getattr(_library(), "mallopt", None)) is not None:
        mallopt(M_ARENA_MAX, ARENAS)


def collect_rarely() -> None:
    """What is loaded by now stays and is never looked at again; of what comes, only the young often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def keep() -> None:
    """What is there by now stays and is never looked at again; garbage among it is not looked for."""
    gc.freeze()


def give_back() -> bool:
    """Return free memory to the system; some milliseconds, without the interpreter's lock. Whether any went."""
    trim = getattr(_library(), "malloc_trim", None)
    return bool(trim(0)) if trim is not None else False


async def keep_small(clock: Clock) -> None:
    """Give back now and then, for as long as it runs."""
    while True:
        await clock.sleep(EVERY_SECONDS)
        await asyncio.to_thread(give_back)
