"""Random clusters, each from its own seed, against the slow oracles: decisions, volumes, devices, victims and gangs.

    PORTSIDE_CLUSTERS=1000 PORTSIDE_SEED=1 python -m pytest -s tests/props/test_clusters.py

A disagreement names the seed of its cluster. A few run in every test.
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import Any

from portside.scheduler import gang
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.devices import Allocation, Devices
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.preemption import Budget, Victims, find
from portside.scheduler.snapshot import Snapshot
from portside.scheduler.volumes import Volumes
from tests.unit.scheduler import oracle, oracle_claims, oracle_devices, random_clusters, random_devices

Json = dict[str, Any]
CLUSTERS, SEED = int(os.environ.get("PORTSIDE_CLUSTERS", "6")), int(os.environ.get("PORTSIDE_SEED", "1"))


class World:
    """One cluster, as the scheduler and as the oracles see it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = Random(seed)
        self.seed = seed
        self.nodes = [random_clusters.node(rng, i) for i in range(rng.randint(2, 10))]
        self.objects = random_clusters.storage(rng, self.nodes) | random_devices.objects(rng, self.nodes)
        self.cluster = oracle.Cluster(self.nodes, [], random_clusters.NAMESPACES)
        self.snapshot = Snapshot(2)
        for name, labels in random_clusters.NAMESPACES.items():
            self.snapshot.set_namespace(name, labels)
        for node in self.nodes:
            self.snapshot.set_node(node)
        self.volumes, self.devices = Volumes(self.objects.__getitem__), Devices(self.objects.__getitem__, Random(seed))
        self.cycle = Cycle(self.snapshot, Random(seed))
        self.number = 0

    def pod(self, *, rules: bool = True) -> Json:
        self.number += 1
        return random_clusters.pod(self.rng, self.number, rules=rules)

    def put(self, info: PodInfo, node: str) -> None:
        info.node_name = node
        self.snapshot.set_pod(info)
        self.cluster.pods.append({**info.object, "spec": {**info.object["spec"], "nodeName": node}})

    def take(self, info: PodInfo) -> None:
        self.snapshot.remove_pod(info.uid)
        self.cluster.pods = [p for p in self.cluster.pods if p["metadata"]["uid"] != info.uid]
        info.node_name = ""

    def rows_refused(self, refusals: list[Any]) -> set[str]:
        return {self.snapshot.names[r] for refusal in refusals for r in refusal.rows.nonzero()[0].tolist()}


def decisions(world: World, seen: Counter[str]) -> None:
    """Every pod goes where the oracle says it is best, or nowhere."""
    for _ in range(world.rng.randint(5, 25)):
        body = world.pod()
        right = oracle.best(body, world.cluster)
        info = read_pod(body)
        found = world.cycle.decide(info)
        node = found.node if isinstance(found, Placed) else ""
        seen["decisions"] += 1
        assert node in (right or {""}), f"seed {world.seed}: {body['metadata']['name']} to {node!r}, best are {right}"
        if node:
            world.put(info, node)
        if world.cluster.pods and world.rng.random() < 0.1:
            gone = world.rng.choice(world.cluster.pods)
            world.take(world.snapshot.pods[gone["metadata"]["uid"]][0])


def with_volumes(world: World, seen: Counter[str]) -> None:
    """Exactly the nodes refuse a pod with claims that the oracle says do."""
    claims = list(world.objects["persistentvolumeclaims"].values())
    for _ in range(8):
        body = world.pod(rules=False)
        mine = [c for c in claims if c["metadata"]["namespace"] == body["metadata"]["namespace"]]
        if not mine:
            continue
        names = [c["metadata"]["name"] for c in world.rng.sample(mine, min(len(mine), world.rng.randint(1, 2)))]
        body["spec"]["volumes"] = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in names]
        if world.rng.random() < 0.4:
            body["spec"]["volumes"].append(random_clusters.disk(world.rng, world.number))
        info = read_pod(body)
        checks = (world.volumes.restrictions, world.volumes.limits, world.volumes.binding, world.volumes.zones)
        refused = world.rows_refused([r for check in checks for r in check(info, world.snapshot)])
        good = {
            n["metadata"]["name"]
            for n in world.nodes
            if oracle_claims.volumes_fit(body, n, world.cluster, world.objects)
        }
        seen["pods with volumes"] += 1
        left = {n["metadata"]["name"] for n in world.nodes} - refused
        assert left == good, f"seed {world.seed}: {body['metadata']['name']} with {names}: {left}, oracle {good}"
        if good and not isinstance(found := world.cycle.decide(info), Unplaced) and found.node in good:
            world.put(info, found.node)


