"""How fast an autoscaler may move: stabilisation over recent recommendations, rate policies, minimum and maximum. Pure but
for the ``Memory`` that the caller keeps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from portside.client.protocol import Json

DOWN_WINDOW = 300.0  # seconds of recommendations that hold up scaling down, when nothing else is said
REMEMBERED = 4096  # recommendations and changes kept per autoscaler
WITHIN = ("DesiredWithinRange", "the desired count is within the acceptable range")
TOO_MANY = ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
TOO_FEW = ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
UP_LIMIT = ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
DOWN_LIMIT = ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate")
READY = ("ReadyForNewScale", "recommended size matches current size")
UP_STABILIZED = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
DOWN_STABILIZED = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
)


@dataclass(slots=True)
class Memory:
    """What one autoscaler recommended and did: (time, number)."""

    recommended: list[tuple[float, int]] = field(default_factory=list)
    added: list[tuple[float, int]] = field(default_factory=list)
    removed: list[tuple[float, int]] = field(default_factory=list)

    def begin(self, now: float, current: int) -> None:
        """The size found first counts as a recommendation, so that a restart does not scale down at once."""
        if not self.recommended:
            self.recommended.append((now, current))

    def record(self, now: float, before: int, after: int) -> None:
        """A change of size that was made."""
        entries = self.added if after > before else self.removed
        entries.append((now, abs(after - before)))
        del entries[:-REMEMBERED]

    def recommend(self, now: float, size: int, keep: float) -> None:
        self.recommended = [r for r in self.recommended if r[0] > now - keep]
        self.recommended.append((now, size))
        del self.recommended[:-REMEMBERED]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The size to take, and the (reason, message) of the conditions AbleToScale and ScalingLimited."""

    size: int
    able: tuple[str, str]
    limited: bool
    limit: tuple[str, str]


def normalize(memory: Memory, spec: Json, current: int, desired: int, now: float) -> Outcome:
    """The size that ``desired`` becomes."""
    low, high = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
    behavior = spec.get("behavior")
    if behavior is None:
        steady = max([desired, *(n for at, n in memory.recommended if at > now - DOWN_WINDOW)])
        memory.recommend(now, desired, DOWN_WINDOW)
        able = READY if steady == desired else DOWN_STABILIZED
        size, why = _plain(current, steady, low, high)
    else:
        steady = _stabilized(memory, behavior, current, desired, now)
        stabilized = UP_STABILIZED if desired >= current else DOWN_STABILIZED
        able = READY if steady == desired else stabilized
        size, why = _rated(memory, behavior, current, steady, low, high, now)
    return Outcome(size, able, size != steady, why)


def _plain(current: int, desired: int, low: int, high: int) -> tuple[int, tuple[str, str]]:
    fast = max(2 * current, 4)
    most, why = (fast, UP_LIMIT) if high > fast else (high, TOO_MANY)
    if desired < low:
        return low, TOO_FEW
    return (most, why) if desired > most else (desired, WITHIN)


def _window(rules: Json | None, default: float) -> float:
    seconds = (rules or {}).get("stabilizationWindowSeconds")
    return default if seconds is None else float(seconds)


def _stabilized(memory: Memory, behavior: Json, current: int, desired: int, now: float) -> int:
    up, down = _window(behavior.get("scaleUp"), 0.0), _window(behavior.get("scaleDown"), DOWN_WINDOW)
    lowest = min([desired, *(n for at, n in memory.recommended if at > now - up)])
    highest = max([desired, *(n for at, n in memory.recommended if at > now - down)])
    memory.recommend(now, desired, max(up, down))
    return min(max(current, lowest), highest)


def _changed(entries: list[tuple[float, int]], seconds: float, now: float) -> int:
    return sum(n for at, n in entries if at > now - seconds)


def _rated(
    memory: Memory, behavior: Json, current: int, desired: int, low: int, high: int, now: float
) -> tuple[int, tuple[str, str]]:
    if desired > current:
        limit = max(_limit(memory, behavior.get("scaleUp") or {}, current, now, up=True), current)
        most, why = (limit, UP_LIMIT) if high > limit else (high, TOO_MANY)
        return (most, why) if desired > most else (desired, WITHIN)
    if desired < current:
        limit = min(_limit(memory, behavior.get("scaleDown") or {}, current, now, up=False), current)
        least, why = (limit, DOWN_LIMIT) if low < limit else (low, TOO_FEW)
        return (least, why) if desired < least else (desired, WITHIN)
    return desired, WITHIN


def _limit(memory: Memory, rules: Json, current: int, now: float, *, up: bool) -> int:
    """How far the policies let the size go: the widest of them, or the narrowest with selectPolicy Min."""
    select = rules.get("selectPolicy") or "Max"
    if select == "Disabled":
        return current
    proposals: list[int] = []
    for policy in rules.get("policies") or ():
        seconds, value = float(policy["periodSeconds"]), int(policy["value"])
        start = current - _changed(memory.added, seconds, now) + _changed(memory.removed, seconds, now)
        if policy["type"] == "Pods":
            proposals.append(start + value if up else start - value)
        elif up:
            proposals.append(math.ceil(start * (1 + value / 100)))
        else:
            proposals.append(int(start * (1 - value / 100)))
    pick: Callable[[list[int]], int] = max if up == (select == "Max") else min
    return pick(proposals) if proposals else current
