"""Claims for devices: made from templates, reserved for pods, freed when the pods are done. Ranges of Services."""

from __future__ import annotations

from typing import Any

from portside.base.clock import parse_time
from portside.client.cache import View
from portside.controllers import servicecidr
from portside.controllers.plan import Emit, Op, Plan
from portside.controllers.resourceclaim import CLAIMS, FINALIZER, POD_CLAIM, TEMPLATES, plan_claim, plan_pod

Json = dict[str, Any]
PODS = ("", "v1", "pods")
TEMPLATE: Json = {"metadata": {"name": "t", "namespace": "ns"}, "spec": {"spec": {"devices": {}}}}


def pod(phase: str = "Pending", **spec: Any) -> Json:
    wish = {"name": "gpu", "resourceClaimTemplateName": "t"}
    meta = {"name": "p", "namespace": "ns", "uid": "p-uid"}
    return {"metadata": meta, "spec": {"resourceClaims": [wish], **spec}, "status": {"phase": phase}}


def claim(owner: bool = True, **status: Any) -> Json:
    meta: Json = {"name": "p-gpu-x", "namespace": "ns", "uid": "c-uid", "resourceVersion": "1"}
    meta |= {"annotations": {POD_CLAIM: "gpu"}, "finalizers": [FINALIZER]}
    if owner:
        meta["ownerReferences"] = [{"kind": "Pod", "name": "p", "uid": "p-uid", "controller": True}]
    return {"metadata": meta, "spec": {}, "status": status}


RESERVED = {"resource": "pods", "name": "p", "uid": "p-uid"}


def ops(found: Plan) -> list[Op]:
    steps = [*found.steps, *(found.then([]) if found.then else [])]
    return [s for s in steps if isinstance(s, Op)]


def test_a_template_becomes_a_claim_of_the_pod_whose_name_the_status_tells() -> None:
    (made,) = ops(plan_pod(View.of({PODS: [pod()], TEMPLATES: [TEMPLATE]}), "ns/p", 0.0))
    assert made.body["metadata"]["generateName"] == "p-gpu-"
    (owner,) = made.body["metadata"]["ownerReferences"]
    assert owner["uid"] == "p-uid" and "blockOwnerDeletion" not in owner
    (told,) = ops(plan_pod(View.of({PODS: [pod()], TEMPLATES: [TEMPLATE], CLAIMS: [claim()]}), "ns/p", 0.0))
    assert told.body["status"] == {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]}


def test_a_missing_template_is_said() -> None:
    (event,) = plan_pod(View.of({PODS: [pod()]}), "ns/p", 0.0).steps
    assert isinstance(event, Emit) and event.reason == "FailedResourceClaimCreation"
    assert event.message == (
        'PodResourceClaim gpu: resource claim template "t": resourceclaimtemplate.resource.k8s.io "t" not found'
    )


def test_an_allocated_claim_is_reserved_for_a_pod_that_is_on_its_node() -> None:
    user = pod(nodeName="n")
    user["status"]["resourceClaimStatuses"] = [{"name": "gpu", "resourceClaimName": "p-gpu-x"}]
    free = View.of({PODS: [user], CLAIMS: [claim()]})
    assert ops(plan_pod(free, "ns/p", 0.0)) == [], "what is not allocated can't be reserved"
    held = claim(allocation={"devices": {}})
    (step,) = ops(plan_pod(View.of({PODS: [user], CLAIMS: [held]}), "ns/p", 0.0))
    assert step.body["status"] == {"reservedFor": [RESERVED]}


def test_a_done_pod_frees_its_claim_which_goes() -> None:
    held = claim(allocation={"devices": {}}, reservedFor=[RESERVED])
    assert ops(plan_claim(View.of({PODS: [pod("Running", nodeName="n")], CLAIMS: [held]}), "ns/p-gpu-x", 0.0)) == []
    freed = ops(plan_claim(View.of({PODS: [pod("Succeeded", nodeName="n")], CLAIMS: [held]}), "ns/p-gpu-x", 0.0))
    assert [s.verb for s in freed] == ["patch", "patch", "delete"]
    assert freed[0].body["status"] == {"reservedFor": None, "allocation": None}


def test_a_shared_claim_stays_when_its_last_user_is_gone() -> None:
    held = claim(owner=False, allocation={"devices": {}}, reservedFor=[RESERVED])
    freed = ops(plan_claim(View.of({PODS: [], CLAIMS: [held]}), "ns/p-gpu-x", 0.0))
    assert [s.verb for s in freed] == ["patch", "patch"]


def cidr(name: str, text: str, **meta: Any) -> Json:
    return {"metadata": {"name": name, "uid": name, "resourceVersion": "1", **meta}, "spec": {"cidrs": [text]}}


def test_a_range_is_guarded_and_ready_and_goes_when_no_address_needs_it() -> None:
    def steps(*cidrs: Json, addresses: tuple[str, ...] = (), later: float = 11.0) -> list[Op]:
        held = [{"metadata": {"name": a}} for a in addresses]
        now = (parse_time("2026-11-25T10:00:00Z") or 0.0) + later
        return ops(servicecidr.plan(View.of({servicecidr.CIDRS: cidrs, servicecidr.ADDRESSES: held}), "a", now))

    (guard,) = steps(cidr("a", "10.0.0.0/24"))
    assert guard.body["metadata"]["finalizers"] == [servicecidr.FINALIZER]
    held = {"finalizers": [servicecidr.FINALIZER]}
    (ready,) = steps(cidr("a", "10.0.0.0/24", **held))
    assert ready.body["status"]["conditions"][0]["message"] == "Kubernetes Service CIDR is ready"
    leaving = cidr("a", "10.0.0.0/24", deletionTimestamp="2026-11-25T10:00:00Z", **held)
    (waits,) = steps(leaving, addresses=("10.0.0.7",))
    assert waits.body["status"]["conditions"][0]["reason"] == "Terminating"
    assert steps(leaving, later=5.0) == [], "an address given out just before may still get its record"
    wider = cidr("b", "10.0.0.0/16", **held)
    for found in (steps(leaving, wider, addresses=("10.0.0.7",)), steps(leaving, addresses=("10.1.0.7",))):
        assert found[0].body["metadata"]["finalizers"] is None
