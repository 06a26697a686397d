"""DaemonSets: who gets a pod, which pods go, and how an update goes round; pure plans."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.daemonset import DAEMONSETS, NODES, plan
from portside.controllers.plan import Op, Plan
from portside.controllers.revisions import HASH, REVISIONS, data_of

Json = dict[str, Any]
PODS = ("", "v1", "pods")
NOW = 1_790_000_000.0
TEMPLATE: Json = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}}
OWNER = [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "uid": "d-uid", "controller": True}]


def daemons(surge: int = 0, unavailable: int = 1, **spec: Any) -> Json:
    rolling = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "d", "namespace": "ns", "uid": "d-uid", "generation": 1},
        "spec": {
            "selector": {"matchLabels": {"app": "d"}},
            "template": TEMPLATE,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            **spec,
        },
    }


def node(name: str, *taints: Json, **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}}


def pod(
    name: str, where: str, *, old: bool = False, ready: bool = True, phase: str = "Running", age: float = 60
) -> Json:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": rfc3339(NOW - age)}
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "labels": {"app": "d", HASH: "old" if old else "new"},
        "creationTimestamp": rfc3339(NOW - age),
        "ownerReferences": OWNER,
    }
    return {"metadata": meta, "spec": {"nodeName": where}, "status": {"phase": phase, "conditions": [condition]}}


def planned(owner: Json, nodes: list[Json], *pods: Json) -> Plan:
    meta = {
        "name": "d-new",
        "namespace": "ns",
        "uid": "r",
        "labels": {"app": "d", HASH: "new"},
        "ownerReferences": OWNER,
    }
    revision = {"metadata": meta, "data": data_of(TEMPLATE), "revision": 2}
    return plan(View.of({DAEMONSETS: [owner], NODES: nodes, PODS: pods, REVISIONS: [revision]}), "ns/d", NOW)


def made(found: Plan) -> list[str]:
    terms = [
        s.body["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        for s in found.steps
        if isinstance(s, Op) and s.verb == "create"
    ]
    return sorted(t["nodeSelectorTerms"][0]["matchFields"][0]["values"][0] for t in terms)


def gone(found: Plan) -> list[str]:
    return sorted(s.name for s in found.steps if isinstance(s, Op) and s.verb == "delete")


def status(found: Plan) -> Json:
    assert found.then is not None
    (step,) = found.then([])
    assert isinstance(step, Op)
    held: Json = step.body["status"]
    return held


NODES_ = [node("a"), node("b"), node("c")]


def test_taints_keep_new_pods_away_and_only_noexecute_sends_running_ones() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    fresh = planned(daemons(), [node("a", taint), node("b")])
    assert made(fresh) == ["b"]
    stays = planned(daemons(), [node("a", taint)], pod("p", "a"))
    assert gone(stays) == [] and status(stays)["numberMisscheduled"] == 1
    assert gone(planned(daemons(), [node("a", taint | {"effect": "NoExecute"})], pod("p", "a"))) == ["p"]


def test_of_two_pods_on_a_node_the_older_stays_and_failed_ones_are_replaced() -> None:
    twice = planned(daemons(), [node("a")], pod("young", "a", age=10), pod("older", "a", age=90))
    assert gone(twice) == ["young"]
    assert gone(planned(daemons(), [node("a")], pod("bad", "a", phase="Failed"))) == ["bad"]
    early = planned(daemons(), [node("a")], pod("bad", "a", phase="Failed", age=0))
    assert gone(early) == [] and early.again is not None


def test_an_update_takes_as_many_as_may_be_missing_and_broken_ones_at_once() -> None:
    old = [pod(n, n, old=True) for n in "abc"]
    assert len(gone(planned(daemons(), NODES_, *old))) == 1
    assert len(gone(planned(daemons(unavailable=2), NODES_, *old))) == 2
    waiting = [pod("a", "a", ready=False), pod("b", "b", old=True), pod("c", "c", old=True)]
    assert gone(planned(daemons(), NODES_, *waiting)) == []
    broken = [pod("a", "a", old=True, ready=False), pod("b", "b", old=True), pod("c", "c", old=True)]
    assert gone(planned(daemons(), NODES_, *broken)) == ["a"]


def test_surge_adds_a_successor_first_and_removes_the_old_pod_when_it_is_available() -> None:
    old = [pod(n, n, old=True) for n in "abc"]
    begun = planned(daemons(surge=1, unavailable=0), NODES_, *old)
    assert len(made(begun)) == 1 and gone(begun) == []
    beside = planned(daemons(surge=1, unavailable=0), NODES_, *old, pod("a2", "a", ready=False, age=5))
    assert made(beside) == [] and gone(beside) == []
    done = planned(daemons(surge=1, unavailable=0), NODES_, *old, pod("a2", "a", age=5))
    assert gone(done) == ["a"] and len(made(done)) == 1
    broken = [pod("a", "a", old=True, ready=False), *old[1:]]
    assert len(made(planned(daemons(surge=1, unavailable=0), NODES_, *broken))) == 2, "a broken one takes no surge"


def test_the_oldest_pod_speaks_for_its_node_in_the_status() -> None:
    old = [pod("a", "a", old=True), pod("a2", "a", age=5), pod("b", "b")]
    found = status(planned(daemons(surge=1, unavailable=0), NODES_, *old))
    assert (found["desiredNumberScheduled"], found["currentNumberScheduled"]) == (3, 2)
    assert (found["numberReady"], found["numberAvailable"], found["numberUnavailable"]) == (2, 2, 1)
    assert found["updatedNumberScheduled"] == 1
