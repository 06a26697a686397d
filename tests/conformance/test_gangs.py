"""Gangs with the whole control plane: PodGroups as the gate GenericWorkload serves them, with the real kubectl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster

Json = dict[str, Any]
GATE = "GenericWorkload=true"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> Iterator[Cluster]:
    """Three simulated nodes of 32 CPUs each, with the gate on."""
    made = Cluster(tmp_path_factory.mktemp("gangs"), tools)
    try:
        made.portside("up", "--simulate", "3", "--feature-gates", GATE)
        yield made
    finally:
        made.portside("down", check=False)


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    yield cluster
    cluster.kubectl("delete", "pods,podgroups", "--all", "--wait=true", "--grace-period=0", "--force", timeout=120)


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def make(cluster: Cluster, *bodies: Json) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(bodies)}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(listed))


def group(name: str, least: int, **more: Any) -> Json:
    policy = {"schedulingPolicy": {"gang": {"minCount": least}}}
    meta = {"name": name}
    return {"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": meta, "spec": policy | more}


def pod(name: str, cpu: str, group: str = "", **more: Any) -> Json:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    spec: Json = {"containers": [container], **more}
    if group:
        spec["schedulingGroup"] = {"podGroupName": group}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"group": group}}, "spec": spec}


def placed(cluster: Cluster, name: str) -> list[str]:
    found = json.loads(cluster.kubectl("get", "pods", "-l", f"group={name}", "-o", "json"))["items"]
    return [p["metadata"]["name"] for p in found if p["spec"].get("nodeName")]


def said(cluster: Cluster, kind: str, name: str, condition: str) -> Json:
    found = json.loads(cluster.kubectl("get", kind, name, "-o", "json"))
    return next((c for c in (found.get("status") or {}).get("conditions") or () if c["type"] == condition), {})


def test_a_gang_waits_for_its_pods_and_says_so(empty: Cluster) -> None:
    make(empty, pod("w0", "1", "g"), pod("w1", "1", "g"))
    text = 'waiting for pods\'s pod group "g" to appear in scheduling queue'
    until(lambda: said(empty, "pod", "w0", "PodScheduled").get("message") == text)
    make(empty, group("g", 3))
    text = "waiting for minCount pods from a gang to appear in scheduling queue"
    until(lambda: said(empty, "pod", "w1", "PodScheduled").get("message") == text)
    assert placed(empty, "g") == []
    make(empty, pod("w2", "1", "g"))
    until(lambda: len(placed(empty, "g")) == 3)
    until(lambda: said(empty, "podgroup", "g", "PodGroupInitiallyScheduled").get("status") == "True")


def test_a_gang_that_does_not_fit_takes_no_room_until_all_of_it_fits(empty: Cluster) -> None:
    make(empty, group("g", 4), *(pod(f"w{i}", "20", "g") for i in range(4)))  # one node short
    found = until(lambda: said(empty, "podgroup", "g", "PodGroupInitiallyScheduled"))
    assert (found["status"], found["reason"]) == ("False", "Unschedulable")
    assert found["message"] == "minCount (4) cannot be satisfied: 3 scheduled, 0 remaining"
    make(empty, pod("other", "20"))  # the room that the gang could not use is there for others
    until(lambda: json.loads(empty.kubectl("get", "pod", "other", "-o", "json"))["spec"].get("nodeName"))
    assert placed(empty, "g") == []
    empty.kubectl("delete", "pod", "other", "--grace-period=0", "--force")
    empty.kubectl(
        "patch", "podgroup", "g", "--type=merge", "-p", '{"spec":{"schedulingPolicy":{"gang":{"minCount":3}}}}'
    )
    until(lambda: len(placed(empty, "g")) == 3)


def test_nobody_is_evicted_for_a_gang_that_would_still_not_fit(empty: Cluster) -> None:
    high = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}, "value": 100}
    make(empty, high)
    urgent = {"priorityClassName": "high"}
    make(empty, *(pod(f"low{i}", "20", tolerations=[{"operator": "Exists"}]) for i in range(3)))
    until(lambda: all(said(empty, "pod", f"low{i}", "Ready").get("status") == "True" for i in range(3)))
    make(empty, group("g", 4, **urgent), *(pod(f"w{i}", "20", "g", **urgent) for i in range(4)))
    until(lambda: said(empty, "podgroup", "g", "PodGroupInitiallyScheduled").get("status") == "False")
    lows = json.loads(empty.kubectl("get", "pods", "-l", "group=", "-o", "json"))["items"]
    assert len(lows) == 3 and not any(p["metadata"].get("deletionTimestamp") for p in lows)
    empty.kubectl(
        "patch", "podgroup", "g", "--type=merge", "-p", '{"spec":{"schedulingPolicy":{"gang":{"minCount":3}}}}'
    )
    until(lambda: len(placed(empty, "g")) == 3)


def test_a_gang_disrupted_as_a_whole_is_evicted_as_a_whole(empty: Cluster) -> None:
    make(empty, group("low", 3, disruptionMode={"all": {}}), *(pod(f"l{i}", "20", "low") for i in range(3)))
    until(lambda: len(placed(empty, "low")) == 3)
    top = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "top"}, "value": 200}
    make(empty, top, pod("urgent", "20", priorityClassName="top"))
    until(lambda: json.loads(empty.kubectl("get", "pod", "urgent", "-o", "json"))["spec"].get("nodeName"))
    until(lambda: not placed(empty, "low"))


def test_what_a_group_says_is_checked_and_kept(empty: Cluster) -> None:
    both = group("bad", 0)
    both["spec"]["schedulingPolicy"]["basic"] = {}
    told = empty.kubectl("create", "-f", "-", stdin=json.dumps(both), check=False)
    assert "must specify exactly one of: `basic`, `gang`" in told
    assert "spec.schedulingPolicy.gang.minCount: Required value" in told
    told = empty.kubectl("create", "-f", "-", stdin=json.dumps(group("bad", 2, priority=7)), check=False)
    assert "priority set in the pod group (7) must match the priority computed (0)" in told
    told = empty.kubectl("create", "-f", "-", stdin=json.dumps(group("bad", 2, priorityClassName="no")), check=False)
    assert "no PriorityClass with name no was found" in told
    some = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "some"}, "value": 70}
    make(empty, some, group("classed", 1, priorityClassName="some"), group("g", 2))
    found = json.loads(empty.kubectl("get", "podgroups", "-o", "json"))["items"]
    assert {g["metadata"]["name"]: g["spec"]["priority"] for g in found} == {"g": 0, "classed": 70}
    change = '{"spec":{"disruptionMode":{"single":null,"all":{}}}}'
    told = empty.kubectl("patch", "podgroup", "g", "--type=merge", "-p", change, check=False)
    assert "spec.disruptionMode" in told and "field is immutable" in told
    assert json.loads(empty.kubectl("get", "podgroup", "g", "-o", "json"))["spec"]["disruptionMode"] == {"single": {}}
