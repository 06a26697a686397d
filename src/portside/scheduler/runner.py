"""The scheduler at work: informers feed the snapshot and the queue, decisions become bindings, refusals are explained."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from random import Random
from typing import Any

from portside.base import gates
from portside.base.clock import Clock
from portside.client.informer import InformerSet
from portside.client.protocol import Client, Json, Resource
from portside.scheduler import preemption
from portside.scheduler.cycle import Cycle, Placed, Unplaced, tried
from portside.scheduler.device_writer import DeviceWriter
from portside.scheduler.devices import ELSEWHERE, Allocation, Devices
from portside.scheduler.events import Recorder
from portside.scheduler.extended_devices import STALE, classes_of
from portside.scheduler.extender_config import Extender
from portside.scheduler.extenders import Extenders
from portside.scheduler.gangs import Gangs
from portside.scheduler.hints import BY_DEVICES, VOLUMES, Hints, Kind, News, refusers
from portside.scheduler.owners import Owners
from portside.scheduler.pod_info import PodInfo, changed, read_pod
from portside.scheduler.profile import DEFAULT, Profile
from portside.scheduler.queue import Queue
from portside.scheduler.snapshot import Snapshot
from portside.scheduler.volumes import Binding, Volumes
from portside.scheduler.waker import Waker
from portside.scheduler.watched import (
    BUDGETS,
    BY_PLURAL,
    CLAIMS,
    DEVICES,
    NAMESPACES,
    NODES,
    OWNERS,
    PODS,
    SERVICES,
    STORAGE,
    counts,
    relevant,
    waits,
)
from portside.scheduler.writer import POD_GROUPS, Writer

log = logging.getLogger("portside.scheduler")

SLICE = 0.01  # seconds of decisions before the event loop gets its turn
AHEAD = 512  # bindings under way beyond which decisions wait
RETRY_OLD = 30.0


class Scheduler:
    """Places pods one after the other; what follows from a decision is written concurrently."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        rng: Random | None = None,
        profiles: tuple[Profile, ...] = (DEFAULT,),
        *,
        gangs: bool = gates.enabled(gates.WORKLOADS),
        backoff: tuple[float, float] | None = None,
        extenders: tuple[Extender, ...] = (),
    ) -> None:
        self.client = client
        self.clock = clock
        rng = rng or Random()
        self.snapshot = Snapshot()
        self.informers = InformerSet(client)
        self.volumes = Volumes(self.read)
        self.devices = Devices(self.read, rng, clock.now)
        extra = (
            ("VolumeRestrictions", self.volumes.restrictions),
            ("NodeVolumeLimits", self.volumes.limits),
            ("VolumeBinding", self.volumes.binding),
            ("VolumeZone", self.volumes.zones),
        )
        self.cycles = {p.name: Cycle(self.snapshot, rng, p, extra=extra, devices=self.devices) for p in profiles}
        self.owners = Owners(self.read, lambda n: self.informers.caches[SERVICES].by("namespace", n))
        self.queue = Queue(*backoff) if backoff else Queue()
        self.events = Recorder(client, clock, "portside")
        self.writer = Writer(client, clock, self.events)
        self.claims = DeviceWriter(client, clock, self.events, self._observe_claim)
        self.gangs = Gangs(self)
        self.groups: tuple[Resource, ...] = (POD_GROUPS,) if gangs else ()
        self.pending: dict[str, PodInfo] = {}
        self.assumed: dict[str, str] = {}
        self.nominated: dict[str, PodInfo] = {}
        self.waker = Waker(
            self.queue, Hints(self.snapshot, {p.name: p for p in profiles}, self.read, self.nominated), self.nominated
        )
        self.wake = asyncio.Event()
        self.writes: set[asyncio.Task[None]] = set()
        self.room = asyncio.Event()  # set when few enough writes are under way to decide more
        self.waits: set[asyncio.Task[None]] = set()  # what waits for others: bindings for volumes, pods for extenders
        self.extenders = Extenders(self, extenders) if extenders else None
        self.bind = self.writer.bind if self.extenders is None else self.extenders.bind

    def read(self, plural: str) -> Mapping[str, Json]:
        cache = self.informers.caches.get(BY_PLURAL[plural])
        return {} if cache is None else cache.objects

    async def run(self) -> None:
        """Until cancelled."""
        handlers: list[tuple[Resource, Callable[[Json | None, Json | None], None] | None]] = [
            (NODES, self._node),
            (NAMESPACES, self._namespace),
            *((r, partial(self._other, r[2])) for r in STORAGE),
            *((r, partial(self._device, r[2])) for r in DEVICES),
            (BUDGETS, None),
            *((r, None) for r in OWNERS),
            *((r, self.gangs.changed) for r in self.groups),
            (PODS, self._pod),
        ]
        for resource, handler in handlers:
            informer = self.informers.informer(resource)
            if handler is not None:
                informer.add_handler(handler)
        self.informers.start()
        recorder = asyncio.create_task(self.events.run())
        retry = asyncio.create_task(self._retry_old())
        try:
            await self.informers.wait_synced()
            await self._loop()
        finally:
            recorder.cancel()
            retry.cancel()
            for task in [*self.writes, *self.waits]:
                task.cancel()
            await self.informers.stop()
            if self.extenders is not None:
                await self.extenders.close()

    # What the informers tell

    def _node(self, old: Json | None, new: Json | None) -> None:
        name = (new or old or {})["metadata"]["name"]
        if new is None:
            self.snapshot.remove_node(name)
        elif old is None or relevant(old) != relevant(new):
            self.snapshot.set_node(new)
        else:
            return
        self.tell("node", old, new, name)

    def _namespace(self, old: Json | None, new: Json | None) -> None:
        meta = (new or old or {})["metadata"]
        self.snapshot.set_namespace(meta["name"], None if new is None else meta.get("labels") or {})
        if old is None or new is None or old["metadata"].get("labels") != meta.get("labels"):
            self.tell("namespace", old, new)

    def _other(self, plural: str, old: Json | None, new: Json | None) -> None:
        self.writer.news()
        self.tell(plural, old, new)

    def _device(self, plural: str, old: Json | None, new: Json | None) -> None:
        if plural == "deviceclasses":
            self.snapshot.set_backed(classes_of(self.read("deviceclasses").values()))
        self.claims.news()
        self.tell(plural, old, new)

    def _observe_claim(self, claim: Json) -> None:
        self.informers.informer(CLAIMS).observe(claim)

    def _pod(self, old: Json | None, new: Json | None) -> None:
        meta = (new or old or {})["metadata"]
        uid, key = meta["uid"], f"{meta['namespace']}/{meta['name']}"
        if new is not None and waits(new, self.cycles):
            self._waiting(old, new, uid, key)
            return
        bound_by_us = uid in self.assumed and new is not None and self.assumed[uid] == new["spec"].get("nodeName")
        self._drop(uid, key)
        if new is None or not counts(new):
            self._left(uid)
            return
        if bound_by_us and uid in self.snapshot.pods and old is not None and not meta.get("deletionTimestamp"):
            held = self.snapshot.pods[uid][0]
            if held.labels == (meta.get("labels") or {}):
                held.object = new
                self.tell("pod", None, held, held.node_name)
                return  # counted when it was decided; the API only says so now
        if old is None or not counts(old) or changed(old, new):
            known = self.snapshot.pods.get(uid)
            info = read_pod(new)
            self.snapshot.set_pod(info)
            self.tell("pod", known and known[0], info, info.node_name)
        elif uid in self.snapshot.pods:
            self.snapshot.pods[uid][0].object = new

    def _left(self, uid: str) -> None:
        """A pod takes no room any more."""
        info = self.snapshot.remove_pod(uid)
        if info is not None:
            self.tell("pod", info, None, info.node_name)

    def _waiting(self, old: Json | None, new: Json, uid: str, key: str) -> None:
        if uid in self.assumed:
            return
        known = self.pending.get(key)
        if (
            known is None
            or old is None
            or known.uid != uid
            or old["spec"] != new["spec"]
            or old["metadata"].get("labels") != new["metadata"].get("labels")
            or (old.get("status") or {}).get("resourceClaimStatuses")
            != (new.get("status") or {}).get("resourceClaimStatuses")
        ):
            info = read_pod(new)
            self.pending[key] = info
            self.nominate(info, info.nominated)
            self.gangs.waits(info)
            if known is None or not known.asks_like(info):
                self.queue.add(key, info.priority, self.clock.monotonic())
                self.wake.set()
        else:
            known.object = new
            said = (new.get("status") or {}).get("nominatedNodeName") or ""
            if said != known.nominated:
                known.nominated = said
                self.nominate(known, said)

    def _drop(self, uid: str, key: str) -> None:
        self.assumed.pop(uid, None)
        gone = self.pending.pop(key, None)
        if gone is not None and gone.group:
            self.tell("group", node=gone.group)
        if self.nominated.pop(uid, None) is not None:
            self._left(uid)
        self.queue.remove(key)

    def tell(self, what: str, old: Any = None, new: Any = None, node: str = "") -> None:
        """News for those who wait (see hints.News)."""
        if self.extenders is not None and self.extenders.flights:
            self.extenders.hear(News(what, old, new, node))
        if self.queue.parked:
            self.waker.tell(News(what, old, new, node))
            self.wake.set()

    # Deciding

    async def _loop(self) -> None:
        while True:
            now = self.clock.monotonic()
            end = now + SLICE
            self.waker.announce()
            while (key := self.queue.pop(now)) is not None:
                if (info := self.pending.get(key)) is not None:
                    self.place(info)
                now = self.clock.monotonic()
                if now > end or len(self.writes) > AHEAD:
                    await asyncio.sleep(0)
                    while len(self.writes) > AHEAD:
                        self.room.clear()
                        await self.room.wait()
                    now = self.clock.monotonic()
                    end = now + SLICE
                    self.waker.announce()
            self.wake.clear()
            if self.waker.news:
                continue
            due = self.queue.next_time()
            if due is None:
                await self.wake.wait()
                continue
            try:
                async with asyncio.timeout(max(due - self.clock.monotonic(), 0.001)):
                    await self.wake.wait()
            except TimeoutError:
                continue

    def place(self, info: PodInfo) -> None:
        """Decide for a pod, and see to all that follows."""
        if info.devices and self.devices.unmade(info):
            kind = Kind.of(info, BY_DEVICES)
            self.queue.hold(info.key, self.clock.monotonic(), kind)
            return  # its claims are still being made: nothing to tell
        if info.group and self.gangs.attempt(info):
            return
        if self.extenders is not None and self.extenders.take(info):
            return
        cycle = self.cycles[info.scheduler]
        aside = self.set_aside(info)
        try:
            decision = self.decide(info, cycle)
            if isinstance(decision, Unplaced):
                self.refuse(info, cycle, decision)
                return
        finally:
            if aside:
                self.put_back(aside)
        self.settle(info, cycle, decision.node)

    def settle(self, info: PodInfo, cycle: Cycle, node: str) -> None:
        """The pod goes to a node: it counts there from now on, and is bound."""
        info.node_name = node
        self.assume(info)
        bindings = self.volumes.plan(info, self.snapshot, node) if info.claims else []
        allocations = self.devices.plan(info, self.snapshot, node) if cycle.asks(info) else []
        self.snapshot.set_pod(info)
        slow = bool(bindings) or self.devices.slow(allocations)
        slow = slow or (self.extenders is not None and self.extenders.calls.binds(info))
        self.write(self._bind(info, bindings, allocations), slow=slow)

    def assume(self, info: PodInfo) -> None:
        """The pod is to be bound to ``info.node_name``: it counts as placed from now on."""
        self.assumed[info.uid] = info.node_name
        self.nominated.pop(info.uid, None)
        self.pending.pop(info.key, None)

    def decide(self, info: PodInfo, cycle: Cycle) -> Placed | Unplaced:
        if (early := self.early(info, cycle)) is not None:
            return early
        row = self.snapshot.row_of.get(info.nominated) if info.nominated else None
        if row is not None and cycle.fits_on(info, row):
            return Placed(info.nominated, 1)
        return cycle.decide(info)

    def early(self, info: PodInfo, cycle: Cycle) -> Unplaced | None:
        """What keeps a pod from every node, whatever they are like."""
        if not info.default_spread and not info.shape.spread:
            info.default_spread = self.owners.spread(info, cycle.profile)
        if info.claims and (why := self.volumes.problem(info)):
            total = len(self.snapshot.row_of)
            text = f"0/{total} nodes are available: {why}."
            return Unplaced(f"{text} not found", {why: total}, 0, (), text, final=True, plugins=VOLUMES)
        if info.devices and (why := self.devices.problem(info)):
            total = len(self.snapshot.row_of)
            text = f"0/{total} nodes are available: {why}."
            return Unplaced(text + tried(total, 0, total), {why: total}, 0, (), text, plugins=BY_DEVICES)
        return None

    def set_aside(self, info: PodInfo) -> list[PodInfo]:
        """Take away nominated pods that do not count for this one: itself, and those of lower priority."""
        if not self.nominated:
            return []
        aside = [g for g in self.nominated.values() if g.uid == info.uid or g.priority < info.priority]
        for ghost in aside:
            self.snapshot.remove_pod(ghost.uid)
        return aside

    def put_back(self, aside: list[PodInfo]) -> None:
        for ghost in aside:
            if ghost.uid in self.nominated:
                self.snapshot.set_pod(ghost)

    def nominate(self, info: PodInfo, node: str) -> None:
        """Keep room for a pod on the node its victims leave; "" gives it back."""
        if self.nominated.pop(info.uid, None) is not None:
            self._left(info.uid)
        info.nominated = node
        if node in self.snapshot.row_of:
            ghost = read_pod(info.object)
            ghost.node_name = node
            self.nominated[ghost.uid] = ghost
            self.snapshot.set_pod(ghost)

    def refuse(
        self, info: PodInfo, cycle: Cycle, decision: Unplaced, victims_or_why: preemption.Victims | str | None = None
    ) -> None:
        """The pod waits, perhaps for victims to leave. ``victims_or_why``: whom to evict, or why nobody is, where that is known."""
        now = self.clock.monotonic()
        message, victims, helpless = decision.message, None, False
        also = self._give_up(info, cycle, decision)
        if not decision.final and "DefaultPreemption" not in cycle.profile.without:
            waits = self.ineligible(info, decision)
            found = waits or victims_or_why or self._preempt(info, cycle, decision)
            helpless = isinstance(found, str) and not waits
            if isinstance(found, str):
                message = f"{decision.lead}{also} preemption: {found}"
            else:
                message, victims = f"{decision.lead} {preemption.won(found)}", found
        self.queue.failed(info.key, now, None if decision.error else Kind.of(info, refusers(info, decision)))
        node = info.nominated if victims is None else victims.node
        if victims is not None:
            for ghost in [g for g in self.nominated.values() if g.node_name == node and g.priority < info.priority]:
                self.nominate(self.pending.get(ghost.key) or ghost, "")
                self.write(self.writer.unnominate(ghost))
            self.nominate(info, node)
            self.write(self.writer.evict(info, victims))
        elif node and not decision.final and (helpless or self._hopeless(info, decision)):
            node = ""
            self.nominate(info, node)  # news for others, also nominated ones that kept each other out
        self.write(self.writer.explain(info, message, node, "SchedulerError" if decision.error else "Unschedulable"))

    def _give_up(self, info: PodInfo, cycle: Cycle, decision: Unplaced) -> str:
        """Let go of a claim that keeps the pod from nodes where it could be. Returns what to add to the message."""
        if not (ELSEWHERE in decision.reasons or STALE in decision.reasons):
            return ""
        claim = self.devices.idle(info, self.snapshot, cycle.before_devices(info))
        if claim is None:
            return ""
        if STALE in decision.reasons:
            self.write(self.claims.delete(claim))
            return " deletion of ResourceClaim completed,"
        self.write(self.claims.give_up(claim))
        return " deallocation of ResourceClaim completed,"

    def _hopeless(self, info: PodInfo, decision: Unplaced) -> bool:
        """Whether the nominated node can't be won any more."""
        row = self.snapshot.row_of.get(info.nominated)
        return row is None or row not in decision.rows

    def ineligible(self, info: PodInfo, decision: Unplaced) -> str:
        """Why the pod may not evict others now, "" when it may."""
        row = self.snapshot.row_of.get(info.nominated, -1)
        there = self.snapshot.on_row[row].values() if row >= 0 and row in decision.rows else ()
        return preemption.ineligible(info, there)

    def budgets(self) -> list[preemption.Budget]:
        return [preemption.Budget.of(b) for b in self.read("poddisruptionbudgets").values()]

    def _preempt(self, info: PodInfo, cycle: Cycle, decision: Unplaced) -> preemption.Victims | str:
        return preemption.find(cycle, info, decision, self.budgets(), self.gangs.companions)

    # Writing

    def write(self, work: Coroutine[Any, Any, None], *, slow: bool = False) -> None:
        task = asyncio.ensure_future(work)
        held = self.waits if slow else self.writes  # what is slow holds up no decisions
        held.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: asyncio.Task[None]) -> None:
        self.waits.discard(task)
        self.writes.discard(task)
        if len(self.writes) <= AHEAD:
            self.room.set()

    async def _bind(self, info: PodInfo, bindings: list[Binding], allocations: list[Allocation]) -> None:
        problem = await self.prepare(info, bindings, allocations) or await self.bind(info)
        if problem:
            if allocations:
                await self.claims.release(info, self.read)
            self.unbound(info, problem)

    async def prepare(self, info: PodInfo, bindings: list[Binding], allocations: list[Allocation]) -> str:
        """All that comes before a binding. Returns why it failed, "" when the pod may be bound."""
        problem = ""
        if bindings:
            problem = await self.writer.bind_volumes(bindings, self.read)
            self.volumes.forget(bindings)
        if allocations and not problem:
            problem = await self.claims.allocate(info, allocations, self.read)
            self.devices.forget(allocations)
            if not problem and (problem := await self.claims.ready(info, allocations, self.read)):
                text = f'running PreBind plugin "DynamicResources": {problem}'
                await self.writer.explain(info, text, "", "SchedulerError")
        return problem

    def unbound(self, info: PodInfo, problem: str) -> None:
        """The binding did not stand: forget it; a pod that is still there is tried again."""
        self._left(info.uid)
        if info.claims or self.cycles[info.scheduler].asks(info):
            self.tell("any")  # what was promised to it is free again
        self.assumed.pop(info.uid, None)
        current = self.informers.caches[PODS].get(info.namespace, info.name)
        if current is None or not waits(current, self.cycles):
            self.queue.remove(info.key)
            return
        log.info("binding %s to %s failed: %s", info.key, info.node_name, problem)
        fresh = read_pod(current)
        self.pending[info.key] = fresh
        self.gangs.waits(fresh)
        now = self.clock.monotonic()
        self.queue.add(info.key, fresh.priority, now)
        self.queue.failed(info.key, now)
        self.wake.set()

    async def _retry_old(self) -> None:
        while True:
            await self.clock.sleep(RETRY_OLD)
            self.queue.retry_old(self.clock.monotonic())
            self.wake.set()


async def run(
    client: Client,
    clock: Clock,
    profiles: tuple[Profile, ...] = (DEFAULT,),
    backoff: tuple[float, float] | None = None,
    extenders: tuple[Extender, ...] = (),
) -> None:
    """Place pods until cancelled."""
    await Scheduler(client, clock, profiles=profiles, backoff=backoff, extenders=extenders).run()
