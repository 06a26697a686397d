"""A whole control plane with simulated nodes in virtual time, and the named scenarios that disturb it.

Everything but the nodes' agents is the production assembly: API server, controllers, scheduler, over a store in memory.
"""

from __future__ import annotations

import asyncio
import gc
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portside.api.status import ApiError
from portside.base.pki import ensure_pki
from portside.client.protocol import Json, Resource
from portside.run.virtual_time import VirtualClock, VirtualLoop
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.sim.lifecycle import SILENT
from portside.sim.nodes import Simulation
from portside.sim.status import FAKE
from portside.store.memory import MemoryBackend

NODES: Resource = ("", "v1", "nodes")
PODS: Resource = ("", "v1", "pods")
DEPLOYMENTS: Resource = ("apps", "v1", "deployments")
POD_GROUPS: Resource = ("scheduling.k8s.io", "v1beta1", "podgroups")
BUDGETS: Resource = ("policy", "v1", "poddisruptionbudgets")
SPACE = "default"
ZONE = "topology.kubernetes.io/zone"
SETTLE = 120.0  # virtual seconds the workload gets to become ready before anything happens
AFTER = 900.0  # virtual seconds it gets to recover
STEP = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How large the cluster is: pods are spread over ``apps`` Deployments, each with a budget of one missing pod. The pods
    of the first ``gangs`` of them get their nodes all together or not at all."""

    nodes: int = 12
    zones: int = 3
    pods: int = 60
    apps: int = 6
    seed: int = 1
    gangs: int = 0


@dataclass(slots=True)
class Report:
    """What was seen. Times are virtual seconds since the disturbance began; ``problems`` is empty when all went well.
    ``missing``: how many pods were not ready at most of those asked for at that moment.
    ``moved``: per node, how many pods it lost and got; ``waited``: per reason, how many pods waited for it at most;
    ``pending``: the pods that wait in the end, and why."""

    scenario: str
    plan: Plan
    lowest: int = 0
    missing: int = 0
    below: float = 0.0
    recovered: float | None = None
    replaced: int = 0
    refused_evictions: int = 0
    moved: dict[str, tuple[int, int]] = field(default_factory=dict)
    waited: dict[str, int] = field(default_factory=dict)
    pending: dict[str, str] = field(default_factory=dict)
    timeline: list[tuple[float, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    virtual: float = 0.0
    took: float = 0.0

    def as_json(self) -> Json:
        return {
            "scenario": self.scenario,
            "nodes": self.plan.nodes,
            "zones": self.plan.zones,
            "pods": self.plan.pods,
            "deployments": self.plan.apps,
            "gangs": self.plan.gangs,
            "seed": self.plan.seed,
            "lowestReady": self.lowest,
            "mostMissing": self.missing,
            "secondsBelowFull": self.below,
            "recoveredAfterSeconds": self.recovered,
            "podsReplaced": self.replaced,
            "evictionsRefused": self.refused_evictions,
            "moved": [{"node": n, "lost": lost, "got": got} for n, (lost, got) in self.moved.items()],
            "waited": [{"reason": r, "mostPods": n} for r, n in self.waited.items()],
            "pending": [{"pod": p, "reason": r} for p, r in self.pending.items()],
            "timeline": [{"at": t, "what": w} for t, w in self.timeline],
            "problems": self.problems,
            "virtualSeconds": self.virtual,
            "seconds": self.took,
        }


class Stage:
    """The running cluster that a scenario acts on."""

    def __init__(self, server: ApiServer, clock: VirtualClock, plan: Plan, report: Report) -> None:
        self.clock = clock
        self.plan = plan
        self.report = report
        self.rng = random.Random(plan.seed)
        self.wanted = plan.pods
        from portside.client.inprocess import inprocess_client

        def client(user: str, agent: str) -> Any:
            who = server.make_request(User(user, groups=("system:masters", "system:authenticated")))
            return inprocess_client(server.handler, who, user_agent=agent)

        self.client_of = client
        self.client = client("system:admin", "portside-sim")
        self.began = 0.0
        self._stop: list[asyncio.Task[None]] = []

    def note(self, what: str) -> None:
        self.report.timeline.append((round(self.clock.monotonic() - self.began, 1), what))

    async def start(self, root_ca: str) -> None:
        from portside.controllers import run as controllers
        from portside.scheduler.runner import Scheduler

        manager = self.client_of("system:kube-controller-manager", "kube-controller-manager")
        client = self.client_of("system:kube-scheduler", "kube-scheduler")
        scheduler = Scheduler(client, self.clock, self.rng)
        nodes = Simulation(self.client_of("system:kube-sim", "kubelet"), 0, self.clock.now)
        work = (controllers(manager, self.clock, root_ca=root_ca), scheduler.run(), nodes.run())
        self._stop = [asyncio.create_task(w) for w in work]
        for i in range(self.plan.nodes):
            await self.client.create(NODES, node(i, self.plan.zones))
        await self.clock.sleep(5)
        for i in range(self.plan.apps):
            for resource, body in app(i, self._share(i), gang=i < self.plan.gangs):
                await self.client.create(resource, body, namespace=SPACE)

    def _share(self, i: int) -> int:
        return self.plan.pods // self.plan.apps + (i < self.plan.pods % self.plan.apps)

    async def stop(self) -> None:
        for task in self._stop:
            task.cancel()
        await asyncio.gather(*self._stop, return_exceptions=True)

    async def ready(self) -> int:
        return (await self.ready_of())[0]

    async def ready_of(self) -> tuple[int, int]:
        """How many pods are ready, and how many are missing of those that the Deployments ask for now."""
        ready = missing = 0
        for deployment in (await self.client.list(DEPLOYMENTS, namespace=SPACE)).items:
            there = int((deployment.get("status") or {}).get("readyReplicas") or 0)
            ready += there
            missing += max(int(deployment["spec"].get("replicas", 1)) - there, 0)
        return ready, missing

    async def pods(self) -> list[Json]:
        found: list[Json] = (await self.client.list(PODS, namespace=SPACE)).items
        return found

    async def silence(self, name: str, *, silent: bool) -> None:
        """Switch a node's agent off or on."""
        patch = {"metadata": {"annotations": {SILENT: "true" if silent else None}}}
        await self.client.patch(NODES, name, patch)

    async def cordon(self, name: str, *, cordoned: bool) -> None:
        await self.client.patch(NODES, name, {"spec": {"unschedulable": cordoned or None}})

    async def drain(self, name: str) -> None:
        """Evict the node's pods, again and again until their budgets let every one go."""
        await self.cordon(name, cordoned=True)
        while left := [p for p in await self.pods() if p["spec"].get("nodeName") == name]:
            for pod in left:
                if pod["metadata"].get("deletionTimestamp"):
                    continue
                meta = {"name": pod["metadata"]["name"], "namespace": SPACE}
                body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta}
                try:
                    await self.client.create(PODS, body, namespace=SPACE, name=meta["name"], subresource="eviction")
                except ApiError as error:
                    if error.code == 429:
                        self.report.refused_evictions += 1
                    elif error.code != 404:
                        raise
            await self.clock.sleep(5)


