"""Figures of the scheduler on this machine: the core alone, and through the API with a durable store, in one process.

    python bench/scheduler.py [--only core,api,large,preemption] [--work plain,spread,…] [--nodes N] [--pods N] [--rounds N]
                              [--profile] [--controllers]

core        places pods on a snapshot, without any API
api         makes nodes and pods first, then starts the scheduler: pods per second from the first to the last binding, as
            seen in the watch cache
preemption  the same for half as many pods, each of which has to evict one of as many
large       100,000 pods on 1,000 nodes and 1,000,000 on 10,000, without any API: seconds

One round of everything takes some ten minutes of two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from figures import Results, Targets

from portside.base.clock import SYSTEM
from portside.base.memory import collect_rarely
from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.scheduler.cycle import Cycle, Placed
from portside.scheduler.pod_info import read_pod
from portside.scheduler.runner import Scheduler
from portside.scheduler.snapshot import Snapshot
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.sqlite import SqliteBackend

Json = dict[str, Any]
ZONES = 3
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
NODES, PODS = ("", "v1", "nodes"), ("", "v1", "pods")
PRIORITIES = ("scheduling.k8s.io", "v1", "priorityclasses")
PATIENCE = 300.0
NAMESPACES = ("", "v1", "namespaces")


TARGETS: Targets = {  # of 10,000 pods on 5,000 nodes
    "api: plain, pods/s": (">=", 3000),
    "api: spread, pods/s": (">=", 2000),
    "api: node-affinity, pods/s": (">=", 2000),
    "api: affinity, pods/s": (">=", 800),
    "api: anti-affinity, pods/s": (">=", 800),
    "api: ns-anti-affinity, pods/s": (">=", 500),
    "core: 100,000 pods on 1,000 nodes, s": ("<=", 3),
    "core: 1,000,000 pods on 10,000 nodes, s": ("<=", 60),
}


def node(i: int) -> Json:
    name = f"n{i}"
    amounts = {"cpu": "16", "memory": "64Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {HOST: name, ZONE: f"z{i % ZONES}", "half": f"h{i % 2}"}},
        "spec": {},
        "status": {
            "allocatable": amounts,
            "capacity": amounts,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        },
    }


def pod(i: int, **spec: Any) -> Json:
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p{i}", "namespace": "default", "labels": {"app": "a"}},
        "spec": {"containers": [container], "automountServiceAccountToken": False, **spec},
    }


def _term(key: str, app: str, **more: Any) -> list[Json]:
    return [{"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}, **more}]


def plain(i: int) -> Json:
    return pod(i)


def spread(i: int) -> Json:
    constraint = {"maxSkew": 1, "topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"}
    return pod(i, topologySpreadConstraints=[constraint | {"labelSelector": {"matchLabels": {"app": "a"}}}])


def node_affinity(i: int) -> Json:
    terms = [{"matchExpressions": [{"key": "half", "operator": "In", "values": ["h0"]}]}]
    return pod(
        i, affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    )


def anti_affinity(i: int) -> Json:
    made = pod(i)
    app = made["metadata"]["labels"]["app"] = f"a{i % 4}"
    made["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _term(HOST, app)}}
    return made


def affinity(i: int) -> Json:
    return pod(i, affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": _term(ZONE, "a")}})


def ns_anti_affinity(i: int) -> Json:
    made = anti_affinity(i)
    term = made["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    term["namespaceSelector"] = {"matchLabels": {"team": "a"}}
    made["metadata"]["namespace"] = f"team-{i % 50}"
    return made


def mixed(i: int) -> Json:
    """Twenty deployments of different sizes, one after the other in turn."""
    made = pod(i)
    made["metadata"]["labels"]["app"] = f"m{i % 20}"
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{50 + i % 20}m", "memory": "100Mi"}}
    return made


def filling(i: int) -> Json:
    """Takes so much of a node that no other pod fits beside it, and goes at once."""
    made = pod(i, nodeName=f"n{i}", terminationGracePeriodSeconds=0)
    made["metadata"]["name"] = f"filling{i}"
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "12"
    return made


def urgent(i: int) -> Json:
    made = pod(i, priorityClassName="urgent")
    made["metadata"]["labels"]["app"] = "urgent"
    made["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "12"
    return made


WORK: dict[str, Callable[[int], Json]] = {
    "plain": plain,
    "mixed": mixed,
    "spread": spread,
    "node-affinity": node_affinity,
    "affinity": affinity,
    "anti-affinity": anti_affinity,
    "ns-anti-affinity": ns_anti_affinity,
}


def core(make: Callable[[int], Json], nodes: int, pods: int, pods_per_node: int = 0) -> float:
    """Seconds to place ``pods`` on ``nodes``; reading each pod's object is part of it."""
    snapshot = Snapshot()
    for i in range(50):
        snapshot.set_namespace(f"team-{i}", {"team": "a"})
    snapshot.set_namespace("default", {})
    for i in range(nodes):
        made = node(i)
        if pods_per_node:
            made["status"]["allocatable"] = {"cpu": "1000", "memory": "4000Gi", "pods": str(pods_per_node)}
        snapshot.set_node(made)
    cycle = Cycle(snapshot, Random(1))
    placed = 0
    took = 0.0
    done = 0
    while done < pods:
        bodies = [make(i) for i in range(done, min(done + 20_000, pods))]
        for i, body in enumerate(bodies, done):
            body["metadata"]["uid"] = f"u{i}"
        done += len(bodies)
        began = time.perf_counter()
        for body in bodies:
            info = read_pod(body)
            info.object = {}  # a million objects would need gigabytes, and no decision looks at them again
            found = cycle.decide(info)
            if isinstance(found, Placed):
                info.node_name = found.node
                snapshot.set_pod(info)
                placed += 1
        took += time.perf_counter() - began
    if placed < pods:
        print(f"  placed only {placed} of {pods}")
    return took


