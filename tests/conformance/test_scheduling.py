"""The conformance names of Scheduling, and of nodes and taints, on simulated nodes with the real kubectl.

Each test that fills nodes makes one of its own, so that tests can't take each other's room.
"""

from __future__ import annotations

import calendar
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import Cluster

Json = dict[str, Any]
RESOURCE = "example.com/fakecpu"


class Namespace:
    """kubectl within a namespace of the test's own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin, check=check)

    def get(self, *words: str) -> Json:
        return dict(json.loads(self("get", *words, "-o", "json")))

    def make(self, body: Json) -> None:
        self("create", "-f", "-", stdin=json.dumps(body))

    def until(self, what: Callable[[], Any], seconds: float = 60.0) -> Any:
        """The first true answer. Fails when it takes longer."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := what():
                return found
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s")

    def gone(self, pod: str) -> bool:
        return not self("get", "pod", pod, "--ignore-not-found", "-o", "name")


@pytest.fixture
def k(simulated: Cluster) -> Iterator[Namespace]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    simulated.kubectl("create", "namespace", name)
    simulated.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    yield Namespace(simulated, name)
    simulated.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def node(k: Namespace) -> Iterator[str]:
    """A simulated node with ten of a resource that no other node has, labelled with its name."""
    name = f"own-{uuid.uuid4().hex[:8]}"
    amounts = {"cpu": "8", "memory": "16Gi", "pods": "20", RESOURCE: "10"}
    body = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, "own": name},
        },
        "status": {"allocatable": amounts, "capacity": amounts},
    }
    k.make(body)
    k("wait", "--for=condition=Ready", f"node/{name}", "--timeout=60s")
    k.until(lambda: not (k.get("node", name)["spec"].get("taints")))
    yield name
    k("delete", "node", name)


def pod(name: str, node: str = "", amount: int = 0, **spec: Any) -> Json:
    container: Json = {"name": "c", "image": "pause:1", "ports": spec.pop("ports", [])}
    if amount:
        container["resources"] = {"requests": {RESOURCE: str(amount)}, "limits": {RESOURCE: str(amount)}}
    if node:
        spec["nodeSelector"] = {"own": node}
    meta = {"name": name, "labels": {"app": name}, **spec.pop("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container], **spec}}


def ready(k: Namespace, *names: str) -> None:
    k("wait", "--for=condition=Ready", *(f"pod/{n}" for n in names), "--timeout=60s")


def why(k: Namespace, name: str) -> str:
    """The reason a pod waits, once the scheduler has said it."""

    def said() -> str:
        conditions = k.get("pod", name).get("status", {}).get("conditions") or []
        return next((c.get("message", "") for c in conditions if c["type"] == "PodScheduled"), "")

    return str(k.until(said))


@pytest.fixture
def priorities(k: Namespace) -> Iterator[Callable[[int], str]]:
    made: list[str] = []

    def priority(value: int) -> str:
        name = f"p{value}-{uuid.uuid4().hex[:6]}"
        k.make(
            {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}
        )
        made.append(name)
        return name

    yield priority
    for name in made:
        k("delete", "priorityclass", name)


@conformance("Scheduling", "LimitRange defaults and bounds")
def test_limit_range_defaults_and_bounds(k: Namespace) -> None:
    item = {
        "type": "Container",
        "min": {"cpu": "50m", "memory": "100Mi"},
        "max": {"cpu": "500m", "memory": "500Mi"},
        "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
        "default": {"cpu": "500m", "memory": "500Mi"},
    }
    k.make({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [item]}})
    k.make(pod("bare"))
    assert k.get("pod", "bare")["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "200Mi"},
        "limits": {"cpu": "500m", "memory": "500Mi"},
    }
    partial = pod("partial")
    partial["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "300m", "memory": "150Mi"}}
    k.make(partial)
    assert k.get("pod", "partial")["spec"]["containers"][0]["resources"]["limits"]["cpu"] == "500m"
    for name, resources, text in (
        ("small", {"requests": {"cpu": "10m"}}, "minimum cpu usage per Container is 50m, but request is 10m"),
        ("large", {"limits": {"cpu": "600m"}}, "maximum cpu usage per Container is 500m, but limit is 600m"),
    ):
        body = pod(name)
        body["spec"]["containers"][0]["resources"] = resources
        with pytest.raises(AssertionError, match=text):
            k.make(body)


@conformance("Scheduling", "LimitRange list, patch, deletecollection")
def test_limit_range_list_patch_deletecollection(k: Namespace) -> None:
    for name in ("one", "two"):
        limit = {"type": "Container", "max": {"cpu": "1"}}
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name, "labels": {"of": k.name}}}
        k.make(body | {"spec": {"limits": [limit]}})
    listed = json.loads(k("get", "limitranges", "-A", "-l", f"of={k.name}", "-o", "json"))
    assert [i["metadata"]["name"] for i in listed["items"]] == ["one", "two"]
    k("patch", "limitrange", "one", "-p", '{"spec":{"limits":[{"type":"Container","max":{"cpu":"2"}}]}}')
    assert k.get("limitrange", "one")["spec"]["limits"][0]["max"] == {"cpu": "2"}
    k("delete", "limitranges", "-l", f"of={k.name}")
    assert k.get("limitranges")["items"] == []


