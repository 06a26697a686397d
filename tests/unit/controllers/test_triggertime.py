"""The time of the change that endpoints tell, and budgets that can't be counted."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers.disruption import BUDGETS, plan
from portside.controllers.plan import Emit, Op
from portside.controllers.triggertime import ANNOTATION, TriggerTimes, annotated

Json = dict[str, Any]
SERVICE: Json = {"metadata": {"name": "s", "namespace": "ns", "creationTimestamp": "2026-11-25T10:00:00Z"}}
PODS = ("", "v1", "pods")


def pod(name: str, ready_at: str, **meta: Any) -> Json:
    condition = {"type": "Ready", "status": "True", "lastTransitionTime": ready_at}
    held = {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}, **meta}
    return {"metadata": held, "spec": {}, "status": {"phase": "Running", "conditions": [condition]}}


def test_the_earliest_change_since_the_last_look_is_told_once() -> None:
    times = TriggerTimes()
    assert times.since(SERVICE, []) == "2026-11-25T10:00:00Z"
    assert times.since(SERVICE, []) == ""
    first, second = pod("a", "2026-11-25T10:05:00Z"), pod("b", "2026-11-25T10:04:00Z")
    assert times.since(SERVICE, [first, second]) == "2026-11-25T10:04:00Z"
    assert times.since(SERVICE, [first, pod("b", "2026-11-25T10:09:00Z")]) == "2026-11-25T10:09:00Z"
    assert times.since(SERVICE, [first]) == "", "a pod that went has no time"


def test_a_change_without_a_known_time_takes_the_old_one_away() -> None:
    assert annotated({"a": "b", ANNOTATION: "old"}, "") == {"a": "b"}
    assert annotated(None, "new") == {ANNOTATION: "new"}


def judged(budget: Json, *pods: Json) -> tuple[list[tuple[str, str]], Json]:
    found = plan(View.of({BUDGETS: [budget], PODS: pods}), "ns/b", 1_790_000_000.0, {})
    events = [(s.reason, s.message) for s in found.steps if isinstance(s, Emit)]
    (write,) = [s for s in found.steps if isinstance(s, Op)]
    return events, write.body["status"]


def budget(**spec: Any) -> Json:
    selector = {"matchLabels": {"app": "web"}}
    meta = {"name": "b", "namespace": "ns", "generation": 1}
    return {"kind": "PodDisruptionBudget", "metadata": meta, "spec": {"selector": selector, **spec}}


def test_pods_without_a_controller_are_said_to_make_shares_meaningless() -> None:
    events, status = judged(budget(minAvailable="50%"), pod("bare", "2026-11-25T10:05:00Z"))
    assert events[0][0] == "UnmanagedPods"
    selector = "&LabelSelector{MatchLabels:map[string]string{app: web,},MatchExpressions:[]LabelSelectorRequirement{},}"
    assert f"(selector: {selector}) were found to be unmanaged." in events[0][1]
    assert (status["expectedPods"], status["disruptionsAllowed"]) == (0, 0)
    assert judged(budget(minAvailable=1), pod("bare", "2026-11-25T10:05:00Z"))[1]["expectedPods"] == 1


def test_a_controller_that_is_gone_fails_safe() -> None:
    ref = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "gone", "uid": "g", "controller": True}
    owned = pod("p", "2026-11-25T10:05:00Z", ownerReferences=[ref])
    events, status = judged(budget(maxUnavailable=1), owned)
    assert events == [
        (
            "CalculateExpectedPodCountFailed",
            'Failed to calculate the number of expected pods: found no controllers for pod "p"',
        )
    ]
    assert status["disruptionsAllowed"] == 0
    assert status["conditions"][0]["reason"] == "SyncFailed"


def test_a_budget_of_no_pods_allows_nothing_and_says_so() -> None:
    events, status = judged(budget(maxUnavailable=1))
    assert events == [("NoPods", "No matching pods found")]
    assert status["disruptionsAllowed"] == 0
