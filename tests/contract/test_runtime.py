"""One suite for every container runtime: the in-memory one, and containerd through CRI when the machine has it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from portside.agent.beneath import mounted_below, unmount
from portside.agent.imagebuild import BUSYBOX_IMAGE
from portside.agent.memory_runtime import MemoryRuntime
from portside.agent.runtime import (
    Container,
    ContainerRuntime,
    ContainerSpec,
    ExecResult,
    RuntimeFailure,
    SandboxSpec,
    Security,
    State,
)

UID = "io.kubernetes.pod.uid"


def execute(container: Container, command: object) -> ExecResult:
    words = list(command)  # type: ignore[call-overload]
    script = words[-1] if words[:2] == ["sh", "-c"] else ""
    return ExecResult(
        b"out\n" if "out" in script else b"", b"err\n" if "err" in script else b"", 3 if "exit 3" in script else 0
    )


@pytest.fixture(params=["memory", pytest.param("containerd", marks=pytest.mark.real)])
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[ContainerRuntime]:
    if request.param == "memory":
        made = MemoryRuntime(images=[BUSYBOX_IMAGE], pullable=lambda name: False, execute=execute)
        yield made
        await made.close()
        return
    from portside.agent.containerd import Containerd, choose_network, remove_bridge
    from portside.agent.cri import CriRuntime

    if os.geteuid() != 0:
        pytest.fail("the real runtime needs root")
    home = Path(tempfile.mkdtemp(prefix="ps-"))
    daemon = Containerd(home, choose_network(home))
    await daemon.start()
    real = CriRuntime(str(daemon.socket))
    await real.answering()
    await daemon.ensure_images(set())
    try:
        yield real
    finally:
        for sandbox in await real.sandboxes():
            await real.stop_sandbox(sandbox.id)
            await real.remove_sandbox(sandbox.id)
        await real.close()
        await asyncio.to_thread(daemon.stop)
        remove_bridge(daemon.network)
        for point in mounted_below(home):
            unmount(point)
        shutil.rmtree(home, ignore_errors=True)


_LOGS: list[str] = []


@pytest.fixture(autouse=True)
def no_logs_left() -> Iterator[None]:
    yield
    while _LOGS:
        shutil.rmtree(_LOGS.pop(), ignore_errors=True)


def sandbox_spec(**more: object) -> SandboxSpec:
    uid = str(uuid.uuid4())
    logs = tempfile.mkdtemp(prefix="ps-logs-")
    _LOGS.append(logs)
    labels = {UID: uid, "app": "x"}
    return SandboxSpec("web", "default", uid, hostname="web", labels=labels, log_directory=logs, **more)  # type: ignore[arg-type]


def container_spec(name: str, uid: str, *command: str, attempt: int = 0) -> ContainerSpec:
    return ContainerSpec(
        name,
        BUSYBOX_IMAGE,
        attempt,
        command=command,
        labels={UID: uid, "io.kubernetes.container.name": name},
        annotations={"io.kubernetes.container.restartCount": str(attempt)},
        log_path=f"{name}/{attempt}.log",
    )


async def until(runtime: ContainerRuntime, container: str, check: Callable[[Container], bool]) -> Container:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = await runtime.container(container)
        if check(found):
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"still {found.state}")


async def test_a_pod_lives_and_ends(runtime: ContainerRuntime) -> None:
    """Sandbox with address, container through its states, lists by pod, exit code, removal of everything."""
    assert (await runtime.ready())[0]
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    seen = await runtime.sandbox(sandbox)
    assert seen.ready and seen.ips and (seen.name, seen.namespace, seen.uid) == ("web", "default", spec.uid)
    assert seen.labels["app"] == "x"

    main = await runtime.create_container(sandbox, container_spec("main", spec.uid, "sleep", "100000"), spec)
    assert (await runtime.container(main)).state is State.CREATED
    await runtime.start_container(main)
    running = await runtime.container(main)
    assert running.state is State.RUNNING and running.started_at > 0 and running.name == "main"
    short = await runtime.create_container(sandbox, container_spec("short", spec.uid, "false"), spec)
    await runtime.start_container(short)
    ended = await until(runtime, short, lambda c: c.state is State.EXITED)
    assert (ended.exit_code, ended.reason) == (1, "Error") and ended.finished_at > 0 and ended.started_at > 0

    listed = {c.name: c for c in await runtime.containers(uid=spec.uid)}
    assert set(listed) == {"main", "short"} and {c.sandbox_id for c in listed.values()} == {sandbox}
    assert await runtime.containers(uid="nobody") == []
    assert [s.id for s in await runtime.sandboxes(uid=spec.uid)] == [sandbox]

    await runtime.stop_container(main, grace=1)
    assert (await runtime.container(main)).state is State.EXITED
    await runtime.stop_sandbox(sandbox)
    assert not (await runtime.sandboxes(uid=spec.uid))[0].ready
    await runtime.remove_sandbox(sandbox)
    assert await runtime.sandboxes(uid=spec.uid) == [] and await runtime.containers(uid=spec.uid) == []


async def test_what_is_gone_may_be_ended_again(runtime: ContainerRuntime) -> None:
    """Stop and remove are repeatable; questions about what is not there are refused as NOT_FOUND."""
    ghost = "0" * 64
    await runtime.stop_container(ghost, grace=0)
    await runtime.remove_container(ghost)
    await runtime.stop_sandbox(ghost)
    await runtime.remove_sandbox(ghost)
    for question in (runtime.container(ghost), runtime.sandbox(ghost), runtime.start_container(ghost)):
        with pytest.raises(RuntimeFailure) as refused:
            await question
        assert refused.value.code == "NOT_FOUND"


async def test_commands_run_inside(runtime: ContainerRuntime) -> None:
    """exec_sync keeps both outputs apart and passes the exit code."""
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    main = await runtime.create_container(sandbox, container_spec("main", spec.uid, "sleep", "100000"), spec)
    await runtime.start_container(main)
    result = await runtime.exec_sync(main, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout=60)
    assert result == ExecResult(b"out\n", b"err\n", 3)


async def test_images(runtime: ContainerRuntime) -> None:
    """Present images are found by name and id; a pull that can't work says so."""
    image = await runtime.image(BUSYBOX_IMAGE)
    assert image is not None and BUSYBOX_IMAGE in image.tags and image.size > 0
    assert await runtime.image(image.id) is not None
    assert await runtime.image("docker.io/portside/nothing:1") is None
    assert image.id in {i.id for i in await runtime.images()}
    with pytest.raises(RuntimeFailure):
        await runtime.pull_image("127.0.0.1:1/portside/nothing:1")


