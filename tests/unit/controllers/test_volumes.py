"""Claims and volumes: binding, waiting, release, protection, folders on nodes, claims of pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import SYSTEM
from portside.client.cache import View
from portside.client.fake import FakeClient
from portside.controllers import (
    claimprotection,
    ephemeralvolume,
    localpath,
    persistentvolume,
    persistentvolumeclaim,
    volumeprotection,
)
from portside.controllers.harness import Harness
from portside.controllers.plan import Op
from portside.controllers.volumematch import CLAIMS, CLASSES, SELECTED_NODE, VOLUMES, best

Json = dict[str, Any]
PODS = ("", "v1", "pods")
NODES = ("", "v1", "nodes")
EVENTS = ("", "v1", "events")


class Cluster:
    def __init__(self) -> None:
        self.client = FakeClient()

    async def until(self, test: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not test():
                await asyncio.sleep(0.005)

    def claim(self, name: str = "c") -> Json:
        return self.client.objects[CLAIMS].get(f"ns/{name}", {})

    def volume(self, name: str = "v") -> Json:
        return self.client.objects[VOLUMES].get(name, {})

    def events(self) -> list[tuple[str, str]]:
        return [(e["reason"], e["message"]) for e in self.client.objects.get(EVENTS, {}).values()]

    async def bound(self, name: str = "c") -> None:
        await self.until(lambda: self.claim(name).get("status", {}).get("phase") == "Bound")


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    parts = [
        persistentvolumeclaim.CONTROLLER,
        persistentvolume.CONTROLLER,
        volumeprotection.CONTROLLER,
        claimprotection.CONTROLLER,
        ephemeralvolume.CONTROLLER,
        *localpath.CONTROLLERS,
    ]
    task = asyncio.create_task(Harness(cluster.client, SYSTEM, parts).run())
    try:
        yield cluster
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "ns", "finalizers": ["kubernetes.io/pvc-protection"]},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "resources": {"requests": {"storage": size}},
            **spec,
        },
        "status": {"phase": "Pending"},
    }


def volume(name: str = "v", size: str = "1Gi", phase: str = "Pending", **spec: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "finalizers": ["kubernetes.io/pv-protection"]},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": size},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": "/data/x"},
            **spec,
        },
        "status": {"phase": phase},
    }


def test_the_smallest_volume_with_the_fewest_modes_is_taken_and_a_reserved_one_first() -> None:
    many = volume("many", "1Gi", "Available", accessModes=["ReadWriteOnce", "ReadWriteMany"])
    large, small = volume("large", "9Gi", "Available"), volume("small", "2Gi", "Available")
    wish = claim()
    wish["metadata"]["uid"] = "u"
    found = best([many, large, small], wish, delayed=False)
    assert found is not None and found["metadata"]["name"] == "small"
    reserved = volume("reserved", "50Gi", claimRef={"namespace": "ns", "name": "c"})
    for delayed in (False, True):
        found = best([many, small, reserved], wish, delayed=delayed)
        assert found is not None and found["metadata"]["name"] == "reserved"
    assert best([small], wish, delayed=True) is None
    assert best([small], claim(size="3Gi"), delayed=False) is None
    assert best([small], claim(storageClassName="other"), delayed=False) is None


async def test_a_claim_and_a_volume_find_each_other_and_part_with_the_claim() -> None:
    async with running() as c:
        await c.client.create(CLAIMS, claim())
        await c.until(lambda: c.events() and c.events()[0][0] == "FailedBinding")
        await c.client.create(VOLUMES, volume())
        await c.bound()
        assert c.claim()["spec"]["volumeName"] == "v"
        assert c.claim()["status"]["capacity"] == {"storage": "1Gi"}
        assert c.volume()["spec"]["claimRef"]["uid"] == c.claim()["metadata"]["uid"]
        await c.until(lambda: c.claim()["status"].get("conditions"))
        assert c.claim()["status"]["conditions"][0]["reason"] == "NoPodsUsingPVC"
        await c.client.delete(CLAIMS, "c", namespace="ns")
        await c.until(lambda: c.volume()["status"]["phase"] == "Released")
        await c.client.patch(VOLUMES, "v", {"spec": {"claimRef": None}})
        await c.until(lambda: c.volume()["status"]["phase"] == "Available")


async def test_a_claim_in_use_and_a_bound_volume_outlive_their_deletion() -> None:
    async with running() as c:
        await c.client.create(VOLUMES, volume())
        await c.client.create(CLAIMS, claim())
        await c.bound()
        volumes = [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]
        pod = {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"nodeName": "n", "volumes": volumes}}
        await c.client.create(PODS, pod)
        await c.until(lambda: c.claim()["status"].get("conditions", [{}])[0].get("reason") == "PodUsingPVC")
        await c.client.delete(VOLUMES, "v")
        await c.client.delete(CLAIMS, "c", namespace="ns")
        await asyncio.sleep(0.05)
        assert c.claim() and c.volume()
        await c.client.delete(PODS, "p", namespace="ns")
        await c.until(lambda: not c.claim() and not c.volume())


async def test_a_claim_that_asks_for_a_volume_by_name_hears_why_it_does_not_fit() -> None:
    async with running() as c:
        await c.client.create(VOLUMES, volume(size="1Gi"))
        await c.client.create(CLAIMS, claim(size="5Gi", volumeName="v"))
        await c.until(
            lambda: ("VolumeMismatch", 'Cannot bind to requested volume "v": requested PV is too small') in c.events()
        )


async def test_a_claim_whose_volume_vanishes_is_lost() -> None:
    async with running() as c:
        await c.client.create(VOLUMES, volume(volumeAttributesClassName="fast"))
        await c.client.create(CLAIMS, claim(volumeAttributesClassName="fast"))
        await c.bound()
        assert c.claim()["status"]["currentVolumeAttributesClassName"] == "fast"
        await c.client.delete(VOLUMES, "v")
        await c.client.patch(VOLUMES, "v", {"metadata": {"finalizers": None}})
        await c.until(lambda: c.claim()["status"]["phase"] == "Lost")
        assert not {"capacity", "currentVolumeAttributesClassName"} & set(c.claim()["status"])


async def test_two_claims_for_one_volume_one_waits() -> None:
    async with running() as c:
        await c.client.create(CLAIMS, claim("a"))
        await c.client.create(CLAIMS, claim("b"))
        await c.client.create(VOLUMES, volume())
        await c.until(lambda: any(c.claim(n)["status"]["phase"] == "Bound" for n in "ab"))
        await asyncio.sleep(0.05)
        assert sorted(c.claim(n)["status"]["phase"] for n in "ab") == ["Bound", "Pending"]


async def test_a_class_that_becomes_the_default_is_given_to_claims_that_asked_for_none() -> None:
    async with running() as c:
        wish = claim()
        del wish["spec"]["storageClassName"]
        await c.client.create(CLAIMS, wish)
        await c.until(lambda: c.events())
        marked = {"name": "new", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        await c.client.create(CLASSES, {"metadata": marked, "provisioner": "example.com/other"})
        await c.until(lambda: c.claim()["spec"].get("storageClassName") == "new")
        await c.until(lambda: any(r == "ExternalProvisioning" for r, _ in c.events()))
        assert c.claim()["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "example.com/other"


CLASS: Json = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": "local"},
    "provisioner": localpath.PROVISIONER,
    "reclaimPolicy": "Delete",
    "volumeBindingMode": "WaitForFirstConsumer",
    "parameters": {"path": "/home/volumes"},
}


async def test_a_folder_is_provisioned_where_the_pod_was_placed_and_removed_by_a_pod_there() -> None:
    async with running() as c:
        await c.client.create(CLASSES, CLASS)
        await c.client.create(NODES, {"metadata": {"name": "n", "labels": {"kubernetes.io/hostname": "host"}}})
        await c.client.create(CLAIMS, claim(storageClassName="local"))
        await c.until(lambda: c.events() and c.events()[0][0] == "WaitForFirstConsumer")
        await c.client.patch(CLAIMS, "c", {"metadata": {"annotations": {SELECTED_NODE: "n"}}}, namespace="ns")
        await c.bound()
        name = c.claim()["spec"]["volumeName"]
        made = c.volume(name)["spec"]
        assert made["hostPath"] == {"path": f"/home/volumes/{name}", "type": "DirectoryOrCreate"}
        (term,) = made["nodeAffinity"]["required"]["nodeSelectorTerms"]
        assert term["matchExpressions"][0]["values"] == ["host"]
        await c.client.delete(CLAIMS, "c", namespace="ns")
        pods = c.client.objects.setdefault(PODS, {})
        await c.until(lambda: pods)
        (cleaner,) = pods.values()
        assert cleaner["spec"]["nodeName"] == "n"
        assert cleaner["spec"]["containers"][0]["command"] == ["rm", "-rf", "--", f"/volumes/{name}"]
        done = {"status": {"phase": "Succeeded"}}
        await c.client.patch(PODS, cleaner["metadata"]["name"], done, namespace="kube-system", subresource="status")
        await c.client.patch(VOLUMES, name, {"metadata": {"finalizers": None}})
        await c.until(lambda: not pods and not c.volume(name))


async def test_on_simulated_nodes_the_volume_goes_without_a_pod() -> None:
    async with running() as c:
        await c.client.create(CLASSES, CLASS)
        await c.client.create(NODES, {"metadata": {"name": "n", "annotations": {"kwok.x-k8s.io/node": "fake"}}})
        wish = claim(storageClassName="local")
        wish["metadata"]["annotations"] = {SELECTED_NODE: "n"}
        await c.client.create(CLAIMS, wish)
        await c.bound()
        name = c.claim()["spec"]["volumeName"]
        await c.client.delete(CLAIMS, "c", namespace="ns")
        await c.until(lambda: not c.volume(name))
        assert not c.client.objects.get(PODS)


def test_a_folder_can_not_serve_many_nodes_or_be_a_device() -> None:
    assert "ReadWriteMany" in str(localpath.refusal(claim(accessModes=["ReadWriteMany"]), CLASS))
    assert "block device" in str(localpath.refusal(claim(volumeMode="Block"), CLASS))
    assert "WaitForFirstConsumer" in str(localpath.refusal(claim(), {**CLASS, "volumeBindingMode": "Immediate"}))
    assert localpath.refusal(claim(), CLASS) is None


def test_only_a_folder_made_for_the_volume_is_ever_removed() -> None:
    forged = volume("pvc-1", phase="Released", hostPath={"path": "/etc"}, persistentVolumeReclaimPolicy="Delete")
    forged["metadata"]["annotations"] = {"pv.kubernetes.io/provisioned-by": localpath.PROVISIONER}
    found = localpath.plan_removal(View.of({VOLUMES: [forged]}), "pvc-1", 0.0)
    assert [getattr(s, "reason", "") for s in found.steps] == ["VolumeFailedDelete"]


async def test_an_ephemeral_volume_brings_a_claim_of_the_pod() -> None:
    async with running() as c:
        template = {"metadata": {"labels": {"a": "b"}}, "spec": claim()["spec"]}
        volumes = [{"name": "d", "ephemeral": {"volumeClaimTemplate": template}}]
        pod = await c.client.create(PODS, {"metadata": {"name": "p", "namespace": "ns"}, "spec": {"volumes": volumes}})
        await c.until(lambda: c.client.objects.get(CLAIMS))
        meta = c.claim("p-d")["metadata"]
        assert meta["labels"] == {"a": "b"}
        assert meta["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
        other = {"metadata": {"name": "q", "namespace": "ns"}, "spec": {"volumes": volumes}}
        await c.client.create(CLAIMS, claim("q-d"))
        await c.client.create(PODS, other)
        text = "ephemeral volume d: PVC ns/q-d was not created for pod ns/q (pod is not owner)"
        await c.until(lambda: ("FailedBinding", text) in c.events())


def test_a_refused_claim_of_an_ephemeral_volume_is_told_to_the_pod() -> None:
    volumes = [{"name": "d", "ephemeral": {"volumeClaimTemplate": {"spec": claim()["spec"]}}}]
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "p"}, "spec": {"volumes": volumes}}
    (step,) = ephemeralvolume.plan(View.of({PODS: [pod], CLAIMS: []}), "ns/p", 0.0).steps
    assert isinstance(step, Op) and step.failed is not None
    (event,) = step.failed(ApiError(403, "Forbidden", "exceeded quota"))
    assert event.message == "ephemeral volume d: create PVC p-d: exceeded quota"
