"""The answer to what a change would do to pods."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """``placed``: pod, from ("" for new ones), to. ``unplaced``: pod, from, why. ``evicted``: pod, from, for whom.
    ``ended``: pods that nobody makes again. ``removed``: pods, with their nodes, that a new version or a smaller number
    replaces. ``held_up``: pods, with the budgets that would refuse their eviction at first. ``ignored``: kinds of a file
    that change nothing here, with how many. ``unasked``: extenders that would be asked where pods may go and were not, with the
    number of those pods. ``use``: share of allocatable cpu and memory asked for, before and after."""

    question: str
    placed: list[tuple[str, str, str]] = field(default_factory=list)
    unplaced: list[tuple[str, str, str]] = field(default_factory=list)
    evicted: list[tuple[str, str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    removed: list[tuple[str, str]] = field(default_factory=list)
    held_up: list[tuple[str, str]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    unasked: Counter[str] = field(default_factory=Counter)
    use: dict[str, tuple[float, float]] = field(default_factory=dict)

    def as_json(self) -> Json:
        return {
            "question": self.question,
            "placed": [{"pod": p, "from": f, "to": t} for p, f, t in self.placed],
            "unplaced": [{"pod": p, "from": f, "reason": r} for p, f, r in self.unplaced],
            "evicted": [{"pod": p, "from": f, "for": w} for p, f, w in self.evicted],
            "ended": self.lost,
            "removed": [{"pod": p, "from": f} for p, f in self.removed],
            "heldUp": [{"pod": p, "budget": b} for p, b in self.held_up],
            "ignored": [{"kind": k, "count": n} for k, n in self.ignored.items()],
            "notAsked": [{"extender": k, "pods": n} for k, n in self.unasked.items()],
            "use": {k: {"before": b, "after": a} for k, (b, a) in self.use.items()},
        }
