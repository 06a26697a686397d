"""A container runtime in memory: no process runs, but everything the agent sees is as with a real one.

A container's command says how it behaves: ``sleep N`` ends after N seconds with 0 when N is below an hour and else runs;
``exit N``, ``true`` and ``false`` end at once; anything else runs until stopped. Time comes from the clock.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from portside.agent.runtime import (
    Container,
    ContainerSpec,
    Credentials,
    Disk,
    ExecResult,
    Features,
    Identity,
    Image,
    Limits,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    State,
    Stats,
    Version,
)
from portside.base.clock import SYSTEM, Clock, rfc3339

ENDLESS = 3600.0  # a sleep at least this long never ends
Execute = Callable[[Container, Sequence[str]], ExecResult]


def _fine(container: Container, command: Sequence[str]) -> ExecResult:
    return ExecResult(b"", b"", 1 if list(command[:1]) == ["false"] else 0)


def _behaviour(command: Sequence[str]) -> tuple[float | None, int]:
    """(seconds until the end or None, exit code) of a command."""
    words = list(command)
    if words[:2] in (["sh", "-c"], ["/bin/sh", "-c"]) and len(words) == 3:
        words = words[2].split()
    match words:
        case ["true"]:
            return 0.0, 0
        case ["false"]:
            return 0.0, 1
        case ["exit", code]:
            return 0.0, int(code)
        case ["sleep", seconds] if float(seconds) < ENDLESS:
            return float(seconds), 0
        case _:
            return None, 0


@dataclasses.dataclass(slots=True)
class _Entry:
    container: Container
    spec: ContainerSpec
    log: Path | None
    timer: asyncio.TimerHandle | None = None


class MemoryRuntime:
    """``images`` are those on the node; ``pullable`` those a pull finds. ``execute`` answers exec calls."""

    def __init__(
        self,
        *,
        images: Sequence[str] = (),
        pullable: Callable[[str], bool] = lambda name: True,
        execute: Execute = _fine,
        clock: Clock = SYSTEM,
        write_logs: bool = False,
    ) -> None:
        self._clock, self._pullable, self._execute, self._write_logs = clock, pullable, execute, write_logs
        self._numbers = itertools.count(1)
        self._sandboxes: dict[str, Sandbox] = {}
        self._entries: dict[str, _Entry] = {}
        self._images: dict[str, Image] = {}
        self._listeners: set[asyncio.Queue[str]] = set()
        self.healthy = True
        for name in images:
            self._add_image(name)

    def _now(self) -> int:
        return int(self._clock.now() * 1e9)

    def _id(self) -> str:
        return f"{next(self._numbers):064x}"

    def _tell(self, changed: str) -> None:
        for queue in self._listeners:
            queue.put_nowait(changed)

    def _check(self) -> None:
        if not self.healthy:
            raise RuntimeFailure("the runtime is down", "UNAVAILABLE")

    def _add_image(self, name: str) -> Image:
        image = Image(f"sha256:{abs(hash(name)):064x}"[:71], (name,), (), 1_000_000)
        self._images[name] = image
        return image

    async def version(self) -> Version:
        self._check()
        return Version("memory", "1.0")

    async def ready(self) -> tuple[bool, str]:
        return self.healthy, "" if self.healthy else "the runtime is down"

    async def features(self) -> Features:
        return Features()

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        self._check()
        taken = (s for s in self._sandboxes.values() if s.ready and s.uid == spec.uid and s.attempt == spec.attempt)
        if next(taken, None) is not None:
            raise RuntimeFailure(f"sandbox of {spec.namespace}/{spec.name} exists", "ALREADY_EXISTS")
        number = next(self._numbers)
        ips = () if spec.namespaces.host_network else (f"10.244.{number // 250 % 256}.{number % 250 + 2}",)
        sandbox = Sandbox(
            f"{number:064x}",
            spec.name,
            spec.namespace,
            spec.uid,
            spec.attempt,
            True,
            self._now() + number,
            dict(spec.labels),
            dict(spec.annotations),
            ips,
        )
        self._sandboxes[sandbox.id] = sandbox
        return sandbox.id

    async def stop_sandbox(self, sandbox_id: str) -> None:
        self._check()
        if (sandbox := self._sandboxes.get(sandbox_id)) is None:
            return
        for entry in self._entries.values():
            if entry.container.sandbox_id == sandbox_id and entry.container.state is State.RUNNING:
                self._finish(entry.container.id, 137)
        self._sandboxes[sandbox_id] = dataclasses.replace(sandbox, ready=False, ips=())
        self._tell(sandbox_id)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self.stop_sandbox(sandbox_id)
        for container_id in [i for i, e in self._entries.items() if e.container.sandbox_id == sandbox_id]:
            del self._entries[container_id]
        self._sandboxes.pop(sandbox_id, None)

    async def sandboxes(self, *, uid: str = "") -> list[Sandbox]:
        self._check()
        found = self._sandboxes.values()
        return [dataclasses.replace(s, ips=()) for s in found if uid in ("", s.uid)]

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        self._check()
        if sandbox_id not in self._sandboxes:
            raise RuntimeFailure(f"sandbox {sandbox_id} not found", "NOT_FOUND")
        return self._sandboxes[sandbox_id]

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        self._check()
        holder = self._sandboxes.get(sandbox_id)
        if holder is None or not holder.ready:
            raise RuntimeFailure(f"sandbox {sandbox_id} not found", "NOT_FOUND")
        image = next((i for i in self._images.values() if spec.image in (i.id, *i.tags)), None)
        if image is None:
            raise RuntimeFailure(f'image "{spec.image}" not found', "NOT_FOUND")
        number = next(self._numbers)
        log = Path(sandbox.log_directory, spec.log_path) if sandbox.log_directory and spec.log_path else None
        container = Container(
            f"{number:064x}",
            sandbox_id,
            spec.name,
            spec.attempt,
            State.CREATED,
            spec.image_name or spec.image,
            image.id,
            self._now() + number,
            dict(spec.labels),
            dict(spec.annotations),
            log_path=str(log or ""),
            identity=Identity(spec.security.user or 0, spec.security.group or 0, tuple(spec.security.groups)),
        )
        self._entries[container.id] = _Entry(container, spec, log)
        return container.id

    async def start_container(self, container_id: str) -> None:
        self._check()
        entry = self._entry(container_id)
        if entry.container.state is not State.CREATED:
            raise RuntimeFailure(f"container is in {entry.container.state} state", "FAILED_PRECONDITION")
        command = [*entry.spec.command, *entry.spec.args]
        if command[:1] == ["no-such-command"]:
            self._set(entry, state=State.EXITED, exit_code=128, reason="StartError", finished_at=self._now())
            raise RuntimeFailure('exec: "no-such-command": executable file not found in $PATH')
        self._set(entry, state=State.RUNNING, started_at=self._now())
        if self._write_logs and entry.log is not None:
            entry.log.parent.mkdir(parents=True, exist_ok=True)
            stamp = rfc3339(self._clock.now())
            entry.log.write_text(f"{stamp} stdout F {' '.join(command)}\n")
        seconds, code = _behaviour(command)
        if seconds is not None:
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(seconds, self._finish, container_id, code)
        self._tell(container_id)

    def _entry(self, container_id: str) -> _Entry:
        if container_id not in self._entries:
            raise RuntimeFailure(f"container {container_id} not found", "NOT_FOUND")
        return self._entries[container_id]

    @staticmethod
    def _set(entry: _Entry, **changes: object) -> None:
        entry.container = dataclasses.replace(entry.container, **changes)  # type: ignore[arg-type]

    def _finish(self, container_id: str, code: int) -> None:
        entry = self._entries.get(container_id)
        if entry is None or entry.container.state is not State.RUNNING:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        reason = "Completed" if code == 0 else "Error"
        self._set(entry, state=State.EXITED, exit_code=code, reason=reason, finished_at=self._now())
        self._tell(container_id)

    def crash(self, container_id: str, code: int = 137) -> None:
        """End a container as if its process had died."""
        self._finish(container_id, code)

    async def stop_container(self, container_id: str, *, grace: float) -> None:
        self._check()
        self._finish(container_id, 143 if grace else 137)

    async def remove_container(self, container_id: str) -> None:
        self._check()
        self._finish(container_id, 137)
        self._entries.pop(container_id, None)

    async def containers(self, *, uid: str = "") -> list[Container]:
        self._check()
        owner = {s.id: s.uid for s in self._sandboxes.values()}
        blank: dict[str, Any] = {"started_at": 0, "finished_at": 0, "exit_code": 0, "identity": None}
        blank |= {"reason": "", "message": "", "log_path": ""}
        return [
            dataclasses.replace(e.container, **blank)
            for e in self._entries.values()
            if uid in ("", owner.get(e.container.sandbox_id))
        ]

    async def container(self, container_id: str) -> Container:
        self._check()
        return self._entry(container_id).container

    async def update_limits(self, container_id: str, limits: Limits) -> None:
        self._entry(container_id)

    async def reopen_log(self, container_id: str) -> None:
        self._entry(container_id)

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        self._check()
        container = self._entry(container_id).container
        if container.state is not State.RUNNING:
            raise RuntimeFailure("container is not running", "FAILED_PRECONDITION")
        return self._execute(container, command)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        raise RuntimeFailure("simulated containers have no streams", "UNIMPLEMENTED")

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        raise RuntimeFailure("simulated containers have no streams", "UNIMPLEMENTED")

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        raise RuntimeFailure("simulated pods have no network", "UNIMPLEMENTED")

    async def pull_image(self, image: str, *, credentials: Credentials | None = None) -> str:
        self._check()
        if not self._pullable(image):
            raise RuntimeFailure(
                f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": not found',
                "NOT_FOUND",
            )
        return self._add_image(image).id

    async def images(self) -> list[Image]:
        self._check()
        return list(self._images.values())

    async def image(self, image: str) -> Image | None:
        self._check()
        return next((i for i in self._images.values() if image in (i.id, *i.tags)), None)

    async def remove_image(self, image: str) -> None:
        self._images = {k: i for k, i in self._images.items() if image not in (i.id, *i.tags)}

    async def mount_image(self, image: str, target: str) -> None:
        if await self.image(image) is None:
            raise RuntimeFailure(f"image {image} not found", "NOT_FOUND")
        Path(target).mkdir(parents=True, exist_ok=True)

    async def unmount_image(self, target: str) -> None:
        return None

    async def image_disk(self) -> Disk:
        return Disk("/", sum(i.size for i in self._images.values()), len(self._images))

    async def stats(self) -> list[Stats]:
        return [
            Stats(e.container.id, e.container.name, e.container.labels, self._now(), 1_000_000, 1_000_000)
            for e in self._entries.values()
            if e.container.state is State.RUNNING
        ]

    async def events(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self._listeners.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(queue)

    async def close(self) -> None:
        for entry in self._entries.values():
            if entry.timer is not None:
                entry.timer.cancel()
