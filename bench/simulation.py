"""Figures of a whole control plane with simulated nodes: how fast thousands of nodes and pods come and go, and what they cost.

    python bench/simulation.py [--only life,idle,steady] [--nodes N] [--pods N] [--rounds N] [--folder DIR] [--profile FILE]

The control plane is a process of its own with SQLite under ``--folder``; this one only asks it. Parts:

life     nodes Ready from the start of the process; pods of ten Deployments Running; Deployments deleted, pods gone
idle     share of a core for the heartbeats of the idle nodes, over ``--seconds``
steady   ``--crowd`` pods (150,000) with heartbeats and 20 changes a second for ``--seconds``: p99 of single-object calls, lists

Every figure has its CPU seconds of the control plane beside it: those stay comparable on a machine that others use too. The
longest single turn of the event loop is counted in CPU time of its thread for the same reason. A round of life and idle takes
two minutes, steady with 150,000 pods a quarter of an hour (``--seconds 600``).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from portside.api.status import ApiError
from portside.client.http import kubeconfig_client
from portside.client.protocol import Client

Json = dict[str, Any]
NODES, PODS, DEPLOYMENTS = ("", "v1", "nodes"), ("", "v1", "pods"), ("apps", "v1", "deployments")
CONFIGS = ("", "v1", "configmaps")
TICK = 0.01  # seconds between two looks at the event loop
BLOCKED = 0.05  # a turn of the loop longer than this counts as blocked
PATIENCE = 600.0
APPS = 10


# The process under measurement


class LoopWatch(threading.Thread):
    """Notes the longest turns of a loop in CPU seconds of its thread, and where the thread was in turns that are too long."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.main = threading.main_thread().ident or 0
        self.seen = time.monotonic()
        self.spent = time.thread_time()
        self.longest = 0.0
        self.blocked = 0
        self.places: Counter[str] = Counter()
        self.collecting, self.collected = 0.0, [0.0, 0.0, 0.0]
        gc.callbacks.append(self.collection)

    def collection(self, phase: str, info: Json) -> None:
        """Notes the longest run of the garbage collector per generation, in CPU seconds."""
        if phase == "start":
            self.collecting = time.thread_time()
        else:
            held, took = self.collected, time.thread_time() - self.collecting
            held[info["generation"]] = max(held[info["generation"]], took)

    async def tick(self) -> None:
        """Runs in the loop until cancelled."""
        while True:
            self.seen, self.spent = time.monotonic(), time.thread_time()
            await asyncio.sleep(TICK)
            turn = time.thread_time() - self.spent
            self.longest = max(self.longest, turn)
            self.blocked += turn > BLOCKED

    def run(self) -> None:
        while True:
            time.sleep(TICK)
            if time.monotonic() - self.seen > BLOCKED + TICK:
                frame = sys._current_frames().get(self.main)
                self.places["".join(traceback.format_stack(frame, 12))] += 1

    def report(self) -> Json:
        """The figures so far, and starts anew."""
        places = self.places.most_common(8)
        found = {"longest": self.longest, "blocked": self.blocked, "places": places, "collections": self.collected}
        self.longest, self.blocked, self.places, self.collected = 0.0, 0, Counter(), [0.0, 0.0, 0.0]
        return found


def serve(home: str, nodes: int, profile: str) -> None:
    """A control plane that answers USR1 by writing its loop's figures, and USR2 by starting a profile or writing it."""
    import cProfile

    import uvloop

    from portside.base.memory import few_arenas
    from portside.run import control_plane
    from portside.run.settings import parse

    few_arenas()
    watch, profiler = LoopWatch(), cProfile.Profile()
    profiling = False

    def report() -> None:
        aside = Path(home) / "loop.new"
        aside.write_text(json.dumps(watch.report()))
        aside.rename(Path(home) / "loop.json")

    def switch() -> None:
        nonlocal profiling
        profiling = not profiling
        if profiling:
            profiler.enable()
        else:
            profiler.disable()
            profiler.dump_stats(profile)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, report)
        loop.add_signal_handler(signal.SIGUSR2, switch)
        ticking = asyncio.create_task(watch.tick())
        watch.start()
        try:
            await control_plane.serve(parse(["--home", home, "--simulate", str(nodes)]))
        finally:
            ticking.cancel()

    uvloop.run(run())


