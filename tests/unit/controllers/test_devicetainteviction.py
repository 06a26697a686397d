"""Taints of devices: whose pods go, when, and what is said on the rule that asked for it."""

from __future__ import annotations

from typing import Any

from portside.base.clock import parse_time
from portside.client.cache import View
from portside.controllers.devicetainteviction import CLAIMS, RULES, SLICES, DeviceTaintEviction
from portside.controllers.plan import Emit, Op, Plan
from portside.controllers.pods import PODS

Json = dict[str, Any]
STAMP = "2026-11-25T10:00:00Z"
ADDED = parse_time(STAMP) or 0.0
FOREVER = {"operator": "Exists", "effect": "NoExecute"}


def pod(name: str = "p", namespace: str = "ns", **meta: Any) -> Json:
    wish = {"name": "gpu", "resourceClaimName": name}
    made = {"name": name, "namespace": namespace, "uid": f"{name}-uid", **meta}
    return {"metadata": made, "spec": {"nodeName": "n", "resourceClaims": [wish]}, "status": {}}


def claim(name: str = "p", namespace: str = "ns", *tolerations: Json, device: str = "g0") -> Json:
    result = {"driver": "d", "pool": "n", "device": device, "tolerations": list(tolerations)}
    users = [{"resource": "pods", "name": name, "uid": f"{name}-uid"}]
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": users}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {}, "status": status}


def rule(effect: str = "NoExecute", **more: Any) -> Json:
    taint = {"key": "k", "effect": effect, "timeAdded": STAMP}
    meta = {"name": "r", "uid": "r-uid", "generation": 1}
    return {"metadata": meta, "spec": {"deviceSelector": {"driver": "d"}, "taint": taint}, "status": {}, **more}


def published(*taints: Json, generation: int = 1, name: str = "s") -> Json:
    pool = {"name": "n", "generation": generation, "resourceSliceCount": 1}
    devices = [{"name": "g0", "taints": list(taints)}, {"name": "g1"}]
    return {"metadata": {"name": name}, "spec": {"driver": "d", "pool": pool, "devices": devices}}


def world(*rules: Json, pods: Any = None, claims: Any = None, slices: Any = ()) -> View:
    held = {PODS: pods or [pod()], CLAIMS: claims or [claim()], RULES: rules, SLICES: slices}
    return View.of(held)


def events(found: Plan) -> list[str]:
    return [s.message for s in found.steps if isinstance(s, Emit)]


def verbs(found: Plan) -> list[str]:
    return [s.verb for s in found.steps if isinstance(s, Op)]


def said(view: View, controller: DeviceTaintEviction | None = None, now: float = ADDED) -> tuple[str, str, str]:
    (step,) = (controller or DeviceTaintEviction()).plan_rule(view, "r", now).steps
    assert isinstance(step, Op)
    (condition,) = step.body["status"]["conditions"]
    return condition["status"], condition["reason"], condition["message"]


def test_a_pod_whose_device_is_tainted_is_marked_and_deleted() -> None:
    found = DeviceTaintEviction().plan_pod(world(rule()), "ns/p", ADDED)
    assert events(found) == ["Marking for deletion"]
    assert verbs(found) == ["patch", "delete"]
    (marked,) = [s.body["status"]["conditions"] for s in found.steps if isinstance(s, Op) and s.verb == "patch"]
    assert marked[0]["type"] == "DisruptionTarget" and marked[0]["reason"] == "DeletionByDeviceTaintManager"


def test_a_drivers_own_taint_counts_as_long_as_its_slice_is_not_outdated() -> None:
    taint = {"key": "k", "effect": "NoExecute", "timeAdded": STAMP}
    eviction = DeviceTaintEviction()
    assert verbs(eviction.plan_pod(world(slices=[published(taint)]), "ns/p", ADDED)) == ["patch", "delete"]
    newer = published(generation=2, name="t")
    assert not DeviceTaintEviction().plan_pod(world(slices=[published(taint), newer]), "ns/p", ADDED).steps


