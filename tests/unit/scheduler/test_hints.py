"""Who is woken by what: storms of news that help nobody wake nobody, and what helps wakes as many as it makes room for."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from portside.scheduler.cycle import Cycle, Unplaced
from portside.scheduler.hints import BY_DEVICES, GANG, Hints, Kind, News, refusers
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.profile import DEFAULT
from portside.scheduler.queue import Queue
from portside.scheduler.snapshot import Snapshot
from portside.scheduler.waker import Waker

Json = dict[str, Any]
ZONE = "topology.kubernetes.io/zone"


def node(name: str, cpu: str = "4", pods: str = "10", **labels: str) -> Json:
    amounts = {"cpu": cpu, "memory": "8Gi", "pods": pods}
    return {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"allocatable": amounts}}


def pod(name: str, cpu: str = "1", labels: Json | None = None, **spec: Any) -> PodInfo:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "uid": name, "namespace": "d", "labels": labels or {}}
    return read_pod({"metadata": meta, "spec": {"containers": [container], **spec}})


class World:
    def __init__(self, *nodes: Json) -> None:
        self.snapshot = Snapshot(2)
        self.snapshot.set_namespace("d", {})
        for one in nodes:
            self.snapshot.set_node(one)
        self.cycle, self.queue = Cycle(self.snapshot, Random(1)), Queue()
        hints = Hints(self.snapshot, {DEFAULT.name: DEFAULT}, {}.__getitem__, {})
        self.waker = Waker(self.queue, hints, {})

    def park(self, *infos: PodInfo, plugins: frozenset[str] | None = None) -> None:
        """``plugins``: what refused them; None: what refuses them in this world."""
        for info in infos:
            found = self.cycle.decide(info)
            if plugins is None:
                assert isinstance(found, Unplaced)
            said = refusers(info, found) if plugins is None and isinstance(found, Unplaced) else plugins
            self.queue.add(info.key, info.priority, 0.0)
            self.queue.pop(0.0)
            self.queue.failed(info.key, 0.0, Kind.of(info, said or frozenset()))

    def put(self, info: PodInfo, name: str) -> PodInfo:
        info.node_name = name
        self.snapshot.set_pod(info)
        return info

    def gone(self, info: PodInfo) -> News:
        self.snapshot.remove_pod(info.uid)
        return News("pod", info, None, info.node_name)

    def woken(self, *news: News) -> list[str]:
        for one in news:
            self.waker.tell(one)
        self.waker.announce()
        found = []
        while (key := self.queue.pop(0.0)) is not None:
            found.append(key)
        return found


def test_a_storm_of_news_that_helps_nobody_wakes_nobody() -> None:
    world = World(node("a", pool="x"), node("b", pool="y"))
    big = world.put(pod("big", "4"), "a")
    world.park(pod("p", "3", nodeSelector={"pool": "x"}), pod("q", "16"))
    storm = []
    for i in range(2000):
        info = world.put(pod(f"s{i}", "100m"), "b")
        storm += [News("pod", None, info, "b"), world.gone(info)]
        storm.append(News("node", node("b", pool="y"), node("b", pool="y", beat=str(i)), "b"))
        storm.append(News("node", node("a", pool="x"), node("a", pool="x", beat=str(i)), "a"))
        storm.append(News("persistentvolumeclaims", None, {"metadata": {"namespace": "d", "name": f"c{i}"}}))
        storm.append(News("namespace"))
    assert world.woken(*storm) == []
    assert not any(name.startswith("woken") for name in world.waker.counts)
    assert world.waker.counts["pod"] == 4000
    assert world.woken(world.gone(big)) == ["d/p"]
    assert world.waker.counts["woken by pod"] == 1


def test_a_new_node_wakes_as_many_equal_pods_as_it_has_room_for() -> None:
    world = World(node("a", "1"))
    world.put(pod("there"), "a")
    world.park(*(pod(f"p{i:02}") for i in range(20)))
    fresh = node("b", "3")
    world.snapshot.set_node(fresh)
    assert world.woken(News("node", None, fresh, "b")) == ["d/p00", "d/p01", "d/p02"]


def test_room_that_less_important_pods_hold_counts() -> None:
    world = World(node("a", "4"))
    above, below = world.put(pod("above", "3", priority=9), "a"), world.put(pod("below", "1"), "a")
    world.park(pod("p", "4", priority=5), pod("q", "4", priority=5, preemptionPolicy="Never"))
    assert below
    assert world.woken(world.gone(above)) == ["d/p"]


def test_a_pod_that_comes_wakes_those_that_look_for_its_company_alone() -> None:
    term = {"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "db"}}}
    affinity = {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    world = World(node("a", **{ZONE: "1"}))
    world.park(pod("p", affinity=affinity), pod("q", "8"))
    assert world.woken(News("pod", None, world.put(pod("web", labels={"app": "web"}), "a"), "a")) == []
    assert world.woken(News("pod", None, world.put(pod("db", labels={"app": "db"}), "a"), "a")) == ["d/p"]


def test_a_pod_held_back_by_skew_is_woken_when_the_emptiest_domain_gets_a_pod() -> None:
    constraint = {
        "topologyKey": ZONE,
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "a"}},
    }
    world = World(node("a", **{ZONE: "1"}), node("b", "1", **{ZONE: "2"}))
    world.put(pod("a1", labels={"app": "a"}), "a")
    other = world.put(pod("other"), "b")
    world.park(pod("p", labels={"app": "a"}, topologySpreadConstraints=[constraint]))
    assert world.woken(News("pod", None, world.put(pod("x", "0"), "b"), "b")) == []
    world.snapshot.remove_pod(other.uid)
    assert world.woken(News("pod", None, world.put(pod("a2", labels={"app": "a"}), "b"), "b")) == ["d/p"]


def test_a_node_without_its_taint_wakes_those_that_did_not_tolerate_it() -> None:
    tainted = node("a")
    tainted["spec"]["taints"] = [{"key": "k", "value": "v", "effect": "NoSchedule"}]
    world = World(tainted)
    world.park(pod("p"))
    other = {**tainted, "spec": {"taints": [*tainted["spec"]["taints"], {"key": "soft", "effect": "PreferNoSchedule"}]}}
    assert world.woken(News("node", tainted, other, "a")) == []
    world.snapshot.set_node(node("a"))
    assert world.woken(News("node", other, node("a"), "a")) == ["d/p"]


def test_a_claim_that_gives_its_devices_back_wakes_those_that_wait_for_devices() -> None:
    meta = {"namespace": "d", "name": "other"}
    held = {"metadata": meta, "status": {"allocation": {"devices": {}, "nodeSelector": {}}}}
    world = World(node("a"))
    world.park(pod("p", resourceClaims=[{"name": "r", "resourceClaimName": "r"}]), plugins=BY_DEVICES)
    assert world.woken(News("resourceclaims", None, held)) == []
    assert world.woken(News("resourceclaims", held, {"metadata": meta, "status": {}})) == ["d/p"]


@pytest.mark.parametrize("what", ["pod", "node", "namespace", "persistentvolumes", "resourceclaims", "group"])
def test_a_pod_refused_by_what_is_not_known_is_woken_by_everything(what: str) -> None:
    world = World(node("a"))
    world.park(pod("p"), plugins=frozenset())
    assert world.woken(News(what, None, None, "a")) == ["d/p"]


def test_a_gang_that_waits_for_members_is_woken_by_its_own_alone() -> None:
    world = World(node("a"))
    world.park(pod("p", schedulingGroup={"podGroupName": "g"}), plugins=frozenset((GANG,)))
    other = world.put(pod("o", schedulingGroup={"podGroupName": "h"}), "a")
    assert world.woken(News("pod", None, other, "a"), world.gone(other)) == []
    mine = world.put(pod("m", schedulingGroup={"podGroupName": "g"}), "a")
    assert world.woken(News("pod", None, mine, "a")) == ["d/p"]
