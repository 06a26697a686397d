"""Who is evicted so that a more important pod fits."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.unit.scheduler.test_cycle import affinity, node, pod

from portside.scheduler.cycle import Cycle, Unplaced
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.preemption import Budget, Victims, find, ineligible, won
from portside.scheduler.snapshot import Snapshot

Json = dict[str, Any]


class Cluster:
    def __init__(self, *nodes: Json) -> None:
        self.snapshot = Snapshot(2)
        for each in nodes:
            self.snapshot.set_node(each)
        self.cycle = Cycle(self.snapshot, Random(1))

    def put(self, name: str, where: str, priority: int = 0, **more: Any) -> PodInfo:
        started = more.pop("started", "")
        body = pod(name, nodeName=where, priority=priority, **more)
        body["status"] = {"startTime": started}
        info = read_pod(body)
        self.snapshot.set_pod(info)
        return info

    def preempt(self, body: Json, *budgets: Json) -> Victims | str:
        info = read_pod(body)
        decision = self.cycle.decide(info)
        assert isinstance(decision, Unplaced)
        before = self.snapshot.used.copy()
        found = find(self.cycle, info, decision, [Budget.of(b) for b in budgets])
        assert (self.snapshot.used == before).all()
        return found


def names(found: Victims | str) -> tuple[str, list[str]]:
    assert isinstance(found, Victims), found
    return found.node, [p.name for p in found.pods]


def budget(allowed: int, **match: str) -> Json:
    return {
        "metadata": {"namespace": "d", "name": "b"},
        "spec": {"selector": {"matchLabels": match}},
        "status": {"disruptionsAllowed": allowed},
    }


def test_no_more_pods_go_than_the_room_needs_and_the_less_important_first() -> None:
    cluster = Cluster(node("a"))
    cluster.put("low", "a", 1, cpu="1")
    cluster.put("mid", "a", 5, cpu="1")
    cluster.put("high", "a", 9, cpu="2")
    assert names(cluster.preempt(pod("p", cpu="1", priority=10))) == ("a", ["low"])
    assert names(cluster.preempt(pod("p", cpu="2", priority=10))) == ("a", ["mid", "low"])


def test_the_node_whose_victims_matter_least_is_chosen() -> None:
    cluster = Cluster(node("a"), node("b"), node("c"))
    cluster.put("five", "a", 5, cpu="4")
    cluster.put("three", "b", 3, cpu="4")
    cluster.put("two", "c", 3, cpu="2")
    cluster.put("too", "c", 1, cpu="2")
    assert names(cluster.preempt(pod("p", cpu="4", priority=10))) == ("b", ["three"])


def test_among_equals_the_node_whose_victims_started_last() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.put("old", "a", 3, cpu="4", started="2026-01-01T00:00:00Z")
    cluster.put("new", "b", 3, cpu="4", started="2026-02-01T00:00:00Z")
    assert names(cluster.preempt(pod("p", cpu="4", priority=10))) == ("b", ["new"])


def test_budgets_are_broken_only_when_nothing_else_helps() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.put("guarded", "a", 1, cpu="4", labels={"app": "g"})
    cluster.put("free", "b", 8, cpu="4")
    assert names(cluster.preempt(pod("p", cpu="4", priority=10), budget(0, app="g"))) == ("b", ["free"])
    cluster.snapshot.remove_pod("uid-free")
    cluster.put("equal", "b", 10, cpu="4")
    found = cluster.preempt(pod("p", cpu="4", priority=10), budget(0, app="g"))
    assert names(found) == ("a", ["guarded"])
    assert isinstance(found, Victims)
    assert found.broken == 1


def test_equals_are_never_evicted() -> None:
    cluster = Cluster(node("a"))
    cluster.put("same", "a", 10, cpu="4")
    assert (
        cluster.preempt(pod("p", cpu="4", priority=10))
        == "0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_what_stays_too_small_is_said_by_its_filter() -> None:
    cluster = Cluster(node("a"))
    cluster.put("low", "a", 1, cpu="1")
    cluster.put("high", "a", 20, cpu="2")
    assert cluster.preempt(pod("p", cpu="3", priority=10)) == "0/1 nodes are available: 1 Insufficient cpu."


def test_pods_that_keep_others_away_can_be_victims() -> None:
    cluster = Cluster(node("a"))
    cluster.put("alone", "a", 1, affinity=affinity("podAntiAffinity", "kubernetes.io/hostname", app="x"))
    cluster.put("other", "a", 1)
    assert names(cluster.preempt(pod("p", priority=10, labels={"app": "x"}))) == ("a", ["alone"])


def test_host_ports_are_won_back() -> None:
    cluster = Cluster(node("a"))
    cluster.put("holder", "a", 1, ports=[{"hostPort": 80}])
    cluster.put("other", "a", 1, ports=[{"hostPort": 81}])
    assert names(cluster.preempt(pod("p", priority=10, ports=[{"hostPort": 80}]))) == ("a", ["holder"])


def test_who_may_not_preempt_is_told_why() -> None:
    never = read_pod(pod("p", priority=10, preemptionPolicy="Never"))
    assert ineligible(never, ()) == "not eligible due to preemptionPolicy=Never."
    leaving = pod("v", priority=1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    leaving["status"] = {
        "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]
    }
    assert ineligible(read_pod(pod("p", priority=10)), [read_pod(leaving)]) == (
        "not eligible due to a terminating pod on the nominated node."
    )


def test_a_pod_that_room_is_made_for_is_told_where_and_by_whom() -> None:
    cluster = Cluster(node("a", cpu="2"))
    cluster.put("low", "a", cpu="2")
    found = cluster.preempt(pod("high", priority=10, cpu="1"))
    assert isinstance(found, Victims)
    assert won(found) == "preemption: found a potential placement for pod on node a, preempting 1 victims"