def test_tolerations_delay_or_forbid_an_eviction_that_ends_with_its_taint() -> None:
    eviction = DeviceTaintEviction()
    assert not eviction.plan_pod(world(rule(), claims=[claim("p", "ns", FOREVER)]), "ns/p", ADDED).steps
    patient = [claim("p", "ns", {**FOREVER, "tolerationSeconds": 40})]
    waits = eviction.plan_pod(world(rule(), claims=patient), "ns/p", ADDED + 10)
    assert not waits.steps and waits.again is not None and 30 <= waits.again < 31
    assert events(eviction.plan_pod(world(claims=patient), "ns/p", ADDED + 20)) == ["Cancelling deletion"]
    assert verbs(eviction.plan_pod(world(rule(), claims=patient), "ns/p", ADDED + 41)) == ["patch", "delete"]


def test_whoever_does_not_hold_the_claim_stays() -> None:
    other = claim()
    other["status"]["reservedFor"] = [{"resource": "pods", "name": "q", "uid": "q-uid"}]
    assert not DeviceTaintEviction().plan_pod(world(rule(), claims=[other]), "ns/p", ADDED).steps
    for effect in ("NoSchedule", "None"):
        assert not DeviceTaintEviction().plan_pod(world(rule(effect)), "ns/p", ADDED).steps
    elsewhere = rule()
    elsewhere["spec"]["deviceSelector"] = {"device": "g1"}
    assert not DeviceTaintEviction().plan_pod(world(elsewhere), "ns/p", ADDED).steps


def test_a_rule_says_how_many_pods_wait_and_how_many_went() -> None:
    eviction = DeviceTaintEviction()
    assert said(world(rule()), eviction) == (
        "True",
        "PodsPendingEviction",
        "1 pod needs to be evicted in 1 namespace.",
    )
    two = world(rule(), pods=[pod(), pod("q", "other")], claims=[claim(), claim("q", "other")])
    assert said(two)[2] == "2 pods need to be evicted in 2 different namespaces."
    empty = world(rule(), pods=[pod(deletionTimestamp=STAMP)])
    assert said(empty, eviction) == ("False", "NotStarted", "")
    (gone,) = [s for s in eviction.plan_pod(world(rule()), "ns/p", ADDED).steps if isinstance(s, Op) and s.ok]
    assert gone.ok is not None and list(gone.ok({})) == []
    assert said(empty, eviction) == ("False", "Completed", "1 pod evicted since starting the controller.")


def test_a_rule_without_an_effect_says_what_it_would_do() -> None:
    status, reason, message = said(world(rule("None"), slices=[published()]))
    assert (status, reason) == ("False", "NoEffect")
    assert message.startswith(
        "2 published devices selected. 1 allocated device selected. "
        "1 pod would be evicted in 1 namespace if the effect was NoExecute."
    )
    assert said(world(rule("NoSchedule"))) == (
        "False",
        "OtherEffect",
        "Eviction only happens for the NoExecute effect.",
    )


def test_a_rules_status_is_written_every_ten_seconds_at_most_but_for_news_of_its_own() -> None:
    stale = {"type": "EvictionInProgress", "status": "False", "reason": "NotStarted", "message": ""}
    held = {"conditions": [stale | {"observedGeneration": 1, "lastTransitionTime": STAMP}]}
    soon = DeviceTaintEviction().plan_rule(world(rule(status=held)), "r", ADDED + 4)
    assert not soon.steps and soon.again is not None and 6 <= soon.again < 7
    assert said(world(rule(status=held)), now=ADDED + 11)[1] == "PodsPendingEviction"
    held["conditions"][0]["observedGeneration"] = 0
    assert said(world(rule(status=held)), now=ADDED + 4)[1] == "PodsPendingEviction"
