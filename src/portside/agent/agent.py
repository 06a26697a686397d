"""The node agent: one worker per pod of this node, fed by a watch, runtime events and a periodic look at everything."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from portside.agent.admission import has_apparmor
from portside.agent.cgroups import Cgroups
from portside.agent.context import NodeContext, Settings, host_files
from portside.agent.imagegc import ImageCollector
from portside.agent.images import Images, image_names
from portside.agent.logrotation import LogRotation
from portside.agent.node import NodeKeeper, until_answered
from portside.agent.pressure import Pressure
from portside.agent.projection import Projector
from portside.agent.runtime import Container, ContainerRuntime, RuntimeFailure, Sandbox
from portside.agent.sources import Sources
from portside.agent.staticpods import StaticPods
from portside.agent.status import NodeFacts
from portside.agent.volumes import Volumes
from portside.agent.worker import PodWorker
from portside.base.clock import SYSTEM, Clock
from portside.base.tasks import Tasks
from portside.client.events import EventRecorder
from portside.client.informer import Informer
from portside.client.protocol import Client, Resource

Json = dict[str, Any]
log = logging.getLogger(__name__)
PODS: Resource = ("", "v1", "pods")
SERVICES: Resource = ("", "v1", "services")
RELIST = 10.0  # seconds between looks at everything; events come in between
CLASSES = 1.0  # seconds after a pod came or went
SETTLE = (0.01, 0.1)  # seconds after an event: the runtime's lists may lag a little behind its events


class Agent:
    """Everything a node does for the API."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        runtime: ContainerRuntime,
        *,
        clock: Clock = SYSTEM,
        kind: str = "containerd",
        cgroups: Cgroups | None = None,
    ) -> None:
        self.settings, self.client, self.runtime, self.clock = settings, client, runtime, clock
        self.recorder = EventRecorder(client, clock)
        self.keeper = NodeKeeper(settings, client, runtime, clock=clock, events=self.recorder)
        self.pods = Informer(client, PODS, field_selector=f"spec.nodeName={settings.node_name}")
        self.services = Informer(client, SERVICES)
        sources = Sources(client, settings.node_name, clock=clock)
        volumes = Volumes(settings.pods, settings.home / "memory", sources, Projector(sources, clock=clock))
        resolver, hosts = host_files()
        self.context = NodeContext(
            settings,
            client,
            runtime,
            sources,
            Images(runtime, sources, clock=clock),
            volumes,
            self.recorder,
            NodeFacts(settings.ips, kind),
            self._services,
            clock,
            self.keeper.allocatable,
            resolver,
            hosts,
            cgroups,
            self._pods_here,
            self.keeper.labels,
            look=self.keeper.look,
        )
        self.workers: dict[str, PodWorker] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._known: set[str] = set()
        self._owner: dict[str, str] = {}
        self._states: dict[str, frozenset[tuple[str, str]]] = {}
        self._summing = False
        self.tasks = Tasks(clock)
        self.ready = asyncio.Event()

    def _keep_house(self) -> None:
        """What keeps the node itself healthy: short logs, room for images, evictions."""
        images = ImageCollector(self.runtime, self._wanted_images, self.keeper.say, clock=self.clock)
        self.tasks.keep("images", images.run)
        self.tasks.keep("logs", LogRotation(self.runtime, self._running, clock=self.clock).run)
        self.tasks.keep("pressure", Pressure(self, images).run)
        static = StaticPods(
            self.settings.manifests,
            self.client,
            self.settings.node_name,
            node_uid=lambda: self.keeper.uid,
            present=lambda: list(self.pods.cache.objects.values()),
            say=self.keeper.say,
            clock=self.clock,
        )
        self.tasks.keep("static pods", static.run)

    def _running(self) -> list[Container]:
        return [container for worker in self.workers.values() for container in worker.view.running]

    def _wanted_images(self) -> set[str]:
        """Images that pods here name, though their containers may not exist at this moment."""
        pods = [worker.pod for worker in self.workers.values()]
        return {name for pod in pods for name in image_names(pod)}

    def _pods_here(self) -> Iterable[Json]:
        """The pods that hold room: taken, not ended, and still known to the API."""
        return [w.current_pod() for w in self.workers.values() if w.admitted and not w.record.done and not w.gone]

    def _services(self) -> Iterable[Json]:
        return self.services.cache.objects.values()

    async def run(self) -> None:
        """Until cancelled. Pods that run are found and kept; nothing is stopped when the agent ends."""
        self.settings.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.context.volumes.start()
        for sandbox in await self.runtime.sandboxes():
            self._known.add(sandbox.uid)
        try:
            self.tasks.keep("events", self.recorder.run)
            self.tasks.keep("services", self.services.run)
            self.keeper.say("Normal", "Starting", "Starting kubelet.")
            self.context.features = await self.runtime.features()
            self.context.apparmor = has_apparmor()
            await until_answered(self.keeper.register, self.clock)
            self.tasks.keep("lease", self.keeper.keep_lease)
            self.tasks.keep("node status", self.keeper.keep_status)
            await self.services.synced.wait()
            self.pods.add_handler(self._pod)
            self.tasks.keep("pods", self.pods.run)
            self.tasks.keep("runtime events", self._events)
            await self.pods.synced.wait()
            await self._orphans()
            self._keep_house()
            self.ready.set()
            await self._relists()
        finally:
            self.context.sources.close()
            for run in self._runs.values():
                run.cancel()
            await self.tasks.stop()

    # -- pods ---------------------------------------------------------------------------------------------------------

    def _pod(self, old: Json | None, new: Json | None) -> None:
        if new is None:
            assert old is not None
            if worker := self.workers.get(old["metadata"]["uid"]):
                worker.removed()
            return
        uid = new["metadata"]["uid"]
        worker = self.workers.get(uid)
        if worker is not None:
            worker.update(new)
            return
        worker = self.workers[uid] = PodWorker(self.context, new, fresh=uid not in self._known)
        self._known.add(uid)
        self._classes()
        run = self._runs[uid] = asyncio.create_task(worker.run(), name=f"pod {uid}")
        run.add_done_callback(lambda _: self._ended(uid))

    def _ended(self, uid: str) -> None:
        self.workers.pop(uid, None)
        self._runs.pop(uid, None)
        self._known.discard(uid)
        self._states.pop(uid, None)
        self._classes()
        for worker in self.workers.values():
            if worker.record.resize.pending is not None:
                worker.wake()

    def _classes(self) -> None:
        """Soon bring the groups of the QoS classes to the sum of their pods; many pods at once cost one sum."""
        if self.context.cgroups is not None and not self._summing:
            self._summing = True
            asyncio.get_running_loop().call_later(CLASSES, self._apply_classes)

    def _apply_classes(self) -> None:
        self._summing = False
        if self.context.cgroups is not None:
            self.context.cgroups.apply_classes([w.current_pod() for w in self.workers.values()])

    async def _orphans(self) -> None:
        """What runs here for pods the API no longer has is ended, and what they left on disk removed."""
        for sandbox in await self.runtime.sandboxes():
            if sandbox.uid not in self.workers:
                self.tasks.start("orphan", self._end_orphan(sandbox))
        alive = {s.uid for s in await self.runtime.sandboxes()} | set(self.workers)
        for uid in self.context.volumes.leftovers(dict.fromkeys(alive)):
            await asyncio.to_thread(self.context.volumes.remove, uid)

    async def _end_orphan(self, sandbox: Sandbox) -> None:
        log.info("ending %s/%s: the API does not have it", sandbox.namespace, sandbox.name)
        running = [c for c in await self.runtime.containers(uid=sandbox.uid) if c.sandbox_id == sandbox.id]
        await asyncio.gather(*(self.runtime.stop_container(c.id, grace=10) for c in running if c.state == "running"))
        await self.runtime.stop_sandbox(sandbox.id)
        await self.runtime.remove_sandbox(sandbox.id)
        await asyncio.to_thread(self.context.volumes.remove, sandbox.uid)

    # -- the runtime --------------------------------------------------------------------------------------------------

    async def _relists(self) -> None:
        while True:
            await self.clock.sleep(RELIST)
            try:
                await self._relist()
            except RuntimeFailure as failure:
                log.warning("runtime: %s", failure)

    async def _relist(self) -> None:
        """Wake the workers of pods whose containers or sandboxes are not as they were."""
        sandboxes, containers = await asyncio.gather(self.runtime.sandboxes(), self.runtime.containers())
        states: dict[str, set[tuple[str, str]]] = {}
        owner: dict[str, str] = {}
        by_sandbox = {}
        for sandbox in sandboxes:
            states.setdefault(sandbox.uid, set()).add((sandbox.id, str(sandbox.ready)))
            owner[sandbox.id] = by_sandbox[sandbox.id] = sandbox.uid
        for container in containers:
            uid = by_sandbox.get(container.sandbox_id, "")
            states.setdefault(uid, set()).add((container.id, container.state))
            owner[container.id] = uid
        self._owner = owner
        for uid, found in states.items():
            frozen = frozenset(found)
            if self._states.get(uid) != frozen:
                self._states[uid] = frozen
                if worker := self.workers.get(uid):
                    worker.wake()
        for uid in set(self._states) - set(states):
            del self._states[uid]
            if worker := self.workers.get(uid):
                worker.wake()

    async def _events(self) -> None:
        """Relist soon after each change the runtime tells; several at once cost one look."""
        wanted = asyncio.Event()
        looker = self.tasks.start("look", self._look(wanted))
        try:
            async for _ in self.runtime.events():
                wanted.set()
        except RuntimeFailure as failure:
            log.debug("event stream: %s", failure)
        finally:
            looker.cancel()

    async def _look(self, wanted: asyncio.Event) -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            for pause in SETTLE:
                if pause:
                    await asyncio.sleep(pause)
                try:
                    await self._relist()
                except RuntimeFailure as failure:
                    log.debug("relist: %s", failure)
