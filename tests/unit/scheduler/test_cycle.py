"""One scheduling decision: who is chosen, and the words that explain why nobody is."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.pod_info import pod_requests, read_pod
from portside.scheduler.snapshot import Snapshot

Json = dict[str, Any]


def node(
    name: str,
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "10",
    labels: Json | None = None,
    taints: list[Json] | None = None,
    **spec: Any,
) -> Json:
    amounts = {"cpu": cpu, "memory": memory, "pods": pods}
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}},
        "spec": {"taints": taints or [], **spec},
        "status": {"allocatable": amounts},
    }


def pod(name: str, *, cpu: str = "", labels: Json | None = None, ports: list[Json] | None = None, **spec: Any) -> Json:
    container: Json = {"name": "c", "image": "i", "ports": ports or []}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    return {
        "metadata": {"name": name, "namespace": "d", "uid": f"uid-{name}", "labels": labels or {}},
        "spec": {"containers": [container], **spec},
    }


class Cluster:
    def __init__(self, *nodes: Json) -> None:
        self.snapshot = Snapshot(capacity=2)
        self.snapshot.set_namespace("d", {"kubernetes.io/metadata.name": "d"})
        for each in nodes:
            self.snapshot.set_node(each)
        self.cycle = Cycle(self.snapshot, Random(1))

    def decide(self, body: Json) -> Placed | Unplaced:
        return self.cycle.decide(read_pod(body))

    def place(self, body: Json) -> str:
        info = read_pod(body)
        decision = self.cycle.decide(info)
        assert isinstance(decision, Placed), decision
        info.node_name = decision.node
        self.snapshot.set_pod(info)
        return decision.node

    def why(self, body: Json) -> str:
        decision = self.decide(body)
        assert isinstance(decision, Unplaced)
        return decision.message


def affinity(kind: str, key: str, **match: str) -> Json:
    term = {"labelSelector": {"matchLabels": match}, "topologyKey": key}
    return {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}


def test_pods_spread_by_free_room() -> None:
    cluster = Cluster(node("a"), node("b"), node("c"))
    assert sorted(cluster.place(pod(f"p{i}", cpu="1")) for i in range(6)) == ["a", "a", "b", "b", "c", "c"]


def test_room_is_given_back_and_taken_by_a_node_that_comes_later() -> None:
    cluster = Cluster(node("a", cpu="1"))
    cluster.place(pod("one", cpu="1"))
    assert "1 Insufficient cpu" in cluster.why(pod("two", cpu="1"))
    cluster.snapshot.remove_pod("uid-one")
    assert cluster.place(pod("two", cpu="1")) == "a"
    early = read_pod(pod("early", cpu="1", nodeName="late"))
    cluster.snapshot.set_pod(early)
    cluster.snapshot.set_node(node("late", cpu="1"))
    assert "2 Insufficient cpu" in cluster.why(pod("three", cpu="1"))
    cluster.snapshot.remove_node("late")
    assert "0/1 nodes are available: 1 Insufficient cpu" in cluster.why(pod("three", cpu="1"))


def test_refusals_count_each_node_for_its_first_reason_in_upstreams_words() -> None:
    cluster = Cluster(
        node("small", cpu="1", labels={"x": "y"}),
        node("tainted", labels={"x": "y"}, taints=[{"key": "own", "value": "x", "effect": "NoSchedule"}]),
        node("cordoned", labels={"x": "y"}, unschedulable=True),
        node("other"),
    )
    assert cluster.why(pod("p", cpu="100", nodeSelector={"x": "y"})) == (
        "0/4 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s), "
        "1 node(s) were unschedulable. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling."
    )


def test_full_nodes_could_be_won_back_by_eviction() -> None:
    cluster = Cluster(node("a", pods="1"), node("b", cpu="1"))
    cluster.place(pod("x", cpu="500m", nodeName="a"))
    cluster.place(pod("y", cpu="800m", nodeName="b"))
    assert cluster.why(pod("p", cpu="1")) == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    )


def test_an_unknown_resource_never_fits() -> None:
    cluster = Cluster(node("a"))
    body = pod("p")
    body["spec"]["containers"][0]["resources"] = {"requests": {"example.com/gpu": "1"}}
    assert (
        "1 Insufficient example.com/gpu. preemption: 0/1 nodes are available: 1 Preemption is not helpful"
        in cluster.why(body)
    )


def test_a_name_that_is_no_node_ends_before_the_filters() -> None:
    cluster = Cluster(node("a"), node("b"))
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["zz"]}]}]
    body = pod(
        "p", affinity={"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    )
    assert cluster.why(body).startswith(
        "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. preemption:"
    )


def test_a_pod_for_one_node_by_name_is_told_of_that_node_alone() -> None:
    cluster = Cluster(node("a", cpu="1"), node("b", taints=[{"key": "k", "value": "", "effect": "NoSchedule"}]))
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a"]}]}]
    required = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    assert cluster.why(pod("p", cpu="2", affinity=required)) == (
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. "
        "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    )


def test_no_nodes() -> None:
    assert Cluster().why(pod("p")).startswith("0/0 nodes are available: no nodes available to schedule pods")


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}, True),
        ({"key": "k", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "k", "operator": "Equal", "value": "w"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations(toleration: Json, fits: bool) -> None:
    cluster = Cluster(node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}]))
    assert isinstance(cluster.decide(pod("p", tolerations=[toleration])), Placed) == fits


def test_host_ports_clash_by_address_and_protocol() -> None:
    cluster = Cluster(node("a"))
    cluster.place(pod("p", ports=[{"hostPort": 80, "hostIP": "127.0.0.1"}]))
    assert "free ports for the requested pod ports" in cluster.why(pod("q", ports=[{"hostPort": 80}]))
    assert isinstance(cluster.decide(pod("q", ports=[{"hostPort": 80, "protocol": "UDP"}])), Placed)
    assert isinstance(cluster.decide(pod("q", ports=[{"hostPort": 80, "hostIP": "10.0.0.1"}])), Placed)


def test_pod_affinity_and_anti_affinity_by_zone() -> None:
    cluster = Cluster(
        node("a", labels={"zone": "1"}), node("b", labels={"zone": "1"}), node("c", labels={"zone": "2"}), node("d")
    )
    assert cluster.place(pod("web", labels={"app": "web"}, nodeName="a")) == "a"
    near = pod("near", affinity=affinity("podAffinity", "zone", app="web"))
    assert cluster.place(near) in ("a", "b")
    far = pod("far", affinity=affinity("podAntiAffinity", "zone", app="web"))
    assert cluster.place(far) in ("c", "d")
    assert "3 node(s) didn't match pod affinity rules" not in cluster.why(
        pod("x", affinity=affinity("podAffinity", "zone", app="nobody"))
    )
    assert "4 node(s) didn't match pod affinity rules" in cluster.why(
        pod("x", affinity=affinity("podAffinity", "zone", app="nobody"))
    )


def test_the_first_of_a_group_may_match_itself() -> None:
    cluster = Cluster(node("a", labels={"zone": "1"}), node("b"))
    body = pod("first", labels={"app": "g"}, affinity=affinity("podAffinity", "zone", app="g"))
    assert cluster.place(body) == "a"


def test_placed_pods_keep_others_away() -> None:
    cluster = Cluster(node("a"), node("b"))
    cluster.place(pod("alone", nodeName="a", affinity=affinity("podAntiAffinity", "kubernetes.io/hostname", app="x")))
    assert cluster.place(pod("x1", labels={"app": "x"})) == "b"
    cluster.snapshot.remove_node("b")
    assert "1 node(s) didn't satisfy existing pods anti-affinity rules" in cluster.why(pod("x2", labels={"app": "x"}))


def test_topology_spread_holds_the_skew() -> None:
    cluster = Cluster(*(node(f"n{i}", labels={"zone": str(i % 3)}) for i in range(6)))
    spread = [
        {
            "topologyKey": "zone",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app": "s"}},
        }
    ]
    for i in range(30):
        cluster.place(pod(f"s{i}", labels={"app": "s"}, topologySpreadConstraints=spread))
    zones = [
        sum(1 for info, row in cluster.snapshot.pods.values() if cluster.snapshot.node_labels[row]["zone"] == z)
        for z in "012"
    ]
    assert zones == [10, 10, 10]


def test_preferred_node_affinity_decides_between_equals() -> None:
    cluster = Cluster(node("a"), node("b", labels={"disk": "ssd"}))
    term = {"weight": 50, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
    body = pod("p", affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}})
    assert cluster.place(body) == "b"


def test_requests_count_sidecars_init_peaks_and_overhead() -> None:
    def container(cpu: str, **more: Any) -> Json:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container("100m"), container("200m")],
        "initContainers": [container("900m"), container("50m", restartPolicy="Always"), container("800m")],
        "overhead": {"cpu": "10m"},
    }
    assert pod_requests(spec)[0] == {"cpu": 910}
