"""CSI volumes are attached for the pods of a node, told to the node, and detached when nobody there has them."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers.attachdetach import ATTACHMENTS, DRIVERS, MANAGED, NODES, AttachDetach
from portside.controllers.plan import Emit, Op, Step
from portside.controllers.volumematch import CLAIMS, VOLUMES

Json = dict[str, Any]
PODS = ("", "v1", "pods")
CLAIM: Json = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {"volumeName": "v"}}
SOURCE = {"driver": "csi.example.com", "volumeHandle": "h"}
VOLUME: Json = {"metadata": {"name": "v"}, "spec": {"csi": SOURCE}}
POD: Json = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "p"},
    "spec": {"nodeName": "n", "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]},
    "status": {"phase": "Pending"},
}
UNIQUE = "kubernetes.io/csi/csi.example.com^h"


def steps(
    *,
    pods: tuple[Json, ...] = (POD,),
    attachments: tuple[Json, ...] = (),
    now: float = 0.0,
    memory: AttachDetach | None = None,
    **more: Any,
) -> list[Step]:
    meta = {"name": "n", "uid": "n", "annotations": {MANAGED: "true"} if more.get("managed", True) else {}}
    node = {"metadata": meta, "spec": more.get("spec", {}), "status": more.get("status", {})}
    volume = VOLUME | {"spec": VOLUME["spec"] | {"accessModes": more.get("modes", ["ReadWriteOnce"])}}
    objects = {CLAIMS: [CLAIM], VOLUMES: [volume], PODS: pods, ATTACHMENTS: attachments, NODES: [node]}
    view = View.of({**objects, DRIVERS: more.get("drivers", [])})
    return list((memory or AttachDetach()).plan(view, "n", now).steps)


def attachment(**status: Any) -> Json:
    (made,) = steps()
    assert isinstance(made, Op)
    return {**made.body, "metadata": {"name": made.name, "uid": "a"}, "status": status}


def verbs(found: list[Step]) -> list[str]:
    return [s.verb if isinstance(s, Op) else s.reason for s in found]


def test_a_placed_pod_has_its_volume_attached_once() -> None:
    made = attachment()
    assert made["spec"] == {"attacher": "csi.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}
    assert made["metadata"]["name"].startswith("csi-") and len(made["metadata"]["name"]) == 68
    assert steps(attachments=(made,)) == []


def test_drivers_that_need_no_attaching_are_not_asked() -> None:
    assert steps(drivers=[{"metadata": {"name": "csi.example.com"}, "spec": {"attachRequired": False}}]) == []


def test_nodes_whose_agents_attach_themselves_are_left_alone() -> None:
    assert steps(managed=False) == []


def test_what_is_attached_is_told_to_node_and_pod_once() -> None:
    found = steps(attachments=(attachment(attached=True),))
    assert verbs(found) == ["patch", "SuccessfulAttachVolume"]
    assert isinstance(found[0], Op)
    assert found[0].body["status"] == {"volumesAttached": [{"name": UNIQUE, "devicePath": ""}]}
    told = {"volumesAttached": [{"name": UNIQUE, "devicePath": ""}]}
    assert steps(attachments=(attachment(attached=True),), status=told) == []


def test_what_a_driver_can_not_attach_is_said_to_the_pod() -> None:
    (event,) = steps(attachments=(attachment(attached=False, attachError={"message": "no such disk"}),))
    assert isinstance(event, Emit)
    assert event.message == 'AttachVolume.Attach failed for volume "v" : no such disk'


def test_a_volume_is_detached_when_its_pods_are_done_and_the_node_has_let_it_go() -> None:
    held = attachment(attached=True)
    mounted = {"volumesAttached": [{"name": UNIQUE}], "volumesInUse": [UNIQUE]}
    assert verbs(steps(pods=(), attachments=(held,), status=mounted)) == []
    free = {"volumesAttached": [{"name": UNIQUE}]}
    found = steps(pods=(), attachments=(held,), status=free)
    assert verbs(found) == ["patch", "delete"], "the node is told first that it can't count on it any more"
    going = {**held, "metadata": {**held["metadata"], "deletionTimestamp": "2026-11-25T10:00:00Z"}}
    assert verbs(steps(pods=(), attachments=(going,), status=free)) == ["patch"]


def test_a_node_that_is_not_ready_loses_its_volumes_after_six_minutes_and_a_ready_one_never() -> None:
    held = attachment(attached=True)
    mounted = {"volumesAttached": [{"name": UNIQUE}], "volumesInUse": [UNIQUE]}
    ready = mounted | {"conditions": [{"type": "Ready", "status": "True"}]}
    memory = AttachDetach()
    for now, status, wanted in (
        (0, mounted, []),
        (359, mounted, []),
        (361, ready, []),
        (361, mounted, ["patch", "delete"]),
    ):
        assert verbs(steps(pods=(), attachments=(held,), now=now, memory=memory, status=status)) == wanted
    again = AttachDetach()
    for now, pods in ((0, ()), (300, (POD,)), (361, ()), (720, ())):
        assert verbs(steps(pods=pods, attachments=(held,), now=now, memory=again, status=mounted)) == []
    assert "delete" in verbs(steps(pods=(), attachments=(held,), now=722, memory=again, status=mounted))


def test_a_node_out_of_service_loses_its_volumes_at_once() -> None:
    mounted = {"volumesAttached": [{"name": UNIQUE}], "volumesInUse": [UNIQUE]}
    taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    found = steps(pods=(), attachments=(attachment(attached=True),), status=mounted, spec={"taints": [taint]})
    assert verbs(found) == ["patch", "delete"]


def elsewhere() -> Json:
    made = attachment(attached=True)
    return {**made, "metadata": {"name": "csi-" + "0" * 64, "uid": "o"}, "spec": {**made["spec"], "nodeName": "other"}}


def user(name: str, namespace: str) -> Json:
    meta = {"name": name, "namespace": namespace, "uid": name}
    return {**POD, "metadata": meta, "spec": {**POD["spec"], "nodeName": "other"}}


def test_a_volume_for_one_node_waits_until_the_other_lets_go_and_the_pod_is_told_once() -> None:
    memory = AttachDetach()
    (event,) = steps(attachments=(elsewhere(),), memory=memory)
    assert isinstance(event, Emit) and event.reason == "FailedAttachVolume"
    assert event.message == (
        'Waiting for detach for volume "v" Volume is already exclusively attached to one node, waiting on detach before '
        "it can be attached to another node"
    )
    assert steps(attachments=(elsewhere(),), memory=memory) == []
    assert verbs(steps(memory=memory)) == ["create"]
    (event,) = steps(pods=(POD, user("q", "ns")), attachments=(elsewhere(),))
    assert isinstance(event, Emit)
    assert event.message == 'Multi-Attach error for volume "v" Volume is already used by pod(s) q'


def test_volumes_that_many_nodes_may_have_do_not_wait() -> None:
    assert verbs(steps(attachments=(elsewhere(),), modes=["ReadWriteMany"])) == ["create"]
    assert verbs(steps(attachments=(elsewhere(),), modes=["ReadWriteOnce", "ReadOnlyMany"])) == ["create"]
