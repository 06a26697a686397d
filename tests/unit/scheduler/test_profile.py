"""The scheduler configuration file: what it changes, and how it is refused."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import pytest
from tests.unit.scheduler.test_cycle import node, pod

from portside.scheduler.configuration import configuration
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.pod_info import read_pod
from portside.scheduler.profile import API_VERSION, ConfigError, Profile, read
from portside.scheduler.queue import Queue
from portside.scheduler.snapshot import Snapshot

Json = dict[str, Any]


def config(*profiles: Json) -> Json:
    return {"apiVersion": API_VERSION, "kind": "KubeSchedulerConfiguration", "profiles": list(profiles)}


def fit(**args: Any) -> Json:
    return {"pluginConfig": [{"name": "NodeResourcesFit", "args": args}]}


def cycle(profile: Profile, *nodes: Json) -> tuple[Cycle, Snapshot]:
    snapshot = Snapshot(2)
    for each in nodes:
        snapshot.set_node(each)
    return Cycle(snapshot, Random(1), profile), snapshot


def place(made: Cycle, snapshot: Snapshot, name: str, cpu: str) -> str:
    info = read_pod(pod(name, cpu=cpu))
    found = made.decide(info)
    assert isinstance(found, Placed)
    info.node_name = found.node
    snapshot.set_pod(info)
    return found.node


@pytest.mark.parametrize(
    "strategy",
    [
        {"type": "MostAllocated"},
        {
            "type": "RequestedToCapacityRatio",
            "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]},
        },
    ],
)
def test_packing_strategies_fill_one_node_first(strategy: Json) -> None:
    (profile,) = read(config(fit(scoringStrategy=strategy)))
    off = {"plugins": {"score": {"disabled": [{"name": "NodeResourcesBalancedAllocation"}]}}}
    (profile,) = read(config(fit(scoringStrategy=strategy) | off))
    made, snapshot = cycle(profile, node("a"), node("b"))
    assert len({place(made, snapshot, f"p{i}", "1") for i in range(4)}) == 1


def test_a_filter_that_is_off_refuses_nothing() -> None:
    (profile,) = read(config({"plugins": {"filter": {"disabled": [{"name": "TaintToleration"}]}}}))
    made, snapshot = cycle(profile, node("a", taints=[{"key": "k", "value": "", "effect": "NoSchedule"}]))
    assert place(made, snapshot, "p", "1") == "a"


def added(**affinity: Any) -> Json:
    return {"pluginConfig": [{"name": "NodeAffinity", "args": {"addedAffinity": affinity}}]}


GPU = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}


def test_affinity_that_a_profile_adds_is_asked_of_every_pod_before_its_own() -> None:
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [GPU]}}
    (profile,) = read(config(added(**required)))
    made, snapshot = cycle(profile, node("a"), node("b", labels={"gpu": "x"}))
    assert place(made, snapshot, "p", "1") == "b"
    refused = made.decide(read_pod(pod("q", nodeSelector={"other": "y"})))
    assert isinstance(refused, Unplaced)
    assert refused.reasons == {
        "node(s) didn't match scheduler-enforced node affinity": 1,
        "node(s) didn't match Pod's node affinity/selector": 1,
    }


def test_preferences_that_a_profile_adds_count_as_the_pods_own() -> None:
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": GPU}]}
    (profile,) = read(config(added(**preferred)))
    made, snapshot = cycle(profile, node("a"), node("b", labels={"gpu": "x"}), node("c"))
    assert [place(made, snapshot, f"p{i}", "100m") for i in range(3)] == ["b"] * 3


def test_several_profiles_have_names_of_their_own() -> None:
    assert [p.name for p in read(config({}, {"schedulerName": "packing"}))] == ["default-scheduler", "packing"]
    with pytest.raises(ConfigError, match=r"profiles\[1\]\.schedulerName: \"default-scheduler\" is used twice"):
        read(config({}, {}))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"apiVersion": "v1", "kind": "Config"}, "must be kubescheduler.config.k8s.io/v1"),
        (
            config({"pluginConfig": [{"name": "Nope"}]}),
            r'profiles\[0\]\.pluginConfig\[0\]\.name: there is no plugin "Nope"',
        ),
        (config({"plugins": {"scoring": {}}}), r"profiles\[0\]\.plugins\.scoring: no such extension point"),
        (config(fit(scoringStrategy={"type": "Best"})), r'scoringStrategy\.type: "Best" is none of'),
        (
            config(added(requiredDuringSchedulingIgnoredDuringExecution={"nodeSelectorTerms": []})),
            r"nodeSelectorTerms: at least one term is needed",
        ),
        (
            config({"pluginConfig": [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 101}}]}),
            "hardPodAffinityWeight: 101 is not between 0 and 100",
        ),
    ],
)
def test_mistakes_are_named_by_their_field(body: Json, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        read(body)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"podInitialBackoffSeconds": 0}, "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
        (
            {"podInitialBackoffSeconds": 20},
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range"),
        ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ({"parallelism": "x"}, "parallelism: Invalid value: x: must be an integer"),
        ({"podBackoff": 1}, 'strict decoding error: unknown field "podBackoff"'),
    ],
)
def test_what_a_configuration_says_beside_profiles_is_checked(said: Json, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        configuration(config() | said)


def test_the_back_off_is_as_configured() -> None:
    made = configuration(config() | {"podInitialBackoffSeconds": 2, "podMaxBackoffSeconds": 5, "parallelism": 4})
    assert made.backoff == (2.0, 5.0)
    queue, waits = Queue(*made.backoff), []
    queue.add("p", 0, 0.0)
    for _ in range(3):
        queue.pop(99.0)
        queue.failed("p", 0.0)
        waits.append(queue.next_time())
    assert waits == [2.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("strategy", "why"),
    [
        (
            {"resources": [{"name": "cpu", "weight": 101}]},
            "resources[0].weight: Invalid value: 101: not in valid range [1-100]",
        ),
        (
            {"requestedToCapacityRatio": {"shape": [{"utilization": 50, "score": 1}, {"utilization": 50, "score": 2}]}},
            "shape[1].utilization: Invalid value: 50: values must be sorted in increasing order",
        ),
        (
            {"requestedToCapacityRatio": {"shape": [{"utilization": 101, "score": 1}]}},
            "shape[0].utilization: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            {"requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 11}]}},
            "shape[0].score: Invalid value: 11: not in valid range [0-10]",
        ),
    ],
)
def test_points_and_weights_of_a_strategy_are_checked(strategy: Json, why: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(why)):
        read(config(fit(scoringStrategy={"type": "RequestedToCapacityRatio"} | strategy)))


def test_a_resource_that_is_passed_over_is_no_reason_to_wait() -> None:
    (profile,) = read(config(fit(ignoredResources=["example.com/a"], ignoredResourceGroups=["example.org"])))
    made, _ = cycle(profile, node("n"))
    body = pod("p", cpu="99")
    body["spec"]["containers"][0]["resources"]["requests"] |= {"example.com/a": "1", "example.org/b": "1"}
    found = made.decide(read_pod(body))
    assert isinstance(found, Unplaced) and found.reasons == {"Insufficient cpu": 1}
    body["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "1"
    assert made.decide(read_pod(body)) == Placed("n", 0)
