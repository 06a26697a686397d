"""Budgets: how many pods are expected, by which controller, and what is said when that can't be told."""

from __future__ import annotations

from typing import Any

import pytest

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers import disruption, scales, staledisruption
from portside.controllers.disruption import BUDGETS
from portside.controllers.plan import Emit, Op
from portside.controllers.pods import PODS
from portside.controllers.served import CRDS

Json = dict[str, Any]
NOW = 1_790_000_000.0
DEPLOYMENTS = ("apps", "v1", "deployments")


def owner(kind: str, uid: str, api_version: str = "apps/v1") -> Json:
    return {"apiVersion": api_version, "kind": kind, "name": uid, "uid": uid, "controller": True}


def pod(name: str, *owners: Json, **status: Any) -> Json:
    ready = {"type": "Ready", "status": "True"}
    meta = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", "labels": {"app": "web"}}
    if owners:
        meta["ownerReferences"] = list(owners)
    return {"metadata": meta, "status": {"phase": "Running", "conditions": [ready], **status}}


def budget(**spec: Any) -> Json:
    meta = {"name": "b", "namespace": "ns", "uid": "b", "generation": 1}
    return {"metadata": meta, "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec}}


def told(
    held: Json, pods: list[Json], answers: scales.Answers | None = None, **more: list[Json]
) -> tuple[Json, list[str]]:
    """(the status that is written, reasons of the events)."""
    resources = {("apps", "v1", plural): objects for plural, objects in more.items()}
    view = View.of({BUDGETS: [held], PODS: pods, **resources})
    steps = disruption.plan(view, "ns/b", NOW, answers or {}).steps
    (write,) = [s for s in steps if isinstance(s, Op)]
    return write.body["status"], [s.reason for s in steps if isinstance(s, Emit)]


def sized(uid: str, replicas: int, *owners: Json) -> Json:
    meta: Json = {"name": uid, "namespace": "ns", "uid": uid}
    return {"metadata": meta | ({"ownerReferences": list(owners)} if owners else {}), "spec": {"replicas": replicas}}


def test_a_deployment_counts_for_its_replica_sets_and_a_set_without_it_for_itself() -> None:
    pods = [pod("p", owner("ReplicaSet", "rs"))]
    above = sized("rs", 2, owner("Deployment", "d"))
    status, _ = told(budget(maxUnavailable=1), pods, replicasets=[above], deployments=[sized("d", 7)])
    assert (status["expectedPods"], status["desiredHealthy"]) == (7, 6)
    status, _ = told(budget(maxUnavailable=1), pods, replicasets=[above], deployments=[])
    assert status["expectedPods"] == 2


def test_a_custom_controller_counts_by_its_scale() -> None:
    pods = [pod(n, owner("Fleet", "f", "example.com/v1")) for n in "ab"]
    status, _ = told(budget(maxUnavailable="50%"), pods, {"f": ("f", 4)})
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (4, 2, 0)


def test_what_cannot_be_counted_allows_nothing_and_says_why() -> None:
    pods = [pod("p", owner("Fleet", "f", "example.com/v1"))]
    unknown = scales.ScaleUnknown("fleets.example.com does not implement the scale subresource")
    status, events = told(budget(maxUnavailable=1), pods, {"f": unknown})
    (condition,) = status["conditions"]
    assert events == ["CalculateExpectedPodCountFailed"]
    assert (status["disruptionsAllowed"], condition["reason"], condition["message"]) == (0, "SyncFailed", str(unknown))
    status, _ = told(budget(maxUnavailable=1), pods, {"f": None})
    assert status["conditions"][0]["message"] == 'found no controllers for pod "p"'


def test_a_budget_of_a_plain_number_counts_pods_and_one_of_nothing_allows_nothing() -> None:
    pods = [pod("a"), pod("b")]
    status, events = told(budget(minAvailable=1), pods)
    assert (status["expectedPods"], status["disruptionsAllowed"], events) == (2, 1, [])
    status, _ = told(budget(), pods)
    assert (status["expectedPods"], status["desiredHealthy"], status["disruptionsAllowed"]) == (0, 0, 0)
    _, events = told(budget(maxUnavailable=1), pods)
    assert events == ["UnmanagedPods"]


def definition(**scale: str) -> Json:
    version: Json = {"name": "v1", "served": True, "storage": True}
    if scale:
        version["subresources"] = {"scale": scale}
    spec = {"group": "example.com", "names": {"kind": "Fleet", "plural": "fleets"}, "versions": [version]}
    established = {"type": "Established", "status": "True"}
    return {"metadata": {"name": "fleets.example.com"}, "spec": spec, "status": {"conditions": [established]}}


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        (owner("DaemonSet", "d"), "daemonsets.apps does not implement the scale subresource"),
        (owner("Fleet", "f", "example.com/v1"), "fleets.example.com does not implement the scale subresource"),
        (owner("Fleet", "f", "example.com/v9"), 'no matches for kind "Fleet" in version "example.com/v9"'),
        (owner("Ship", "s", "example.com/v1"), 'no matches for kind "Ship" in version "example.com/v1"'),
    ],
)
async def test_kinds_that_do_not_scale_are_told_without_asking(ref: Json, words: str) -> None:
    client: Any = None  # nobody is asked
    found = await scales.ask(client, View.of({CRDS: [definition()]}), "ns", ref)
    assert isinstance(found, scales.ScaleUnknown) and str(found) == words


def test_a_mark_that_came_to_nothing_is_taken_back_after_two_minutes() -> None:
    def looked(age: float, reason: str = "EvictionByEvictionAPI", **status: Any) -> Any:
        mark = {"type": "DisruptionTarget", "status": "True", "reason": reason}
        held = pod("p", conditions=[mark | {"lastTransitionTime": rfc3339(NOW - age)}], **status)
        return staledisruption.plan(View.of({PODS: [held]}), "ns/p", NOW)

    assert looked(60).again == pytest.approx(60.01) and not looked(60).steps
    (step,) = looked(121).steps
    (condition,) = step.body["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("DisruptionTarget", "False", None)
    assert looked(121, "PreemptionByScheduler").steps, "whoever set it"
    assert not looked(121, "TerminationByKubelet").steps and not looked(121, phase="Failed").steps
