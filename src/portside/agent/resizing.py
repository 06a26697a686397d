"""Carries out one pod's resize: asks whether it fits, changes groups and containers in a safe order, restarts who wants it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from portside.agent import resize
from portside.agent.cgroups import UNLIMITED, Figures, pod_figures
from portside.agent.context import find_container
from portside.agent.fit import active
from portside.agent.plan import Stop
from portside.agent.resources import cgroup_parent, container_limits
from portside.agent.runtime import Container, RuntimeFailure

if TYPE_CHECKING:
    from portside.agent.worker import PodWorker

Json = dict[str, Any]
RETRY = 10.0  # seconds after a change the machine refused
AGAIN = 30.0  # seconds until a deferred resize is judged again, if no pod goes before


def _most(one: Figures, other: Figures) -> Figures:
    def larger(a: int, b: int) -> int:
        return UNLIMITED if UNLIMITED in (a, b) else max(a, b)

    return Figures(max(one.shares, other.shares), larger(one.quota, other.quota), larger(one.memory, other.memory))


class Resizing:
    """The resizes of one worker's pod."""

    def __init__(self, worker: PodWorker) -> None:
        self.worker = worker

    def admitted(self) -> None:
        """The pod has just been taken: it has what its spec says."""
        state = self.worker.record.resize
        if state.allocated is None:
            state.allocated = resize.asked(self.worker.pod)

    def adopt(self) -> None:
        """An agent that was restarted knows from the status what the containers have."""
        state = self.worker.record.resize
        state.allocated, state.applied = resize.reported(self.worker.pod)

    def began(self, container: Container) -> None:
        """A container was started with what was allocated to it."""
        state = self.worker.record.resize
        state.applied = (state.applied or {}) | {container.id: (state.allocated or {}).get(container.name, {})}

    async def run(self, now: float) -> float | None:
        """One round; seconds until the next when something is still open."""
        worker = self.worker
        state = worker.record.resize
        if state.allocated is None or worker.record.done:
            return None
        wait = self._judge()
        if not state.generation:
            return wait
        state.error = ""
        try:
            open_ones = await self._actuate()
        except RuntimeFailure as failure:
            state.error = failure.message
            self._tell("Warning", "ResizeError", "Pod resize error", error=failure.message)
            return RETRY
        if not open_ones:
            self._tell("Normal", "ResizeCompleted", "Pod resize completed")
            state.generation = 0
        return wait

    def _judge(self) -> float | None:
        """Grant what the spec asks, if it fits."""
        worker = self.worker
        state = worker.record.resize
        wanted = resize.asked(worker.pod)
        if wanted == state.allocated:
            state.pending = None
            return None
        if not resize.differs(wanted, state.allocated or {}):
            state.allocated, state.pending = wanted, None
            if not state.generation:
                state.applied = {}  # the same amounts in other words
            return None
        others = [p for p in worker.context.neighbours() if p["metadata"]["uid"] != worker.uid and active(p)]
        verdict = resize.judged(worker.pod, others, worker.context.allocatable)
        if verdict is not None:
            if state.pending != verdict:
                state.pending = verdict
                self._tell("Warning", f"Resize{verdict.reason}", f"Pod resize {verdict.reason}", error=verdict.message)
            return AGAIN
        before = state.allocated
        state.allocated, state.pending = wanted, None
        state.generation = int(worker.pod["metadata"].get("generation") or 0)
        self._tell("Normal", "ResizeStarted", "Pod resize started")
        if worker.context.cgroups is not None:
            old = pod_figures(resize.with_allocation(worker.pod, before))
            room = _most(old, pod_figures(worker.pod))
            worker.context.cgroups.apply(cgroup_parent(worker.pod), room)
        return None

    async def _actuate(self) -> bool:
        """Bring running containers to what is allocated. True when some are not there yet."""
        worker = self.worker
        state, pod = worker.record.resize, worker.current_pod()
        still = False
        for running in list(worker.view.running):
            container = find_container(pod, running.name)
            allocated = (state.allocated or {}).get(running.name)
            if container is None or allocated is None:
                continue
            applied = (state.applied or {}).get(running.id, allocated)
            what = resize.changed(applied, allocated)
            if not what:
                state.applied = (state.applied or {}) | {running.id: allocated}
            elif resize.needs_restart(container, what):
                text = f"Container {running.name} resize requires restart"
                await worker.stop(pod, Stop(running.id, running.name, text, again=True))
                still = True
            else:
                await self._update(pod, container, running, applied, allocated)
        ended = (c for c in worker.view.containers if c.id in worker.record.again)
        still = still or any(worker.view.latest(c.name) is c for c in ended)
        if not still and worker.context.cgroups is not None:
            worker.context.cgroups.apply_pod(pod)
        return still

    async def _update(self, pod: Json, container: Json, running: Container, applied: Json, allocated: Json) -> None:
        context = self.worker.context
        if limit := resize.lowered(applied, allocated):
            used = next((s.memory_usage for s in await context.runtime.stats() if s.container_id == running.id), 0)
            if used > limit:
                text = (
                    f'attempting to set container "{running.name}" memory limit ({limit}) below current usage ({used})'
                )
                raise RuntimeFailure(text, "FAILED_PRECONDITION")
        limits = container_limits(pod, container, context.settings.memory_capacity)
        await context.runtime.update_limits(running.id, limits)
        state = self.worker.record.resize
        state.applied = (state.applied or {}) | {running.id: allocated}

    def _tell(self, kind: str, reason: str, text: str, *, error: str = "") -> None:
        worker = self.worker
        shown: Json = {
            "containers": [{"name": n, "resources": r} for n, r in resize.asked(worker.pod).items() if n != resize.POD],
            "generation": int(worker.pod["metadata"].get("generation") or 0),
        }
        if error:
            shown["error"] = error
        worker.context.say(worker.pod, kind, reason, f"{text}: {json.dumps(shown, separators=(',', ':'))}")
