"""What one write of our own components costs the control plane's loop, kind of write by kind of write.

    python bench/writes.py [--only create,bind,…] [--count N] [--rounds N] [--folder DIR] [--profile KIND]

An API server on SQLite without components and without watches, asked through the client in the same process as controllers,
scheduler and simulated nodes ask it, 64 calls at a time. Figures are microseconds of processor time of the loop's thread per
write: of many slices of 128 writes the median, and the quickest tenth, which says what a write costs while nobody else uses the
machine's caches. The store's thread is told beside them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import shutil
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from portside.base.clock import SYSTEM
from portside.base.memory import collect_rarely, few_arenas
from portside.base.pki import ensure_pki
from portside.client.inprocess import Turns, inprocess_client
from portside.client.protocol import Client, Resource
from portside.client.shared import SharedObjects
from portside.controllers.pods import from_template
from portside.scheduler.events import Recorder
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.sim.status import node_object, pod_status
from portside.store.sqlite import SqliteBackend

Json = dict[str, Any]
NODES, PODS, EVENTS = ("", "v1", "nodes"), ("", "v1", "pods"), ("events.k8s.io", "v1", "events")
ACCOUNTS, LEASES = ("", "v1", "serviceaccounts"), ("coordination.k8s.io", "v1", "leases")
REPLICASETS: Resource = ("apps", "v1", "replicasets")
MASTER = ("system:masters", "system:authenticated")
HOSTS = 100
AT_ONCE = 64
SLICE = 128  # writes that are timed together
STAMP = "2026-01-01T00:00:00Z"


def replicaset(name: str) -> Json:
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": "100m", "memory": "200Mi"}}}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}, "spec": spec}


class Writes:
    """One server, and the kinds of writes in the order in which a pod meets them."""

    def __init__(self, server: ApiServer, count: int) -> None:
        self.count = count
        shared, turns = SharedObjects(), Turns()

        def client(user: str, agent: str) -> Client:
            who = server.make_request(User(user, groups=MASTER))
            return inprocess_client(server.handler, who, user_agent=agent, shared=shared, turns=turns)

        self.controllers = client("system:kube-controller-manager", "kube-controller-manager")
        self.scheduler = client("system:kube-scheduler", "kube-scheduler")
        self.kubelet = client("system:kube-sim", "kubelet")
        self.recorder = Recorder(self.scheduler, SYSTEM, "bench")
        self.owners: list[Json] = []
        self.pods: list[Json] = []
        self.events: list[Json] = []

    async def prepare(self) -> None:
        for name in ("default", "kube-node-lease"):
            if await self._missing(("", "v1", "namespaces"), name):
                await self.controllers.create(("", "v1", "namespaces"), {"metadata": {"name": name}})
        await self.controllers.create(ACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        for index in range(HOSTS):
            await self.kubelet.create(NODES, node_object(f"node-{index}", index))
            lease = {"metadata": {"name": f"node-{index}"}, "spec": {"holderIdentity": f"node-{index}"}}
            await self.kubelet.create(LEASES, lease, namespace="kube-node-lease")
            made = await self.controllers.create(REPLICASETS, replicaset(f"web-{index}"), namespace="default")
            self.owners.append(made)

    async def _missing(self, resource: Resource, name: str) -> bool:
        return not (await self.controllers.list(resource, field_selector=f"metadata.name={name}")).items

    # --- the kinds of writes: each makes the n-th ----------------------------------------------------------------------

    async def create(self, number: int) -> None:
        """A pod of a ReplicaSet."""
        owner = self.owners[number * 10 // self.count]
        pod = from_template(owner, owner["spec"]["template"], "apps/v1", "ReplicaSet")
        self.pods.append(await self.controllers.create(PODS, pod, namespace="default"))

    async def bind(self, number: int) -> None:
        """A Binding."""
        meta = self.pods[number]["metadata"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "namespace": "default", "uid": meta["uid"]},
            "target": {"kind": "Node", "name": f"node-{number % HOSTS}"},
        }
        await self.scheduler.create(PODS, body, namespace="default", name=meta["name"], subresource="binding")

    async def event(self, number: int) -> None:
        """The scheduler's Event."""
        pod = self.pods[number]
        body = self.recorder._body(pod, "Normal", "Scheduled", "Binding", "assigned", "s", None, SYSTEM.now())
        self.events.append(await self.scheduler.create(EVENTS, body, namespace="default"))

    async def status(self, number: int) -> None:
        """A node's word that the pod runs."""
        pod = self.pods[number]
        address = f"10.245.{number // 250}.{number % 250 + 1}"
        patch = pod_status(pod, "10.246.0.1", address, STAMP) or {}
        patch["metadata"] = {"uid": pod["metadata"]["uid"]}
        await self.kubelet.patch(
            PODS, pod["metadata"]["name"], patch, patch_type="merge", namespace="default", subresource="status"
        )

    async def lease(self, number: int) -> None:
        """A node's heartbeat."""
        patch = {"spec": {"renewTime": f"2026-01-01T00:00:00.{number:06d}Z", "leaseDurationSeconds": 40}}
        await self.kubelet.patch(
            LEASES, f"node-{number % HOSTS}", patch, patch_type="merge", namespace="kube-node-lease"
        )

    async def owner_status(self, number: int) -> None:
        """The count of a ReplicaSet's pods, replaced."""
        status = {"replicas": number + 1, "fullyLabeledReplicas": number + 1}
        owner = {**self.owners[number % HOSTS], "status": status}
        owner["metadata"] = {k: v for k, v in owner["metadata"].items() if k != "resourceVersion"}
        await self.controllers.update(REPLICASETS, owner, namespace="default", subresource="status")

    async def get(self, number: int) -> None:
        """A pod read."""
        await self.controllers.get(PODS, self.pods[number]["metadata"]["name"], namespace="default")

    async def delete(self, number: int) -> None:
        """A deletion with grace: the pod is marked."""
        meta = self.pods[number]["metadata"]
        options = {"preconditions": {"uid": meta["uid"]}, "propagationPolicy": "Background"}
        await self.controllers.delete(PODS, meta["name"], namespace="default", options=options)

    async def end(self, number: int) -> None:
        """The node's answer to it: the pod is gone."""
        meta = self.pods[number]["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        await self.kubelet.delete(PODS, meta["name"], namespace="default", options=options)

    async def run(self, work: Callable[[int], Awaitable[None]], numbers: Iterator[int]) -> None:
        """``work`` for every number."""

        async def worker() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))

    async def timed(self, kind: str) -> list[tuple[float, float]]:
        """Microseconds per write, of the loop and of other threads, of every slice of the writes."""
        work, found = getattr(self, kind), []
        for start in range(0, self.count, SLICE):
            loop, process = time.thread_time(), time.process_time()
            await self.run(work, iter(range(start, min(start + SLICE, self.count))))
            loop, process = time.thread_time() - loop, time.process_time() - process
            found.append((loop / SLICE * 1e6, (process - loop) / SLICE * 1e6))
        return found


