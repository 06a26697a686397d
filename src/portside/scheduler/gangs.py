"""The scheduler's dealings with PodGroups: which pods wait for which, one decision for all, and binding them together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from portside.client.protocol import Json
from portside.scheduler import gang, gang_victims, preemption
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.devices import Allocation
from portside.scheduler.hints import EVERY, GANG, Kind
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.preemption import Victims
from portside.scheduler.volumes import Binding

if TYPE_CHECKING:
    from portside.scheduler.extender_calls import Verdict
    from portside.scheduler.runner import Scheduler

log = logging.getLogger("portside.scheduler")
PERMIT_SECONDS = 300.0  # upstream's: a gang whose volumes and devices are not ready by then gives its nodes back
SAY_SECONDS = 1.0  # a gang that gets its pods one after the other is not told about before


class Gangs:
    """``groups`` by key. ``attempt`` decides for all waiting pods of a gang when one of them is due."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.groups: dict[str, gang.Group] = {}
        self.companions = gang.companions_in(scheduler.snapshot, self.groups)
        self._waiting: dict[str, set[str]] = {}  # keys of pods without a node, by group
        self._plans: dict[str, tuple[list[Binding], list[Allocation]]] = {}  # what the present attempt promised, by uid

    def changed(self, old: Json | None, new: Json | None) -> None:
        """A PodGroup came, changed or went."""
        if new is None:
            meta = (old or {})["metadata"]
            self.groups.pop(f"{meta['namespace']}/{meta['name']}", None)
            return
        group = gang.Group.of(new)
        before = self.groups.get(group.key)
        self.groups[group.key] = group
        if before is None or before.spec != group.spec:
            self.scheduler.tell("group", node=group.key)

    def waits(self, pod: PodInfo) -> None:
        """A pod without a node came."""
        if pod.group:
            self._waiting.setdefault(pod.group, set()).add(pod.key)

    def members(self, group: str) -> list[PodInfo]:
        """The group's pods that wait for a node, the oldest first."""
        pending = self.scheduler.pending
        keys = {k for k in self._waiting.get(group, ()) if k in pending and pending[k].group == group}
        if keys:
            self._waiting[group] = keys
        else:
            self._waiting.pop(group, None)
        return [pending[k] for k in self.scheduler.queue.in_order(keys)]

    def attempt(self, pod: PodInfo) -> bool:
        """Decide for a pod's gang. False for a pod that is scheduled on its own."""
        if not pod.group:
            return False
        group = self.groups.get(pod.group)
        if group is not None and not group.least:
            return False
        self.decide(pod.group, {})
        return True

    def decide(self, key: str, verdicts: Mapping[str, Verdict]) -> None:
        """Decide for the pods of a gang that wait. ``verdicts``: what extenders said of those they have to be asked about,
        by uid."""
        group, members, scheduled = self.groups.get(key), self.members(key), self._scheduled(key)
        if not members:
            return
        if group is None or len(members) + scheduled < group.least:
            name = key.partition("/")[2]
            self._hold(members, gang.ABSENT.format(f'"{name}"') if group is None else gang.FEW)
            return
        if why := gang.mismatch(members, group):
            self._failed(members, f"scheduling error for pod group: {why}")
            self._tell(group, "False", "SchedulerError", why)
            return
        unasked = [m for m in members if m.uid not in verdicts]
        if self.scheduler.extenders is not None and self.scheduler.extenders.take_gang(key, unasked):
            return
        self._decide(group, members, scheduled, verdicts)

    def _scheduled(self, group: str) -> int:
        snapshot, nominated = self.scheduler.snapshot, self.scheduler.nominated
        uids = [u for u in snapshot.groups.get(group, ()) if u not in nominated]
        return sum(1 for u in uids if not snapshot.pods[u][0].terminating)

    # Waiting for members

    def _hold(self, members: list[PodInfo], message: str) -> None:
        """They wait for others; if they still do after a moment, they are told."""
        now = self.scheduler.clock.monotonic()
        for pod in members:
            self.scheduler.queue.hold(pod.key, now, Kind.of(pod, frozenset((GANG,))))
        self.scheduler.write(self._say(members, message), slow=True)

    async def _say(self, members: list[PodInfo], message: str) -> None:
        await self.scheduler.clock.sleep(SAY_SECONDS)
        pending = self.scheduler.pending
        for pod in members:
            if pending.get(pod.key) is pod and len(self.members(pod.group)) + self._scheduled(pod.group) < self._least(
                pod
            ):
                await self.scheduler.writer.explain(pod, message, "")

    def _least(self, pod: PodInfo) -> float:
        group = self.groups.get(pod.group)
        return float("inf") if group is None else group.least

    def _failed(self, members: list[PodInfo], message: str) -> None:
        now = self.scheduler.clock.monotonic()
        for pod in members:
            self.scheduler.queue.failed(pod.key, now, Kind.of(pod, frozenset((GANG,))))
            self.scheduler.write(self.scheduler.writer.explain(pod, message, pod.nominated))

    # Deciding

    def _hands(self, cycle: Cycle, verdicts: Mapping[str, Verdict], *, trial: bool = False) -> gang.Hands:
        scheduler = self.scheduler
        snapshot, volumes, devices = scheduler.snapshot, scheduler.volumes, scheduler.devices

        def put(pod: PodInfo, node: str) -> None:
            bindings = volumes.plan(pod, snapshot, node) if pod.claims else []
            allocations = devices.plan(pod, snapshot, node) if cycle.asks(pod) else []
            self._plans[pod.uid] = bindings, allocations
            pod.node_name = node
            snapshot.set_pod(pod)

        def take(pod: PodInfo) -> None:
            bindings, allocations = self._plans.pop(pod.uid)
            volumes.forget(bindings)
            devices.forget(allocations)
            snapshot.remove_pod(pod.uid)
            pod.node_name = ""

        def decide(pod: PodInfo) -> Placed | Unplaced:
            if pod.uid in verdicts and scheduler.extenders is not None:
                return scheduler.extenders.decide(pod, cycle, verdicts[pod.uid], trial=trial)
            return scheduler.decide(pod, cycle)

        return gang.Hands(decide, put, take)

    def _decide(
        self, group: gang.Group, members: list[PodInfo], scheduled: int, verdicts: Mapping[str, Verdict]
    ) -> None:
        scheduler = self.scheduler
        cycle = scheduler.cycles[members[0].scheduler]
        uids = {m.uid for m in members}
        aside = [g for g in scheduler.nominated.values() if g.uid in uids or g.priority < members[0].priority]
        for ghost in aside:
            scheduler.snapshot.remove_pod(ghost.uid)
        hands = self._hands(cycle, verdicts)
        wins: list[tuple[PodInfo, Victims]] = []
        leaving = False
        try:
            made = gang.attempt(group, members, scheduled, hands)
            leaving = bool(made.message) and self._victims_leave(members)
            if made.message and not leaving and self._may_preempt(cycle, members):
                budgets, hands = scheduler.budgets(), self._hands(cycle, verdicts, trial=True)
                wins = gang_victims.preempt(cycle, group, members, scheduled, budgets, hands, self.companions)
        finally:
            for ghost in aside:
                if ghost.uid in scheduler.nominated and ghost.uid not in scheduler.snapshot.pods:
                    scheduler.snapshot.set_pod(ghost)
        if made.message:
            self._refused(group, made, {pod.uid: victims for pod, victims in wins}, leaving)
        else:
            self._placed(group, made)

    def _placed(self, group: gang.Group, made: gang.Attempt) -> None:
        scheduler = self.scheduler
        ready = []
        for pod in made.placed:
            scheduler.assume(pod)
            ready.append((pod, *self._plans.pop(pod.uid)))
        for pod, why in made.refused:  # more than the gang needs
            scheduler.refuse(pod, scheduler.cycles[pod.scheduler], why)
        slow = any(b or scheduler.devices.slow(a) for _, b, a in ready)
        slow = slow or (
            scheduler.extenders is not None and any(scheduler.extenders.calls.binds(p) for p, _, _ in ready)
        )
        scheduler.write(self._bind(group, ready), slow=slow)

    def _may_preempt(self, cycle: Cycle, members: list[PodInfo]) -> bool:
        return "DefaultPreemption" not in cycle.profile.without and not any(p.never_preempts for p in members)

    def _victims_leave(self, members: list[PodInfo]) -> bool:
        """Whether pods that were evicted for them are still on their way out."""
        snapshot = self.scheduler.snapshot
        rows = [(p, snapshot.row_of[p.nominated]) for p in members if p.nominated in snapshot.row_of]
        return any(preemption.ineligible(p, snapshot.on_row[row].values()) for p, row in rows if not p.never_preempts)

    def _refused(self, group: gang.Group, made: gang.Attempt, wins: dict[str, Victims], leaving: bool) -> None:
        """Everybody waits; with victims, for those to leave."""
        scheduler = self.scheduler
        now = scheduler.clock.monotonic()
        why = {pod.uid: decision.message for pod, decision in made.refused}
        for pod in self.members(group.key):
            scheduler.queue.failed(pod.key, now, Kind.of(pod, EVERY))
            victims = wins.get(pod.uid)
            if not leaving:
                scheduler.nominate(pod, victims.node if victims else "")
            if victims and victims.pods:
                scheduler.write(scheduler.writer.evict(pod, victims))
            scheduler.write(scheduler.writer.explain(pod, why.get(pod.uid, made.message), pod.nominated))
        self._tell(group, "False", "Unschedulable", made.message)

    def _tell(self, group: gang.Group, status: str, reason: str, message: str) -> None:
        self.scheduler.write(self.scheduler.writer.group_condition(group.object, status, reason, message))

    # Binding

    async def _bind(self, group: gang.Group, ready: list[tuple[PodInfo, list[Binding], list[Allocation]]]) -> None:
        """Volumes and devices of all first, then all bindings: a gang that does not get the former binds nobody."""
        scheduler = self.scheduler
        try:
            async with asyncio.timeout(PERMIT_SECONDS):
                problems = await asyncio.gather(*(scheduler.prepare(*one) for one in ready))
        except TimeoutError:
            problems = [f"the gang's volumes and devices were not ready within {PERMIT_SECONDS:.0f} s"]
        if problem := next(filter(None, problems), ""):
            for pod, bindings, allocations in ready:
                scheduler.volumes.forget(bindings)
                scheduler.devices.forget(allocations)
                if allocations:
                    await scheduler.claims.release(pod, scheduler.read)
                scheduler.unbound(pod, problem)
            self._tell(group, "False", "Unschedulable", problem)
            return
        problems = await asyncio.gather(*(scheduler.bind(pod) for pod, _, _ in ready))
        for (pod, _, allocations), problem in zip(ready, problems, strict=True):
            if problem:
                if allocations:
                    await scheduler.claims.release(pod, scheduler.read)
                scheduler.unbound(pod, problem)
        if not any(problems):
            await scheduler.writer.group_condition(group.object, "True", "Scheduled", "")
