"""Pods in whose decision extenders have a say: they are asked beside the loop, one pod at a time each (decision 0030).

A pod waits in the *lane* of the extenders that are interested in it, the more important first. Its *flight* begins when all of
them are free: filters, their answers, filters again on what the cluster has become, and then it is placed or refused
like any other pod.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from portside.scheduler import preemption
from portside.scheduler.cycle import EXTENDER, Cycle, Placed, Unplaced, lead_of, tried
from portside.scheduler.extender_calls import Calls, Lane, Verdict
from portside.scheduler.extender_config import Extender
from portside.scheduler.extender_wire import ExtenderFailure
from portside.scheduler.filters import Refusal
from portside.scheduler.hints import News
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.preemption import Victims
from portside.scheduler.snapshot import Mask, Snapshot
from portside.scheduler.watched import NODES

if TYPE_CHECKING:
    from portside.scheduler.runner import Scheduler

log = logging.getLogger("portside.scheduler")
TRIES = 3  # times a pod is asked about in a row when the cluster changed meanwhile
MOST_NEWS = 1000  # kept during a flight; with more everything may have changed
NOWHERE = "no candidate node for preemption"


@dataclass(slots=True, eq=False)
class Flight:
    """A pod, or the pods of a gang, about whom extenders are being asked; ``news``: what happened since it began."""

    lane: Lane
    pods: Sequence[PodInfo]
    news: list[News] = field(default_factory=list)


class Extenders:
    """``take`` a pod before it is decided: True when it is decided here, later. ``hear`` news while there are ``flights``."""

    def __init__(self, scheduler: Scheduler, extenders: Sequence[Extender]) -> None:
        self.scheduler = scheduler
        self.calls = Calls(extenders, lambda: scheduler.informers.caches[NODES].objects)
        self.flights: dict[str, Flight] = {}  # by key, of a gang that of its group
        self._lanes: dict[Lane, list[tuple[int, int, str, bool]]] = {}
        self._listed: set[str] = set()
        self._busy: set[int] = set()
        self._numbers = count()

    async def close(self) -> None:
        await self.calls.close()

    def hear(self, news: News) -> None:
        for flight in self.flights.values():
            if len(flight.news) < MOST_NEWS:
                flight.news.append(news)
            else:
                flight.news = [News("any")]

    # Lanes

    def take(self, pod: PodInfo) -> bool:
        """Whether extenders have a say in where the pod goes; it is placed or refused when they have answered."""
        lane = self.calls.lane(pod)
        if lane:
            self._list(lane, pod.key, pod.priority)
        return bool(lane)

    def take_gang(self, group: str, members: Sequence[PodInfo]) -> bool:
        """The same for the pods of a gang."""
        lane = tuple(sorted({i for pod in members for i in self.calls.lane(pod)}))
        if lane:
            self._list(lane, group, members[0].priority, gang=True)
        return bool(lane)

    def _list(self, lane: Lane, key: str, priority: int, *, gang: bool = False) -> None:
        mark = f"gang {key}" if gang else key
        if mark not in self._listed and mark not in self.flights:
            self._listed.add(mark)
            heapq.heappush(self._lanes.setdefault(lane, []), (-priority, next(self._numbers), key, gang))
            self._next()

    def _next(self) -> None:
        """Begin what can begin: the first of each lane, unless one that comes before it waits for the same extenders."""
        taken = set(self._busy)
        for lane in sorted((lane for lane, waiting in self._lanes.items() if waiting), key=lambda x: self._lanes[x][0]):
            waiting = self._lanes[lane]
            while waiting and taken.isdisjoint(lane):
                _, _, key, gang = heapq.heappop(waiting)
                mark = f"gang {key}" if gang else key
                self._listed.discard(mark)
                pods = self._whom(key, gang)
                if pods:
                    self._busy.update(lane)
                    taken.update(lane)
                    flight = self.flights[mark] = Flight(lane, pods)
                    self.scheduler.write(self._fly(mark, flight, gang), slow=True)
            taken.update(lane if waiting else ())

    def _whom(self, key: str, gang: bool) -> Sequence[PodInfo]:
        if gang:
            return self.scheduler.gangs.members(key)
        pod = self.scheduler.pending.get(key)
        return [] if pod is None else [pod]

    async def _fly(self, mark: str, flight: Flight, gang: bool) -> None:
        scheduler = self.scheduler
        verdicts: dict[str, Verdict] | None = None
        try:
            if gang:
                verdicts = await self._ask_all(flight)
            else:
                await self._decide(flight)
        except ExtenderFailure as problem:
            self._error(flight, str(problem))
        except Exception as problem:
            log.exception("deciding with extenders failed")
            self._error(flight, f"internal error: {problem!r}")
        finally:
            del self.flights[mark]
            self._busy.difference_update(flight.lane)
        if verdicts is not None:
            valid = {p.uid: verdicts[p.uid] for p in flight.pods if p.uid in verdicts and self._waits(p)}
            scheduler.gangs.decide(flight.pods[0].group, valid)
        for news in flight.news:
            scheduler.waker.tell(news)
        for pod in () if gang else flight.pods:
            current = scheduler.pending.get(pod.key)
            if current is not None and current is not pod:  # it changed meanwhile
                scheduler.place(current)
        self._next()
        scheduler.wake.set()

    def _error(self, flight: Flight, text: str) -> None:
        """Nobody can say where the pod may go: it is told, and tried again after its back-off."""
        scheduler = self.scheduler
        failure = Unplaced(text, {}, 0, (), text, final=True, error=True)
        for pod in flight.pods:
            if self._waits(pod):
                scheduler.refuse(pod, scheduler.cycles[pod.scheduler], failure)

    def _waits(self, pod: PodInfo) -> bool:
        """Whether the pod still is there without a node, and as it was."""
        return self.scheduler.pending.get(pod.key) is pod

    # One pod

    async def _decide(self, flight: Flight) -> None:
        scheduler, pod = self.scheduler, flight.pods[0]
        cycle = scheduler.cycles[pod.scheduler]
        if await self._on_nominated(flight, cycle):
            return
        for _ in range(TRIES):
            verdict = await self._ask(flight, pod, cycle)
            if not self._waits(pod):
                return
            decision = self._choose(pod, cycle, verdict)
            if isinstance(decision, Unplaced):
                await self._refuse(flight, pod, cycle, decision)
            if decision is not None:
                return
        scheduler.queue.failed(pod.key, scheduler.clock.monotonic())

    async def _ask(self, flight: Flight, pod: PodInfo, cycle: Cycle) -> Verdict:
        """What the extenders say of the nodes that pass the filters. Without any they are not asked."""
        snapshot = self.scheduler.snapshot
        aside = self.scheduler.set_aside(pod)
        try:
            feasible = np.flatnonzero(cycle.feasible(pod)) if self.scheduler.early(pod, cycle) is None else ()
        finally:
            self.scheduler.put_back(aside)
        if not len(feasible):
            return Verdict()
        verdict = await self.calls.filter(flight.lane, pod, tuple(snapshot.names[row] for row in feasible))
        if len(verdict.names) > 1:
            verdict.bonus = await self.calls.prioritize(flight.lane, pod, verdict.names)
        return verdict

    def _choose(self, pod: PodInfo, cycle: Cycle, verdict: Verdict) -> Placed | Unplaced | None:
        """Place the pod, or say why not; None when the cluster changed so that the extenders have to be asked again."""
        scheduler = self.scheduler
        aside = scheduler.set_aside(pod)
        try:
            found = scheduler.early(pod, cycle) or chosen(pod, cycle, verdict)
        finally:
            scheduler.put_back(aside)
        if isinstance(found, Placed):
            scheduler.settle(pod, cycle, found.node)
        return found

    async def _on_nominated(self, flight: Flight, cycle: Cycle) -> bool:
        """Try the node that room is kept on before all others, as upstream does. True when the pod is done with."""
        pod = flight.pods[0]
        name = pod.nominated
        if not self._fits(pod, cycle, name, settle=False):
            return False
        try:
            verdict = await self.calls.filter(flight.lane, pod, (name,))
        except ExtenderFailure as problem:
            log.info("%s is not tried on its nominated node %s: %s", pod.key, name, problem)
            return False
        if not self._waits(pod):
            return True
        return bool(verdict.names) and self._fits(pod, cycle, name, settle=True)

    def _fits(self, pod: PodInfo, cycle: Cycle, name: str, *, settle: bool) -> bool:
        """Whether the pod fits on one node; ``settle``: then it goes there."""
        scheduler = self.scheduler
        row = scheduler.snapshot.row_of.get(name) if name else None
        if row is None:
            return False
        aside = scheduler.set_aside(pod)
        try:
            fits = scheduler.early(pod, cycle) is None and cycle.fits_on(pod, row)
        finally:
            scheduler.put_back(aside)
        if fits and settle:
            scheduler.settle(pod, cycle, name)
        return fits

    # Refusals

    async def _refuse(self, flight: Flight, pod: PodInfo, cycle: Cycle, decision: Unplaced) -> None:
        scheduler = self.scheduler
        victims: Victims | str | None = None
        if not decision.final and "DefaultPreemption" not in cycle.profile.without:
            victims = await self._victims(flight, pod, cycle, decision)
            if not self._waits(pod):
                return
        aside = scheduler.set_aside(pod)
        try:
            scheduler.refuse(pod, cycle, decision, victims)
        finally:
            scheduler.put_back(aside)

    async def _victims(self, flight: Flight, pod: PodInfo, cycle: Cycle, decision: Unplaced) -> Victims | str | None:
        """Whom to evict, as the extenders see it too; else why nobody is. None when the pod may not evict anybody now."""
        scheduler, snapshot = self.scheduler, self.scheduler.snapshot
        aside = scheduler.set_aside(pod)
        try:
            if scheduler.ineligible(pod, decision):
                return None
            budgets, companions = scheduler.budgets(), scheduler.gangs.companions
            found, why = preemption.candidates(cycle, pod, decision, budgets, companions, needed=True)
        finally:
            scheduler.put_back(aside)
        if not found:
            return why
        before = {v.node: v for v, _ in found}

        def on_node(name: str) -> dict[str, PodInfo] | None:
            """Its pods; those that were to go count as there, even if they went while the extender thought about it."""
            row = snapshot.row_of.get(name)
            known = {p.uid: p for p in before[name].pods} if name in before else {}
            return None if row is None else known | snapshot.on_row[row]

        try:
            victims = await self.calls.preempt(flight.lane, pod, before, on_node)
        except ExtenderFailure as problem:
            return str(problem)
        return min(victims.values(), key=preemption.harm, default=NOWHERE)

    # Gangs

    def decide(self, pod: PodInfo, cycle: Cycle, verdict: Verdict, *, trial: bool) -> Placed | Unplaced:
        """For one of a gang's pods, as ``Scheduler.decide``, with what the extenders said of it. ``trial``: nothing comes of it
        yet, and where they were not asked they may agree."""
        found = self.scheduler.early(pod, cycle) or chosen(pod, cycle, verdict, trial=trial)
        return found or explained(pod, cycle, verdict)

    async def _ask_all(self, flight: Flight) -> dict[str, Verdict]:
        """What the extenders say of each pod of a gang by itself, by uid."""
        found = {}
        for pod in flight.pods:
            if self.calls.lane(pod) and self._waits(pod):
                found[pod.uid] = await self._ask(flight, pod, self.scheduler.cycles[pod.scheduler])
        return found

    # Binding

    async def bind(self, pod: PodInfo) -> str:
        """Bind a pod to its node, by its extender or by ourselves. Returns why that failed, "" when it stands."""
        writer = self.scheduler.writer
        if not self.calls.binds(pod):
            return await writer.bind(pod)
        try:
            if not await self.calls.bind(pod):
                return await writer.bind(pod)
        except ExtenderFailure as problem:
            await writer.explain(pod, str(problem), "", "SchedulerError")
            return str(problem)
        writer.bound(pod)
        return ""


def chosen(pod: PodInfo, cycle: Cycle, verdict: Verdict, *, trial: bool = False) -> Placed | Unplaced | None:
    """The best node that the filters and the extenders allow, or why there is none. None when that can't be said: room went
    since they were asked, or came where they were not. ``trial``: where they were not asked they allow it."""
    snapshot = cycle.snapshot
    feasible = cycle.feasible(pod)
    unasked = feasible & ~snapshot.rows_named(verdict.asked)
    left = feasible & snapshot.rows_named(verdict.names)
    if trial:
        left |= unasked
    if left.any():
        bonus = np.zeros(snapshot.size)
        for name, worth in verdict.bonus.items():
            if (row := snapshot.row_of.get(name)) is not None:
                bonus[row] = worth
        return Placed(snapshot.names[cycle.best(pod, left, bonus)], int(np.count_nonzero(left)))
    if not trial and (verdict.names or unasked.any()):
        return None
    return explained(pod, cycle, verdict)


def explained(pod: PodInfo, cycle: Cycle, verdict: Verdict) -> Unplaced:
    """Why no node fits, with what the extenders said of some."""
    found = cycle.explain(pod, _refusals(cycle.snapshot, verdict))
    if len(verdict.names) < len(verdict.asked):
        found = replace(found, plugins=found.plugins | {EXTENDER})
    strangers = [why for node, (why, _) in verdict.said.items() if node not in cycle.snapshot.row_of]
    if strangers and not found.final:  # upstream counts what is said of nodes that nobody knows
        reasons = dict(found.reasons)
        for why in strangers:
            reasons[why] = reasons.get(why, 0) + 1
        total = len(cycle.snapshot.row_of)
        lead = lead_of(total, reasons)
        message = lead + tried(total, found.resolvable, total - found.resolvable)
        found = replace(found, reasons=reasons, lead=lead, message=message)
    return found


def _refusals(snapshot: Snapshot, verdict: Verdict) -> list[Refusal]:
    rows: dict[tuple[str, bool], Mask] = {}
    for node, said in verdict.said.items():
        row = snapshot.row_of.get(node)
        if row is not None and node not in verdict.names:
            mask = rows.setdefault(said, np.zeros(snapshot.size, bool))
            mask[row] = True
    return [Refusal(why, mask, resolvable) for (why, resolvable), mask in rows.items()]
