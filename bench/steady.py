"""The part ``steady`` of ``simulation.py``: a large cluster in its everyday life, asked by clients while its nodes report.

Twenty changes a second over HTTP, in turn: a ConfigMap patched, a bare pod made, an annotation of a running pod patched, the
bare pod of five seconds ago deleted; each beside a GET. Three lists a minute, each by a process of its own, as taking a list
apart would hold up the calls measured here: all pods, the pods of one Deployment by label, all nodes. A watch of all nodes
notes each that is not Ready; the pods of the crowd are counted before and after.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from figures import Results, at
from loop import NODES, WatchedPlane

from portside.api.status import ApiError
from portside.client.http import kubeconfig_client
from portside.client.protocol import Client

Json = dict[str, Any]
CONFIGS, PODS = ("", "v1", "configmaps"), ("", "v1", "pods")
IN_FLIGHT = 64
RATE = 20  # changes a second
LIVES = 5 * RATE  # steps until a bare pod is deleted
KEPT = 100  # objects that are patched in turn
PAGE = 5000
TRIES = 5
SINGLE, LISTS = 1.0, 30.0  # seconds: what upstream promises for single-object calls and for lists, p99
LISTED = {
    "all pods": "/api/v1/pods?resourceVersion=0",
    "pods of one Deployment": "/api/v1/pods?labelSelector=app%3Dapp-0",
    "nodes": "/api/v1/nodes",
}


async def each(names: Iterable[str], call: Callable[[str], Awaitable[Any]]) -> None:
    """``call`` for every name, ``IN_FLIGHT`` at a time."""
    left = iter(names)

    async def some() -> None:
        for name in left:
            await call(name)

    await asyncio.gather(*(some() for _ in range(IN_FLIGHT)))


class Calls:
    """Single-object calls under way, and the seconds of those that were answered, by verb."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}
        self.failed: list[str] = []
        self._work: set[asyncio.Task[None]] = set()

    def begin(self, verb: str, call: Awaitable[Any]) -> None:
        task = asyncio.create_task(self._timed(verb, call))
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    async def _timed(self, verb: str, call: Awaitable[Any]) -> None:
        began = time.monotonic()
        try:
            await call
        except (ApiError, OSError, TimeoutError) as error:
            self.failed.append(f"{verb}: {error!r}")
        self.seconds.setdefault(verb, []).append(time.monotonic() - began)

    async def end(self) -> None:
        await asyncio.gather(*self._work)

    def note(self, results: Results, limit: float, what: str) -> None:
        """By verb, and all together."""
        for verb, times in {**self.seconds, "all": [s for found in self.seconds.values() for s in found]}.items():
            times.sort()
            results.target(f"steady: {what} {verb}, p99, s", "<=", limit)
            results.add(f"steady: {what} {verb}, p50, s", statistics.median(times))
            results.add(f"steady: {what} {verb}, p99, s", at(times, 0.99))
            results.add(f"steady: {what} {verb}, longest, s", times[-1])


class NotReady:
    """Names of nodes that a watch saw not Ready."""

    def __init__(self, client: Client) -> None:
        self.names: set[str] = set()
        self.task = asyncio.create_task(self._follow(client))

    async def _follow(self, client: Client) -> None:
        async for event in client.watch(NODES, send_initial_events=True, timeout_seconds=36_000):
            if event.type != "BOOKMARK":
                conditions = event.object.get("status", {}).get("conditions", ())
                if event.type == "DELETED" or not any(
                    c["type"] == "Ready" and c["status"] == "True" for c in conditions
                ):
                    self.names.add(event.object["metadata"]["name"])


async def asked_aside(kubeconfig: Path, path: str, *words: str) -> Json:
    """What a process of its own says of a list."""
    command = (sys.executable, __file__, str(kubeconfig), path, *words)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    return dict(json.loads(said)) if process.returncode == 0 else {"failed": process.returncode}


async def crowd_of(kubeconfig: Path) -> Json:
    """The running pods of Deployments: uids by name."""
    for _ in range(TRIES):
        found = await asked_aside(kubeconfig, "/api/v1/pods", "running")
        if "running" in found:
            return dict(found["running"])
    raise SystemExit("the pods can't be listed")


async def list_once(kubeconfig: Path, what: str, calls: Calls, seen: dict[str, Json]) -> None:
    found = await asked_aside(kubeconfig, LISTED[what])
    if "failed" in found:
        calls.failed.append(f"list of {what}")
        return
    calls.seconds.setdefault(what, []).append(found["seconds"])
    seen[what] = found


