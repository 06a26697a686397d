"""One scheduling decision: filter, score, choose; or an explanation of why no node fits. Pure but for the given rng."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import numpy as np

from portside.scheduler.filters import FILTERS, STATIC, Refusal
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.scores import SCORES
from portside.scheduler.snapshot import Mask, Snapshot


@dataclass(frozen=True, slots=True)
class Placed:
    """The node chosen, with how many nodes were feasible."""

    node: str
    feasible: int


@dataclass(frozen=True, slots=True)
class Unplaced:
    """No node fits: nodes lost per reason, how many of them eviction of pods could win back, and upstream's message."""

    message: str
    reasons: dict[str, int]
    resolvable: int


class Cycle:
    """Decides for one pod at a time over a snapshot; node-only filters are cached by the pod's shape."""

    def __init__(self, snapshot: Snapshot, rng: Random) -> None:
        self.snapshot = snapshot
        self.rng = rng
        self._static: dict[str, list[tuple[str, list[Refusal]]]] = {}
        self._version = -1

    def decide(self, pod: PodInfo) -> Placed | Unplaced:
        early = self._named_nowhere(pod)
        if early is not None:
            return early
        feasible, refusals = self._filter(pod)
        if not feasible.any():
            return self._explain(refusals)
        return Placed(self.snapshot.names[self._choose(pod, feasible)], int(feasible.sum()))

    def _named_nowhere(self, pod: PodInfo) -> Unplaced | None:
        """A pod limited by name (metadata.name match fields) to nodes that do not exist."""
        if pod.node_terms is None or not pod.node_terms:
            return None
        named: set[str] = set()
        for term in pod.node_terms:
            names = term.names()
            if names is None:
                return None
            named |= names
        if named & self.snapshot.row_of.keys():
            return None
        total = len(self.snapshot.row_of)
        reason = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
        return Unplaced(message_of(total, {reason: total}, 0, total), {reason: total}, 0)

    def _filter(self, pod: PodInfo) -> tuple[Mask, list[list[Refusal]]]:
        feasible = self.snapshot.live.copy()
        refusals: list[list[Refusal]] = []
        static = dict(self._static_refusals(pod))
        for name, run in FILTERS:
            found = static[name] if name in STATIC else run(pod, self.snapshot)
            if found:
                refusals.append(found)
                for refusal in found:
                    feasible &= ~refusal.rows
        return feasible, refusals

    def _static_refusals(self, pod: PodInfo) -> list[tuple[str, list[Refusal]]]:
        if self._version != self.snapshot.node_version or len(self._static) > 256:
            self._static.clear()
            self._version = self.snapshot.node_version
        cached = self._static.get(pod.static_key)
        if cached is None:
            cached = [(name, run(pod, self.snapshot)) for name, run in FILTERS if name in STATIC]
            self._static[pod.static_key] = cached
        return cached

    def _choose(self, pod: PodInfo, feasible: Mask) -> int:
        rows = np.flatnonzero(feasible)
        if len(rows) == 1:
            return int(rows[0])
        total = np.zeros(self.snapshot.size, np.float64)
        for _, weight, score in SCORES:
            if (part := score(pod, self.snapshot, feasible)) is not None:
                total += weight * part
        mine = total[rows]
        best = rows[mine == mine.max()]
        return int(best[self.rng.randrange(len(best))]) if len(best) > 1 else int(best[0])

    def _explain(self, refusals: list[list[Refusal]]) -> Unplaced:
        """Count each node for the first filter that refused it; a filter with several reasons counts each of them."""
        left = self.snapshot.live.copy()
        reasons: dict[str, int] = {}
        resolvable = np.zeros(self.snapshot.size, bool)
        for group in refusals:
            hit = np.zeros(self.snapshot.size, bool)
            hopeless = np.zeros(self.snapshot.size, bool)
            first = group[0].reason.startswith(("node(s) didn't match pod", "node(s) didn't satisfy"))
            for refusal in group:
                mine = refusal.rows & left & ~(hit if first else np.zeros(1, bool))
                if count := int(mine.sum()):
                    reasons[refusal.reason] = reasons.get(refusal.reason, 0) + count
                hit |= mine
                if not refusal.resolvable:
                    hopeless |= mine
            resolvable |= hit & ~hopeless
            left &= ~hit
        total = len(self.snapshot.row_of)
        helped = int(resolvable.sum())
        return Unplaced(message_of(total, reasons, helped, total - helped), reasons, helped)


def message_of(total: int, reasons: dict[str, int], resolvable: int, hopeless: int) -> str:
    """Upstream's text of a FitError after a preemption attempt that found nothing."""
    if not total:
        return "0/0 nodes are available: no nodes available to schedule pods. preemption: 0/0 nodes are available: "
    parts = sorted(f"{count} {reason}" for reason, count in reasons.items())
    tries = []
    if resolvable:
        tries.append(f"{resolvable} No preemption victims found for incoming pod")
    if hopeless:
        tries.append(f"{hopeless} Preemption is not helpful for scheduling")
    return f"0/{total} nodes are available: {', '.join(parts)}. preemption: 0/{total} nodes are available: {', '.join(sorted(tries))}."


Decide = Callable[[PodInfo], Placed | Unplaced]
