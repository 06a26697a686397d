"""Findings of single causes over small worlds: what each of a message's forms means, and what is no finding."""

from __future__ import annotations

from typing import Any

import pytest

from portside.why.claims import unfit
from portside.why.containers import CAUSES as CONTAINERS
from portside.why.finding import Finding
from portside.why.refusals import classify
from portside.why.scheduling import WORDLESS, filter_of, unschedulable
from portside.why.services import port_name_missing, selects_nothing
from portside.why.world import World

Json = dict[str, Any]
NOW = 1_800_000_000.0
FIND = {c.name: c.find for c in CONTAINERS}


def pod(container: Json | None = None, status: Json | None = None, **spec: Any) -> Json:
    held = {"name": "c", "image": "shop:2"} | (container or {})
    statuses = [{"name": "c", "ready": False, "restartCount": 0, "state": {}} | (status or {})]
    meta = {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "shop"}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [held], **spec}}
    return body | {"status": {"phase": "Pending", "containerStatuses": statuses}}


def world(*pods: Json, **more: list[Json]) -> World:
    return World({"pods": list(pods), "events": [], **more}, now=NOW)


def told(cause: str, obj: Json) -> Finding:
    found = FIND[cause](world(obj), obj)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("message", "means"),
    [
        ("failed to resolve reference: shop:2: not found", "no such image or tag"),
        ("pull access denied, repository does not exist or may require authorization", "wants credentials"),
        ("dial tcp: lookup registry.example.com: no such host", "can't be reached from the node"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "is not trusted"),
        ("something new", "can't be pulled"),
    ],
)
def test_a_failed_pull_is_explained_by_its_message(message: str, means: str) -> None:
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff", "message": message}}}
    assert means in told("image-pull", pod(None, waiting)).says


def test_a_pull_secret_that_is_missing_explains_a_failed_pull() -> None:
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "unauthorized"}}}
    held = pod(None, waiting, imagePullSecrets=[{"name": "registry"}])
    seen = World({"pods": [held], "events": []}, now=NOW, named={("secrets", "shop", "registry"): None})
    found = FIND["image-pull"](seen, held)
    assert found is not None and "pull secret registry does not exist" in found.says


def ended(code: int, reason: str = "Error") -> Json:
    return {"lastState": {"terminated": {"exitCode": code, "reason": reason}}, "restartCount": 3}


def test_an_end_is_told_by_its_code() -> None:
    waits = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}
    assert "127 (command not found)" in told("crash-loop", pod(None, waits | ended(127))).says
    done = told("crash-loop", pod(None, waits | ended(0, "Completed")))
    assert any("belongs into a Job" in step for step in done.todo)


def test_a_container_that_runs_and_is_ready_has_no_cause() -> None:
    running = {"state": {"running": {}}, "ready": True, "started": True}
    held = pod(None, running)
    assert [name for name, find in FIND.items() if find(world(held), held)] == []


def test_a_pod_that_is_deleted_is_not_asked_for_its_containers() -> None:
    held = pod(None, {"state": {"waiting": {"reason": "ErrImagePull"}}})
    held["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert FIND["image-pull"](world(held), held) is None


CLAIM: Json = {
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "data", "namespace": "shop"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Gi"}}, "storageClassName": "a"},
}


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({}, ""),
        ({"capacity": {"storage": "9Gi"}}, "it has 9Gi, and 10Gi are asked for"),
        ({"storageClassName": "b"}, "its class is b, not a"),
        ({"accessModes": ["ReadOnlyMany"]}, "its accessModes are ReadOnlyMany"),
        ({"volumeMode": "Block"}, "its volumeMode is Block"),
        ({"claimRef": {"namespace": "shop", "name": "other"}}, "it belongs to claim shop/other"),
        ({"claimRef": {"namespace": "shop", "name": "data"}}, ""),
    ],
)
def test_a_volume_that_does_not_fit_says_why(spec: Json, why: str) -> None:
    whole = {"capacity": {"storage": "10Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "a"}
    volume = {"kind": "PersistentVolume", "metadata": {"name": "v"}, "spec": whole | spec}
    assert unfit(volume | {"status": {"phase": "Available"}}, CLAIM) == why


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
            "quota-exceeded",
        ),
        ('pods "x" is forbidden: failed quota: q: must specify limits.cpu for: c', "quota-needs-requests"),
        ('admission webhook "a.example.com" denied the request: no', "webhook-refused"),
        ('Internal error occurred: failed calling webhook "a.example.com": dial tcp: refused', "webhook-unreachable"),
        ("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", "policy-refused"),
        (
            'pods "x" is forbidden: error looking up service account a/b: serviceaccount "b" not found',
            "serviceaccount-missing",
        ),
        ("namespaces is being terminated", "create-refused"),
    ],
)
def test_a_refusal_is_told_by_its_words(message: str, cause: str) -> None:
    assert classify(message).name == cause


def test_words_of_a_filter_that_nobody_knows_have_advice_too() -> None:
    assert filter_of("node(s) were too far away").todo


def service(selector: Json, target: Any = 80) -> Json:
    spec = {"selector": selector, "ports": [{"port": 80, "targetPort": target}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "shop"}, "spec": spec}


def test_pods_that_have_ended_are_no_endpoints() -> None:
    done = pod()
    done["status"]["phase"] = "Succeeded"
    held = service({"app": "shop"})
    assert selects_nothing(world(done), held) is not None
    assert selects_nothing(world(pod()), held) is None


def test_pods_of_another_namespace_or_a_part_of_all_pods_prove_nothing() -> None:
    held = service({"app": "other"})
    part = World({"pods": [pod()], "events": []}, now=NOW, partial=["pods"])
    assert selects_nothing(part, held) is None
    unread = World({"events": []}, now=NOW, unread={"pods": "forbidden"})
    assert selects_nothing(unread, held) is None


def test_a_port_may_be_in_a_sidecar_and_has_to_have_the_protocol() -> None:
    port = {"ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP"}]}
    assert port_name_missing(world(pod(port)), service({"app": "shop"}, "dns")) is not None
    tcp = {"ports": [{"name": "dns", "containerPort": 53}]}
    sidecar = {"name": "side", "restartPolicy": "Always", **tcp}
    assert port_name_missing(world(pod(None, None, initContainers=[sidecar])), service({"app": "shop"}, "dns")) is None


@pytest.mark.parametrize(
    ("reason", "message", "says", "todo"),
    [
        ("SchedulerError", "the shelf burns", "can't place the pod: the shelf burns", "see to the extender"),
        ("SchedulerError", 'running "DynamicResources" filter plugin: no', "can't place", "portside status"),
        (
            "Unschedulable",
            "0/2 nodes are available: 2 no token left. preemption: 0/2 nodes are available: 2 Preemption is not helpful.",
            "2 of 2: no token left",
            "words that no filter has are an extender's",
        ),
        ("Unschedulable", "0/2 nodes are available: preemption: 0/2 nodes are available: 2 No.", WORDLESS, "extender"),
    ],
)
def test_what_extenders_say_is_told_as_theirs(reason: str, message: str, says: str, todo: str) -> None:
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    held = pod()
    held["status"] = {"phase": "Pending", "conditions": [condition]}
    found = unschedulable(world(held), held)
    assert found is not None and says in found.says and any(todo in line for line in found.todo)
