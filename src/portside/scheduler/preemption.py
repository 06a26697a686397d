"""Whom to evict so that a pod fits: the node and the victims that do the least harm. Changes nothing for good.

The rules are upstream's: only pods of lower priority; pods whose disruption budget allows no more are spared first, then
the more important ones; among nodes the one with the fewest broken budgets, then the lowest victims.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from portside.scheduler.cycle import Cycle, Unplaced
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.terms import canonical, label_selector

Json = dict[str, Any]
MIN_CANDIDATES = 100  # nodes looked at, at least, before the best of those found is taken
CANDIDATE_SHARE = 0.1  # of all nodes, when that is more
MOST_REMEMBERED = 16  # kinds of pods whose possible victims are remembered
NO_VICTIMS = "No preemption victims found for incoming pod"
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NOBODY = 'expected at least one victim pod on node "{0}"'
Companions = Callable[[PodInfo], list[PodInfo]]
OFFSET = 1 << 31  # makes every priority positive, so that fewer victims have a smaller sum


@dataclass(frozen=True, slots=True)
class Victims:
    """Pods to evict from a node, most important first; how many of them break a disruption budget."""

    node: str
    pods: tuple[PodInfo, ...]
    broken: int


def won(victims: Victims) -> str:
    """What a pod's condition adds when room is made for it."""
    count = len(victims.pods)
    return f"preemption: found a potential placement for pod on node {victims.node}, preempting {count} victims"


@dataclass(frozen=True, slots=True)
class Budget:
    """A PodDisruptionBudget as far as it matters here."""

    namespace: str
    selector: str
    allowed: int
    disrupted: frozenset[str]

    @classmethod
    def of(cls, obj: Json) -> Budget:
        status = obj.get("status") or {}
        return cls(
            obj["metadata"]["namespace"],
            canonical((obj.get("spec") or {}).get("selector")),
            int(status.get("disruptionsAllowed") or 0),
            frozenset(status.get("disruptedPods") or ()),
        )


def importance(pod: PodInfo) -> tuple[int, str, str]:
    """Sorts the more important first: by priority, then by who started earlier."""
    return -pod.priority, pod.started or "9", pod.uid


def ineligible(pod: PodInfo, placed_on_nominated: Iterable[PodInfo]) -> str:
    """Why this pod may not evict others now, "" when it may."""
    if pod.never_preempts:
        return "not eligible due to preemptionPolicy=Never."
    if any(p.terminating and p.priority < pod.priority and _preempted(p) for p in placed_on_nominated):
        return "not eligible due to a terminating pod on the nominated node."
    return ""


def _preempted(pod: PodInfo) -> bool:
    return any(
        c["type"] == "DisruptionTarget" and c.get("reason") == "PreemptionByScheduler" and c["status"] == "True"
        for c in (pod.object.get("status") or {}).get("conditions") or ()
    )


def covers(budget: Budget, pod: PodInfo) -> bool:
    """Whether an eviction of the pod counts against the budget."""
    if budget.namespace != pod.namespace or not pod.labels or budget.selector in ("null", "{}"):
        return False
    return pod.name not in budget.disrupted and label_selector(budget.selector)(pod.labels)


def alone(pod: PodInfo) -> list[PodInfo]:
    """Nobody goes with this pod."""
    return []


def split_by_budget(pods: Sequence[PodInfo], budgets: Sequence[Budget]) -> tuple[list[PodInfo], list[PodInfo]]:
    """(those that break a budget, those that don't), when evicted in this order."""
    left = [b.allowed for b in budgets]
    breaking: list[PodInfo] = []
    fine: list[PodInfo] = []
    for pod in pods:
        breaks = False
        for i, budget in enumerate(budgets):
            if not covers(budget, pod):
                continue
            left[i] -= 1
            breaks = breaks or left[i] < 0
        (breaking if breaks else fine).append(pod)
    return breaking, fine


def victims_on(
    cycle: Cycle, pod: PodInfo, row: int, budgets: Sequence[Budget], companions: Companions = alone
) -> Victims | str:
    """The fewest pods to evict from one node, or why that would not help. Those whose ``companions`` on other nodes would
    have to go with them are spared before others of their priority."""
    snapshot = cycle.snapshot
    version = snapshot.versions[row]
    lower = [p for p in snapshot.on_row[row].values() if p.priority < pod.priority]
    lower.sort(key=lambda p: (-p.priority, not companions(p), importance(p)))
    if not lower:
        return NO_VICTIMS
    try:
        for victim in lower:
            snapshot.remove_pod(victim.uid)
        if not cycle.fits_on(pod, row):
            return cycle.reason_on(pod, row)
        breaking, fine = split_by_budget(lower, budgets)
        chosen: list[PodInfo] = []
        broken = 0
        for group in (breaking, fine):
            for candidate in group:
                snapshot.set_pod(candidate)
                if not cycle.fits_on(pod, row):
                    snapshot.remove_pod(candidate.uid)
                    chosen.append(candidate)
                    broken += group is breaking
        evicted = {p.uid: p for p in chosen}
        more = {c.uid: c for p in chosen for c in companions(p) if c.uid not in evicted}
        broken += len(split_by_budget(tuple(more.values()), budgets)[0])
        return Victims(snapshot.names[row], tuple(sorted((evicted | more).values(), key=importance)), broken)
    finally:
        for victim in lower:
            if victim.uid not in snapshot.pods:
                snapshot.set_pod(victim)
        snapshot.versions[row] = version  # all is as it was


