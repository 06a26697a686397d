"""The conformance names of Storage → APIs: every kind through its verbs, volumes and claims through their life."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import Ground, ground, pod
from tests.conformance.names import conformance

__all__ = ["ground"]
Json = dict[str, Any]


def body(g: Ground, plural: str) -> Json:
    made: dict[str, Json] = {
        "storageclasses": {"provisioner": "example.com/fake"},
        "csidrivers": {"spec": {"attachRequired": True}},
        "csinodes": {"spec": {"drivers": [{"name": "e2e", "nodeID": g.name, "topologyKeys": ["topology/e2e"]}]}},
        "csistoragecapacities": {"storageClassName": "sc", "capacity": "1Gi"},
        "volumeattributesclasses": {"driverName": "example.com/fake", "parameters": {"iops": "100"}},
        "volumeattachments": {
            "spec": {"attacher": "example.com/fake", "nodeName": "nowhere", "source": {"persistentVolumeName": "none"}}
        },
    }
    return made[plural] | {"metadata": {"name": g.name, "labels": {"test": g.name}}}


@conformance(
    "APIs",
    "CSIDriver lifecycle",
    "CSINode lifecycle",
    "CSIStorageCapacity API",
    "StorageClass lifecycle",
    "VolumeAttachment lifecycle",
    "VolumeAttributesClass lifecycle",
)
@pytest.mark.parametrize(
    "plural",
    [
        "storageclasses",
        "csidrivers",
        "csinodes",
        "csistoragecapacities",
        "volumeattributesclasses",
        "volumeattachments",
    ],
)
def test_a_kind_is_made_read_listed_patched_replaced_deleted_and_collected(ground: Ground, plural: str) -> None:
    ground.create(plural, body(ground, plural))
    assert ground.get(plural, ground.name)["metadata"]["name"] == ground.name
    patched = ground.patch(plural, ground.name, {"metadata": {"labels": {"patched": "yes"}}})
    assert patched["metadata"]["labels"] == {"test": ground.name, "patched": "yes"}
    patched["metadata"]["labels"]["updated"] = "yes"
    assert ground.put(plural, patched)["metadata"]["labels"]["updated"] == "yes"
    listed = ground.all(plural, f"test={ground.name},updated=yes", everywhere=True)
    assert [o["metadata"]["name"] for o in listed] == [ground.name]
    ground.delete(plural, ground.name)
    ground.until(lambda: ground.gone(plural, ground.name))
    ground.create(plural, body(ground, plural))
    ground.clear(plural, f"test={ground.name}")
    ground.until(lambda: ground.gone(plural, ground.name))


@conformance("APIs", "VolumeAttachment status")
def test_volumeattachment_status(ground: Ground) -> None:
    ground.create("volumeattachments", body(ground, "volumeattachments"))
    answer = ground.patch("volumeattachments", ground.name, {"status": {"attached": True}}, "status")
    assert answer["status"]["attached"] is True
    answer["status"]["attached"] = False
    assert ground.put("volumeattachments", answer, "status")["status"]["attached"] is False
    ground.delete("volumeattachments", ground.name)


@conformance("APIs", "pod with inline CSI volume, API only")
def test_a_pod_with_an_inline_csi_volume(ground: Ground) -> None:
    volume = {"name": "v", "csi": {"driver": "inline.example.com", "volumeAttributes": {"a": "b"}}}
    ground.create("pods", pod("p", volumes=[volume]))
    assert ground.get("pods", "p")["spec"]["volumes"][0]["csi"]["driver"] == "inline.example.com"
    ground.patch("pods", "p", {"metadata": {"labels": {"patched": "yes"}}})
    ground.clear("pods", "patched=yes")
    ground.until(lambda: ground.gone("pods", "p"))


def replace(g: Ground, plural: str, name: str, change: Callable[[Json], None], sub: str = "") -> Json:
    """Read, changed and put back; controllers write to volumes and claims too, then it is read again."""
    while True:
        held = g.get(plural, name, sub)
        change(held)
        try:
            return g.put(plural, held, sub)
        except Refused as refused:
            assert refused.code == 409


def volume(g: Ground, **spec: Any) -> Json:
    given = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": g.name,
        "hostPath": {"path": "/tmp/data"},
    }
    return {"metadata": {"name": g.name, "labels": {"test": g.name}}, "spec": given | spec}


def claim(g: Ground, name: str = "c") -> Json:
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": g.name,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return {"metadata": {"name": name, "labels": {"test": g.name}}, "spec": spec}


@conformance("APIs", "PV and PVC lifecycle")
def test_volume_and_claim_lifecycle(ground: Ground) -> None:
    ground.create("persistentvolumes", volume(ground))
    ground.create("persistentvolumeclaims", claim(ground))
    held = ground.status("persistentvolumeclaims", "c", phase="Bound")
    assert held["spec"]["volumeName"] == ground.name and held["status"]["capacity"] == {"storage": "2Gi"}
    ground.status("persistentvolumes", ground.name, phase="Bound")
    for plural, name in (("persistentvolumes", ground.name), ("persistentvolumeclaims", "c")):
        ground.patch(plural, name, {"metadata": {"labels": {name: "patched"}}})
        answer = replace(ground, plural, name, lambda held, n=name: held["metadata"]["labels"].update({n: "updated"}))
        assert answer["metadata"]["labels"][name] == "updated"
        assert len(ground.all(plural, f"{name}=updated,test={ground.name}", everywhere=True)) == 1
    assert "Bound" in ground.kubectl("get", "pvc", "c")
    ground.delete("persistentvolumeclaims", "c")
    ground.until(lambda: ground.gone("persistentvolumeclaims", "c"))
    ground.status("persistentvolumes", ground.name, phase="Released")
    ground.clear("persistentvolumes", f"test={ground.name}")
    ground.until(lambda: ground.gone("persistentvolumes", ground.name))


@conformance("APIs", "PV and PVC status")
def test_volume_and_claim_status(ground: Ground) -> None:
    ground.create("persistentvolumes", volume(ground))
    ground.create("persistentvolumeclaims", claim(ground))
    ground.status("persistentvolumeclaims", "c", phase="Bound")
    ground.status("persistentvolumes", ground.name, phase="Bound")
    mine = {"type": "StatusPatched", "status": "True", "reason": "E2E", "message": "Set by a test"}
    ground.patch("persistentvolumeclaims", "c", {"status": {"conditions": [mine]}}, "status")
    found = ground.until(
        lambda: [
            c for c in ground.get("persistentvolumeclaims", "c")["status"]["conditions"] if c["type"] == "StatusPatched"
        ]
    )
    assert found[0]["message"] == "Set by a test"
    patched = ground.patch(
        "persistentvolumes", ground.name, {"status": {"message": "patched", "reason": "E2E"}}, "status"
    )
    assert (patched["status"]["message"], patched["status"]["phase"]) == ("patched", "Bound")
    answer = replace(
        ground, "persistentvolumes", ground.name, lambda held: held["status"].update(message="updated"), "status"
    )
    assert (answer["status"]["message"], answer["status"]["phase"]) == ("updated", "Bound")
    ground.delete("persistentvolumeclaims", "c")
    ground.delete("persistentvolumes", ground.name)
    ground.until(lambda: ground.gone("persistentvolumes", ground.name))


def test_a_pod_waits_for_its_claim_and_keeps_it(ground: Ground) -> None:
    ground.create("persistentvolumeclaims", claim(ground))
    ground.create("pods", pod("p", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]))
    events = ground.path("events", fieldSelector="involvedObject.name=c,reason=ProvisioningFailed")
    ground.until(lambda: ground.api.send("GET", events)["items"])
    ground.create("persistentvolumes", volume(ground))
    ground.status("pods", "p", phase="Running")

    def conditions() -> list[tuple[str, str, str]]:
        held = ground.get("persistentvolumeclaims", "c")["status"].get("conditions") or ()
        return [(c["type"], c["status"], c["reason"]) for c in held]

    ground.until(lambda: ("Unused", "False", "PodUsingPVC") in conditions())
    ground.delete("persistentvolumeclaims", "c")
    assert "deletionTimestamp" in ground.get("persistentvolumeclaims", "c")["metadata"]
    ground.delete("pods", "p")
    ground.until(lambda: ground.gone("persistentvolumeclaims", "c"))
    ground.delete("persistentvolumes", ground.name)


def test_a_volume_source_can_not_be_changed(ground: Ground) -> None:
    ground.create("persistentvolumes", volume(ground))
    with pytest.raises(Refused, match="is immutable after creation"):
        ground.patch("persistentvolumes", ground.name, {"spec": {"hostPath": {"path": "/other"}}})
    ground.delete("persistentvolumes", ground.name)
