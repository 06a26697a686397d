"""Runs controllers: informers feed queues, planners decide, the harness writes. Level-triggered; idle costs nothing."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from portside.api.status import ApiError
from portside.base.clock import Clock
from portside.client.cache import View, controller_of, key_of, kind_of
from portside.client.events import EventRecorder
from portside.client.informer import InformerSet
from portside.client.news import Fact, Handler
from portside.client.protocol import Client, Json, Resource
from portside.controllers.breath import Breath
from portside.controllers.plan import Emit, Failure, Op, Plan, Step, Thinking
from portside.controllers.queue import WorkQueue

log = logging.getLogger(__name__)
Mapper = Callable[[View, Json], Iterable[str]]
T = TypeVar("T")
Planner = Callable[[View, str, float], Plan | Thinking]

RESYNC_SECONDS = 900.0  # every key is planned again this often, whatever happened
BATCH = 128  # writes of one plan side by side, at most
KEYS = 1000  # that are queued anew before others get a turn
AT_ONCE = 8  # keys a worker takes before others get a turn
QUIET = (404, 409)  # refusals that only mean "look again"


@dataclass(slots=True)
class Context:
    """What an active controller may use."""

    client: Client
    informers: InformerSet
    recorder: EventRecorder
    clock: Clock
    component: str
    breath: Breath = field(default_factory=Breath)

    @property
    def view(self) -> View:
        return self.informers.view

    def emit(self, event: Emit) -> None:
        self.recorder.emit(event.obj, event.kind, event.reason, event.message, self.component)


Reconciler = Callable[[Context, str], Awaitable[float | None]]


@dataclass(frozen=True, slots=True)
class Controller:
    """A controller: ``plan`` is pure, and may think in steps. The few whose work is a conversation (namespace) have ``reconcile``;
    ``service`` runs a controller with a queue of its own (garbage).

    ``name`` is upstream's event source and names the writer of fields. ``primary``: the resource whose keys are planned;
    ``watches`` maps objects of other resources to such keys. ``relevant`` are the facts that matter of a watched object:
    an update that leaves them equal is no news; ``minds`` are those of the primary resource, whose news can be left out
    by ``ignores`` too. ``settle`` seconds gather changes of watched objects into one plan; a function
    of view and key says how many where a plan's cost grows with its object.
    ``always`` are keys that are planned at the start even if no object has them.
    """

    name: str
    primary: Resource
    plan: Planner | None = None
    reconcile: Reconciler | None = None
    service: Callable[[Context], Awaitable[None]] | None = None
    watches: Mapping[Resource, Mapper] = field(default_factory=dict)
    reads: tuple[Resource, ...] = ()
    workers: int = 8
    resync: float = RESYNC_SECONDS
    minds: Sequence[Fact] | None = None
    ignores: Callable[[Json | None, Json | None], bool] | None = None
    relevant: Mapping[Resource, Sequence[Fact]] = field(default_factory=dict)
    settle: float | Callable[[View, str], float] = 0.0
    always: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfOwner:
    """A mapper for objects whose controller is of this kind, or that have none: those of others are not even looked at."""

    kind: str
    group: str
    keys: Mapper

    def __call__(self, view: View, obj: Json) -> Iterable[str]:
        return self.keys(view, obj)


def owned(kind: str, group: str) -> OfOwner:
    """Maps an object to its controlling owner of this kind."""

    def keys(view: View, obj: Json) -> Iterable[str]:
        ref = controller_of(obj)
        if ref is None or kind_of(ref) != (kind, group):
            return ()
        return (f"{obj['metadata'].get('namespace', '')}/{ref['name']}",)

    return OfOwner(kind, group, keys)


class Runner:
    """One controller at work."""

    def __init__(self, controller: Controller, context: Context) -> None:
        self.controller = controller
        self.context = context
        self.queue = WorkQueue()
        self._unsure: set[tuple[Resource, str]] = set()  # where a create may have taken effect unheard

    def wire(self) -> None:
        """Asks for the informers and hangs the queue on them."""
        informers = self.context.informers
        primary = self.controller.primary
        if self.controller.service is not None:
            informers.informer(primary)
            return
        informers.informer(primary).add_handler(self._primary, self.controller.minds)
        for resource, mapper in self.controller.watches.items():
            owner = (mapper.kind, mapper.group) if isinstance(mapper, OfOwner) else None
            facts = self.controller.relevant.get(resource)
            informers.informer(resource).add_handler(self._secondary(mapper), facts, owner)
        for resource in self.controller.reads:
            informers.informer(resource)

    def _primary(self, old: Json | None, new: Json | None) -> None:
        if self.controller.ignores is not None and self.controller.ignores(old, new):
            return
        self.queue.add(key_of(new or old or {}))

    def _secondary(self, mapper: Mapper) -> Handler:
        settle = self.controller.settle

        def handler(old: Json | None, new: Json | None) -> None:
            view = self.context.view
            keys = set(mapper(view, new)) if new is not None else set()
            if old is not None:
                keys.update(mapper(view, old))
            for key in keys:
                self.queue.add_after(key, settle(view, key) if callable(settle) else settle)

        return handler

    async def run(self) -> None:
        """Until cancelled."""
        if self.controller.service is not None:
            await self.controller.service(self.context)
            return
        resources = [self.controller.primary, *self.controller.watches, *self.controller.reads]
        await self.context.informers.wait_synced(resources)
        tasks = [asyncio.create_task(self._work()) for _ in range(self.controller.workers)]
        tasks.append(asyncio.create_task(self._resync()))
        for key in self.controller.always:
            self.queue.add(key)
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            self.queue.close()

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self.controller.resync * (1 + random.random() * 0.2))
            for key in self.controller.always:
                self.queue.add(key)
            for number, obj in enumerate(self.context.view.all(self.controller.primary), 1):
                self.queue.add(key_of(obj))
                if number % KEYS == 0:
                    await asyncio.sleep(0)

    async def _work(self) -> None:
        taken = 0
        while True:
            key = await self.queue.take()  # does not wait while there are keys, and most plans have nothing to do
            taken += 1
            if taken % AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                await self._once(key)
            except (ApiError, OSError, TimeoutError) as error:
                log.debug("%s %s: %s", self.controller.name, key, error)
                self.queue.retry(key)
            except Exception:
                log.exception("%s failed on %s", self.controller.name, key)
                self.queue.retry(key)
            finally:
                self.queue.done(key)

    async def _once(self, key: str) -> None:
        if self.controller.reconcile is not None:
            again = await self.controller.reconcile(self.context, key)
        else:
            await self._look_up()
            plan = await self._planned(key)
            failures = await self._steps(plan.steps)
            if (then := plan.then) is not None:
                failures += await self._steps(self._timed(lambda: then(failures)))
            if failures:
                loud = [f for f in failures if f.error.code not in QUIET]
                if loud:
                    log.debug("%s %s: %s", self.controller.name, key, loud[0].error)
                if not all(_terminating(f.error) for f in failures):
                    self.queue.retry(key)
                return
            again = plan.again
        self.queue.forget(key)
        if again is not None:
            self.queue.add_after(key, max(again, 0.001))

    async def _planned(self, key: str) -> Plan:
        """The plan, made when the loop has time for it."""
        plan = self.controller.plan
        assert plan is not None
        await self.context.breath.take()
        made = self._timed(lambda: plan(self.context.view, key, self.context.clock.now()))
        if isinstance(made, Plan):
            return made
        while True:
            await self.context.breath.take()
            try:
                self._timed(made.__next__)
            except StopIteration as done:
                thought: Plan = done.value
                return thought

    def _timed(self, work: Callable[[], T]) -> T:
        began = self.context.clock.monotonic()
        try:
            return work()
        finally:
            self.context.breath.spent(self.context.clock.monotonic() - began)

    async def _look_up(self) -> None:
        """Creates whose answer was lost are looked for first: from a cache that lags the next plan would make them twice."""
        for place in list(self._unsure):
            resource, namespace = place
            informer = self.context.informers.informers.get(resource)
            if informer is not None:
                listed = await self.context.client.list(resource, namespace=namespace)
                for obj in listed.items:
                    informer.observe(obj)
            self._unsure.discard(place)

    async def _steps(self, steps: Sequence[Step]) -> list[Failure]:
        i = 0
        while i < len(steps):
            step = steps[i]
            if isinstance(step, Emit):
                self.context.emit(step)
                i += 1
                continue
            j = i + 1
            if step.verb in ("create", "delete"):
                while j < len(steps) and _alike(steps[j], step):
                    j += 1
            failures = await self._batches([s for s in steps[i:j] if isinstance(s, Op)])
            if failures:
                return failures
            i = j
        return []

    async def _batches(self, ops: list[Op]) -> list[Failure]:
        """Creates start slowly (1, 2, 4 …): when the first is refused, the others are not tried."""
        size = 1 if ops[0].verb == "create" else BATCH
        at = 0
        while at < len(ops):
            part = ops[at : at + size]
            results = await asyncio.gather(*(self._one(op) for op in part), return_exceptions=True)
            failures: list[Failure] = []
            for result in results:  # all have ended: none may take effect behind the back of the next plan
                if isinstance(result, BaseException):
                    raise result
                if result is not None:
                    failures.append(result)
            if failures:
                return failures
            at += size
            size = min(size * 2, BATCH)
        return []

    async def _one(self, op: Op) -> Failure | None:
        try:
            answer = await write(self.context, op)
        except (OSError, TimeoutError):
            self._note_unsure(op)
            raise
        except ApiError as error:
            if error.code >= 500:
                self._note_unsure(op)
            if _ignored(op, error):
                if op.verb == "delete" and op.obj is not None and error.code == 404:
                    self.context.informers.informer(op.resource).forget(op.obj)
                return None
            if op.failed is not None and not _terminating(error):
                for event in op.failed(error):
                    self.context.emit(event)
            return Failure(op, error)
        if op.ok is not None:
            for event in op.ok(answer):
                self.context.emit(event)
        return None

    def _note_unsure(self, op: Op) -> None:
        if op.verb == "create":
            self._unsure.add((op.resource, op.namespace))


def _ignored(op: Op, error: ApiError) -> bool:
    """A create may be ignored when the object is there; 409 is also a quota that changed meanwhile."""
    return error.code in op.ignore and (op.verb != "create" or error.reason == "AlreadyExists")


def _alike(step: Step, first: Op) -> bool:
    return isinstance(step, Op) and step.verb == first.verb and step.resource == first.resource


def _terminating(error: ApiError) -> bool:
    """The namespace is on its way out: nothing can be created, and that needs no retry."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 403 and any(c.get("reason") == "NamespaceTerminating" for c in causes)


