"""No pod that could be placed stays unwoken: random clusters that change, with the scheduler's queue, hints and decisions.

After every change the woken pods are tried; then each pod that is still parked is held against the decisions and (pods
without claims) the slow oracle. What wakes nobody is shown by counters.

    PORTSIDE_CLUSTERS=500 PORTSIDE_SEED=1 python -m pytest -s tests/props/test_waking.py
"""

from __future__ import annotations

import copy
import os
from collections import Counter
from random import Random
from typing import Any

from portside.scheduler import preemption
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.devices import Devices
from portside.scheduler.hints import BY_DEVICES, VOLUMES, Hints, Kind, News, refusers
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.profile import DEFAULT
from portside.scheduler.queue import Queue
from portside.scheduler.snapshot import Snapshot
from portside.scheduler.volumes import Volumes
from portside.scheduler.waker import Waker
from tests.unit.scheduler import oracle, random_clusters, random_devices

Json = dict[str, Any]
CLUSTERS, SEED = int(os.environ.get("PORTSIDE_CLUSTERS", "15")), int(os.environ.get("PORTSIDE_SEED", "1"))
CHANGES = 25
LATER = 1e9  # when every back-off is over
STORAGE = (
    *("persistentvolumeclaims", "persistentvolumes", "storageclasses", "csinodes"),
    *("csidrivers", "csistoragecapacities"),
)
DEVICES = ("resourceclaims", "resourceslices", "deviceclasses", "devicetaintrules")