async def steady(plane: WatchedPlane, client: Client, results: Results, seconds: float) -> None:
    """Everyday life for so long."""
    kubeconfig = plane.home / "kubeconfig"
    names = [f"steady-{i}" for i in range(KEPT)]
    for name in names:
        await client.create(CONFIGS, {"metadata": {"name": name}, "data": {"n": "0"}}, namespace="default")
    crowd = await crowd_of(kubeconfig)
    calls, lists, nodes = Calls(), Calls(), NotReady(client)
    start = (await client.list(CONFIGS, limit=1)).resource_version
    plane.forget()
    began, cpu = time.monotonic(), plane.cpu()
    work, seen = await _live(plane, client, calls, lists, list(crowd)[:KEPT], seconds)
    await calls.end()
    took = time.monotonic() - began
    end = (await client.list(CONFIGS, limit=1)).resource_version
    await asyncio.gather(*work)
    results.add("steady: cores", (plane.cpu() - cpu) / (time.monotonic() - began))
    plane.note(results, "steady")
    nodes.task.cancel()
    left = await crowd_of(kubeconfig)
    for verb, limit in (("nodes NotReady", 0), ("pods of the crowd lost", 0), ("calls failed", 0)):
        results.target(f"steady: {verb}", "<=", limit)
    results.add("steady: nodes NotReady", len(nodes.names))
    results.add("steady: pods of the crowd lost", len(crowd.items() - left.items()))
    results.add("steady: calls failed", len(calls.failed) + len(lists.failed))
    changes = sum(len(times) for verb, times in calls.seconds.items() if verb != "get")
    results.target("steady: changes by clients a second", ">=", RATE * 0.98)
    results.add("steady: changes by clients a second", changes / took)
    results.add("steady: all changes a second, heartbeats included", (int(end) - int(start)) / took)
    results.add("steady: seconds", took)
    results.add("steady: memory at the end, MB", plane.memory("VmRSS"))
    calls.note(results, SINGLE, "calls,")
    lists.note(results, LISTS, "list of")
    for what, found in seen.items():
        results.add(f"steady: list of {what}, MB", found["bytes"] / 1e6)
    for line in (*calls.failed[:20], *lists.failed):
        print(line, file=sys.stderr)


async def _live(
    plane: WatchedPlane, client: Client, calls: Calls, lists: Calls, crowd: list[str], seconds: float
) -> tuple[list[asyncio.Task[None]], dict[str, Json]]:
    """The calls and lists, at their times; the lists under way, and what each kind of list was."""
    began, step = time.monotonic(), 0
    work: list[asyncio.Task[None]] = []
    seen: dict[str, Json] = {}
    every = max(int(min(seconds, 60.0) * RATE) // len(LISTED), 1)
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "100m"}}}
    while time.monotonic() - began < seconds:
        kept = f"steady-{step // 4 % KEPT}"
        if step % 4 == 0:
            calls.begin("patch", client.patch(CONFIGS, kept, {"data": {"n": str(step)}}, namespace="default"))
        elif step % 4 == 1:
            body = {"metadata": {"name": f"brief-{step}"}, "spec": {"containers": [container]}}
            calls.begin("create", client.create(PODS, body, namespace="default"))
        elif step % 4 == 2:
            change = {"metadata": {"annotations": {"step": str(step)}}}
            calls.begin("patch", client.patch(PODS, crowd[step // 4 % len(crowd)], change, namespace="default"))
        elif step > LIVES:
            calls.begin("delete", client.delete(PODS, f"brief-{step - LIVES - 2}", namespace="default"))
        calls.begin("get", client.get(CONFIGS, kept, namespace="default"))
        if step % every == every // 2:
            what = list(LISTED)[step // every % len(LISTED)]
            work.append(asyncio.create_task(list_once(plane.home / "kubeconfig", what, lists, seen)))
        step += 1
        await asyncio.sleep(max(step / RATE - (time.monotonic() - began), 0))
    return work, seen


async def _listed(kubeconfig: str, path: str) -> Json:
    client = kubeconfig_client(kubeconfig, user_agent="bench")
    try:
        began = time.monotonic()
        code, _, body = await client.request("GET", path)
        if code != 200:
            raise SystemExit(body[:300].decode())
        return {"seconds": time.monotonic() - began, "bytes": len(body)}
    finally:
        await client.close()


async def _running(kubeconfig: str) -> Json:
    client = kubeconfig_client(kubeconfig, user_agent="bench")
    found: dict[str, str] = {}
    token = ""
    try:
        while True:
            page = await client.list(PODS, limit=PAGE, continue_token=token)
            for pod in page.items:
                if pod["metadata"].get("ownerReferences") and pod.get("status", {}).get("phase") == "Running":
                    found[pod["metadata"]["name"]] = pod["metadata"]["uid"]
            token = page.continue_token
            if not token:
                return {"running": found}
    finally:
        await client.close()


if __name__ == "__main__":
    asked = _running(sys.argv[1]) if len(sys.argv) > 3 else _listed(sys.argv[1], sys.argv[2])
    print(json.dumps(asyncio.run(asked)))