async def write(context: Context, op: Op) -> Json:
    """Makes one write and shows its answer to the informer, so that the next plan sees it."""
    client = context.client
    place: dict[str, Any] = {"namespace": op.namespace}
    if op.verb == "create":
        answer = await client.create(op.resource, op.body, **place)
    elif op.verb == "update":
        answer = await client.update(op.resource, op.body, subresource=op.subresource, **place)
    elif op.verb == "patch":
        answer = await client.patch(
            op.resource,
            op.name,
            op.body,
            patch_type=op.patch_type,
            subresource=op.subresource,
            field_manager=op.manager,
            force=op.patch_type == "apply",
            **place,
        )
    else:
        answer = await client.delete(op.resource, op.name, options=op.body, **place)
        _deleted(context, op, answer)
        return answer
    informer = context.informers.informers.get(op.resource)
    if informer is not None and op.subresource in ("", "status"):
        informer.observe(answer)
    return answer


def _deleted(context: Context, op: Op, answer: Json) -> None:
    informer = context.informers.informers.get(op.resource)
    if informer is None or op.obj is None:
        return
    meta = answer.get("metadata") or {}
    pending = meta.get("finalizers") or meta.get("deletionGracePeriodSeconds")
    if answer.get("kind") == "Status" or not pending:
        informer.forget(op.obj)
    else:
        informer.observe(answer)


class Harness:
    """A set of controllers over one informer set and one client."""

    def __init__(self, client: Client, clock: Clock, controllers: Iterable[Controller]) -> None:
        self.informers = InformerSet(client)
        self.recorder = EventRecorder(client, clock)
        self.clock = clock
        breath = Breath()
        self.runners = [
            Runner(c, Context(client, self.informers, self.recorder, clock, c.name, breath)) for c in controllers
        ]

    async def run(self) -> None:
        """Until cancelled; a controller that dies takes the harness with it, so that the supervisor sees it."""
        for runner in self.runners:
            runner.wire()
        self.informers.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.recorder.run(), name="events")
                for runner in self.runners:
                    group.create_task(runner.run(), name=runner.controller.name)
        finally:
            await self.informers.stop()

    @property
    def idle(self) -> bool:
        """Nothing queued and nothing under way."""
        return all(runner.queue.idle for runner in self.runners)
