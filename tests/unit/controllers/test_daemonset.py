"""DaemonSets: who gets a pod, which pods go, and how an update goes round; pure plans."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.backoff import Backoff
from portside.controllers.daemonset import DAEMONSETS, FIRST_DELAY, LAST_DELAY, NODES, plan
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


def backoff() -> Backoff:
    return Backoff(FIRST_DELAY, LAST_DELAY)


def planned(owner: Json, nodes: list[Json], *pods: Json, failures: Backoff | None = None, now: float = NOW) -> Plan:
    meta = {
        "name": "d-new",
        "namespace": "ns",
        "uid": "r",
        "labels": {"app": "d", HASH: "new"},
        "ownerReferences": OWNER,
    }
    revision = {"metadata": meta, "data": data_of(TEMPLATE), "revision": 2}
    view = View.of({DAEMONSETS: [owner], NODES: nodes, PODS: pods, REVISIONS: [revision]})
    return plan(view, "ns/d", now, failures or backoff())


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


def test_of_two_pods_on_a_node_the_older_stays() -> None:
    twice = planned(daemons(), [node("a")], pod("young", "a", age=10), pod("older", "a", age=90))
    assert gone(twice) == ["young"]


def test_failed_pods_are_replaced_after_a_delay_that_grows_with_each_of_their_node() -> None:
    failures, nodes, now = backoff(), [node("a"), node("b")], NOW
    bad = pod("bad", "a", phase="Failed")
    waits = []
    for _ in range(12):
        assert gone(planned(daemons(), nodes, bad, failures=failures, now=now)) == ["bad"]
        early = planned(daemons(), nodes, bad, failures=failures, now=now)
        assert gone(early) == [] and early.again is not None
        waits.append(round(early.again))
        now += early.again
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    elsewhere = planned(daemons(), nodes, pod("ill", "b", phase="Failed"), failures=failures, now=now)
    assert gone(elsewhere) == ["ill"], "another node has its own delay"
    changed = daemons() | {"status": {"observedGeneration": 2}}
    assert gone(planned(changed, nodes, bad, failures=failures, now=now - 1)) == ["bad"], "and so has a new template"
    assert gone(planned(daemons(), nodes, bad, failures=failures, now=now + 1801)) == ["bad"]
    again = planned(daemons(), nodes, bad, failures=failures, now=now + 1801).again
    assert again is not None and round(again) == 1, "half an hour without a failure is forgiven"


def test_an_update_also_takes_old_pods_from_where_none_should_run_any_more() -> None:
    taint = {"key": "k", "value": "v", "effect": "NoSchedule"}
    nodes = [node("a", taint), node("b")]
    assert gone(planned(daemons(), nodes, pod("a", "a", old=True), pod("b", "b"))) == ["a"]
    surging = daemons(surge=1, unavailable=0)
    waits = planned(surging, nodes, pod("a", "a", old=True), pod("b", "b", ready=False))
    assert gone(waits) == [], "the last available pod stays until another is"
    assert gone(planned(surging, nodes, pod("a", "a", old=True), pod("b", "b"))) == ["a"]
    assert gone(planned(surging, nodes, pod("a", "a", old=True, ready=False), pod("b", "b"))) == ["a"]


def test_with_surge_a_successor_comes_beside_a_pod_that_is_on_its_way_out() -> None:
    leaving = pod("a", "a")
    leaving["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert made(planned(daemons(), [node("a")], leaving)) == []
    assert made(planned(daemons(surge=1, unavailable=0), [node("a")], leaving)) == ["a"]


def test_pods_of_a_node_that_is_gone_are_the_garbage_collectors_unless_they_were_never_bound() -> None:
    waiting = pod("w", "")
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    waiting["spec"] = {"affinity": {"nodeAffinity": required}}
    assert gone(planned(daemons(), [node("a")], pod("a", "a"), pod("g", "gone"), waiting)) == ["w"]


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
