"""The node agent on the real containerd: containers that really run, with the small API in memory."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from portside.agent.agent import Agent
from portside.agent.beneath import mounted_below, unmount
from portside.agent.containerd import Containerd, choose_network, remove_bridge
from portside.agent.context import Settings
from portside.agent.cri import CriRuntime
from tests.unit.agent.cluster import FakeApi, eventually, pod

pytestmark = pytest.mark.real
PATIENCE = 120.0  # seconds; the machine may be loaded


class RealNode:
    """containerd of its own, and an agent that can be thrown away."""

    def __init__(self, home: Path) -> None:
        assert os.geteuid() == 0, "needs root"
        self.home, self.api = home, FakeApi()
        self.daemon = Containerd(home, choose_network(home))

    async def start(self) -> None:
        await self.daemon.start()
        self.runtime = CriRuntime(str(self.daemon.socket))
        await self.runtime.answering()
        await self.daemon.ensure_images({t for i in await self.runtime.images() for t in i.tags})
        settings = Settings(self.home, "n1", ("192.0.2.2",), memory_capacity=4 << 30)
        self.agent = Agent(settings, self.api, self.runtime)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.agent.run())
        await asyncio.wait_for(self.agent.ready.wait(), PATIENCE)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        await self.runtime.close()

    def container(self, name: str) -> dict[str, Any]:
        status = (self.api.pod(name) or {}).get("status") or {}
        listed = status.get("containerStatuses") or [{"state": {}}]
        return dict(listed[0])

    async def until(self, name: str, phase: str) -> None:
        await eventually(lambda: ((self.api.pod(name) or {}).get("status") or {}).get("phase") == phase, PATIENCE)

    async def run(self, name: str, script: str, container: dict[str, Any] | None = None, **spec: Any) -> str:
        """Run a script to its end; its output. Raises AssertionError when it fails."""
        body = pod(name, {"command": ["sh", "-ec", script]} | (container or {}), restartPolicy="Never", **spec)
        self.api.add("pods", body)
        await self.until(name, "Succeeded")
        logs = list((self.home / "pod-logs").glob(f"default_{name}_*/c0/0.log"))
        return "".join(line.split(" ", 3)[3] for line in logs[0].read_text().splitlines(keepends=True))


@pytest.fixture
async def node() -> AsyncIterator[RealNode]:
    made = RealNode(Path(tempfile.mkdtemp(prefix="ps-")))
    await made.start()
    yield made
    await made.stop()
    last = CriRuntime(str(made.daemon.socket))
    for sandbox in await last.sandboxes():
        await last.stop_sandbox(sandbox.id)
        await last.remove_sandbox(sandbox.id)
    await last.close()
    await asyncio.to_thread(made.daemon.stop)
    remove_bridge(made.daemon.network)
    for point in mounted_below(made.home):
        unmount(point)
    shutil.rmtree(made.home, ignore_errors=True)


async def test_what_a_container_sees(node: RealNode) -> None:
    """Environment, volumes, identity, limits, names and confinement are what its spec says."""
    node.api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "one"}})
    container = {
        "env": [
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}},
            {"name": "BOTH", "value": "$(POD)-$(A)"},
        ],
        "volumeMounts": [
            {"name": "cm", "mountPath": "/cm"},
            {"name": "e", "mountPath": "/e"},
            {"name": "e", "mountPath": "/sub", "subPath": "x/y"},
            {"name": "m", "mountPath": "/m"},
        ],
        "resources": {"limits": {"memory": "64Mi"}},
        "securityContext": {"runAsUser": 1000, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    volumes = [
        {"name": "cm", "configMap": {"name": "cm"}},
        {"name": "e", "emptyDir": {}},
        {"name": "m", "emptyDir": {"medium": "Memory"}},
    ]
    script = (
        "echo $BOTH; cat /cm/a; echo; id -u; id -G; touch /sub/f; ls /e/x/y; hostname; grep -c $POD /etc/hosts; "
        "grep ' /m ' /proc/mounts | cut -d' ' -f1; grep CapBnd /proc/self/status | cut -f2; ! touch /cm/b 2>/dev/null"
    )
    out = await node.run("sees", script, container, volumes=volumes, securityContext={"fsGroup": 2000})
    lines = out.split("\n")
    assert lines[:5] == ["sees-one", "one", "1000", "0 2000", "f"]
    assert lines[5:9] == ["sees", "1", "tmpfs", "0" * 16]
    await node.api.delete(("", "v1", "pods"), "sees", namespace="default")
    await eventually(lambda: node.api.pod("sees") is None, PATIENCE)
    await eventually(lambda: not node.agent.workers, PATIENCE)
    assert mounted_below(node.home / "pods") == [] and not list((node.home / "pods").iterdir())


async def test_pods_outlive_every_kill(node: RealNode) -> None:
    """kill -9 of agent and containerd: the same process runs on, is adopted, and its death is noticed and counted."""
    mark = str(1_000_000 + os.getpid())  # of this run: another one may have left its process
    body = pod("keep", {"command": ["sleep", mark]})
    node.api.add("pods", body)
    await node.until("keep", "Running")
    before = node.container("keep")["containerID"]
    pid = node.daemon.pid()
    assert pid is not None
    await node.stop()
    os.kill(pid, signal.SIGKILL)
    await node.start()
    await asyncio.sleep(1)
    assert node.container("keep")["containerID"] == before and node.container("keep")["restartCount"] == 0
    assert node.daemon.pid() not in (None, pid)
    victim = [int(p) for p in os.listdir("/proc") if p.isdigit() and _cmdline(p) == f"sleep\0{mark}\0".encode()]
    os.kill(victim[0], signal.SIGKILL)
    await eventually(
        lambda: node.container("keep")["restartCount"] == 1 and "running" in node.container("keep")["state"],
        PATIENCE,
    )
    assert node.container("keep")["lastState"]["terminated"]["exitCode"] == 137


def _cmdline(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_links_in_volumes_lead_nowhere(node: RealNode) -> None:
    """A subPath through a link out of the volume is refused; termination messages reach the status."""
    volumes = [{"name": "h", "hostPath": {"path": str(node.home / "shared"), "type": "DirectoryOrCreate"}}]
    await node.run("plant", "ln -s / /h/out", {"volumeMounts": [{"name": "h", "mountPath": "/h"}]}, volumes=volumes)
    mounts = {"volumeMounts": [{"name": "h", "mountPath": "/h", "subPath": "out/etc"}]}
    node.api.add("pods", pod("evil", mounts, volumes=volumes))
    await eventually(
        lambda: "waiting" in node.container("evil")["state"] and "subPath" in json.dumps(node.container("evil")),
        PATIENCE,
    )
    assert node.container("evil")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
    script = "echo last words > /dev/termination-log; exit 3"
    node.api.add("pods", pod("words", {"command": ["sh", "-c", script]}, restartPolicy="Never"))
    await node.until("words", "Failed")
    ended = node.container("words")["state"]["terminated"]
    assert (ended["exitCode"], ended["message"], ended["reason"]) == (3, "last words\n", "Error")