@conformance("Scheduling", "resource requests over capacity stay pending")
def test_resource_requests_over_capacity_stay_pending(k: Namespace, node: str) -> None:
    k.make(pod("fits", node, 7))
    ready(k, "fits")
    k.make(pod("over", node, 4))
    assert f"1 Insufficient {RESOURCE}" in why(k, "over")
    k("delete", "pod", "fits")
    ready(k, "over")


@conformance("Scheduling", "node selector matches")
def test_node_selector_matches(k: Namespace, node: str) -> None:
    k.make(pod("there", node))
    ready(k, "there")
    assert k.get("pod", "there")["spec"]["nodeName"] == node


@conformance("Scheduling", "node selector matches nothing: pending")
def test_node_selector_matches_nothing_pending(k: Namespace) -> None:
    k.make(pod("nowhere", "no-such-node"))
    assert "node(s) didn't match Pod's node affinity/selector" in why(k, "nowhere")

    def event() -> Json | None:
        """The one that says what the condition says: both count the nodes, of which other tests' may be leaving."""
        told = why(k, "nowhere")
        found = k.get("events", "--field-selector=reason=FailedScheduling")["items"]
        return next((e for e in found if e["message"] == told), None)

    assert k.until(event)["involvedObject"]["name"] == "nowhere"


@conformance("Scheduling", "hostPort clash with 0.0.0.0")
def test_host_port_clash_with_0_0_0_0(k: Namespace, node: str) -> None:
    port = {"containerPort": 8080, "hostPort": 54321}
    k.make(pod("first", node, ports=[port | {"hostIP": "127.0.0.1"}]))
    ready(k, "first")
    k.make(pod("other-protocol", node, ports=[port | {"protocol": "UDP", "hostIP": "127.0.0.1"}]))
    k.make(pod("other-address", node, ports=[port | {"hostIP": "127.0.0.2"}]))
    ready(k, "other-protocol", "other-address")
    k.make(pod("every-address", node, ports=[port]))
    assert "1 node(s) didn't have free ports for the requested pod ports" in why(k, "every-address")


@conformance("Scheduling", "preemption with ReplicaSets of four priorities")
def test_preemption_with_replica_sets_of_four_priorities(
    k: Namespace, node: str, priorities: Callable[[int], str]
) -> None:
    """Five of each of three, two of the highest: the lower make room, never the higher."""

    def replicas(name: str, count: int, amount: int, priority: str) -> None:
        template = pod(name, node, amount, priorityClassName=priority)
        body: Json = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name}}
        spec = {"metadata": {"labels": {"app": name}}, "spec": template["spec"]}
        body["spec"] = {"replicas": count, "selector": {"matchLabels": {"app": name}}, "template": spec}
        k.make(body)

    def running(name: str) -> int:
        return sum(p["status"].get("phase") == "Running" for p in k.get("pods", "-l", f"app={name}")["items"])

    one, two, three, four = (priorities(v) for v in (1, 2, 3, 4))
    replicas("rs1", 5, 1, one)
    k.until(lambda: running("rs1") == 5)
    replicas("rs2", 4, 1, two)
    k.until(lambda: running("rs2") == 4)
    replicas("rs3", 4, 1, three)
    k.until(lambda: running("rs3") == 4)
    assert running("rs2") == 4
    replicas("rs4", 1, 2, four)
    k.until(lambda: running("rs4") == 1)
    k.until(lambda: (running("rs1"), running("rs2"), running("rs3")) == (0, 4, 4))


@conformance("Scheduling", "PriorityClass API, immutable value")
def test_priority_class_api_immutable_value(k: Namespace, priorities: Callable[[int], str]) -> None:
    name = priorities(1234)
    with pytest.raises(AssertionError, match=r"field is immutable|may not be changed"):
        k("patch", "priorityclass", name, "-p", '{"value":1235}')
    k("patch", "priorityclass", name, "-p", '{"description":"changed"}')
    assert k.get("priorityclass", name)["description"] == "changed"
    assert k.get("priorityclass", name)["value"] == 1234


@conformance("Scheduling", "basic preemption")
def test_basic_preemption(k: Namespace, node: str, priorities: Callable[[int], str]) -> None:
    low, medium, high = priorities(1), priorities(100), priorities(1000)
    k.make(pod("low", node, 6, priorityClassName=low))
    k.make(pod("medium", node, 4, priorityClassName=medium))
    ready(k, "low", "medium")
    k.make(pod("high", node, 6, priorityClassName=high))
    ready(k, "high")
    assert k.gone("low")
    assert not k.gone("medium")
    told = k.until(lambda: k.get("events", "--field-selector=reason=Preempted")["items"])[0]
    assert told["involvedObject"]["name"] == "low"
    assert told["message"] == f"Preempted by pod {k.get('pod', 'high')['metadata']['uid']} on node {node}"


