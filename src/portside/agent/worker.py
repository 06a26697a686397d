"""One pod's worker: looks at the runtime, asks ``plan`` what to do, does it, and writes the status. Level-triggered."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path
from typing import Any

from portside.agent import names
from portside.agent.admission import refusal
from portside.agent.claims import ClaimProblem
from portside.agent.containers import log_folder
from portside.agent.context import NodeContext, field_path, find_container
from portside.agent.ending import Ending
from portside.agent.fit import active
from portside.agent.launch import START_RETRY, Launcher, Refused
from portside.agent.messages import termination_message
from portside.agent.plan import End, Plan, Start, StartSandbox, Stop, plan, restarts_of, spec_hash, successors
from portside.agent.probes import FAMILIES, ContainerProbes
from portside.agent.projection import VolumeProblem
from portside.agent.publish import Publisher
from portside.agent.record import PodRecord, View
from portside.agent.resize import with_allocation
from portside.agent.resizing import Resizing
from portside.agent.runtime import Container, RuntimeFailure, Sandbox, State
from portside.agent.status import status
from portside.api.status import ApiError

Json = dict[str, Any]
log = logging.getLogger(__name__)
REFRESH = 60.0  # seconds between looks at what projected volumes refer to
GAP = 1.0  # seconds between a replaced container and its successor that the status does not show, as upstream
PATIENCE = 1.0  # seconds after an unexpected failure


class PodWorker:
    """Brings one pod to where it shall be. ``fresh``: the runtime knows nothing of it, so the first look is spared."""

    def __init__(self, context: NodeContext, pod: Json, *, fresh: bool) -> None:
        self.context = context
        self.pod = pod
        self.uid: str = pod["metadata"]["uid"]
        self.record = PodRecord()
        self.view = View()
        self.gone = False
        self.settled = False
        self.admitted = False
        self._fresh = fresh
        self._dirty = asyncio.Event()
        self._known: dict[str, Container] = {}
        self._probes: dict[str, ContainerProbes] = {}
        self._refreshed = context.clock.monotonic()
        self._stopped: set[str] = set()  # containers stopped in the last round so that they start again
        self._untold: dict[str, tuple[str, str]] | None = None
        self.launcher = Launcher(context, self.record, self.wake)
        self.publisher = Publisher(context.client, pod, self.wake)
        self._ending = Ending(self)
        self._resizing = Resizing(self)
        self._adopt()

    def _adopt(self) -> None:
        """Readiness the API knows stays until a probe says otherwise: a restarted agent must not make pods unready."""
        state = self.pod.get("status") or {}
        self.record.lost = successors(self.pod)
        if self._fresh:
            return
        self._resizing.adopt()
        for family in ("containerStatuses", "initContainerStatuses"):
            for item in state.get(family) or ():
                if "running" in (item.get("state") or {}) and item.get("containerID"):
                    container_id = item["containerID"].partition("://")[2]
                    probe = self.record.probe(container_id)
                    probe.ready, probe.started = item.get("ready"), item.get("started")
                    self.record.post_started.add(container_id)
        self.record.ips = tuple(item["ip"] for item in state.get("podIPs") or ())

    # -- what others tell the worker ----------------------------------------------------------------------------------

    def wake(self) -> None:
        self._dirty.set()

    def update(self, pod: Json) -> None:
        """A newer version of the pod."""
        status_only = pod["metadata"].get("generation") == self.pod["metadata"].get("generation") and pod[
            "metadata"
        ].get("deletionTimestamp") == self.pod["metadata"].get("deletionTimestamp")
        relevant = not status_only or bool(pod["spec"].get("readinessGates"))
        changed = any(pod["metadata"].get(k) != self.pod["metadata"].get(k) for k in ("labels", "annotations"))
        if not status_only:
            self._forget_waits(pod)
        self.pod = pod
        self.publisher.seen(pod)
        if changed:
            self._refreshed = float("-inf")
        if relevant or changed:
            self.wake()

    def _forget_waits(self, new: Json) -> None:
        """A container whose image was exchanged is another one: it does not wait for the failures of the old one."""
        for container in new["spec"]["containers"]:
            name = container["name"]
            old = find_container(self.pod, name)
            if old is not None and spec_hash(old) != spec_hash(container):
                self.record.backoff.forget(name)
                self.record.retry_at.pop(name, None)
                self.record.waiting.pop(name, None)

    def removed(self) -> None:
        """The API no longer has the pod."""
        self.gone = True
        self.wake()

    @property
    def deleted(self) -> bool:
        return self.gone or bool(self.pod["metadata"].get("deletionTimestamp"))

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until the pod is gone for good."""
        try:
            while True:
                self._dirty.clear()
                wait: float | None = PATIENCE
                try:
                    if self.deleted or self.record.killing:
                        if await self._ending.run():
                            return
                        wait = None
                    else:
                        wait = await self._sync()
                except (RuntimeFailure, ApiError, OSError, TimeoutError) as problem:
                    log.warning("pod %s: %s", names.pod_text(self.pod), problem)
                except Exception:
                    log.exception("pod %s", names.pod_text(self.pod))
                await self._sleep(wait)
        finally:
            self.context.sources.forget(self.pod)
            self.stop_probes()
            self.publisher.close()

    async def _sleep(self, seconds: float | None) -> None:
        if seconds is not None and seconds <= 0:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._dirty.wait()
        except TimeoutError:
            pass

    async def changed(self, *, longest: float | None = None) -> None:
        """Wait until something about the pod changed."""
        await self._sleep(longest)
        self._dirty.clear()

    async def _sync(self) -> float | None:
        """One round; seconds until the next look (None: when something changes)."""
        pod = self.current_pod()
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            await self.observe()
            await self._ending.settle()
            return None
        if not self.admitted:
            self.admitted = True
            if await self._refused(pod):
                return 0.0
        if self._fresh:
            self._fresh = False
        else:
            await self.observe()
        now = self.context.clock.now()
        resize_wait = await self._resizing.run(now)
        pod = self.current_pod()
        self._watch_probes(pod)
        todo = plan(pod, self.view, self.record, now)
        if todo.finished:
            self.record.done = True
        if any(isinstance(a, Start) and a.name in self._stopped for a in todo.actions):
            self._untold = todo.waiting
        else:
            self.publish(todo.waiting)
        self._stopped.clear()
        if todo.finished:
            await self._ending.settle()
            return None
        if todo.actions:
            await self._act(pod, todo)
            return 0.0
        wait = None if todo.wake_at is None else max(0.01, todo.wake_at - now)
        if resize_wait is not None:
            wait = resize_wait if wait is None else min(wait, resize_wait)
        return await self._refresh(pod, wait)

    async def _refresh(self, pod: Json, wait: float | None) -> float | None:
        """Projected volumes follow their sources."""
        sources = ("configMap", "secret", "downwardAPI", "projected")
        if not any(key in volume for volume in pod["spec"].get("volumes") or () for key in sources):
            return wait
        elapsed = self.context.clock.monotonic() - self._refreshed
        self.context.sources.follow(pod, self._sources_changed)
        if elapsed >= REFRESH:
            self._refreshed, elapsed = self.context.clock.monotonic(), 0.0
            try:
                await self.context.volumes.refresh(pod, self.context.place(self.record.ips))
            except (VolumeProblem, ApiError, OSError) as problem:
                self.context.say(pod, "Warning", "FailedMount", str(problem))
        return REFRESH - elapsed if wait is None else min(wait, REFRESH - elapsed)

    def _sources_changed(self) -> None:
        """Something the volumes show is newer than they are."""
        self._refreshed = float("-inf")
        self.wake()

    def current_pod(self) -> Json:
        """The pod with the newest status there is: our own last one, and others' conditions from the API."""
        return with_allocation(self.publisher.merged(self.pod), self.record.resize.allocated)

    def publish(self, waiting: dict[str, tuple[str, str]]) -> None:
        pod = self.current_pod()
        for name, reason in waiting.items():
            if reason[0] == "CrashLoopBackOff" and self.record.waiting.get(name) != reason:
                text = f"Back-off restarting failed container {name} in pod {names.pod_text(pod)}"
                self.context.say(pod, "Warning", "BackOff", text, field_path(pod, name))
            self.record.waiting[name] = reason
        found = status(pod, self.view, self.record, self.context.facts, waiting, self.context.clock.now())
        self.publisher.put(found)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def observe(self) -> View:
        """The runtime's state of this pod, with exit codes and messages of what has ended."""
        runtime = self.context.runtime
        sandboxes, listed = await asyncio.gather(runtime.sandboxes(uid=self.uid), runtime.containers(uid=self.uid))
        full = await asyncio.gather(*(self._full(item) for item in listed))
        ordered = sorted(sandboxes, key=lambda s: -s.created_at)
        if ordered and ordered[0].ready:
            await self._addresses(ordered[0])
        self.view = View(ordered, sorted(full, key=lambda c: (-c.created_at, -c.attempt)), self.record.again)
        self._known = {c.id: c for c in self.view.containers}
        return self.view

    async def _addresses(self, sandbox: Sandbox) -> None:
        known = self.view.sandbox
        if known is None or known.id != sandbox.id or not (self.record.ips or self.pod["spec"].get("hostNetwork")):
            self.record.ips = (await self.context.runtime.sandbox(sandbox.id)).ips

    async def _full(self, item: Container) -> Container:
        known = self._known.get(item.id)
        if known is not None and known.state is item.state:
            return known
        if item.state is State.CREATED:
            return item
        try:
            found = await self.context.runtime.container(item.id)
        except RuntimeFailure as failure:
            if failure.code != "NOT_FOUND":
                raise
            return item
        return self._complete(found, item.sandbox_id)

    def _complete(self, found: Container, sandbox_id: str) -> Container:
        """The container with its spec's image name and, when it ended, its message noted."""
        image = found.image
        spec = find_container(self.pod, found.name)
        if spec is not None:
            image = spec["image"] if image.startswith("sha256:") else image
        found = dataclasses.replace(found, sandbox_id=sandbox_id, image=image)
        if found.state is State.EXITED:
            self.record.messages[found.id] = self._message(found)
        elif found.state is State.RUNNING:
            self.record.waiting.pop(found.name, None)
        return found

    def _message(self, container: Container) -> str:
        file: Path | None = self.launcher.message_file(self.uid, container.name, restarts_of(container))
        policy = container.annotations.get(names.MESSAGE_POLICY)
        fall_back = policy == "FallbackToLogsOnError" and container.exit_code != 0
        return termination_message(file, container.log_path, fall_back=fall_back)

    # -- acting -------------------------------------------------------------------------------------------------------

    async def _act(self, pod: Json, todo: Plan) -> None:
        for action in todo.actions:
            if self.deleted:
                return
            match action:
                case StartSandbox():
                    await self._start_sandbox(pod, action)
                case Start():
                    await self._start(pod, action)
                case Stop():
                    await self.stop(pod, action)
                    self._stopped.add(action.name)
                case End():
                    self.end(action.reason, action.message)

    def end(self, reason: str, message: str, *, kind: str = "Normal") -> None:
        """End the pod because the node decides so; it becomes Failed with this reason."""
        self.record.failed = (reason, message)
        self.record.killing = True
        self.context.say(self.pod, kind, reason, message)
        self.wake()

    def evict(self, message: str) -> None:
        """End the pod because the node has too little; upstream's reason and condition."""
        self.record.disruption = message
        self.end("Evicted", message, kind="Warning")

    async def _refused(self, pod: Json) -> bool:
        """Whether the node does not take a pod that is new to it; the pod then ends here and now."""
        self._resizing.admitted()
        if not self._fresh or (pod.get("status") or {}).get("containerStatuses"):
            return False
        context = self.context

        def judged() -> tuple[str, str] | None:
            others = [p for p in context.neighbours() if p["metadata"]["uid"] != self.uid and active(p)]
            return refusal(pod, others, context.offer())

        found = judged()
        if found is not None and found[0] == "NodeAffinity" and context.look is not None:
            await context.look()  # a label that was given a moment ago may be why the pod is here
            found = judged()
        if found is None:
            return False
        self.record.rejected = True
        self.end(found[0], f"Pod was rejected: {found[1]}", kind="Warning")
        return True

    async def _start_sandbox(self, pod: Json, action: StartSandbox) -> None:
        if action.replaced:
            self.context.say(pod, "Normal", "SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
            self.stop_probes()
            for container in self.view.running:
                await self.context.runtime.stop_container(container.id, grace=0)
            await self.context.runtime.stop_sandbox(action.replaced)
            self.record.ips = ()
        try:
            sandbox_id = await self.launcher.start_sandbox(pod, action.attempt)
            sandbox = await self.context.runtime.sandbox(sandbox_id)
            self.record.ips = sandbox.ips
            self.view = View([sandbox, *self.view.sandboxes], self.view.containers, self.record.again)
            self._fresh = True  # known without another look
            if self.context.guard is not None and not pod["spec"].get("hostNetwork"):
                await self.context.guard(pod, sandbox.ips)
        except RuntimeFailure as failure:
            self.record.retry_at[""] = self.context.clock.now() + START_RETRY
            code = f"rpc error: code = {failure.go_code} desc = " if failure.code else ""
            text = f"Failed to create pod sandbox: {code}{failure.message}"
            self.context.say(pod, "Warning", "FailedCreatePodSandBox", text)
        except ClaimProblem as problem:
            self.record.retry_at[""] = self.context.clock.now() + START_RETRY
            text = f"Failed to prepare dynamic resources: {problem}"
            self.context.say(pod, "Warning", "FailedPrepareDynamicResources", text)

    async def _start(self, pod: Json, action: Start) -> None:
        sandbox = self.view.sandbox
        assert sandbox is not None
        name, now = action.name, self.context.clock.now()
        if action.removed:
            await self.context.runtime.remove_container(action.removed)
        before = self.view.latest(name)
        if before is not None and before.state is State.EXITED:
            self.record.backoff.next(name, before.finished_at / 1e9, now)
        starting = asyncio.create_task(self.launcher.start(pod, action, sandbox.id, sandbox.attempt))
        while not starting.done():
            waiter = asyncio.create_task(self._dirty.wait())
            patience = None if self._untold is None else GAP
            woken, _ = await asyncio.wait({starting, waiter}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            if self._untold is not None and not woken:
                self.publish(self._untold)
                self._untold = None
            if self.deleted and not starting.done():
                starting.cancel()
                await asyncio.wait({starting})
                return
            if not starting.done():
                self._dirty.clear()
        self._untold = None
        try:
            await self._began(starting.result(), sandbox.id)
            self.record.waiting.pop(name, None)
            self.record.retry_at.pop(name, None)
            await self._trim(name)
        except Refused as refused:
            self.record.retry_at[name] = self.context.clock.now() + refused.wait
            if refused.reason:
                self.record.waiting[name] = (refused.reason, refused.message)

    async def _began(self, container_id: str, sandbox_id: str) -> None:
        """Put a started container into the view, which then needs no other look."""
        found = await self.context.runtime.container(container_id)
        full = self._complete(found, sandbox_id)
        others = [c for c in self.view.containers if c.id != container_id]
        self.view = View(self.view.sandboxes, [full, *others], self.record.again)
        self._known[container_id] = full
        self._resizing.began(full)
        self._fresh = full.state is State.RUNNING

    async def _trim(self, name: str) -> None:
        """Of the ended containers of one name only the newest is kept, for its logs."""
        ended = [c for c in self.view.of(name) if c.state is State.EXITED]
        for container in ended[1:]:
            await self.context.runtime.remove_container(container.id)
            self.record.messages.pop(container.id, None)
            self.record.probes.pop(container.id, None)
            folder = log_folder(self.context.settings.logs, self.pod) / name
            for file in folder.glob(f"{restarts_of(container)}.log*"):
                file.unlink(missing_ok=True)

    async def stop(self, pod: Json, action: Stop) -> None:
        if action.again:
            self.record.again.add(action.container_id)
        container = find_container(pod, action.name) or {}
        grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        if action.probe:
            for family in FAMILIES:
                own = (container.get(family) or {}).get("terminationGracePeriodSeconds")
                if own is not None and FAMILIES[family].lower() in action.message:
                    grace = float(own)
        self.context.say(pod, "Normal", "Killing", action.message, field_path(pod, action.name))
        if probes := self._probes.pop(action.container_id, None):
            probes.stop()
        await self._ending.stop_container(pod, container, action.container_id, grace)

    # -- probes -------------------------------------------------------------------------------------------------------

    def _watch_probes(self, pod: Json) -> None:
        running = {c.id: c for c in self.view.running}
        for gone in [i for i in self._probes if i not in running]:
            self._probes.pop(gone).stop()
        for container_id, container in running.items():
            spec = find_container(pod, container.name)
            if container_id in self._probes or spec is None or not any(spec.get(f) for f in FAMILIES):
                continue
            if self.record.probe(container_id).dead:
                continue
            path = field_path(pod, container.name)

            def say(kind: str, reason: str, message: str, path: str = path) -> None:
                self.context.say(self.pod, kind, reason, message, path)

            ips = self.context.settings.ips if pod["spec"].get("hostNetwork") else self.record.ips
            self._probes[container_id] = ContainerProbes(
                self.context.runtime,
                spec,
                container_id,
                ips[0] if ips else "",
                self.record.probe(container_id),
                say=say,
                changed=self.wake,
                age=max(0.0, self.context.clock.now() - container.started_at / 1e9),
            )

    def stop_probes(self, *, keep_readiness: bool = False) -> None:
        """End the probes of all containers; those kept end with the worker."""
        for probes in self._probes.values():
            probes.stop(keep_readiness=keep_readiness)
        if not keep_readiness:
            self._probes.clear()
