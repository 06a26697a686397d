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


def workload(kind: str, name: str, replicas: int = 1, cpu: str = "1", **spec: Any) -> Json:
    version = "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    template = {"metadata": {"labels": {"app": name}}, "spec": pod("x", cpu=cpu)["spec"]}
    body = {"replicas": replicas, "template": template, **spec}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "d"}, "spec": body}


def grouped(name: str, group: str, **more: Any) -> Json:
    return owned(name, "", "Job", schedulingGroup={"podGroupName": group}, **more)


def group(name: str, least: int) -> Json:
    return {"metadata": {"name": name, "namespace": "d"}, "spec": {"schedulingPolicy": {"gang": {"minCount": least}}}}


def test_a_new_node_brings_the_pods_of_daemonsets_and_they_take_their_room() -> None:
    daemons = workload("DaemonSet", "log", cpu="3")
    waiting = [pod(f"w{i}", cpu="4") for i in range(2)]
    asked = world([node("a", cpu="8")], [owned("x", "a", cpu="8"), *waiting], daemonsets=[daemons]).add(1, "a")
    assert [(p, to) for p, _, to in asked.placed] == [("d/log-a-like-1", "a-like-1"), ("d/w0", "a-like-1")]
    assert [p for p, _, _ in asked.unplaced] == ["d/w1"]


def test_a_daemonset_of_a_file_goes_to_every_node_that_lets_it_in() -> None:
    tainted = node("c")
    tainted["spec"] = {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}
    asked = world([node("a"), node("b", cpu="500m"), tainted], []).apply([workload("DaemonSet", "log")], "apply")
    assert [p for p, _, _ in asked.placed] == ["d/log-a"]
    assert [p for p, _, _ in asked.unplaced] == ["d/log-b"]


def test_a_workload_that_is_there_gets_what_it_lacks_and_a_new_version_replaces_all() -> None:
    there = [owned(f"web-{i}", "a", "StatefulSet", cpu="1") for i in range(2)]
    for body in there:
        body["metadata"]["ownerReferences"][0]["name"] = "web"
    grown = world([node("a")], there).apply([workload("StatefulSet", "web", 3)], "apply")
    assert [p for p, _, _ in grown.placed] == ["d/web-2"] and not grown.removed
    shrunk = world([node("a")], there).apply([workload("StatefulSet", "web", 1)], "apply")
    assert shrunk.removed == [("d/web-1", "a")] and not shrunk.placed
    other = world([node("a")], there).apply([workload("StatefulSet", "web", 2, cpu="2")], "apply")
    assert len(other.removed) == 2 and len(other.placed) == 2


def test_claims_of_a_file_are_provided_for_by_their_class_or_told() -> None:
    template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    body = workload("StatefulSet", "db", 1, volumeClaimTemplates=[template])
    asked = world([node("a")], []).apply([body], "apply")
    why = 'claim "data-db-0" names no storage class, and the cluster has no default one'
    assert asked.unplaced == [("d/db-0", "", why)]
    default = {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
    made = {"metadata": {"name": "disks", **default}, "provisioner": "example.com/disks"}
    assert world([node("a")], [], storageclasses=[made]).apply([body], "apply").placed == [("d/db-0", "", "a")]


def test_what_changes_nothing_here_is_said_and_what_does_counts() -> None:
    widget = {"apiVersion": "example.com/v1", "kind": "Deployment", "metadata": {"name": "w"}, "spec": {"replicas": 3}}
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "u"}, "value": 9}
    body = workload("Deployment", "big", cpu="4")
    body["spec"]["template"]["spec"]["priorityClassName"] = "u"
    asked = world([node("a")], [owned("small", "a", cpu="1")]).apply([widget, widget, urgent, body], "apply")
    assert asked.ignored == {"Deployment (example.com/v1)": 2}
    assert asked.evicted == [("d/small", "a", "d/big-0")]
    assert asked.as_json()["ignored"] == [{"kind": "Deployment (example.com/v1)", "count": 2}]


def test_a_gang_moves_whole_or_not_at_all() -> None:
    members = [{**grouped(f"g{i}", "g", cpu="2")} for i in range(3)]
    for body, where in zip(members, "aab", strict=True):
        body["spec"]["nodeName"] = where
    nodes = [node("a"), node("b"), node("c", cpu="2")]
    one = world(nodes, members, podgroups=[group("g", 3)]).drain("a")
    assert [to for _, _, to in one.placed] == ["b", "c"] or [to for _, _, to in one.placed] == ["c", "b"]
    small = world([node("a"), node("b", cpu="2")], members, podgroups=[group("g", 3)]).drain("a")
    assert not small.placed
    assert sorted(p for p, _, _ in small.unplaced) == ["d/g0", "d/g1"]


def test_a_gang_of_a_file_waits_for_its_group_and_pushes_out_whole() -> None:
    job = workload("Job", "train", parallelism=2)
    job["spec"]["template"]["spec"] |= {"schedulingGroup": {"podGroupName": "g"}, "priority": 5}
    there = [owned("small", "a", cpu="4")]
    waits = world([node("a")], there).apply([job], "apply")
    assert {w for _, _, w in waits.unplaced} == {'waiting for pods\'s pod group "g" to appear in scheduling queue'}
    made = {"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", **group("g", 2)}
    asked = world([node("a")], there).apply([made, job], "apply")
    assert len(asked.placed) == 2 and [p for p, _, _ in asked.evicted] == ["d/small"]
    too_few = world([node("a", cpu="1")], []).apply([made, job], "apply")
    assert not too_few.placed and len(too_few.unplaced) == 2


def test_budgets_that_hold_up_a_drain_are_told() -> None:
    web = owned("web", "a", cpu="1")
    web["metadata"]["labels"] = {"app": "web"}
    budget = {
        "metadata": {"name": "web", "namespace": "d"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
        "status": {"disruptionsAllowed": 0},
    }
    asked = world([node("a"), node("b")], [web], poddisruptionbudgets=[budget]).drain("a")
    assert asked.placed and asked.held_up == [("d/web", "web")]


def test_a_failing_node_can_be_named() -> None:
    made = world([node("a"), node("b"), node("c")], [owned("x", "a"), owned("log", "a", "DaemonSet")])
    asked = made.fail_nodes("a", "b")
    assert asked.placed == [("d/x", "a", "c")] and not asked.lost
    with pytest.raises(KeyError):
        world([node("a")], []).fail_nodes("z")
