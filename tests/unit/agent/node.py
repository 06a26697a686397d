"""A node agent on the in-memory runtime, for tests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from tests.unit.agent.cluster import FakeApi, eventually

from portside.agent.agent import Agent
from portside.agent.context import Settings
from portside.agent.memory_runtime import MemoryRuntime
from portside.agent.runtime import ExecResult

BUSYBOX = "docker.io/portside/busybox:1"


class Node:
    """An agent under test."""

    def __init__(self, home: Path) -> None:
        self.api = FakeApi()
        self.exec_code = 0
        self.runtime = MemoryRuntime(
            images=[BUSYBOX],
            pullable=lambda name: "missing" not in name,
            execute=lambda container, command: ExecResult(b"", b"nope", self.exec_code),
        )
        self.home = home
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> Agent:
        settings = Settings(self.home, "n1", ("192.0.2.2",), memory_capacity=4 << 30)
        self.agent = Agent(settings, self.api, self.runtime, kind="memory")  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.agent.run())
        await asyncio.wait_for(self.agent.ready.wait(), 60)
        return self.agent

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait([self.task])

    def status(self, name: str) -> dict[str, Any]:
        found = self.api.pod(name)
        return (found or {}).get("status") or {}

    def container(self, name: str, index: int = 0) -> dict[str, Any]:
        listed = self.status(name).get("containerStatuses") or []
        return listed[index] if len(listed) > index else {"state": {}}

    async def until(self, name: str, phase: str) -> dict[str, Any]:
        await eventually(lambda: self.status(name).get("phase") == phase)
        return self.status(name)
