"""StatefulSets: how far an update goes at once, which claims hold a pod up, and what is said; pure plans."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api.status import ApiError
from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.plan import Emit, Op, Plan
from portside.controllers.revisions import HASH, REVISIONS, data_of
from portside.controllers.statefulset import CLAIMS, POD_INDEX, POD_NAME, SETS, plan

Json = dict[str, Any]
PODS = ("", "v1", "pods")
NOW = 1_790_000_000.0
TEMPLATE: Json = {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "new"}]}}
OWNER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "s", "uid": "s-uid", "controller": True}
CLAIM: Json = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}


def stateful(replicas: int = 3, *, policy: str = "OrderedReady", rolling: Json | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "s", "namespace": "ns", "uid": "s-uid", "generation": 1},
        "spec": {
            "replicas": replicas,
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "s"}},
            "template": TEMPLATE,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling or {}},
            **spec,
        },
        "status": {"currentRevision": "s-old"},
    }


def pod(number: int, *, old: bool = False, ready: bool = True, named: bool = True, **meta: Any) -> Json:
    name = f"s-{number}"
    labels = {"app": "s", HASH: "s-old" if old else "s-new"}
    if named:
        labels |= {POD_NAME: name, POD_INDEX: str(number)}
    made = {"name": name, "namespace": "ns", "uid": name, "labels": labels, "ownerReferences": [OWNER], **meta}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": rfc3339(NOW - 60)}
    return {"metadata": made, "spec": {}, "status": {"phase": "Running", "conditions": [condition]}}


def claim(name: str, **meta: Any) -> Json:
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "1", **meta}, "spec": {}}


def revision(name: str, template: Json, number: int) -> Json:
    meta = {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "s"}, "ownerReferences": [OWNER]}
    return {"metadata": meta, "data": data_of(template), "revision": number}


def planned(owner: Json, *pods: Json, claims: tuple[Json, ...] = ()) -> Plan:
    before = {**TEMPLATE, "spec": {"containers": [{"name": "c", "image": "old"}]}}
    past = [revision("s-old", before, 1), revision("s-new", TEMPLATE, 2)]
    return plan(View.of({SETS: [owner], PODS: pods, CLAIMS: claims, REVISIONS: past}), "ns/s", NOW)


def names(found: Plan, verb: str, resource: Any = PODS) -> list[str]:
    return [s.name for s in found.steps if isinstance(s, Op) and (s.verb, s.resource) == (verb, resource)]


def said(found: Plan) -> list[str]:
    return [s.message for s in found.steps if isinstance(s, Emit)]


@pytest.mark.parametrize(
    ("share", "gone"),
    [(None, ["s-4"]), (2, ["s-4", "s-3"]), ("50%", ["s-4", "s-3"]), ("10%", ["s-4"])],
    ids=["one by one", "two", "a share is rounded down", "at least one"],
)
def test_an_update_takes_as_many_as_may_be_unavailable_from_the_highest_down(share: Any, gone: list[str]) -> None:
    rolling = {} if share is None else {"maxUnavailable": share}
    found = planned(stateful(5, rolling=rolling), *(pod(n, old=True) for n in range(5)))
    assert names(found, "delete") == gone


def test_the_partition_keeps_the_lower_ones_also_where_numbers_start_later() -> None:
    rolling = {"maxUnavailable": 3, "partition": 2}
    owner = stateful(3, rolling=rolling, ordinals={"start": 5})
    assert names(planned(owner, *(pod(n, old=True) for n in (5, 6, 7))), "delete") == ["s-7"]


def test_in_parallel_broken_old_pods_go_at_once_and_leave_the_room_to_the_others() -> None:
    owner = stateful(4, policy="Parallel", rolling={"maxUnavailable": 2})
    pods = [pod(0, old=True, ready=False), *(pod(n, old=True) for n in (1, 2, 3))]
    assert names(planned(owner, *pods), "delete") == ["s-0", "s-3"]
    pods = [pod(0, old=True, ready=False), pod(1, old=True), pod(2, ready=False), pod(3, ready=False)]
    assert names(planned(owner, *pods), "delete") == ["s-0"]
    pods = [*(pod(n, old=True) for n in (0, 1)), pod(2, ready=False), pod(3, ready=False)]
    assert names(planned(owner, *pods), "delete") == []


def test_an_update_that_people_finish_by_hand_is_finished_all_the_same() -> None:
    owner = stateful(1, updateStrategy={"type": "OnDelete"})
    found = planned(owner, pod(0))
    assert found.then is not None
    (write,) = found.then([])
    assert isinstance(write, Op)
    assert (write.body["status"]["currentRevision"], write.body["status"]["currentReplicas"]) == ("s-new", 1)


def test_a_pod_waits_for_the_end_of_the_claim_that_goes_with_its_predecessor() -> None:
    policy = {"whenScaled": "Delete", "whenDeleted": "Retain"}
    owner = stateful(1, volumeClaimTemplates=[CLAIM], persistentVolumeClaimRetentionPolicy=policy)
    ref = {"apiVersion": "v1", "kind": "Pod", "name": "s-0", "uid": "earlier"}
    found = planned(owner, claims=(claim("data-s-0", ownerReferences=[ref]),))
    assert names(found, "create") == [] and said(found) == []
    owner["spec"]["persistentVolumeClaimRetentionPolicy"] = {"whenScaled": "Retain", "whenDeleted": "Retain"}
    assert names(planned(owner, claims=(claim("data-s-0", ownerReferences=[ref]),)), "create") == ["s-0"]
    found = planned(owner, claims=(claim("data-s-0", deletionTimestamp=rfc3339(NOW)),))
    assert names(found, "create") == []
    assert said(found) == ["Create Pod s-0 in StatefulSet s failed error: pvc data-s-0 is being deleted"]


def test_refused_pods_and_claims_are_told_in_events() -> None:
    found = planned(stateful(1, volumeClaimTemplates=[CLAIM]))
    why = ApiError(403, "Forbidden", "exceeded quota")
    told = {
        step.resource: [e.message for e in step.failed(why)]
        for step in found.steps
        if isinstance(step, Op) and step.failed is not None
    }
    assert told[PODS] == ["Create Pod s-0 in StatefulSet s failed error: exceeded quota"]
    assert told[CLAIMS] == [
        "Create Claim data-s-0 for Pod s-0 in StatefulSet s failed error: exceeded quota",
        "Create Pod s-0 in StatefulSet s failed error: failed to create PVC data-s-0: exceeded quota",
    ]


def test_a_pod_that_lost_the_labels_of_its_number_gets_them_back() -> None:
    found = planned(stateful(1), pod(0, named=False))
    (step,) = [s for s in found.steps if isinstance(s, Op)]
    assert step.body["metadata"]["labels"] == {POD_NAME: "s-0", POD_INDEX: "0"}
    assert step.ok is not None
    assert [e.message for e in step.ok({})] == ["Update Pod s-0 in StatefulSet s successful"]