async def _fill(client: Any, resource: Any, bodies: list[Json]) -> None:
    slots = asyncio.Semaphore(64)

    async def one(body: Json) -> None:
        async with slots:
            await client.create(resource, body, namespace=body["metadata"].get("namespace", ""))

    await asyncio.gather(*(one(b) for b in bodies))


async def through_api(
    make: Callable[[int], Json], nodes: int, pods: int, options: argparse.Namespace, there: Sequence[Json] = ()
) -> float:
    """Pods per second from the first to the last binding. ``there``: pods that have their node before."""
    home = Path(tempfile.mkdtemp(prefix="bench-scheduler-", dir=options.folder))
    server = ApiServer(SqliteBackend(home / "store.db"), ensure_pki(home, ["127.0.0.1"]))
    await server.start()
    await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), server.pki)
    client = inprocess_client(
        server.handler, server.make_request(User("system:kube-scheduler", groups=("system:masters",)))
    )
    tasks: list[asyncio.Task[None]] = []
    collect_rarely()  # as run/control_plane.py does
    try:
        names = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}]
        names += [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"team-{i}", "labels": {"team": "a"}}}
            for i in range(50)
        ]
        for name in names:
            try:
                await client.create(NAMESPACES, name)
            except Exception as error:
                if "exists" not in str(error):
                    raise
        for name in names:
            account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
            await client.create(("", "v1", "serviceaccounts"), account, namespace=name["metadata"]["name"])
        await _fill(client, NODES, [node(i) for i in range(nodes)])
        for i in range(nodes):  # admission taints new nodes; without controllers nobody else takes the taint away
            await client.patch(NODES, f"n{i}", {"spec": {"taints": None}})
        await client.create(PRIORITIES, {"metadata": {"name": "urgent"}, "value": 1000})
        await _fill(client, PODS, list(there))
        began = time.perf_counter()
        await _fill(client, PODS, [make(i) for i in range(pods)])
        made = pods / (time.perf_counter() - began)
        if options.controllers:
            from portside.controllers import run

            tasks.append(asyncio.create_task(run(client, SYSTEM, root_ca="")))
            await asyncio.sleep(5)
        scheduler = Scheduler(client, SYSTEM)
        profile = cProfile.Profile() if options.profile else None
        times: list[float] = []

        app = str(make(0)["metadata"]["labels"]["app"]) if there else ""
        bound = asyncio.create_task(_count_bound(server, pods, times, f'"app":"{app}'.encode()))
        if profile:
            profile.enable()
        tasks.append(asyncio.create_task(scheduler.run()))
        await bound
        if profile:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        print(f"  pods made at {made:,.0f}/s")
        return pods / max(times[1] - times[0], 1e-9)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()
        shutil.rmtree(home)


async def _count_bound(server: ApiServer, pods: int, times: list[float], label: bytes) -> None:
    """Notes when the first and the last pod with a label got its node; asks the watch cache ten times a second."""
    from portside.api.kinds import BY_KIND

    cache = server.resource(BY_KIND[("", "v1", "Pod")]).cache
    start = cache.revision
    deadline = time.perf_counter() + PATIENCE
    looked = 0
    while time.perf_counter() < deadline:
        await asyncio.sleep(0.02)
        if not times and cache.revision > start:
            times.append(time.perf_counter())
        if times and cache.revision - start >= pods and cache.revision != looked:
            looked = cache.revision
            count = sum(1 for o in cache.list().objects if b'"nodeName":"' in o.full and label in o.full)
            if count >= pods:
                times.append(time.perf_counter())
                return
    raise SystemExit(f"not all pods were bound within {PATIENCE:.0f} s")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="core,api,preemption,large")
    options.add_argument("--work", default=",".join(WORK))
    options.add_argument("--nodes", type=int, default=5000)
    options.add_argument("--pods", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", default=None)
    options.add_argument("--profile", action="store_true")
    options.add_argument("--controllers", action="store_true")
    chosen = options.parse_args()
    results = Results(TARGETS, loud=True)
    for _ in range(chosen.rounds):
        with tempfile.TemporaryDirectory(prefix="bench-scheduler-", dir=chosen.folder) as folder:
            results.disk(Path(folder))
        measure(chosen, results)
    print(f"{os.cpu_count()} cores, {chosen.rounds} rounds, {chosen.pods:,} pods on {chosen.nodes:,} nodes")
    results.show()


def measure(chosen: argparse.Namespace, results: Results) -> None:
    """One round of the parts and the kinds of work that were chosen."""
    parts = chosen.only.split(",")
    for name in chosen.work.split(","):
        if "core" in parts:
            results.add(f"core: {name}, pods/s", chosen.pods / core(WORK[name], chosen.nodes, chosen.pods))
        if "api" in parts:
            found = uvloop.run(through_api(WORK[name], chosen.nodes, chosen.pods, chosen))
            results.add(f"api: {name}, pods/s", found)
    if "preemption" in parts:
        count = min(chosen.pods // 2, chosen.nodes)
        there = [filling(i) for i in range(count)]
        found = uvloop.run(through_api(urgent, count, count, chosen, there))
        results.add(f"api: preemption of {count:,} by {count:,}, pods/s", found)
    if "large" in parts:
        for nodes, pods in ((1000, 100_000), (10_000, 1_000_000)):
            results.add(f"core: {pods:,} pods on {nodes:,} nodes, s", core(plain, nodes, pods, 110))


if __name__ == "__main__":
    main()