class World:
    """A cluster with its parked pods; ``changes`` counts what was done to it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.seed = seed
        self.nodes = {
            n["metadata"]["name"]: n for n in (random_clusters.node(rng, i) for i in range(rng.randint(1, 5)))
        }
        nodes = list(self.nodes.values())
        self.all = random_clusters.storage(rng, nodes) | random_devices.objects(rng, nodes)
        for held in self.all.values():
            for name, obj in held.items():
                obj.setdefault("metadata", {"name": name})
        keep = {k: {n for n in v if rng.random() < 0.6} for k, v in self.all.items()}
        self.objects = {k: {n: o for n, o in v.items() if n in keep[k]} for k, v in self.all.items()}
        self.namespaces = copy.deepcopy(random_clusters.NAMESPACES)
        self.snapshot = Snapshot(2)
        for name, labels in self.namespaces.items():
            self.snapshot.set_namespace(name, labels)
        for node in nodes:
            self.snapshot.set_node(node)
        self.volumes, self.devices = Volumes(self.objects.__getitem__), Devices(self.objects.__getitem__)
        extra = (
            ("VolumeRestrictions", self.volumes.restrictions),
            ("NodeVolumeLimits", self.volumes.limits),
            ("VolumeBinding", self.volumes.binding),
            ("VolumeZone", self.volumes.zones),
        )
        self.cycle = Cycle(self.snapshot, Random(seed), extra=extra, devices=self.devices)
        self.queue = Queue()
        hints = Hints(self.snapshot, {DEFAULT.name: DEFAULT}, self.objects.__getitem__, {})
        self.waker = Waker(self.queue, hints, {})
        self.pending: dict[str, PodInfo] = {}
        self.number = 0
        self.tries = 0

    def decide(self, info: PodInfo) -> Placed | Unplaced:
        if info.claims and self.volumes.problem(info):
            return Unplaced("", {}, 0, final=True, plugins=VOLUMES)
        if info.devices and (self.devices.unmade(info) or self.devices.problem(info)):
            return Unplaced("", {}, 0, final=True, plugins=BY_DEVICES)
        return self.cycle.decide(info)

    def settle(self) -> None:
        """Bring the news, try who is woken, until nobody is."""
        for _ in range(10_000):
            self.waker.announce()
            key = self.queue.pop(LATER)
            if key is None:
                if not self.waker.news:
                    return
                continue
            if key in self.pending:
                self.tries += 1
                self.attempt(self.pending[key])
        raise AssertionError(f"seed {self.seed}: pods are woken without end")

    def attempt(self, info: PodInfo) -> None:
        found = self.decide(info)
        node = found.node if isinstance(found, Placed) else ""
        if isinstance(found, Unplaced) and not found.final and not info.never_preempts:
            victims = preemption.find(self.cycle, info, found, [])
            if isinstance(victims, preemption.Victims):
                for victim in victims.pods:
                    self.leave(victim)
                node = victims.node
        if not node:
            assert isinstance(found, Unplaced)
            self.queue.failed(info.key, LATER, Kind.of(info, refusers(info, found)))
            return
        if info.claims:
            self.volumes.forget(self.volumes.plan(info, self.snapshot, node))
        if self.cycle.asks(info):
            self.devices.forget(self.devices.plan(info, self.snapshot, node))
        del self.pending[info.key]
        self.queue.remove(info.key)
        info.node_name = node
        self.snapshot.set_pod(info)
        self.tell("pod", None, info, node)

    def tell(self, what: str, old: Any = None, new: Any = None, node: str = "") -> None:
        self.waker.tell(News(what, old, new, node))

    def leave(self, info: PodInfo) -> None:
        self.snapshot.remove_pod(info.uid)
        self.tell("pod", info, None, info.node_name)

    # Changes

    def new_pod(self) -> None:
        self.number += 1
        body = random_clusters.pod(self.rng, self.number, rules=self.rng.random() < 0.7)
        spec, namespace = body["spec"], body["metadata"]["namespace"]
        if self.rng.random() < 0.4:
            spec["preemptionPolicy"] = "Never"
        for plural, held in (("persistentvolumeclaims", "volumes"), ("resourceclaims", "resourceClaims")):
            names = [k.split("/")[1] for k in self.all[plural] if k.startswith(f"{namespace}/")]
            if not names or self.rng.random() < 0.8:
                continue
            name = self.rng.choice(names)
            claim: Json = {"persistentVolumeClaim": {"claimName": name}} if held == "volumes" else {}
            spec[held] = [{"name": name, **(claim or {"resourceClaimName": name})}]
        if self.rng.random() < 0.15:
            spec.setdefault("volumes", []).append(random_clusters.disk(self.rng, self.number))
        info = read_pod(body)
        self.pending[info.key] = info
        self.queue.add(info.key, info.priority, LATER)

    def gone_pod(self) -> None:
        placed = [info for info, _ in self.snapshot.pods.values()]
        if placed:
            self.leave(self.rng.choice(placed))

    def changed_pod(self) -> None:
        placed = [info for info, _ in self.snapshot.pods.values()]
        if not placed:
            return
        old = self.rng.choice(placed)
        body = copy.deepcopy(old.object)
        body["spec"]["nodeName"] = old.node_name
        if self.rng.random() < 0.5:
            body["metadata"]["labels"] = self.rng.choice([{}, {"app": "a"}, {"app": "b"}])
        else:
            body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        new = read_pod(body)
        self.snapshot.set_pod(new)
        self.tell("pod", old, new, new.node_name)

    def new_node(self) -> None:
        node = random_clusters.node(self.rng, 10 + self.number + len(self.nodes))
        self.set_node(node)

    def set_node(self, node: Json) -> None:
        name = node["metadata"]["name"]
        old = self.nodes.get(name)
        self.nodes[name] = node
        self.snapshot.set_node(node)
        self.tell("node", old, node, name)

    def gone_node(self) -> None:
        if self.nodes:
            name = self.rng.choice(sorted(self.nodes))
            self.snapshot.remove_node(name)
            self.tell("node", self.nodes.pop(name), None, name)

    def changed_node(self) -> None:
        if not self.nodes:
            return
        node = copy.deepcopy(self.nodes[self.rng.choice(sorted(self.nodes))])
        fresh = random_clusters.node(self.rng, 0)
        part = self.rng.choice(["labels", "spec", "status"])
        if part == "labels":
            labels = fresh["metadata"]["labels"]
            node["metadata"]["labels"] = labels | {random_clusters.HOST: node["metadata"]["name"]}
        else:
            node[part] = fresh[part]
        self.set_node(node)

    def changed_namespace(self) -> None:
        name = self.rng.choice(["d", "e"])
        self.namespaces[name] = {"team": self.rng.choice(["x", "y"])}
        self.snapshot.set_namespace(name, self.namespaces[name])
        self.tell("namespace")

    def changed_object(self) -> None:
        plural = self.rng.choice((*STORAGE, *DEVICES))
        if not self.all[plural]:
            return
        key = self.rng.choice(sorted(self.all[plural]))
        old = self.objects[plural].pop(key, None)
        new = None
        if old is None or self.rng.random() < 0.3:
            new = self.objects[plural][key] = copy.deepcopy(self.all[plural][key])
        self.tell(plural, old, new)

    # What must hold

    def check(self) -> None:
        cluster = oracle.Cluster(list(self.nodes.values()), [], self.namespaces)
        for info, _ in self.snapshot.pods.values():
            body = {**info.object, "spec": {**info.object["spec"], "nodeName": info.node_name}}
            cluster.pods.append(body)
        for info in self.pending.values():
            found = self.decide(info)
            where = f"seed {self.seed}: {info.key}"
            assert isinstance(found, Unplaced), f"{where} stays parked but would go to {found.node}"
            if not info.mounts and not info.devices:
                fitting = [n["metadata"]["name"] for n in self.nodes.values() if oracle.fits(info.object, n, cluster)]
                assert not fitting, f"{where} stays parked, the oracle would let it on {fitting}"
            if not found.final and not info.never_preempts:
                victims = preemption.find(self.cycle, info, found, [])
                assert isinstance(victims, str), f"{where} stays parked but could evict {victims}"


def test_no_pod_that_could_be_placed_stays_unwoken() -> None:
    done: Counter[str] = Counter()
    for seed in range(SEED, SEED + CLUSTERS):
        world = World(seed)
        changes = [
            *(world.new_pod, world.new_pod, world.new_pod, world.gone_pod, world.changed_pod, world.new_node),
            *(world.gone_node, world.changed_node, world.changed_namespace, world.changed_object, world.changed_object),
        ]
        for _ in range(CHANGES):
            for _ in range(world.rng.choice([1, 1, 3])):
                change = world.rng.choice(changes)
                change()
                done[change.__name__] += 1
            world.settle()
            world.check()
            done["pods still parked, looked at"] += len(world.pending)
        done["attempts"] += world.tries
    print(f"{CLUSTERS} clusters, {dict(done)}; nobody was forgotten")
    assert done["pods still parked, looked at"]
