"""Delays that grow with every turn of a key, and are forgotten when it has been quiet for long."""

from __future__ import annotations

from dataclasses import dataclass, field

PURGE_SECONDS = 60.0  # how often what has expired is thrown away


@dataclass(slots=True)
class Backoff:
    """``first`` seconds after a key's first turn, doubled with each further one, at most ``most``; anew after twice that
    without a turn (the rule of client-go's flowcontrol.Backoff)."""

    first: float
    most: float
    _held: dict[str, tuple[float, float]] = field(default_factory=dict)  # key -> (delay, time of the turn)
    _purged: float = 0.0

    def left(self, key: str, now: float) -> float:
        """Seconds until the key's next turn; 0: now."""
        delay, at = self._held.get(key, (0.0, now))
        return 0.0 if self._expired(at, now) else max(at + delay - now, 0.0)

    def turn(self, key: str, now: float) -> None:
        """The key takes its turn."""
        delay, at = self._held.get(key, (0.0, now))
        fresh = not delay or self._expired(at, now)
        self._held[key] = (self.first if fresh else min(delay * 2, self.most), now)
        if now - self._purged > PURGE_SECONDS:
            self._purged = now
            self._held = {k: held for k, held in self._held.items() if not self._expired(held[1], now)}

    def _expired(self, at: float, now: float) -> bool:
        return now - at > self.most * 2
