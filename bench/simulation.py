"""Figures of a whole control plane with simulated nodes: how fast thousands of nodes and pods come and go, and what they cost.

    python bench/simulation.py [--only life,bare,idle,steady] [--nodes N] [--pods N] [--rounds N] [--folder DIR]
                               [--profile FILE]

The control plane is a process of its own with SQLite under ``--folder``; this one only asks it. Parts:

life     nodes Ready from the start of the process; pods of ten Deployments Running; Deployments deleted, pods gone
bare     pods that a client creates itself, 64 at a time, Running; deleted as a collection, pods gone; created again, deleted
         one by one, 64 at a time, pods gone
idle     share of a core for the heartbeats of the idle nodes, over ``--seconds``
steady   ``--crowd`` pods (150,000) with heartbeats and 20 changes a second for ``--seconds`` (``steady.py``)

Every figure has its CPU seconds of the control plane beside it: those stay comparable on a machine that others use too. The
longest single turn of the event loop is counted in CPU time of its thread for the same reason; the log of the last round, with
what too long turns did, is copied to ``--folder``. A round of life, bare and idle takes three minutes, steady with 150,000 pods
a quarter of an hour (``--seconds 600``).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Results, Targets
from loop import NODES, PATIENCE, WatchedPlane
from steady import PODS, each, steady

from portside.client.protocol import Client

Json = dict[str, Any]
DEPLOYMENTS = ("apps", "v1", "deployments")
APPS = 10
RESOURCES = {"requests": {"cpu": "100m", "memory": "200Mi"}}

TARGETS: Targets = {
    "5,000 nodes Ready, s": ("<=", 10),
    "10,000 pods of Deployments Running, s": ("<=", 10),
    "10,000 pods of Deployments gone, s": ("<=", 10),
    "10,000 bare pods Running, s": ("<=", 10),
    "10,000 bare pods gone, as a collection, s": ("<=", 10),
    "10,000 bare pods gone, one by one, s": ("<=", 10),
    "5,000 idle nodes, cores": ("<=", 0.2),
    "memory at most, MB": ("<=", 2000),
}


class Watched:
    """Counts objects that are as wanted, from a watch of one resource over HTTP."""

    def __init__(self, client: Client, resource: tuple[str, str, str], wanted: Callable[[Json], bool]) -> None:
        self.client, self.resource, self.wanted = client, resource, wanted
        self.there: dict[str, bool] = {}
        self.good = 0
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for event in self.client.watch(self.resource, send_initial_events=True, timeout_seconds=3600):
            if event.type == "BOOKMARK":
                continue
            name = event.object["metadata"]["name"]
            before = self.there.pop(name, False)
            now = event.type != "DELETED" and self.wanted(event.object)
            if event.type != "DELETED":
                self.there[name] = now
            self.good += now - before
            self.changed.set()

    async def until(self, done: Callable[[], bool], what: str) -> None:
        """Wait as long as there is news."""
        last, end = (-1, -1), 0.0
        while not done():
            if (now := (self.good, len(self.there))) != last:
                last, end = now, time.monotonic() + PATIENCE
            if time.monotonic() > end:
                raise SystemExit(f"{what}: {self.good} of {len(self.there)}, and no news for {PATIENCE:.0f} s")
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), 1.0)
            except TimeoutError:
                continue


def ready(node: Json) -> bool:
    """Whether it says so, and takes pods: the taint of new nodes is gone."""
    if any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints", ())):
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))


def running(pod: Json) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running")


def deployment(name: str, replicas: int) -> Json:
    container = {"name": "c", "image": "app:1", "resources": RESOURCES}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def bare(name: str) -> Json:
    container = {"name": "c", "image": "app:1", "resources": RESOURCES}
    meta = {"name": name, "labels": {"app": "bare"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


class Stopwatch:
    """Seconds, and CPU seconds of the control plane, from its making until ``note``."""

    def __init__(self, plane: WatchedPlane, results: Results) -> None:
        self._plane, self._results = plane, results
        self._began, self._cpu = time.monotonic(), plane.cpu()

    def note(self, what: str) -> None:
        self._results.add(f"{what}, s", time.monotonic() - self._began)
        self._results.add(f"{what}, CPU s", self._plane.cpu() - self._cpu)
        self._plane.note(self._results, what)


async def nodes_ready(plane: WatchedPlane, results: Results) -> Client:
    client = await plane.client()
    nodes = Watched(client, NODES, ready)
    await nodes.until(lambda: nodes.good >= plane.nodes, "nodes Ready")
    nodes.task.cancel()
    results.add(f"{plane.nodes:,} nodes Ready, s", time.monotonic() - plane.began)
    results.add(f"{plane.nodes:,} nodes Ready, CPU s", plane.cpu())
    plane.note(results, f"{plane.nodes:,} nodes Ready")
    return client


async def run_pods(plane: WatchedPlane, client: Client, results: Results, count: int) -> None:
    """Ten Deployments until all their pods run."""
    pods = Watched(client, PODS, running)
    watch = Stopwatch(plane, results)
    for i in range(APPS):
        await client.create(DEPLOYMENTS, deployment(f"app-{i}", count // APPS), namespace="default")
    await pods.until(lambda: pods.good >= count, "pods Running")
    watch.note(f"{count:,} pods of Deployments Running")
    pods.task.cancel()


async def life(plane: WatchedPlane, client: Client, results: Results, count: int) -> None:
    await run_pods(plane, client, results, count)
    pods = Watched(client, PODS, running)
    await pods.until(lambda: pods.good >= count, "pods listed")
    plane.forget()
    watch = Stopwatch(plane, results)
    for i in range(APPS):
        await client.delete(DEPLOYMENTS, f"app-{i}", namespace="default")
    await pods.until(lambda: not pods.there, "pods gone")
    watch.note(f"{count:,} pods of Deployments gone")
    pods.task.cancel()


async def bare_pods(plane: WatchedPlane, client: Client, results: Results, count: int) -> None:
    """Pods that nobody owns, made and deleted by one client over HTTP."""
    pods = Watched(client, PODS, running)
    for once, how in enumerate(("as a collection", "one by one")):
        names = [f"bare-{once}-{i}" for i in range(count)]
        watch = Stopwatch(plane, results)
        await each(names, lambda name: client.create(PODS, bare(name), namespace="default"))
        await pods.until(lambda: pods.good >= count, "bare pods Running")
        watch.note(f"{count:,} bare pods Running")
        watch = Stopwatch(plane, results)
        if once:
            await each(names, lambda name: client.delete(PODS, name, namespace="default"))
        else:
            await client.delete_collection(PODS, namespace="default", label_selector="app=bare")
        await pods.until(lambda: not pods.there, "bare pods gone")
        watch.note(f"{count:,} bare pods gone, {how}")
    pods.task.cancel()


async def idle(plane: WatchedPlane, results: Results, seconds: float) -> None:
    await asyncio.sleep(10)
    plane.forget()
    began, cpu = time.monotonic(), plane.cpu()
    await asyncio.sleep(seconds)
    results.add(f"{plane.nodes:,} idle nodes, cores", (plane.cpu() - cpu) / (time.monotonic() - began))
    plane.note(results, f"{plane.nodes:,} idle nodes")


async def measure(options: argparse.Namespace, results: Results, home: Path) -> None:
    parts = options.only.split(",")
    plane = WatchedPlane(home, options.nodes, options.profile)
    try:
        if options.profile and "nodes" in parts:
            await plane.client()
            plane.switch_profile()
        client = await nodes_ready(plane, results)
        if options.profile and "nodes" not in parts:
            plane.switch_profile()
        if "life" in parts:
            await life(plane, client, results, options.pods)
        if "bare" in parts:
            await bare_pods(plane, client, results, options.pods)
        if "idle" in parts:
            await idle(plane, results, options.seconds)
        if "steady" in parts:
            await run_pods(plane, client, results, options.crowd)
            await steady(plane, client, results, options.seconds)
        if options.profile:
            plane.switch_profile()
        results.add("memory at most, MB", plane.memory())
        await client.close()
    finally:
        plane.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="life,bare,idle", help="life, bare, idle, steady")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--crowd", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/tmp")
    parser.add_argument("--profile", default="", metavar="FILE", help="write a cProfile of everything after the nodes")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-simulation-", dir=options.folder))
    results = Results(TARGETS, loud=True)
    try:
        for number in range(options.rounds):
            results.disk(folder)
            home = folder / f"h{number}"
            try:
                asyncio.run(measure(options, results, home))
            finally:
                shutil.copy(home / "log", folder.parent / "bench-simulation.log")
                shutil.rmtree(home)
        print(f"{os.cpu_count()} cores, {options.rounds} rounds, Python {sys.version.split()[0]}")
        results.show()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