def node(i: int, zones: int) -> Json:
    name = f"node-{i:03d}"
    labels = {"kubernetes.io/hostname": name, ZONE: f"{'abcdefghijklmnopqrstuvwxyz'[i % zones]}"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {FAKE: "fake"}},
    }


def app(i: int, replicas: int, *, gang: bool = False) -> list[tuple[Resource, Json]]:
    """A Deployment whose pods take three seconds to be ready, and a budget of one missing pod; for a gang its PodGroup."""
    name = f"app-{i}"
    labels = {"app": name}
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}}}
    said = {
        "sim.portside.io/start-after": "1s",
        "sim.portside.io/ready-after": "2s",
        "sim.portside.io/stop-after": "2s",
    }
    inner: Json = {"containers": [container]} | ({"schedulingGroup": {"podGroupName": name}} if gang else {})
    template = {"metadata": {"labels": labels, "annotations": said}, "spec": inner}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    budget = {"maxUnavailable": 1, "selector": {"matchLabels": labels}}
    policy = {"schedulingPolicy": {"gang": {"minCount": replicas}}}
    group = {"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": {"name": name}, "spec": policy}
    return [
        *([(POD_GROUPS, group)] if gang else []),
        (DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}),
        (
            BUDGETS,
            {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name}, "spec": budget},
        ),
    ]


