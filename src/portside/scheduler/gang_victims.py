"""Whom to evict for a gang: the pods that do the least harm to all, chosen for the gang as a whole. Pure but for the
snapshot given, which is left as it was.

Two ways are tried and the less harmful one is taken: victims for one member after the other, as for single pods; and
upstream's way for groups: everybody less important is thought away, then spared again, the most important first, as
long as the gang still finds room. Upstream keeps the places it found at first; here the gang is placed anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from portside.scheduler import preemption
from portside.scheduler.cycle import Cycle, Placed
from portside.scheduler.gang import Group, Hands, attempt
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.preemption import Budget, Victims
from portside.scheduler.snapshot import Snapshot

MOST_UNITS = 2000  # less important pods beyond which victims are looked for member by member alone
MOST_ATTEMPTS = 300  # times the gang is placed on trial
MOST_SWAPS = 60  # of them, to find one victim that stands for two
Choice = list[tuple[PodInfo, Victims]]


def preempt(
    cycle: Cycle,
    group: Group,
    members: Sequence[PodInfo],
    scheduled: int,
    budgets: Sequence[Budget],
    hands: Hands,
    companions: preemption.Companions,
) -> Choice:
    """Each member's node with the victims there, when with their room the gang has enough; else nothing at all: nobody is
    evicted for a gang that would still not fit."""
    choices = (
        _member_by_member(cycle, group, members, scheduled, budgets, hands, companions),
        _Whole(cycle.snapshot, group, members, scheduled, budgets, hands, companions).find(),
    )
    return min((c for c in choices if c), key=lambda c: _harm(victims_of(c), budgets), default=[])


def victims_of(choice: Choice) -> list[PodInfo]:
    """All victims of a choice."""
    return [victim for _, victims in choice for victim in victims.pods]


def _harm(pods: Sequence[PodInfo], budgets: Sequence[Budget]) -> tuple[Any, ...]:
    ordered = sorted(pods, key=preemption.importance)
    breaking, _ = preemption.split_by_budget(ordered, budgets)
    return preemption.harm(Victims("", tuple(ordered), len(breaking)))


def _member_by_member(
    cycle: Cycle,
    group: Group,
    members: Sequence[PodInfo],
    scheduled: int,
    budgets: Sequence[Budget],
    hands: Hands,
    companions: preemption.Companions,
) -> Choice:
    snapshot = cycle.snapshot
    gone: list[PodInfo] = []
    placed: list[PodInfo] = []
    found: Choice = []
    try:
        for pod in members:
            decision = hands.decide(pod)
            if isinstance(decision, Placed):
                node, victims = decision.node, Victims(decision.node, (), 0)
            else:
                if decision.final:
                    continue
                answer = preemption.find(cycle, pod, decision, budgets, companions)
                if isinstance(answer, str):
                    continue
                node, victims = answer.node, answer
                for victim in victims.pods:
                    snapshot.remove_pod(victim.uid)
                    gone.append(victim)
                budgets = spent(budgets, victims.pods)
            hands.put(pod, node)
            placed.append(pod)
            found.append((pod, victims))
    finally:
        for pod in placed:
            hands.take(pod)
        for victim in gone:
            snapshot.set_pod(victim)
    return found if scheduled + len(placed) >= group.least and gone else []


def spent(budgets: Sequence[Budget], victims: Sequence[PodInfo]) -> list[Budget]:
    """The budgets after these evictions."""
    left = list(budgets)
    for victim in victims:
        for i, budget in enumerate(left):
            if preemption.covers(budget, victim):
                left[i] = replace(budget, allowed=budget.allowed - 1, disrupted=budget.disrupted | {victim.name})
    return left


@dataclass(slots=True)
class _Unit:
    """Pods that are evicted together."""

    pods: list[PodInfo]
    first: tuple[Any, ...]


class _Whole:
    """The search for victims of the whole gang."""

    def __init__(
        self,
        snapshot: Snapshot,
        group: Group,
        members: Sequence[PodInfo],
        scheduled: int,
        budgets: Sequence[Budget],
        hands: Hands,
        companions: preemption.Companions,
    ) -> None:
        self.snapshot, self.group, self.members, self.scheduled = snapshot, group, members, scheduled
        self.budgets, self.hands, self.companions = budgets, hands, companions
        self.places: list[tuple[PodInfo, str]] = []
        self.attempts = 0

    def find(self) -> Choice:
        """The victims, nothing when there are none or too many to look at."""
        units = self._units()
        if not units or sum(len(u.pods) for u in units) > MOST_UNITS:
            return []
        for unit in units:
            self._evict(unit)
        try:
            victims = self._least(units) if self._fits() else None
            if victims is None or not self._fits():
                return []
            return self._shown(victims)
        finally:
            for unit in units:
                self._restore(unit)

    def _least(self, units: list[_Unit]) -> list[_Unit] | None:
        """The less harmful of two ways to spare, improved; all others are back. None when both take too long."""
        found: list[list[_Unit]] = []
        orders = [units]
        while orders:
            victims = self._spare(orders.pop())
            if victims is None:
                break
            if (
                not found
            ):  # nobody of a higher priority need go; of the others few large ones rather than many small ones
                top = min(v.first[:2] for v in victims) if victims else ()
                orders.append(sorted(units, key=lambda u: (u.first[:2] >= top, self._size(u))))
            found.append(victims)
            for unit in units:
                self._evict(unit)
        if not found:
            return None
        victims = min(found, key=lambda vs: _harm([p for v in vs for p in v.pods], self.budgets))
        for unit in units:
            if unit not in victims:
                self._restore(unit)
        return self._swap(units, victims)

    def _size(self, unit: _Unit) -> float:
        """The largest share of a node that one of the pods takes."""
        snapshot = self.snapshot
        shares = [0.0]
        for pod in unit.pods:
            row = snapshot.row_of[pod.node_name]
            for name, amount in pod.shape.requests.items():
                room = int(snapshot.allocatable[snapshot.column(name), row])
                shares.append(amount / room if room else 1.0)
        return max(shares)

    def _units(self) -> list[_Unit]:
        """Everybody less important, by how much they are to be spared: those that break a budget first, then by priority and
        age, groups that go as a whole at the place of their most important pod."""
        priority = self.members[0].priority
        lower = sorted((p for p, _ in self.snapshot.pods.values() if p.priority < priority), key=preemption.importance)
        breaking = {p.uid for p in preemption.split_by_budget(lower, self.budgets)[0]}
        units, seen = [], set[str]()
        for pod in lower:
            if pod.uid in seen:
                continue
            together = [pod, *self.companions(pod)]
            seen |= {p.uid for p in together}
            if all(p.priority < priority for p in together):
                fine = not any(p.uid in breaking for p in together)
                units.append(_Unit(together, (fine, preemption.importance(pod)[0], -len(together), pod.started or "9")))
        return sorted(units, key=lambda u: u.first)

    def _evict(self, unit: _Unit) -> None:
        for pod in unit.pods:
            self.snapshot.remove_pod(pod.uid)

    def _restore(self, unit: _Unit) -> None:
        for pod in unit.pods:
            if pod.uid not in self.snapshot.pods:
                self.snapshot.set_pod(pod)

    def _fits(self) -> bool:
        """Whether the gang finds room as things are; ``places`` is where."""
        self.attempts += 1
        made = attempt(self.group, self.members, self.scheduled, self.hands)
        if made.message:
            return False
        self.places = [(pod, pod.node_name) for pod in made.placed]
        for pod in made.placed:
            self.hands.take(pod)
        return True

    def _with(self, units: Sequence[_Unit], *, back: bool) -> bool:
        """Whether the gang fits with some back again (or gone as well). If not, all is as before."""
        there, undo = (self._restore, self._evict) if back else (self._evict, self._restore)
        for unit in units:
            there(unit)
        if self._fits():
            return True
        for unit in units:
            undo(unit)
        return False

    def _spare(self, units: Sequence[_Unit]) -> list[_Unit] | None:
        """Put back all that the gang does not need gone, from the first on: as many at a time as go. Those left; None when it
        takes too long."""
        victims: list[_Unit] = []
        at, step = 0, len(units)
        while at < len(units):
            if self.attempts > MOST_ATTEMPTS:
                return None
            step = min(step, len(units) - at)
            if self._with(units[at : at + step], back=True):
                at, step = at + step, max(step, 1) * 2
            elif step > 1:
                step //= 2
            else:
                victims.append(units[at])
                at += 1
        return victims

    def _swap(self, units: Sequence[_Unit], victims: list[_Unit]) -> list[_Unit]:
        """Let one go instead of several, or a less important one, where that does less harm."""
        best = _harm([p for v in victims for p in v.pods], self.budgets)
        end = self.attempts + MOST_SWAPS
        for other in reversed(units):
            if other in victims:
                continue
            if self.attempts > end:
                break
            self._evict(other)
            spared = self._spare_again(victims)
            kept = [v for v in victims if v not in spared]
            damage = _harm([p for v in [*kept, other] for p in v.pods], self.budgets)
            if spared and damage < best:
                victims, best = [*kept, other], damage
                continue
            for unit in spared:
                self._evict(unit)
            self._restore(other)
        return victims

    def _spare_again(self, victims: Sequence[_Unit]) -> list[_Unit]:
        """The victims that need not go any more, put back."""
        return [v for v in victims if self._with([v], back=True)]

    def _shown(self, victims: Sequence[_Unit]) -> Choice:
        """The victims with the members whose nodes they leave; those of other nodes with the first member."""
        left = {p.uid: p for v in victims for p in v.pods}
        breaking = preemption.split_by_budget(sorted(left.values(), key=preemption.importance), self.budgets)[0]
        broken = {p.uid for p in breaking}
        found: Choice = []
        for i, (pod, node) in enumerate(self.places):
            here = [p for p in left.values() if p.node_name == node]
            if i == 0:
                nodes = {n for _, n in self.places}
                here += [p for p in left.values() if p.node_name not in nodes]
            for victim in here:
                del left[victim.uid]
            here.sort(key=preemption.importance)
            found.append((pod, Victims(node, tuple(here), sum(p.uid in broken for p in here))))
        return found
