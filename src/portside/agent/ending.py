"""The end of a pod: hooks and stops within its grace, the final status, and everything it held on the node."""

from __future__ import annotations

import asyncio
import logging
import shutil
from typing import TYPE_CHECKING, Any

from portside.agent import probes
from portside.agent.containers import log_folder
from portside.agent.context import field_path, find_container
from portside.agent.plan import is_sidecar
from portside.agent.publish import PODS
from portside.agent.resources import cgroup_parent
from portside.agent.runtime import Container, RuntimeFailure, State
from portside.api.status import ApiError

if TYPE_CHECKING:
    from portside.agent.worker import PodWorker

Json = dict[str, Any]
log = logging.getLogger(__name__)
MIN_GRACE = 2.0  # seconds a container gets after its preStop hook used up all of the grace


class Ending:
    """Ends one worker's pod."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker
        self._begun = 0.0
        self._stops: dict[str, tuple[float, asyncio.Task[None]]] = {}

    def _allowed(self) -> float:
        """Seconds the pod has, as last told."""
        pod, worker = self.worker.pod, self.worker
        meta = pod["metadata"]
        told = meta.get("deletionGracePeriodSeconds") if meta.get("deletionTimestamp") else None
        grace = told if told is not None else pod["spec"].get("terminationGracePeriodSeconds", 30)
        if worker.record.failed[0]:
            grace = min(float(grace), 30.0)
        return max(0.0, float(grace))

    async def stop_container(self, pod: Json, container: Json, container_id: str, grace: float) -> None:
        """preStop within the grace, then TERM, then KILL when the rest of it is over."""
        context = self.worker.context
        left = grace
        hook = (container.get("lifecycle") or {}).get("preStop")
        if hook and grace > 0:
            begun = context.clock.monotonic()
            ip = (self.worker.record.ips or context.settings.ips or ("",))[0]
            try:
                async with asyncio.timeout(grace):
                    passed, output, _ = await probes.call(
                        context.runtime, hook, container, container_id, ip, timeout=grace
                    )
            except TimeoutError:
                passed, output = False, "PreStop hook did not complete in its grace period"
            if not passed:
                path = field_path(pod, container["name"])
                context.say(pod, "Warning", "FailedPreStopHook", f"PreStopHook failed: {output}", path)
            left = max(MIN_GRACE, grace - (context.clock.monotonic() - begun))
        await context.runtime.stop_container(container_id, grace=left)

    def _turn(self) -> list[Container]:
        """Whose turn it is to end: all but sidecars; then these one by one, the last first; at once when time is up."""
        worker = self.worker
        order = [c["name"] for c in worker.pod["spec"].get("initContainers") or () if is_sidecar(c)]
        running = list(worker.view.running)
        others = [c for c in running if c.name not in order]
        if others or worker.context.clock.monotonic() - self._begun >= self._allowed():
            return others or running
        return sorted(running, key=lambda c: order.index(c.name))[-1:]

    def _stop_some(self, chosen: list[Container], grace: float) -> list[asyncio.Task[None]]:
        """Begin to stop them (again with a shorter grace when it was told so meanwhile)."""
        worker = self.worker
        tasks = []
        for running in chosen:
            container = find_container(worker.pod, running.name) or {}
            known = self._stops.get(running.id)
            if known is not None and known[0] <= grace and not known[1].done():
                tasks.append(known[1])
                continue
            if known is None:
                path = field_path(worker.pod, running.name)
                worker.context.say(worker.pod, "Normal", "Killing", f"Stopping container {running.name}", path)
            if known is None:
                work = self.stop_container(worker.pod, container, running.id, grace)
            else:
                work = worker.context.runtime.stop_container(running.id, grace=grace)
            task = asyncio.create_task(work, name=f"stop {running.name}")
            self._stops[running.id] = (grace, task)
            tasks.append(task)
        return tasks

    async def _kill(self) -> None:
        """Until no container runs."""
        worker = self.worker
        self._begun = worker.context.clock.monotonic()
        while True:
            await worker.observe()
            worker.publish({})
            chosen, grace = self._turn(), self._allowed()
            if grace and all(is_sidecar(find_container(worker.pod, c.name) or {}) for c in chosen):
                # What the others took of the pod's grace is gone, but everybody gets a moment.
                spent = worker.context.clock.monotonic() - self._begun
                grace = max(min(MIN_GRACE, grace), grace - spent)
            tasks = self._stop_some(chosen, grace)
            if not tasks:
                return
            waker = asyncio.create_task(worker.changed())
            everything = asyncio.create_task(asyncio.wait(tasks))
            await asyncio.wait({waker, everything}, return_when=asyncio.FIRST_COMPLETED)
            waker.cancel()
            everything.cancel()
            failed = [t for t in tasks if t.done() and not t.cancelled() and t.exception()]
            if failed:
                log.warning("stopping a container: %s", failed[0].exception())
                for key in [k for k, (_, t) in self._stops.items() if t in failed]:
                    del self._stops[key]
                await worker.changed(longest=1.0)

    async def run(self) -> bool:
        """End the pod. True when nothing is left to do for it, ever."""
        worker = self.worker
        worker.record.killing = True
        worker.stop_probes(keep_readiness=True)
        await self._kill()
        worker.stop_probes()
        worker.record.done = True
        worker.publish({})
        if not worker.deleted:
            await self.settle()
            worker.record.killing = False
            return False
        await self.settle()
        await worker.publisher.flush()
        uid, context = worker.uid, worker.context
        for target in context.volumes.images(uid):
            await context.runtime.unmount_image(target)
        await asyncio.to_thread(context.volumes.remove, uid)
        if not worker.gone:
            await self._confirm()
        for sandbox in worker.view.sandboxes:
            await context.runtime.remove_sandbox(sandbox.id)
        if context.cgroups is not None:
            context.cgroups.remove(cgroup_parent(worker.pod))
        shutil.rmtree(log_folder(context.settings.logs, worker.pod), ignore_errors=True)
        return True

    async def settle(self) -> None:
        """A pod that has ended needs no network any more; its ended containers stay for their logs."""
        worker = self.worker
        for container in worker.view.containers:
            if container.state is State.RUNNING:
                await worker.context.runtime.stop_container(container.id, grace=self._allowed())
        for sandbox in worker.view.sandboxes:
            if sandbox.ready:
                await worker.context.runtime.stop_sandbox(sandbox.id)
        worker.settled = True

    async def _confirm(self) -> None:
        """Tell the API that the pod has ended here, so that it goes away. Repeated by the caller on failure."""
        meta = self.worker.pod["metadata"]
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": meta["uid"]},
        }
        try:
            await self.worker.context.client.delete(PODS, meta["name"], namespace=meta["namespace"], options=options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise RuntimeFailure(f"delete {meta['namespace']}/{meta['name']}: {error}") from error