async def node_failure(stage: Stage) -> None:
    """The busiest node falls silent and stays so."""
    held: dict[str, int] = {}
    for pod in await stage.pods():
        held[pod["spec"]["nodeName"]] = held.get(pod["spec"]["nodeName"], 0) + 1
    name = max(sorted(held), key=lambda n: held[n])
    stage.note(f"{name} falls silent with {held[name]} pods")
    await stage.silence(name, silent=True)


async def zone_failure(stage: Stage) -> None:
    """Every node of zone a falls silent and comes back after ten minutes."""
    names = [f"node-{i:03d}" for i in range(stage.plan.nodes) if i % stage.plan.zones == 0]
    stage.note(f"zone a falls silent: {len(names)} nodes")
    for name in names:
        await stage.silence(name, silent=True)
    await stage.clock.sleep(600)
    stage.note("zone a is back")
    for name in names:
        await stage.silence(name, silent=False)


async def rolling_reboot(stage: Stage) -> None:
    """One node after the other is drained, reboots for 40 s and takes pods again."""
    for i in range(stage.plan.nodes):
        name = f"node-{i:03d}"
        await stage.drain(name)
        stage.note(f"{name} is empty and reboots")
        await stage.silence(name, silent=True)
        await stage.clock.sleep(40)
        await stage.silence(name, silent=False)
        await stage.cordon(name, cordoned=False)
        await stage.clock.sleep(10)


