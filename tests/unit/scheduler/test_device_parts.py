"""The parts of giving out devices, one by one: extended resources, shares of capacity, what is settled with an allocation."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.unit.scheduler.test_cycle import pod
from tests.unit.scheduler.test_devices import World, claim, device, published, request

from portside.scheduler import device_binding, device_capacity
from portside.scheduler import extended_devices as extended
from portside.scheduler.cycle import Placed
from portside.scheduler.device_search import CANNOT
from portside.scheduler.devices import ELSEWHERE
from portside.scheduler.pod_info import PodInfo, read_pod

Json = dict[str, Any]
GPU = "example.com/gpu"


def container(name: str, count: int, **more: Any) -> Json:
    return {"name": name, "resources": {"requests": {"cpu": "1", GPU: str(count)}}, **more}


def counts(requests: list[Json]) -> dict[str, int]:
    return {r["name"]: r["exactly"]["count"] for r in requests}


# Extended resources


def test_each_container_that_runs_on_gets_its_own_devices() -> None:
    made, uses = extended.requests({"containers": [container("a", 1), container("b", 2)]}, {GPU: "gpu"})
    assert counts(made) == {"container-0-request-1": 1, "container-1-request-1": 2}
    assert made[0]["exactly"]["deviceClassName"] == "gpu"
    assert [(u["containerName"], u["requestName"]) for u in uses] == [
        ("a", "container-0-request-1"),
        ("b", "container-1-request-1"),
    ]


def test_init_containers_use_those_of_later_ones_first_and_only_the_largest_rest_counts() -> None:
    spec = {
        "initContainers": [container("i", 3), container("side", 1, restartPolicy="Always"), container("j", 4)],
        "containers": [container("a", 2)],
    }
    made, uses = extended.requests(spec, {GPU: "gpu"})
    assert counts(made) == {"container-1-request-1": 1, "container-2-request-1": 2, "container-3-request-1": 2}
    named = {n: [u["requestName"] for u in uses if u["containerName"] == n] for n in ("i", "side", "j", "a")}
    assert named == {
        "i": ["container-1-request-1", "container-3-request-1"],
        "side": ["container-1-request-1"],
        "j": ["container-3-request-1", "container-2-request-1"],
        "a": ["container-3-request-1"],
    }


def test_of_classes_with_one_resource_the_newest_stands_for_it() -> None:
    def made(name: str, created: str, resource: str = GPU) -> Json:
        meta = {"name": name, "creationTimestamp": created}
        return {"metadata": meta, "spec": {"extendedResourceName": resource}}

    old, new, same = (
        made("old", "2026-01-01T00:00:00Z"),
        made("new", "2026-02-01T00:00:00Z"),
        made("z", "2026-02-01T00:00:00Z"),
    )
    assert extended.classes_of([same, new, old]) == {
        GPU: "new",
        **{f"deviceclass.resource.kubernetes.io/{n}": n for n in ("old", "new", "z")},
    }


def test_a_node_that_has_the_resource_itself_needs_no_claim() -> None:
    world = World([published("b", device("x"), device("y"))])
    world.objects["deviceclasses"]["gpu"]["spec"]["extendedResourceName"] = GPU
    world.snapshot.set_backed(extended.classes_of(world.objects["deviceclasses"].values()))
    body = pod("p")
    body["spec"]["containers"][0]["resources"] = {"requests": {GPU: "2"}}
    info = read_pod(body)
    decision = world.cycle.decide(info)
    assert isinstance(decision, Placed) and decision.node == "b"
    (made,) = world.devices.plan(info, world.snapshot, "b")
    assert made.make is not None and [i[2] for i in made.devices] == ["x", "y"]
    world.devices.forget([made])
    node = {
        "metadata": {"name": "a"},
        "status": {"allocatable": {"cpu": "8", "memory": "32Gi", "pods": "10", GPU: "2"}},
    }
    world.snapshot.set_node(node)
    world.objects["resourceslices"].clear()
    decision = world.cycle.decide(info)
    assert isinstance(decision, Placed) and decision.node == "a"
    assert world.devices.plan(info, world.snapshot, "a") == []


# Shares of capacity


@pytest.mark.parametrize(
    ("policy", "asked", "used"),
    [
        ({}, {}, "8"),
        ({}, {"memory": "3"}, "3"),
        ({"default": "2"}, {}, "2"),
        ({"default": "1", "validValues": ["1", "4"]}, {"memory": "2"}, "4"),
        ({"default": "1", "validValues": ["1", "4"]}, {"memory": "5"}, None),
        ({"default": "2", "validRange": {"min": "2", "step": "3"}}, {"memory": "1"}, "2"),
        ({"default": "2", "validRange": {"min": "2", "step": "3"}}, {"memory": "2500m"}, "5"),
        ({"default": "500m", "validRange": {"min": "500m", "step": "250m"}}, {"memory": "600m"}, "750m"),
        ({"default": "2", "validRange": {"min": "2", "max": "4"}}, {"memory": "5"}, None),
        ({}, {"other": "1"}, None),
    ],
)
def test_what_a_request_takes_is_rounded_by_the_devices_policy(policy: Json, asked: Json, used: str | None) -> None:
    capacity = {"memory": {"value": "8", **({"requestPolicy": policy} if policy else {})}}
    found = device_capacity.consumed(capacity, asked)
    assert found == (None if used is None else {"memory": used})


def test_shares_of_a_device_end_with_its_capacity_and_come_back() -> None:
    shared = device("x", memory="8Gi", allowMultipleAllocations=True)
    claims = [claim(n, request(capacity={"requests": {"memory": "4Gi"}})) for n in ("one", "two", "three")]
    world = World([published("a", shared)], *claims)
    _, first = world.decide("one")
    assert first[0].status["devices"]["results"][0]["consumedCapacity"] == {"memory": "4Gi"}
    assert world.got("two") == ("a", ["x"])
    assert not isinstance(world.decide("three")[0], Placed)
    world.devices.forget(first)
    assert world.got("three") == ("a", ["x"])


# Taint rules, alternatives, settings


def test_a_taint_rule_keeps_new_claims_from_the_devices_it_selects() -> None:
    world = World([published("a", device("x"), device("y"))], claim("c", request()))
    rule = {"deviceSelector": {"device": "x"}, "taint": {"key": "k", "effect": "NoSchedule"}}
    world.objects["devicetaintrules"]["r"] = {"metadata": {"name": "r"}, "spec": rule}
    assert world.got("c") == ("a", ["y"])


def test_the_node_with_the_earlier_alternative_is_better() -> None:
    ways = [{"name": m, "deviceClassName": "gpu", "selectors": [_model(m)]} for m in ("new", "old")]
    world = World(
        [published("a", device("x", "old")), published("b", device("y", "new"))],
        claim("c", {"name": "gpu", "firstAvailable": ways}),
    )
    assert world.got("c") == ("b", ["y"])


def _model(name: str) -> Json:
    return {"cel": {"expression": f"device.attributes['gpu.example.com'].model == '{name}'"}}


def test_settings_come_from_classes_once_and_from_the_claim_for_what_was_taken() -> None:
    def setting(who: str) -> Json:
        return {"opaque": {"driver": "gpu.example.com", "parameters": {"who": who}}}

    config = [setting("all"), {**setting("second"), "requests": ["two"]}, {**setting("none"), "requests": ["x"]}]
    world = World([published("a", device("x"), device("y"))], claim("c", request("one"), request("two"), config=config))
    world.objects["deviceclasses"]["gpu"]["spec"]["config"] = [setting("class")]
    _, made = world.decide("c")
    assert made[0].status["devices"]["config"] == [
        {"source": "FromClass", **setting("class")},
        {"source": "FromClaim", **setting("all")},
        {"source": "FromClaim", **setting("second"), "requests": ["two"]},
    ]


def test_an_allocation_is_for_all_nodes_that_its_devices_reach() -> None:
    def zone(value: str) -> Json:
        wanted = {"key": "zone", "operator": "In", "values": [value]}
        return {"nodeSelectorTerms": [{"matchExpressions": [wanted]}]}

    slices = [published("", device("x"), allNodes=None, nodeSelector=zone("1"))]
    world = World(slices, claim("c", request()))
    world.snapshot.set_node({"metadata": {"name": "b", "labels": {"zone": "1"}}, "status": {"allocatable": {"pods": "9", "cpu": "4", "memory": "8Gi"}}})  # fmt: skip
    _, made = world.decide("c")
    assert made[0].status["nodeSelector"] == zone("1")
    slices[0]["spec"]["devices"][0]["bindsToNode"] = True
    world.devices.forget(made)
    _, made = world.decide("c")
    field = {"key": "metadata.name", "operator": "In", "values": ["b"]}
    assert made[0].status["nodeSelector"] == {"nodeSelectorTerms": [{"matchFields": [field]}]}


# Claims that are given already, or are about to be


def user(name: str, claim_name: str, group: str = "") -> PodInfo:
    info = read_pod(pod(name, resourceClaims=[{"name": "x", "resourceClaimName": claim_name}]))
    info.group = group
    return info


def test_a_claim_on_its_way_to_one_pod_keeps_others_waiting_but_for_its_gang() -> None:
    world = World([published("a", device("x"))], claim("c", request()))
    first, mate, stranger = user("p", "c", "d/g"), user("q", "c", "d/g"), user("r", "c")
    made = world.devices.plan(first, world.snapshot, "a")
    assert world.devices.problem(stranger) == "resource claim d/c is in the process of being allocated"
    assert world.devices.problem(mate) == ""
    decision = world.cycle.decide(mate)
    assert isinstance(decision, Placed) and decision.node == "a"
    shared = world.devices.plan(mate, world.snapshot, "a")
    assert shared[0].status == made[0].status
    world.devices.forget(made)
    assert "d/c" in world.devices.promised
    world.devices.forget(shared)
    assert world.devices.problem(stranger) == ""


def given(node: str, *users: str, **more: Any) -> Json:
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
    result = {"driver": "gpu.example.com", "pool": node, "device": "x", **more}
    allocation = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": terms}}
    return {"allocation": allocation, "reservedFor": [{"uid": u} for u in users]}


def test_a_claim_is_let_go_only_when_nobody_else_uses_it_and_it_is_what_keeps_the_pod_away() -> None:
    held = claim("c", request())
    world = World([], held)
    info = user("p", "c")
    live = world.snapshot.live

    def idle(among: Any = live) -> Any:
        return world.devices.idle(info, world.snapshot, among)

    for users, free in (((), True), ((info.uid,), True), (("other",), False), ((info.uid, "other"), False)):
        held["status"] = given("gone", *users)
        assert idle() is (held if free else None)
    held["status"] = given("a")
    only_a = world.snapshot.rows_named(["a"])
    assert idle(only_a) is None, "the pod can use it where it is"
    assert idle(live & False) is None, "something else keeps it from every node"


def test_a_claim_whose_devices_failed_is_of_no_use_anywhere() -> None:
    held = claim("c", request())
    conditions = {"bindingConditions": ["Ready"], "bindingFailureConditions": ["Broken"]}
    held["status"] = given("a", **conditions)
    world = World([], held)
    info = user("p", "c")
    assert device_binding.awaited(held)
    assert [r.reason for r in world.devices.filter(info, world.snapshot, world.snapshot.rows_named(["a"]))] == []
    report = {"driver": "gpu.example.com", "pool": "a", "device": "x"}
    held["status"]["devices"] = [report | {"conditions": [{"type": "Broken", "status": "True", "reason": "R"}]}]
    assert [r.reason for r in world.devices.filter(info, world.snapshot, world.snapshot.live)] == [ELSEWHERE]
    held["status"]["devices"][0]["conditions"] = [{"type": "Ready", "status": "True"}]
    assert device_binding.ready(held) and not device_binding.gave_up(held, 1e12)
    assert world.devices.filter(info, world.snapshot, world.snapshot.rows_named(["a"])) == []


def test_pools_that_contradict_themselves_give_nothing_and_say_so() -> None:
    twice = {"pool": {"name": "a", "generation": 1, "resourceSliceCount": 2}}
    slices = [published("a", device("x"), **twice), published("a", device("x"), **twice)]
    slices[1]["metadata"]["name"] = "again"
    decision, _ = World(slices, claim("c", request())).decide("c")
    assert "1 invalid resource pools were encountered" in decision.lead  # type: ignore[union-attr]
    assert f"1 {CANNOT}" in decision.lead  # type: ignore[union-attr]


def test_a_selector_that_fails_on_a_device_keeps_the_pod_from_every_node() -> None:
    bare = {"name": "bare"}
    slices = [published("a", device("x")), published("b", bare)]
    broken = claim("c", request("gpu", "device.attributes['gpu.example.com'].model == 'a'"))
    decision, _ = World(slices, broken).decide("c")
    assert not isinstance(decision, Placed) and decision.error
    assert decision.message.startswith(
        'running "DynamicResources" filter plugin: claim d/c: selector #0 on device gpu.example.com/b/bare: '
        "CEL runtime error: no such key: model. consider using CEL optional chaining"
    )


def test_shares_are_named_by_lot() -> None:
    shared = device("x", memory="8Gi", allowMultipleAllocations=True)
    worlds = [World([published("a", shared)], claim("c", request())) for _ in range(2)]
    for number, world in enumerate(worlds):
        world.devices.rng = Random(number)
    names = {w.decide("c")[1][0].status["devices"]["results"][0]["shareID"] for w in worlds}
    assert len(names) == 2