class ControlPlane:
    """The process, seen from outside."""

    def __init__(self, home: Path, nodes: int, profile: str) -> None:
        self.home = home
        self.nodes = nodes
        home.mkdir()
        words = [sys.executable, __file__, "--serve", str(home), "--nodes", str(nodes), "--profile", profile]
        self.log = (home / "log").open("w")
        self.process = subprocess.Popen(words, stderr=self.log)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)
        self.log.close()

    def cpu(self) -> float:
        """CPU seconds so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Largest resident size so far in MB."""
        found = re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(found[0]) / 1024

    def loop(self) -> Json:
        """What its event loop did since the last question."""
        path = self.home / "loop.json"
        path.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + 60
        while not path.exists() and time.monotonic() < end:
            time.sleep(0.01)
        return dict(json.loads(path.read_text()))

    def profile(self) -> None:
        self.process.send_signal(signal.SIGUSR2)

    async def client(self) -> Client:
        """A client, once the API answers."""
        path, end = self.home / "kubeconfig", time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if path.exists():
                client = kubeconfig_client(str(path), user_agent="bench")
                try:
                    await client.list(NODES, limit=1)
                    return client
                except (ApiError, OSError):
                    await client.close()
            await asyncio.sleep(0.02)
        raise SystemExit(f"the control plane does not answer: {self.log.name}")


# What is asked of it


class Figures:
    """Figures by name over the rounds."""

    def __init__(self) -> None:
        self.held: dict[str, list[float]] = {}

    def add(self, name: str, value: float) -> None:
        self.held.setdefault(name, []).append(value)
        print(f"  {name}: {value:.3f}", file=sys.stderr, flush=True)

    def show(self) -> None:
        for name, values in self.held.items():
            middle, low, high = statistics.median(values), min(values), max(values)
            print(f"{name:<58} {middle:>9.3f}   ({low:.3f} .. {high:.3f})")


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
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise SystemExit(f"{what}: {self.good} of {len(self.there)} after {PATIENCE:.0f} s")
            self.changed.clear()
            try:
                await asyncio.wait_for(self.changed.wait(), 1.0)
            except TimeoutError:
                continue