async def test_changes_are_announced(runtime: ContainerRuntime) -> None:
    """The end of a container comes as an event, without polling."""
    seen: list[str] = []

    async def listen() -> None:
        async for changed in runtime.events():
            seen.append(changed)

    listener = asyncio.create_task(listen())
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    end = time.monotonic() + 60
    attempt = 0
    while not seen and time.monotonic() < end:  # until it listens
        early = await runtime.create_container(
            sandbox, container_spec("early", spec.uid, "true", attempt=attempt), spec
        )
        await runtime.start_container(early)
        await until(runtime, early, lambda c: c.state is State.EXITED)
        attempt += 1
    main = await runtime.create_container(sandbox, container_spec("main", spec.uid, "true"), spec)
    await runtime.start_container(main)
    await until(runtime, main, lambda c: c.state is State.EXITED)
    while main not in seen and time.monotonic() < end:
        await asyncio.sleep(0.02)
    listener.cancel()
    assert main in seen


async def test_a_container_tells_as_whom_it_runs(runtime: ContainerRuntime) -> None:
    """User, group and supplemental groups, while it runs and after its end."""
    spec = sandbox_spec()
    sandbox = await runtime.run_sandbox(spec)
    mine = dataclasses.replace(
        container_spec("main", spec.uid, "sleep", "100000"), security=Security(user=1234, group=2000, groups=(3000,))
    )
    main = await runtime.create_container(sandbox, mine, spec)
    await runtime.start_container(main)
    seen = (await runtime.container(main)).identity
    assert seen is not None and (seen.user, seen.group) == (1234, 2000) and 3000 in seen.groups
    assert [c.identity for c in await runtime.containers(uid=spec.uid)] == [None]
    await runtime.stop_container(main, grace=0)
    assert (await runtime.container(main)).identity == seen


async def test_an_image_is_a_folder_too(runtime: ContainerRuntime, tmp_path: Path) -> None:
    """Mounted as often as asked, taken away as often as asked; an image that is not there is refused."""
    found = await runtime.image(BUSYBOX_IMAGE)
    assert found is not None
    target = tmp_path / "files"
    for _ in range(2):
        await runtime.mount_image(found.id, str(target))
        assert target.is_dir()
    for _ in range(2):
        await runtime.unmount_image(str(target))
    assert mounted_below(tmp_path) == []
    with pytest.raises(RuntimeFailure):
        await runtime.mount_image("docker.io/portside/absent:1", str(tmp_path / "none"))


async def test_a_runtime_says_what_it_can(runtime: ContainerRuntime) -> None:
    """What it does not name it can't do."""
    assert "unknown" not in (await runtime.features()).user_namespaces
