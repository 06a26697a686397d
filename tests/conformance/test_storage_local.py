"""The storage class of folders on nodes, on simulated nodes: claims bind where their pods are placed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from portside.cli.storage import storage_class
from tests.conformance.ground import Ground, ground, workload

__all__ = ["ground"]
Json = dict[str, Any]


@pytest.fixture
def local(ground: Ground) -> Iterator[str]:
    body = storage_class("/var/lib/test/volumes", default=False)
    body["metadata"]["name"] = ground.name
    ground.create("storageclasses", body)
    yield ground.name
    ground.delete("storageclasses", ground.name)


def test_a_statefulset_with_claims_runs_out_of_the_box_and_leaves_nothing_behind(ground: Ground, local: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": local, "resources": {"requests": {"storage": "1Gi"}}}
    retention = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    body = workload(
        "db", replicas=2, serviceName="db", volumeClaimTemplates=[{"metadata": {"name": "data"}, "spec": spec}]
    )
    body["spec"]["persistentVolumeClaimRetentionPolicy"] = retention
    ground.create("statefulsets", body)
    ground.status("statefulsets", "db", availableReplicas=2)
    volumes = [v for v in ground.all("persistentvolumes") if v["spec"].get("storageClassName") == local]
    places = {}
    for volume in volumes:
        (term,) = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
        places[volume["spec"]["claimRef"]["name"]] = term["matchExpressions"][0]["values"]
        assert volume["status"]["phase"] == "Bound"
        assert volume["spec"]["hostPath"]["path"] == f"/var/lib/test/volumes/{volume['metadata']['name']}"
    pods = {p["metadata"]["name"]: p for p in ground.pods("app=db")}
    assert places == {f"data-{name}": [p["spec"]["nodeName"]] for name, p in pods.items()}
    ground.delete("pods", "db-0")

    def again() -> Json | None:
        held = next((p for p in ground.pods("app=db") if p["metadata"]["name"] == "db-0"), None)
        fresh = held is not None and held["metadata"]["uid"] != pods["db-0"]["metadata"]["uid"]
        return held if held and fresh and held["status"].get("phase") == "Running" else None

    assert ground.until(again)["spec"]["nodeName"] == pods["db-0"]["spec"]["nodeName"], "it comes back to its data"
    ground.status("statefulsets", "db", availableReplicas=2)
    ground.delete("statefulsets", "db", propagationPolicy="Background")
    ground.until(lambda: not ground.all("persistentvolumeclaims"))
    ground.until(lambda: not [v for v in ground.all("persistentvolumes") if v["spec"].get("storageClassName") == local])


def test_a_pod_with_an_ephemeral_claim_gets_a_folder_for_as_long_as_it_lives(ground: Ground, local: str) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": local, "resources": {"requests": {"storage": "1Gi"}}}
    volumes = [{"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]
    body = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}], "volumes": volumes}}
    ground.create("pods", body)
    ground.status("pods", "p", phase="Running")
    assert ground.get("persistentvolumeclaims", "p-scratch")["status"]["phase"] == "Bound"
    ground.delete("pods", "p")
    ground.until(lambda: ground.gone("persistentvolumeclaims", "p-scratch"))


def test_a_claim_that_a_folder_can_not_serve_says_why(ground: Ground, local: str) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "storageClassName": local, "resources": {"requests": {"storage": "1Gi"}}}
    ground.create("persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec})
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    containers = [{"name": "c", "image": "i"}]
    ground.create("pods", {"metadata": {"name": "p"}, "spec": {"containers": containers, "volumes": volumes}})
    events = ground.path("events", fieldSelector="involvedObject.name=c,reason=ProvisioningFailed")
    told = ground.until(lambda: {e["message"] for e in ground.api.send("GET", events)["items"]})
    assert all("access mode ReadWriteMany can't be given" in message for message in told)