def ready(node: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", ()))


def running(pod: Json) -> bool:
    return bool(pod.get("status", {}).get("phase") == "Running")


def deployment(name: str, replicas: int) -> Json:
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def note_loop(plane: ControlPlane, figures: Figures, what: str) -> None:
    found = plane.loop()
    figures.add(f"{what}: longest turn of the loop, CPU ms", found["longest"] * 1000)
    figures.add(f"{what}: turns above {BLOCKED * 1000:.0f} ms", found["blocked"])
    figures.add(f"{what}: longest garbage collection, CPU ms", max(found["collections"]) * 1000)
    for place, times in found["places"]:
        print(f"--- {what}: seen {times} times in a long turn\n{place}", file=plane.log, flush=True)


async def nodes_ready(plane: ControlPlane, figures: Figures) -> Client:
    began = time.monotonic()
    client = await plane.client()
    nodes = Watched(client, NODES, ready)
    await nodes.until(lambda: nodes.good >= plane.nodes, "nodes Ready")
    nodes.task.cancel()
    figures.add(f"{plane.nodes} nodes Ready, s", time.monotonic() - began)
    figures.add(f"{plane.nodes} nodes Ready, CPU s", plane.cpu())
    note_loop(plane, figures, "nodes")
    return client


async def run_pods(plane: ControlPlane, client: Client, figures: Figures, count: int) -> None:
    """Ten Deployments until all their pods run."""
    pods = Watched(client, PODS, running)
    began, cpu = time.monotonic(), plane.cpu()
    for i in range(APPS):
        await client.create(DEPLOYMENTS, deployment(f"app-{i}", count // APPS), namespace="default")
    await pods.until(lambda: pods.good >= count, "pods Running")
    figures.add(f"{count} pods Running, s", time.monotonic() - began)
    figures.add(f"{count} pods Running, CPU s", plane.cpu() - cpu)
    note_loop(plane, figures, f"{count} pods Running")
    pods.task.cancel()


async def delete_pods(plane: ControlPlane, client: Client, figures: Figures, count: int) -> None:
    pods = Watched(client, PODS, running)
    await pods.until(lambda: pods.good >= count, "pods listed")
    began, cpu = time.monotonic(), plane.cpu()
    for i in range(APPS):
        await client.delete(DEPLOYMENTS, f"app-{i}", namespace="default")
    await pods.until(lambda: not pods.there, "pods gone")
    figures.add(f"{count} pods gone, s", time.monotonic() - began)
    figures.add(f"{count} pods gone, CPU s", plane.cpu() - cpu)
    note_loop(plane, figures, f"{count} pods gone")
    pods.task.cancel()


async def idle(plane: ControlPlane, figures: Figures, seconds: float) -> None:
    await asyncio.sleep(10)
    plane.loop()
    began, cpu = time.monotonic(), plane.cpu()
    await asyncio.sleep(seconds)
    figures.add(f"{plane.nodes} idle nodes, cores", (plane.cpu() - cpu) / (time.monotonic() - began))
    note_loop(plane, figures, "idle")


async def timed(work: Awaitable[Any], into: list[float]) -> None:
    began = time.monotonic()
    await work
    into.append(time.monotonic() - began)


async def list_pods(kubeconfig: Path, into: list[float]) -> None:
    """Seconds of a list of all pods, by a process of its own: taking a list apart would hold up the calls measured here."""
    words = (sys.executable, __file__, "--list", str(kubeconfig))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    into.append(float(said))


async def listed(kubeconfig: str) -> float:
    client = kubeconfig_client(kubeconfig, user_agent="bench")
    try:
        began = time.monotonic()
        await client.request("GET", "/api/v1/pods?resourceVersion=0")
        return time.monotonic() - began
    finally:
        await client.close()


async def steady(plane: ControlPlane, client: Client, figures: Figures, seconds: float) -> None:
    """Twenty writes and as many reads a second, a list of all pods a minute; heartbeats go on."""
    calls: list[float] = []
    lists: list[float] = []
    work: set[asyncio.Task[None]] = set()
    names = [f"steady-{i}" for i in range(100)]
    for name in names:
        await client.create(CONFIGS, {"metadata": {"name": name}, "data": {"n": "0"}}, namespace="default")
    plane.loop()
    began, cpu, step = time.monotonic(), plane.cpu(), 0
    while (now := time.monotonic() - began) < seconds:
        name = names[step % len(names)]
        for call in (
            client.patch(CONFIGS, name, {"data": {"n": str(step)}}, namespace="default"),
            client.get(CONFIGS, name, namespace="default"),
        ):
            work.add(asyncio.create_task(timed(call, calls)))
        if step % 1200 == 600:
            work.add(asyncio.create_task(list_pods(plane.home / "kubeconfig", lists)))
        work = {t for t in work if not t.done()}
        step += 1
        await asyncio.sleep(max(step / 20 - now, 0))
    await asyncio.gather(*work)
    calls.sort()
    figures.add("steady: single-object calls p99, s", calls[int(len(calls) * 0.99)])
    figures.add("steady: lists of all pods, longest, s", max(lists, default=0.0))
    figures.add("steady: cores", (plane.cpu() - cpu) / (time.monotonic() - began))
    note_loop(plane, figures, "steady")


async def measure(options: argparse.Namespace, figures: Figures, home: Path) -> None:
    parts = options.only.split(",")
    plane = ControlPlane(home, options.nodes, options.profile)
    try:
        if options.profile and "nodes" in parts:
            await plane.client()
            plane.profile()
        client = await nodes_ready(plane, figures)
        if options.profile and "nodes" not in parts:
            plane.profile()
        if "life" in parts:
            await run_pods(plane, client, figures, options.pods)
            await delete_pods(plane, client, figures, options.pods)
        if "idle" in parts:
            await idle(plane, figures, options.seconds)
        if "steady" in parts:
            await run_pods(plane, client, figures, options.crowd)
            await steady(plane, client, figures, options.seconds)
        if options.profile:
            plane.profile()
        figures.add("memory at most, MB", plane.memory())
        await client.close()
    finally:
        plane.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="life,idle", help="life, idle, steady")
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--crowd", type=int, default=150_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default="/tmp")
    parser.add_argument("--profile", default="", metavar="FILE", help="write a cProfile of everything after the nodes")
    parser.add_argument("--list", default="", help=argparse.SUPPRESS)
    parser.add_argument("--serve", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        print(asyncio.run(listed(options.list)))
        return
    if options.serve:
        serve(options.serve, options.nodes, options.profile)
        return
    folder = Path(tempfile.mkdtemp(prefix="bench-simulation-", dir=options.folder))
    figures = Figures()
    try:
        for number in range(options.rounds):
            home = folder / f"h{number}"
            asyncio.run(measure(options, figures, home))
            shutil.copy(home / "log", folder.parent / "bench-simulation.log")
            shutil.rmtree(home)
        figures.show()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
