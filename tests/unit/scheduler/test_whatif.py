"""Questions about a copy of the cluster: what moves where, what is left without a node, who is pushed out."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.test_cycle import node, pod

from portside.scheduler.whatif import World

Json = dict[str, Any]


def owned(name: str, where: str, kind: str = "ReplicaSet", **more: Any) -> Json:
    body = pod(name, nodeName=where, **more)
    body["metadata"]["ownerReferences"] = [{"kind": kind, "name": "o", "controller": True}]
    return body


def world(nodes: list[Json], pods: list[Json], **more: list[Json]) -> World:
    return World({"nodes": nodes, "pods": pods, **more})


def test_a_drained_nodes_pods_move_and_bare_ones_end() -> None:
    asked = world(
        [node("a"), node("b")],
        [owned("web", "a", cpu="1"), owned("log", "a", "DaemonSet"), pod("bare", nodeName="a")],
    ).drain("a")
    assert asked.placed == [("d/web", "a", "b")]
    assert asked.lost == ["d/bare"]
    assert not asked.unplaced


def test_what_finds_no_room_is_told_why() -> None:
    asked = world([node("a"), node("b", cpu="1")], [owned("web", "a", cpu="2")]).drain("a")
    assert asked.unplaced == [("d/web", "a", "0/1 nodes are available: 1 Insufficient cpu.")]


def test_a_failing_zone_takes_all_its_nodes() -> None:
    nodes = [node(n, labels={"topology.kubernetes.io/zone": z}) for n, z in (("a", "1"), ("b", "1"), ("c", "2"))]
    asked = world(nodes, [owned("x", "a"), owned("y", "b")]).fail("topology.kubernetes.io/zone", "1")
    assert [(p, to) for p, _, to in asked.placed] == [("d/x", "c"), ("d/y", "c")]
    with pytest.raises(KeyError, match="no node has the label"):
        world(nodes, []).fail("topology.kubernetes.io/zone", "9")


def test_more_nodes_take_the_pods_that_wait() -> None:
    waiting = [pod(f"w{i}", cpu="4") for i in range(3)]
    asked = world([node("a", cpu="4")], [owned("x", "a", cpu="4"), *waiting]).add(2, "a")
    assert [p for p, _, _ in asked.placed] == ["d/w0", "d/w1"]
    assert [p for p, _, _ in asked.unplaced] == ["d/w2"]


def test_a_manifest_shows_whom_it_would_push_out() -> None:
    body = {
        "kind": "Deployment",
        "metadata": {"name": "big", "namespace": "d"},
        "spec": {"replicas": 1, "template": {"spec": {"priority": 10, **pod("x", cpu="4")["spec"]}}},
    }
    asked = world([node("a")], [owned("small", "a", cpu="1")]).apply([body], "apply")
    assert asked.placed == [("d/big-0", "", "a")]
    assert asked.evicted == [("d/small", "a", "d/big-0")]
    assert [p for p, _, _ in asked.unplaced] == ["d/small"]


def test_nothing_of_the_given_objects_is_changed() -> None:
    nodes, pods = [node("a"), node("b")], [owned("web", "a", cpu="1")]
    before = repr((nodes, pods))
    world(nodes, pods).drain("a")
    assert repr((nodes, pods)) == before


def gpus(name: str, *devices: str) -> Json:
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.example.com", "pool": pool, "nodeName": name, "devices": [{"name": d} for d in devices]}
    return {"metadata": {"name": name}, "spec": spec}


def wishes() -> Json:
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": 1}}]}}


def held(name: str, user: str, where: str, device: str) -> Json:
    result = {"request": "r", "driver": "gpu.example.com", "pool": where, "device": device}
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [{"uid": user}]}
    return {"metadata": {"name": name, "namespace": "d"}, "spec": wishes(), "status": status}


GPU = {"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}
TEMPLATE = {"metadata": {"name": "t", "namespace": "d"}, "spec": {"spec": wishes()}}


def test_pods_that_move_leave_their_devices_and_get_others() -> None:
    def user(name: str) -> Json:
        body = owned(name, "a", resourceClaims=[{"name": "x", "resourceClaimTemplateName": "t"}])
        body["metadata"]["uid"] = name
        body["status"] = {"resourceClaimStatuses": [{"name": "x", "resourceClaimName": f"{name}-1"}]}
        return body

    claims = [held(f"{n}-1", n, "a", d) for n, d in (("p", "g0"), ("q", "g1"))]
    for claim in claims:
        owner = {"kind": "Pod", "uid": claim["status"]["reservedFor"][0]["uid"], "controller": True}
        claim["metadata"]["ownerReferences"] = [owner]
    asked = world(
        [node("a"), node("b")],
        [user("p"), user("q")],
        resourceslices=[gpus("a", "g0", "g1"), gpus("b", "g0")],
        deviceclasses=[GPU],
        resourceclaims=claims,
        resourceclaimtemplates=[TEMPLATE],
    ).drain("a")
    assert asked.placed == [("d/p", "a", "b")]
    assert asked.unplaced == [("d/q", "a", "0/1 nodes are available: 1 cannot allocate all claims.")]


def test_a_manifest_with_claims_of_its_own_shares_them_among_its_pods() -> None:
    template = {"spec": {"containers": [{"name": "c"}], "resourceClaims": [{"name": "x", "resourceClaimName": "one"}]}}
    manifests = [
        {"kind": "ResourceClaim", "metadata": {"name": "one"}, "spec": wishes()},
        {"kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2, "template": template}},
    ]
    objects = {"resourceslices": [gpus("b", "g0")], "deviceclasses": [GPU]}
    asked = world([node("a"), node("b")], [], **objects).apply(manifests, "apply")
    assert [(p, to) for p, _, to in asked.placed] == [("default/web-0", "b"), ("default/web-1", "b")]
    extended = {"containers": [{"name": "c", "resources": {"limits": {"example.com/gpu": "1"}}}]}
    many = [{"kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 2, "template": {"spec": extended}}}]
    asked = world([node("a"), node("b")], [], **objects).apply(many, "apply")
    assert [(p, to) for p, _, to in asked.placed] == [("default/x-0", "b")]
    assert [p for p, _, _ in asked.unplaced] == ["default/x-1"]