KINDS = ("create", "bind", "event", "status", "lease", "owner_status", "get", "delete", "end")


async def measure(options: argparse.Namespace, found: dict[str, list[tuple[float, float]]]) -> None:
    home = Path(tempfile.mkdtemp(prefix="bench-writes-", dir=options.folder))
    server = ApiServer(SqliteBackend(home / "store.db"), ensure_pki(home, ["127.0.0.1"]))
    await server.start()
    try:
        await bootstrap(server, Place("127.0.0.1", 6443, server.allocator.first, "10.96.0.0/16"), server.pki)
        collect_rarely()  # as run/control_plane.py does
        writes = Writes(server, options.count)
        await writes.prepare()
        for kind in KINDS:
            profile = cProfile.Profile() if options.profile == kind else None
            if profile:
                profile.enable()
            found.setdefault(kind, []).extend(await writes.timed(kind))
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(50)
    finally:
        await server.stop()
        shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2560)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--profile", default="", choices=("", *KINDS), help="print a profile of one kind")
    options = parser.parse_args()
    few_arenas()
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(options.rounds):
        uvloop.run(measure(options, found))
    print(f"{'µs of the processor per write':<42} {'loop':>8} {'quickest':>9} {'others':>8}")
    for kind, times in found.items():
        told = (getattr(Writes, kind).__doc__ or "").strip().rstrip(".")
        loop = sorted(t[0] for t in times)
        beside = statistics.median(t[1] for t in times)
        print(f"{told:<42} {statistics.median(loop):>8.0f} {loop[len(loop) // 10]:>9.0f} {beside:>8.0f}")


if __name__ == "__main__":
    main()
