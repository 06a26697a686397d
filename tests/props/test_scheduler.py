"""The fast scheduler against the slow oracle, on random clusters; and what must never happen."""

from __future__ import annotations

import copy
import itertools
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.snapshot import Snapshot
from tests.unit.scheduler import oracle

Json = dict[str, Any]
HOST = "kubernetes.io/hostname"
APPS = ("a", "b")
NAMESPACES = {"d": {"team": "x"}, "e": {"team": "y"}}
FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

selectors = st.sampled_from(
    [
        None,
        {},
        {"matchLabels": {"app": "a"}},
        {"matchLabels": {"app": "b"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
        {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]},
        {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
    ]
)
keys = st.sampled_from([HOST, "zone", "rack"])


@st.composite
def nodes(draw: st.DrawFn) -> list[Json]:
    found = []
    for i in range(draw(st.integers(1, 6))):
        labels = {HOST: f"n{i}"}
        if draw(st.booleans()):
            labels["zone"] = draw(st.sampled_from(["1", "2"]))
        if draw(st.booleans()):
            labels["rack"] = draw(st.sampled_from(["1", "2", "x"]))
        effects = draw(st.lists(st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"]), max_size=1))
        found.append(
            {
                "metadata": {"name": f"n{i}", "labels": labels},
                "spec": {
                    "unschedulable": draw(st.integers(0, 9)) == 0,
                    "taints": [{"key": "k", "value": "v", "effect": e} for e in effects if draw(st.booleans())],
                },
                "status": {
                    "allocatable": {
                        "cpu": draw(st.sampled_from(["1", "2", "4"])),
                        "memory": draw(st.sampled_from(["1Gi", "4Gi"])),
                        "pods": draw(st.sampled_from(["1", "3", "10"])),
                    }
                },
            }
        )
    return found


@st.composite
def terms(draw: st.DrawFn) -> Json:
    term: Json = {"topologyKey": draw(keys), "labelSelector": draw(selectors)}
    how = draw(st.integers(0, 4))
    if how == 0:
        term["namespaces"] = ["e"]
    elif how == 1:
        term["namespaceSelector"] = draw(st.sampled_from([{}, {"matchLabels": {"team": "y"}}]))
    return term


@st.composite
def affinities(draw: st.DrawFn) -> Json:
    made: Json = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if draw(st.integers(0, 3)) == 0:
            made.setdefault(kind, {})["requiredDuringSchedulingIgnoredDuringExecution"] = draw(
                st.lists(terms(), min_size=1, max_size=2)
            )
        if draw(st.integers(0, 3)) == 0:
            made.setdefault(kind, {})["preferredDuringSchedulingIgnoredDuringExecution"] = [
                {"weight": draw(st.integers(1, 100)), "podAffinityTerm": draw(terms())}
            ]
    if draw(st.integers(0, 3)) == 0:
        e = draw(
            st.sampled_from(
                [
                    {"key": "zone", "operator": "In", "values": ["1"]},
                    {"key": "zone", "operator": "NotIn", "values": ["1"]},
                    {"key": "rack", "operator": "Exists"},
                    {"key": "rack", "operator": "Gt", "values": ["1"]},
                ]
            )
        )
        term: Json = {"matchExpressions": [e]}
        if draw(st.booleans()):
            made["nodeAffinity"] = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        else:
            made["nodeAffinity"] = {
                "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 7, "preference": term}]
            }
    return made


@st.composite
def spreads(draw: st.DrawFn) -> list[Json]:
    found = []
    for key in draw(st.lists(keys, max_size=2, unique=True)):
        c: Json = {
            "topologyKey": key,
            "maxSkew": draw(st.integers(1, 2)),
            "whenUnsatisfiable": draw(st.sampled_from(["DoNotSchedule", "ScheduleAnyway"])),
            "labelSelector": draw(selectors),
        }
        if c["whenUnsatisfiable"] == "DoNotSchedule" and draw(st.booleans()):
            c["minDomains"] = draw(st.integers(1, 4))
        if draw(st.booleans()):
            c["nodeAffinityPolicy"] = draw(st.sampled_from(["Honor", "Ignore"]))
        if draw(st.booleans()):
            c["nodeTaintsPolicy"] = draw(st.sampled_from(["Honor", "Ignore"]))
        found.append(c)
    return found


@st.composite
def pods(draw: st.DrawFn) -> Json:
    asked = draw(st.sampled_from([{}, {"cpu": "500m"}, {"cpu": "1", "memory": "512Mi"}, {"memory": "0"}]))
    ports = draw(st.sampled_from([[], [], [{"hostPort": 80}], [{"hostPort": 80, "hostIP": "10.0.0.1"}]]))
    spec: Json = {
        "containers": [{"name": "c", "image": "i", "resources": {"requests": asked}, "ports": ports}],
        "affinity": draw(affinities()),
        "topologySpreadConstraints": draw(spreads()),
        "priority": draw(st.integers(0, 3)),
    }
    if draw(st.integers(0, 3)) == 0:
        spec["tolerations"] = [draw(st.sampled_from([{"operator": "Exists"}, {"key": "k", "value": "v"}]))]
    app = draw(st.sampled_from([{}, {"app": "a"}, {"app": "b"}]))
    return {"metadata": {"namespace": draw(st.sampled_from(["d", "e"])), "labels": app}, "spec": spec}


class Both:
    """The fast scheduler and the oracle's cluster, kept the same."""

    def __init__(self, made: list[Json]) -> None:
        self.cluster = oracle.Cluster(made, [], NAMESPACES)
        self.snapshot = Snapshot(2)
        for name, labels in NAMESPACES.items():
            self.snapshot.set_namespace(name, labels)
        for node in made:
            self.snapshot.set_node(node)
        self.cycle = Cycle(self.snapshot, Random(1))
        self.number = itertools.count()

    def named(self, pod: Json) -> Json:
        i = next(self.number)
        body = copy.deepcopy(pod)
        body["metadata"] |= {"name": f"p{i}", "uid": f"u{i}"}
        return body

    def place(self, body: Json) -> str:
        info = read_pod(body)
        decision = self.cycle.decide(info)
        if isinstance(decision, Unplaced):
            return ""
        self.put(info, body, decision.node)
        return decision.node

    def put(self, info: PodInfo, body: Json, node: str) -> None:
        info.node_name = node
        self.snapshot.set_pod(info)
        body["spec"]["nodeName"] = node
        self.cluster.pods.append(body)

    def remove(self, index: int) -> None:
        gone = self.cluster.pods.pop(index % len(self.cluster.pods))
        self.snapshot.remove_pod(gone["metadata"]["uid"])


@FEW
@given(nodes(), st.lists(pods(), min_size=1, max_size=8), st.lists(st.integers(0, 50), max_size=3))
def test_every_decision_is_one_the_oracle_calls_best(made: list[Json], wanted: list[Json], gone: list[int]) -> None:
    both = Both(made)
    for i, pod in enumerate([*wanted, *wanted]):
        if i < len(gone) and both.cluster.pods:
            both.remove(gone[i])
        body = both.named(pod)
        right = oracle.best(body, both.cluster)
        chosen = both.place(body)
        assert chosen in right if right else chosen == ""


@FEW
@given(nodes(), st.lists(pods(), min_size=1, max_size=6), st.data())
def test_a_changed_node_changes_decisions_at_once(made: list[Json], wanted: list[Json], data: st.DataObject) -> None:
    both = Both(made)
    for pod in wanted:
        body = both.named(pod)
        both.place(body)
        changed = data.draw(nodes())[0]
        index = data.draw(st.integers(0, len(made) - 1))
        name = made[index]["metadata"]["name"]
        changed["metadata"]["name"] = changed["metadata"]["labels"][HOST] = name
        both.cluster.nodes[index] = changed
        both.snapshot.set_node(changed)
        again = both.named(pod)
        decision = both.cycle.decide(read_pod(again))
        right = oracle.best(again, both.cluster)
        assert (decision.node if isinstance(decision, Placed) else "") in (right or {""})


@FEW
@given(nodes(), st.lists(pods(), min_size=1, max_size=10))
def test_no_node_holds_more_than_it_can(made: list[Json], wanted: list[Json]) -> None:
    both = Both(made)
    for pod in [*wanted, *wanted]:
        both.place(both.named(pod))
    for node in made:
        room, taken = oracle.allocatable(node), oracle.used(node, both.cluster)
        assert all(amount <= room.get(name, 0) for name, amount in taken.items() if amount)
        assert len(both.cluster.on(node)) <= room["pods"]


@FEW
@given(nodes(), st.lists(pods(), min_size=2, max_size=8))
def test_the_reasons_of_a_refusal_cover_every_node(made: list[Json], wanted: list[Json]) -> None:
    both = Both(made)
    for pod in wanted:
        body = both.named(pod)
        decision = both.cycle.decide(read_pod(body))
        if isinstance(decision, Unplaced):
            assert sum(decision.reasons.values()) >= len(made)
            assert decision.message.startswith(f"0/{len(made)} nodes are available: ")
        else:
            both.place(body)