def harm(victims: Victims) -> tuple[Any, ...]:
    """Smaller is better: budgets broken, highest priority, sum of priorities, number; then the later started."""
    pods = victims.pods
    if not pods:
        return (-1,)
    top = pods[0].priority
    earliest = min((p.started or "9" for p in pods if p.priority == top), default="")
    newest_first = tuple(-ord(c) for c in earliest)
    return victims.broken, top, sum(p.priority + OFFSET for p in pods), len(pods), newest_first


class Remembered:
    """The answers of ``victims_on`` for one kind of pod, each good while its node stays as it is. Many equal pods that
    push out others then cost a look at the nodes that changed, not at all of them."""

    def __init__(self, cycle: Cycle, pod: PodInfo, budgets: Sequence[Budget], companions: Companions) -> None:
        self.cycle, self.pod, self.budgets, self.companions = cycle, pod, budgets, companions
        self._held: dict[int, tuple[int, Victims | str, tuple[Any, ...]]] = {}
        if self._alone():
            key = pod.shape, pod.priority, cycle.snapshot.node_version, tuple(budgets)
            if key not in cycle.evictions and len(cycle.evictions) >= MOST_REMEMBERED:
                cycle.evictions.clear()
            self._held = cycle.evictions.setdefault(key, self._held)

    def _alone(self) -> bool:
        """Whether the answer for a node depends on that node alone."""
        shape, snapshot = self.pod.shape, self.cycle.snapshot
        others = (
            shape.affinity or shape.anti_affinity or shape.spread or any(c.required for c in self.pod.default_spread)
        )
        return not (others or self.pod.mounts or self.cycle.asks(self.pod) or snapshot.anti_terms or snapshot.groups)

    def on(self, row: int) -> tuple[Victims | str, tuple[Any, ...]]:
        """The victims and their harm, or why there are none."""
        version = self.cycle.snapshot.versions[row]
        held = self._held.get(row)
        if held is None or held[0] != version:
            answer = victims_on(self.cycle, self.pod, row, self.budgets, self.companions)
            held = self._held[row] = version, answer, () if isinstance(answer, str) else harm(answer)
        return held[1], held[2]


def find(
    cycle: Cycle, pod: PodInfo, failed: Unplaced, budgets: Sequence[Budget], companions: Companions = alone
) -> Victims | str:
    """The best victims, or the words for the message when there are none."""
    found, why = candidates(cycle, pod, failed, budgets, companions)
    return min(found, key=lambda c: c[1])[0] if found else why


def candidates(
    cycle: Cycle,
    pod: PodInfo,
    failed: Unplaced,
    budgets: Sequence[Budget],
    companions: Companions = alone,
    *,
    needed: bool = False,
) -> tuple[list[tuple[Victims, tuple[Any, ...]]], str]:
    """Victims with their harm, of as many nodes as are looked at; and the words for the message when there are none.
    ``needed``: a node on which nobody stands in the way is none (it was somebody else who refused it)."""
    snapshot = cycle.snapshot
    total = len(snapshot.row_of)
    tries: Counter[str] = Counter()
    if total - len(failed.rows):
        tries[NOT_HELPFUL] = total - len(failed.rows)
    if failed.rows and not snapshot.has_below(pod.priority):
        tries[NO_VICTIMS] += len(failed.rows)
        return [], words(total, tries)
    enough = max(MIN_CANDIDATES, int(total * CANDIDATE_SHARE))
    rows = list(failed.rows)
    if rows:
        offset = cycle.rng.randrange(len(rows))
        rows = rows[offset:] + rows[:offset]
    found: list[tuple[Victims, tuple[Any, ...]]] = []
    idle: list[str] = []
    remembered = Remembered(cycle, pod, budgets, companions)
    for row in rows:
        answer, damage = remembered.on(row)
        if isinstance(answer, str):
            tries[answer] += 1
            continue
        if needed and not answer.pods:
            idle.append(NOBODY.format(answer.node))
            continue
        found.append((answer, damage))
        if len(found) >= enough:
            break
    if idle:
        return found, idle[0] if len(idle) == 1 else f"[{', '.join(idle)}]"
    return found, words(total, tries)


def words(total: int, tries: Counter[str]) -> str:
    """Upstream's summary of attempts that found nothing."""
    if not total:
        return "0/0 nodes are available: "
    parts = sorted(f"{count} {reason}" for reason, count in tries.items())
    return f"0/{total} nodes are available: {', '.join(parts)}."
