"""Restart and pull back-off: 10 s doubling to 300 s, forgotten after twice the longest without trouble."""

from __future__ import annotations

from dataclasses import dataclass, field

FIRST = 10.0
LONGEST = 300.0


@dataclass(slots=True)
class _Entry:
    delay: float
    updated: float


@dataclass(slots=True)
class Backoff:
    """Delays per key, in seconds. The caller supplies the time."""

    first: float = FIRST
    longest: float = LONGEST
    _entries: dict[str, _Entry] = field(default_factory=dict)

    def waits(self, key: str, since: float, now: float) -> float:
        """Seconds still to wait for a failure at ``since``; 0 when there is none."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated > 2 * self.longest:
            return 0.0
        return left(since + entry.delay, now, entry.delay)

    def delay(self, key: str) -> float:
        entry = self._entries.get(key)
        return entry.delay if entry else 0.0

    def next(self, key: str, since: float, now: float) -> None:
        """Note another try: the delay doubles."""
        entry = self._entries.get(key)
        if entry is None or since - entry.updated > 2 * self.longest:
            self._entries[key] = _Entry(self.first, now)
        else:
            self._entries[key] = _Entry(min(self.longest, entry.delay * 2), now)

    def forget(self, key: str) -> None:
        self._entries.pop(key, None)


def left(until: float, now: float, longest: float = LONGEST) -> float:
    """Seconds until ``until``. 0 when it has passed, and when it is further off than any wait: the clock was set back."""
    wait = until - now
    return wait if 0 < wait <= longest + 1 else 0.0


def go_duration(seconds: float) -> str:
    """Whole seconds as Go prints a duration: 10s, 1m20s, 5m0s."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