@conformance("Scheduling", "critical pod preempts")
def test_critical_pod_preempts(k: Namespace, node: str, priorities: Callable[[int], str]) -> None:
    k.make(pod("high", node, 6, priorityClassName=priorities(1000)))
    k.make(pod("low", node, 4, priorityClassName=priorities(1)))
    ready(k, "high", "low")
    name = f"critical-{k.name}"
    critical = pod(name, node, 4, priorityClassName="system-cluster-critical")
    system = Namespace(k.cluster, "kube-system")
    system.make(critical)
    try:
        ready(system, name)
        assert k.gone("low")
        assert not k.gone("high")
    finally:
        system("delete", "pod", name)


@conformance("Scheduling", "DisruptionTarget condition on the preempted pod")
def test_disruption_target_condition_on_the_preempted_pod(
    k: Namespace, node: str, priorities: Callable[[int], str]
) -> None:
    low, high = priorities(1), priorities(1000)
    k.make(pod("victim", node, 8, priorityClassName=low, metadata={"finalizers": ["example.com/hold"]}))
    ready(k, "victim")
    k.make(pod("preemptor", node, 8, priorityClassName=high))
    conditions = k.until(
        lambda: [
            c
            for c in k.get("pod", "victim")["status"].get("conditions") or []
            if c["type"] == "DisruptionTarget" and k.get("pod", "victim")["metadata"].get("deletionTimestamp")
        ]
    )
    assert conditions[0]["status"] == "True"
    assert conditions[0]["reason"] == "PreemptionByScheduler"
    assert conditions[0]["message"] == "default-scheduler: preempting to accommodate a higher priority pod"
    k.until(lambda: k.get("pod", "preemptor")["status"].get("nominatedNodeName") == node)
    k("patch", "pod", "victim", "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    ready(k, "preemptor")


@conformance("nodes and taints", "NoExecute with tolerationSeconds evicts several pods")
def test_no_execute_with_toleration_seconds_evicts_several_pods(k: Namespace, node: str) -> None:
    patience = {"soon": 1, "later": 4}
    for name, seconds in patience.items():
        toleration = {"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        k.make(pod(name, node, tolerations=[toleration], metadata={"finalizers": ["example.com/hold"]}))
    ready(k, "soon", "later")
    tainted = int(time.time())
    k("taint", "node", node, "own=x:NoExecute")
    for name, seconds in patience.items():
        k.until(lambda n=name: k.get("pod", n)["metadata"].get("deletionTimestamp"))
        conditions = k.get("pod", name)["status"]["conditions"]
        (told,) = (c for c in conditions if c["type"] == "DisruptionTarget")
        evicted = calendar.timegm(time.strptime(told["lastTransitionTime"], "%Y-%m-%dT%H:%M:%SZ"))
        assert told["reason"] == "DeletionByTaintManager" and evicted >= tainted + seconds, "not before its time"
        k("patch", "pod", name, "--type=json", "-p", '[{"op":"remove","path":"/metadata/finalizers"}]')
    k.until(lambda: k.gone("soon") and k.gone("later"))


@conformance("nodes and taints", "taint removed cancels the eviction")
def test_taint_removed_cancels_the_eviction(k: Namespace, node: str) -> None:
    for name, seconds in (("goes", 1), ("stays", 10)):
        toleration = {"key": "own", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}
        k.make(pod(name, node, tolerations=[toleration]))
    ready(k, "goes", "stays")
    k("taint", "node", node, "own=x:NoExecute")
    k.until(lambda: k.gone("goes"))  # so the taint has been seen
    k("taint", "node", node, "own=x:NoExecute-")
    over = time.monotonic() + 10
    text = f"Cancelling deletion of Pod {k.name}/stays"
    k.until(lambda: text in {e["message"] for e in k.get("events")["items"]})
    time.sleep(max(over - time.monotonic(), 0))
    assert not k.get("pod", "stays")["metadata"].get("deletionTimestamp")


def test_node_object_lifecycle(k: Namespace) -> None:
    name = f"life-{uuid.uuid4().hex[:8]}"
    k.make({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"life": name}}})
    assert [n["metadata"]["name"] for n in k.get("nodes", "-l", f"life={name}")["items"]] == [name]
    k("patch", "node", name, "-p", '{"metadata":{"labels":{"patched":"yes"}}}')
    k("patch", "node", name, "--subresource=status", "-p", '{"status":{"phase":"Running"}}')
    found = k.get("node", name)
    assert (found["metadata"]["labels"]["patched"], found["status"]["phase"]) == ("yes", "Running")
    k("delete", "nodes", "-l", f"life={name}")
    assert not k("get", "node", name, "--ignore-not-found", "-o", "name")
