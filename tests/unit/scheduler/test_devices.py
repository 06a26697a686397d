"""Resource claims: which devices a pod gets, on which node, and what it is told when there are none."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.unit.scheduler.test_cycle import node, pod

from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.devices import Devices
from portside.scheduler.pod_info import read_pod
from portside.scheduler.snapshot import Snapshot

Json = dict[str, Any]


def device(name: str, model: str = "a", memory: str = "8Gi", **more: Any) -> Json:
    return {
        "name": name,
        "attributes": {"model": {"string": model}, "gpu.example.com/slot": {"int": 1}, "fw": {"version": "1.2.0"}},
        "capacity": {"memory": {"value": memory}},
        **more,
    }


def published(node_name: str, *devices: Json, **more: Any) -> Json:
    pool = {"name": node_name, "generation": 1, "resourceSliceCount": 1}
    where: Json = {"nodeName": node_name} if node_name else {"allNodes": True}
    spec = {"driver": "gpu.example.com", "pool": pool, "devices": list(devices), **where, **more}
    return {"metadata": {"name": f"s-{node_name}", "resourceVersion": "1"}, "spec": spec}


def claim(name: str, *requests: Json, **devices: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"devices": {"requests": list(requests), **devices}}}


def request(name: str = "gpu", *selectors: str, **more: Any) -> Json:
    exactly = {"deviceClassName": "gpu", "selectors": [{"cel": {"expression": s}} for s in selectors], **more}
    return {"name": name, "exactly": exactly}


class World:
    def __init__(self, slices: list[Json], *claims: Json) -> None:
        self.snapshot = Snapshot(2)
        for name in ("a", "b"):
            self.snapshot.set_node(node(name))
        selector = {"cel": {"expression": "device.driver == 'gpu.example.com'"}}
        self.objects: dict[str, dict[str, Json]] = {
            "resourceslices": {s["metadata"]["name"]: s for s in slices},
            "resourceclaims": {f"d/{c['metadata']['name']}": c for c in claims},
            "devicetaintrules": {},
            "deviceclasses": {"gpu": {"metadata": {"name": "gpu"}, "spec": {"selectors": [selector]}}},
        }
        self.devices = Devices(lambda plural: self.objects[plural])
        self.cycle = Cycle(self.snapshot, Random(1), devices=self.devices)

    def decide(self, *claims: str) -> tuple[Placed | Unplaced, Any]:
        body = pod("p", resourceClaims=[{"name": c, "resourceClaimName": c} for c in claims])
        info = read_pod(body)
        assert not self.devices.problem(info), self.devices.problem(info)
        decision = self.cycle.decide(info)
        made = self.devices.plan(info, self.snapshot, decision.node) if isinstance(decision, Placed) else None
        return decision, made

    def got(self, *claims: str) -> tuple[str, list[str]]:
        decision, made = self.decide(*claims)
        assert isinstance(decision, Placed), decision
        return decision.node, [i[2] for m in made for i in m.devices]


def test_a_pod_goes_where_its_device_is_and_the_claim_says_so() -> None:
    world = World([published("b", device("gpu-0"))], claim("c", request()))
    decision, made = world.decide("c")
    assert isinstance(decision, Placed)
    assert decision.node == "b"
    assert made[0].status == {
        "devices": {"results": [{"request": "gpu", "driver": "gpu.example.com", "pool": "b", "device": "gpu-0"}]},
        "nodeSelector": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]
        },
    }


def test_no_device_is_given_twice() -> None:
    world = World([published("a", device("x"))], claim("one", request()), claim("two", request()))
    assert world.got("one") == ("a", ["x"])
    decision, _ = world.decide("two")
    assert isinstance(decision, Unplaced)
    assert decision.lead == "0/2 nodes are available: 2 cannot allocate all claims."


def test_selectors_look_at_attributes_capacity_and_versions() -> None:
    slices = [published("a", device("old", "a", "4Gi"), device("new", "b", "16Gi"))]
    for expression, wanted in (
        ("device.attributes['gpu.example.com'].model == 'b'", "new"),
        ("device.capacity['gpu.example.com'].memory.isLessThan(quantity('8Gi'))", "old"),
        ("device.attributes['gpu.example.com'].fw.isGreaterThan(semver('1.1.0'))", "old"),
        ("!('x' in device.attributes['other.example.com'])", "old"),
    ):
        assert World(slices, claim("c", request("gpu", expression))).got("c") == ("a", [wanted])


def test_counts_and_all_matching() -> None:
    slices = [published("a", device("a0")), published("b", device("b0"), device("b1"))]
    assert World(slices, claim("c", request(count=2))).got("c") == ("b", ["b0", "b1"])
    node_name, found = World(slices, claim("c", request(allocationMode="All"))).got("c")
    assert len(found) == {"a": 1, "b": 2}[node_name]
    assert isinstance(World(slices, claim("c", request(count=3))).decide("c")[0], Unplaced)


def test_the_first_alternative_that_is_there() -> None:
    first = {"name": "big", "deviceClassName": "gpu", "selectors": [{"cel": {"expression": "false"}}]}
    second = {"name": "small", "deviceClassName": "gpu"}
    world = World([published("a", device("x"))], claim("c", {"name": "gpu", "firstAvailable": [first, second]}))
    _, made = world.decide("c")
    assert made[0].status["devices"]["results"][0]["request"] == "gpu/small"


def test_constraints_over_attributes_search_on() -> None:
    slices = [published("a", device("x", "m1"), device("y", "m2"), device("z", "m2"))]
    same = {"matchAttribute": "gpu.example.com/model"}
    assert World(slices, claim("c", request(count=2), constraints=[same])).got("c") == ("a", ["y", "z"])
    different = {"distinctAttribute": "gpu.example.com/model"}
    assert World(slices, claim("c", request(count=2), constraints=[different])).got("c") == ("a", ["x", "y"])


def test_partitions_share_counters() -> None:
    def part(name: str, amount: str) -> Json:
        used = {"counterSet": "card", "counters": {"memory": {"value": amount}}}
        return device(name, consumesCounters=[used])

    shared = [{"name": "card", "counters": {"memory": {"value": "8Gi"}}}]
    pool = {"pool": {"name": "a", "generation": 1, "resourceSliceCount": 2}}
    slices = [published("a", part("half-1", "4Gi"), part("whole", "8Gi"), part("half-2", "4Gi"), **pool)]
    slices.append(published("a", **pool, sharedCounters=shared) | {"metadata": {"name": "counters"}})
    assert World(slices, claim("c", request(count=2))).got("c") == ("a", ["half-1", "half-2"])


def test_tainted_devices_are_for_those_who_tolerate_them() -> None:
    slices = [published("a", device("x", taints=[{"key": "sick", "effect": "NoSchedule"}]))]
    assert isinstance(World(slices, claim("c", request())).decide("c")[0], Unplaced)
    tolerant = request(tolerations=[{"key": "sick", "operator": "Exists"}])
    assert World(slices, claim("c", tolerant)).got("c") == ("a", ["x"])


def test_an_allocated_claim_binds_its_next_user_to_its_nodes() -> None:
    held = claim("c", request())
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}]
    held["status"] = {"allocation": {"devices": {"results": []}, "nodeSelector": {"nodeSelectorTerms": terms}}}
    decision, made = World([], held).decide("c")
    assert isinstance(decision, Placed)
    assert decision.node == "b"
    assert made[0].status is None


def test_incomplete_and_outdated_pools_are_not_used() -> None:
    slice_ = published("a", device("x"))
    slice_["spec"]["pool"]["resourceSliceCount"] = 2
    assert isinstance(World([slice_], claim("c", request())).decide("c")[0], Unplaced)
    old, new = published("a", device("gone")), published("a", device("here"))
    old["metadata"]["name"], new["spec"]["pool"]["generation"] = "old", 2
    assert World([old, new], claim("c", request())).got("c") == ("a", ["here"])


def test_what_is_missing_is_named() -> None:
    world = World([], claim("c", {"name": "r", "exactly": {"deviceClassName": "none"}}))
    ask = lambda name: world.devices.problem(read_pod(pod("p", resourceClaims=[{"name": "x", **name}])))  # noqa: E731
    assert ask({"resourceClaimTemplateName": "t"}) == 'pod "d/p": ResourceClaim not created yet'
    assert ask({"resourceClaimName": "z"}) == 'resourceclaim.resource.k8s.io "z" not found'
    assert ask({"resourceClaimName": "c"}) == "request r: device class none does not exist"