async def churn(stage: Stage) -> None:
    """Five minutes of scaling up and down and of deleted pods, at random."""
    for _ in range(60):
        pods = await stage.pods()
        for pod in stage.rng.sample(pods, min(len(pods), stage.rng.randrange(4))):
            await stage.client.delete(PODS, pod["metadata"]["name"], namespace=SPACE)
        name = f"app-{stage.rng.randrange(stage.plan.apps)}"
        count = stage.rng.randrange(1, 2 * max(stage.plan.pods // stage.plan.apps, 1))
        await stage.client.patch(DEPLOYMENTS, name, {"spec": {"replicas": count}}, namespace=SPACE)
        await stage.clock.sleep(5)
    for i in range(stage.plan.apps):
        await stage.client.patch(DEPLOYMENTS, f"app-{i}", {"spec": {"replicas": stage._share(i)}}, namespace=SPACE)
    stage.note("everything is scaled back")


Scenario = Callable[[Stage], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {
    "node-failure": node_failure,
    "zone-failure": zone_failure,
    "rolling-reboot": rolling_reboot,
    "churn": churn,
}


async def _watch(stage: Stage, disturbance: asyncio.Task[None]) -> None:
    """Sample the workload until it is whole again after the disturbance, or time is up."""
    report = stage.report
    report.lowest = stage.wanted
    whole_since: float | None = None
    fell = False
    end: float | None = None
    while end is None or stage.clock.monotonic() < end:
        ready, missing = await stage.ready_of()
        now = stage.clock.monotonic()
        report.lowest = min(report.lowest, ready)
        report.missing = max(report.missing, missing)
        if ready < stage.wanted:
            fell, whole_since = True, None
            report.below += STEP
            for reason, count in Counter(waiting(await stage.pods()).values()).items():
                report.waited[reason] = max(report.waited.get(reason, 0), count)
        elif whole_since is None:
            whole_since = now
        if disturbance.done():
            end = end if end is not None else now + AFTER
            if whole_since is not None and (now - whole_since >= 5 and (fell or now > end - AFTER + 500)):
                report.recovered = round(whole_since - stage.began, 1) if fell else 0.0
                return
        await stage.clock.sleep(STEP)


def waiting(pods: list[Json]) -> dict[str, str]:
    """The pods without a node, with what the scheduler says of them."""
    found = {}
    for pod in pods:
        if not pod["spec"].get("nodeName") and not pod["metadata"].get("deletionTimestamp"):
            said = {c["type"]: c.get("message") or "" for c in (pod.get("status") or {}).get("conditions") or ()}
            if why := said.get("PodScheduled"):
                found[str(pod["metadata"]["name"])] = str(why)
    return found


def moves(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[int, int]]:
    """(pods lost, pods got) of every node where that is not zero, from nodes by the uids of their pods."""
    lost = Counter(node for uid, node in before.items() if uid not in after)
    got = Counter(node for uid, node in after.items() if uid not in before and node)
    return {node: (lost[node], got[node]) for node in sorted(lost.keys() | got.keys())}


async def _check(stage: Stage) -> list[str]:
    """What must hold at the end of every scenario."""
    problems = []
    nodes = {n["metadata"]["name"]: n for n in (await stage.client.list(NODES)).items}
    used: dict[str, int] = {}
    for pod in await stage.pods():
        name = pod["spec"].get("nodeName")
        if not name:
            problems.append(f"pod {pod['metadata']['name']} has no node")
        elif name not in nodes:
            problems.append(f"pod {pod['metadata']['name']} is on {name}, which does not exist")
        else:
            used[name] = used.get(name, 0) + 1
    for name, count in used.items():
        if count > int(nodes[name]["status"]["allocatable"]["pods"]):
            problems.append(f"{name} holds {count} pods, more than it can")
    return problems


async def _play(name: str, plan: Plan, loop: VirtualLoop) -> Report:
    report = Report(name, plan)
    clock = VirtualClock(loop)
    with tempfile.TemporaryDirectory(prefix="portside-sim-") as home:
        pki = ensure_pki(Path(home), ["127.0.0.1"])
        server = ApiServer(MemoryBackend(), pki, clock=clock)
        await server.start()
        stage = Stage(server, clock, plan, report)
        try:
            await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), pki)
            await stage.start(pki.ca.read_text())
            while await stage.ready() < plan.pods:
                await clock.sleep(STEP)
                if clock.monotonic() > SETTLE:
                    report.problems.append(f"only {await stage.ready()} of {plan.pods} pods became ready to begin with")
                    return report
            before = {p["metadata"]["uid"]: p["spec"]["nodeName"] for p in await stage.pods()}
            stage.began = clock.monotonic()
            disturbance = asyncio.create_task(_disturb(SCENARIOS[name], stage))
            await _watch(stage, disturbance)
            if not disturbance.done():
                disturbance.cancel()
            elif (error := disturbance.exception()) is not None:
                report.problems.append(f"the scenario failed: {error}")
            if report.recovered is None:
                report.problems.append(f"{await stage.ready()} of {stage.wanted} pods were ready {AFTER:.0f} s later")
            left = [
                p for p in await stage.pods() if not p["metadata"].get("deletionTimestamp")
            ]  # a silent node keeps its own
            after = {p["metadata"]["uid"]: p["spec"].get("nodeName", "") for p in left}
            report.replaced = len(after.keys() - before.keys())
            report.moved = moves(before, after)
            report.pending = waiting(left)
            report.problems += await _check(stage)
        finally:
            report.virtual = round(clock.monotonic(), 1)
            await stage.stop()
            await server.stop()
    return report


async def _disturb(scenario: Scenario, stage: Stage) -> None:
    await scenario(stage)


def play(name: str, plan: Plan) -> Report:
    """Run one scenario to its end. Raises KeyError for an unknown name."""
    if name not in SCENARIOS:
        raise KeyError(name)
    began = time.monotonic()
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        report = loop.run_until_complete(_play(name, plan, loop))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
        gc.collect()
    report.took = round(time.monotonic() - began, 2)
    return report