def with_devices(world: World, seen: Counter[str]) -> None:
    """Exactly the nodes refuse a pod with device claims where no choice of free devices answers them."""
    claims = list(world.objects["resourceclaims"].values())
    held: list[Json] = []
    for claim in claims:
        body = world.pod(rules=False)
        body["metadata"]["namespace"] = claim["metadata"]["namespace"]
        mine = [c for c in claims if c["metadata"]["namespace"] == claim["metadata"]["namespace"]]
        chosen = [claim] if world.rng.random() < 0.7 else world.rng.sample(mine, min(2, len(mine)))
        chosen = [
            c for c in chosen if f"{c['metadata']['namespace']}/{c['metadata']['name']}" not in world.devices.promised
        ]
        names = [c["metadata"]["name"] for c in chosen]
        if not names:
            continue
        body["spec"]["resourceClaims"] = [{"name": n, "resourceClaimName": n} for n in names]
        info = read_pod(body)
        refused = world.rows_refused(world.devices.filter(info, world.snapshot, world.snapshot.live))
        good = {n["metadata"]["name"] for n in world.nodes if oracle_devices.fit(body, n, world.objects, held)}
        seen["pods with devices"] += 1
        left = {n["metadata"]["name"] for n in world.nodes} - refused
        assert left == good, f"seed {world.seed}: {names}: {left}, oracle {good}"
        if good:
            node = next(n for n in world.nodes if n["metadata"]["name"] == sorted(good)[0])
            made = world.devices.plan(info, world.snapshot, sorted(good)[0])
            assert allowed(world, node, chosen, made, held), f"seed {world.seed}: {names} got what they can't have"
            held += [r for a in made if a.status for r in a.status["devices"]["results"]]


def allowed(world: World, node: Json, claims: list[Json], made: list[Allocation], held: list[Json]) -> bool:
    """Whether the oracle calls right what was given to the claims of one pod."""
    found, given = oracle_devices.Node(node, world.objects), []
    for claim, allocation in zip(claims, made, strict=True):
        assert allocation.status is not None
        ways = {n: (r["name"], w) for r in claim["spec"]["devices"]["requests"] for n, w in oracle_devices.ways(r)}
        for result in allocation.status["devices"]["results"]:
            id_ = (result["driver"], result["pool"], result["device"])
            request, wanted = ways[result["request"]]
            if not found.selected(id_, wanted):
                return False
            given.append((id_, (claim, request, result["request"], wanted, found.devices[id_])))
    return oracle_devices.right(found, given, held)


def victims(world: World, seen: Counter[str]) -> None:
    """Who is evicted is what the oracle calls the least harm, and the pod fits afterwards."""
    for _ in range(6):
        body, budgets = world.pod(), random_clusters.budgets(world.rng)
        body["spec"]["priority"] = world.rng.randint(1, 10)
        info = read_pod(body)
        decision = world.cycle.decide(info)
        if isinstance(decision, Placed):
            continue
        found = find(world.cycle, info, decision, [Budget.of(b) for b in budgets])
        possible = oracle_claims.victims(body, world.cluster, budgets)
        seen["preemptions"] += 1
        if not isinstance(found, Victims) or not found.pods:
            assert not possible, f"seed {world.seed}: nobody for {body['metadata']['name']}, oracle {possible}"
            continue
        least = min(harm for harm, _, _ in possible)
        best = {(node, uids) for harm, node, uids in possible if harm == least}
        chosen = (found.node, frozenset(p.uid for p in found.pods))
        assert chosen in best, f"seed {world.seed}: {chosen}, the oracle's least are {best}"


def gangs(world: World, seen: Counter[str]) -> None:
    """A gang gets all it needs, or leaves no trace."""
    for i in range(3):
        members = []
        for _ in range(world.rng.randint(1, 6)):
            body = world.pod()
            body["metadata"]["namespace"] = "d"
            body["spec"] |= {"schedulingGroup": {"podGroupName": f"g{i}"}, "priority": 0}
            members.append(read_pod(body))
        least = world.rng.randint(1, 6)
        before = world.snapshot.used.tolist(), set(world.snapshot.pods)
        hands = gang.Hands(world.cycle.decide, world.put, world.take)
        found = gang.attempt(gang.Group(f"d/g{i}", least, False, 0, {}), members, 0, hands)
        placed = world.snapshot.groups.get(f"d/g{i}", set())
        seen["gangs"] += 1
        if found.message:
            after = world.snapshot.used.tolist(), set(world.snapshot.pods)
            assert before == after and not placed, f"seed {world.seed}: half of a gang stayed"
        else:
            assert len(placed) >= least, f"seed {world.seed}: {len(placed)} of {least} placed"


def test_random_clusters_agree_with_the_oracles() -> None:
    seen: Counter[str] = Counter()
    for seed in range(SEED, SEED + CLUSTERS):
        world = World(seed)
        for part in (decisions, victims, with_volumes, with_devices, gangs):
            part(world, seen)
        for node in world.nodes:
            room, taken = oracle.allocatable(node), oracle.used(node, world.cluster)
            over = [n for n, amount in taken.items() if amount > room.get(n, 0)]
            assert not over and len(world.cluster.on(node)) <= room["pods"], f"seed {seed}: {over} is over"
        seen["clusters"] += 1
        seen["pods"] += world.number
    said = ", ".join(f"{number:,} {what}" for what, number in seen.items())
    print(f"seeds {SEED} to {SEED + CLUSTERS - 1}: {said}; 0 disagreements")
    assert seen["clusters"] == CLUSTERS
