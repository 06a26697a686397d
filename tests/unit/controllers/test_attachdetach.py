"""CSI volumes are attached for the pods of a node, told to the node, and detached when nobody there has them."""

from __future__ import annotations

from typing import Any

from portside.client.cache import View
from portside.controllers.attachdetach import ATTACHMENTS, DRIVERS, NODES, plan
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


def steps(*, pods: tuple[Json, ...] = (POD,), attachments: tuple[Json, ...] = (), **more: Any) -> list[Step]:
    node = {"metadata": {"name": "n", "uid": "n"}, "status": more.get("status", {})}
    objects = {CLAIMS: [CLAIM], VOLUMES: [VOLUME], PODS: pods, ATTACHMENTS: attachments, NODES: [node]}
    return list(plan(View.of({**objects, DRIVERS: more.get("drivers", [])}), "n", 0.0).steps)


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
    assert verbs(steps(pods=(), attachments=(held,), status=free)) == ["delete"]
    going = {**held, "metadata": {**held["metadata"], "deletionTimestamp": "2026-11-25T10:00:00Z"}}
    assert verbs(steps(pods=(), attachments=(going,), status=free)) == ["patch"]
