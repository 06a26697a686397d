"""portside why: pods without a node, and what stays in Terminating. Each cause is brought about for real."""

from __future__ import annotations

from typing import Any

import pytest

from portside.testing.cluster import cluster
from portside.why.scheduling import FILTERS
from tests.asking import Asker, Json, workload
from tests.conformance.why_site import k, own_node, plane

__all__ = ["k", "own_node", "plane"]
THING = {"resources": {"requests": {"example.com/thing": "6"}, "limits": {"example.com/thing": "6"}}}


def test_a_scheduling_gate_is_named(k: Asker) -> None:
    k.pod("held", schedulingGates=[{"name": "example.com/quota"}])
    k.says("scheduling-gate", "pod/held", "example.com/quota", "spec.schedulingGates")


def test_a_scheduler_that_nobody_runs_is_named(k: Asker) -> None:
    k.pod("alone", schedulerName="nobody")
    k.says("scheduler-absent", "pod/alone", "serve schedulerName nobody", "spec.schedulerName", later=30)


def test_pods_that_make_room_are_named(k: Asker, own_node: str) -> None:
    for name, value in (("low", 1), ("high", 1000)):
        k.make("PriorityClass", f"{name}-{k.namespace}", value=value)
    slow = {"annotations": {"sim.portside.io/stop-after": "600s"}}
    where: Json = {"nodeSelector": {"own": own_node}, "terminationGracePeriodSeconds": 600}
    k.pod("victim", slow, THING, priorityClassName=f"low-{k.namespace}", **where)
    k.condition("pods", "victim", "Ready")
    k.pod("wanted", None, THING, priorityClassName=f"high-{k.namespace}", **where)
    k.says("preemption", "pod/wanted", own_node, "status.nominatedNodeName", "pod/victim")
    for name in ("low", "high"):
        k.delete("priorityclasses", f"{name}-{k.namespace}")
    k.delete("pods", "wanted", gracePeriodSeconds=0)
    k.delete("pods", "victim", gracePeriodSeconds=0)


def test_a_claim_that_does_not_exist_is_named(k: Asker) -> None:
    k.pod("lost", volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    k.says("claim-missing", "pod/lost", "PersistentVolumeClaim data does not exist")


def test_devices_that_a_pod_does_not_get_are_explained(k: Asker) -> None:
    k.pod("lost", resourceClaims=[{"name": "gpu", "resourceClaimName": "gone"}])
    k.says("device-claim-missing", "pod/lost", "ResourceClaim gone does not exist")
    driver = f"{k.namespace}.example"
    k.make("DeviceClass", k.namespace, spec={"selectors": [{"cel": {"expression": f"device.driver == '{driver}'"}}]})
    node, other = (n["metadata"]["name"] for n in k.api.send("GET", "/api/v1/nodes")["items"][:2])
    pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
    devices = [{"name": "sick", "taints": [{"key": "k", "effect": "NoSchedule"}]}]
    devices += [{"name": "slow", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}]
    given = {"driver": driver, "pool": pool, "nodeName": node, "devices": devices}
    k.make("ResourceSlice", k.namespace, spec=given)
    for name in ("first", "second"):
        request = {"name": "r", "exactly": {"deviceClassName": k.namespace}}
        k.make("ResourceClaim", name, spec={"devices": {"requests": [request]}})
        k.pod(name, resourceClaims=[{"name": "gpu", "resourceClaimName": name}])
        if name == "first":
            k.says("devices-not-ready", "pod/first", f"the device {driver}/p/slow has not been made ready", "Attached")
    k.says(
        "unschedulable",
        "pod/second",
        "cannot allocate all claims",
        f"asks for 1 of class {k.namespace}: 2 published in all, 1 in use, 1 with taints it does not tolerate",
    )
    k.pod("third", resourceClaims=[{"name": "gpu", "resourceClaimName": "first"}], **named(other))
    k.says("unschedulable", "pod/third", "resourceclaim not available on the node")
    k.delete("resourceslices", k.namespace)
    again = [given | {"pool": pool | {"resourceSliceCount": 2}, "devices": [{"name": "same"}]} for _ in range(2)]
    k.make("ResourceSlice", k.namespace, spec=again[0])
    request = {"name": "r", "exactly": {"deviceClassName": k.namespace, "allocationMode": "All"}}
    k.make("ResourceClaim", "all", spec={"devices": {"requests": [request]}})
    k.pod("all", resourceClaims=[{"name": "gpu", "resourceClaimName": "all"}])
    k.says("unschedulable", "pod/all", "request r: asks for all devices, but resource pool", "is incomplete")
    k.make("ResourceSlice", f"{k.namespace}-2", spec=again[1])
    k.says("unschedulable", "pod/second", "invalid resource pools were encountered")
    for name in (k.namespace, f"{k.namespace}-2"):
        k.delete("resourceslices", name)
    k.delete("deviceclasses", k.namespace)


def affinity(kind: str, labels: Json) -> Json:
    term = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}


def spread(key: str) -> Json:
    rule = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    return {"topologySpreadConstraints": [rule]}


def named(*nodes: str) -> Json:
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]} for n in nodes]
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


SINGLE_POD = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)
SINGLE: dict[str, tuple[Json, Json]] = {  # the words of a filter: what a pod's container and spec say to meet it
    "node(s) didn't match Pod's node affinity/selector": ({}, {"nodeSelector": {"disk": "ssd"}}),
    "node(s) didn't satisfy plugin(s) [NodeAffinity]": ({}, named("ghost")),
    "Insufficient": ({"resources": {"requests": {"cpu": "4000"}}}, {}),
    "node(s) didn't match pod affinity rules": ({}, affinity("podAffinity", {"app": "nobody"})),
    "node(s) didn't match pod topology spread constraints": ({}, spread("example.com/rack")),
}


@pytest.mark.parametrize("words", SINGLE)
def test_a_filter_of_the_scheduler_is_told_with_what_would_help(k: Asker, words: str) -> None:
    container, spec = SINGLE[words]
    k.pod("waits", None, container, **spec)
    found = k.says("unschedulable", "pod/waits", words)
    advice = next(f.todo for f in FILTERS if f.words == words)
    assert advice in found["todo"]


def on_own_node(k: Asker, node: str, name: str, container: Json | None = None, **spec: Any) -> None:
    k.pod(name, None, container, nodeSelector={"own": node}, **spec)


def test_filters_that_depend_on_what_a_node_holds_are_told(k: Asker, own_node: str) -> None:
    port = {"ports": [{"containerPort": 80, "hostPort": 8080}]}
    on_own_node(k, own_node, "first", port)
    k.condition("pods", "first", "Ready")
    on_own_node(k, own_node, "second", port)
    k.says("unschedulable", "pod/second", "node(s) didn't have free ports for the requested pod ports", "hostPort")
    on_own_node(k, own_node, "apart", **affinity("podAntiAffinity", {"app": "first"}))
    k.says(
        "unschedulable", "pod/apart", "node(s) didn't match pod anti-affinity rules", "spec.affinity.podAntiAffinity"
    )
    on_own_node(k, own_node, "shy", **affinity("podAntiAffinity", {"app": "third"}))
    k.condition("pods", "shy", "Ready")
    on_own_node(k, own_node, "third")
    k.says("unschedulable", "pod/third", "node(s) didn't satisfy existing pods anti-affinity rules", "metadata.labels")
    k.patch("nodes", own_node, {"spec": {"taints": [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]}})
    on_own_node(k, own_node, "plain")
    k.says("unschedulable", "pod/plain", "node(s) had untolerated taint", f"node/{own_node}", "gpu")
    k.patch("nodes", own_node, {"spec": {"taints": None, "unschedulable": True}})
    on_own_node(k, own_node, "late")
    k.says("unschedulable", "pod/late", "node(s) were unschedulable", "kubectl uncordon", "spec.unschedulable")


def test_a_full_node_is_told(k: Asker, own_node: str) -> None:
    k.patch("nodes", own_node, {"status": {"allocatable": {"pods": "0"}}}, "status")
    on_own_node(k, own_node, "one-more")
    k.says("unschedulable", "pod/one-more", "Too many pods", "status.allocatable.pods")


def volume(k: Asker, name: str, node: str) -> None:
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]
    k.make(
        "PersistentVolume",
        name,
        {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "hostPath": {"path": "/tmp/x"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    )


def csi(k: Asker, name: str, labels: Json, mode: str = "ReadWriteOnce") -> None:
    spec: Json = {"capacity": {"storage": "1Gi"}, "accessModes": [mode], "storageClassName": name}
    spec["csi"] = {"driver": "none.example.com", "volumeHandle": name}
    k.make("PersistentVolume", name, spec, meta={"labels": labels})


def claim(k: Asker, name: str, storage: str, mode: str = "ReadWriteOnce") -> None:
    k.make(
        "PersistentVolumeClaim",
        name,
        {"accessModes": [mode], "storageClassName": storage, "resources": {"requests": {"storage": "1Gi"}}},
    )


def mounts(name: str) -> list[Json]:
    return [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]


def test_a_volume_on_another_node_is_told(k: Asker, own_node: str) -> None:
    name = f"far-{k.namespace}"
    volume(k, name, "node-0")
    with k.gone_after("persistentvolumes", name):
        claim(k, "far", name)
        k.until(lambda: k.get("persistentvolumeclaims", "far")["status"].get("phase") == "Bound")
        on_own_node(k, own_node, "here", volumes=mounts("far"))
        k.says(
            "unschedulable",
            "pod/here",
            "node(s) didn't match PersistentVolume's node affinity",
            "the volume is on another node",
        )


def test_nodes_without_a_volume_to_bind_are_told(k: Asker) -> None:
    name = f"none-{k.namespace}"
    k.make("StorageClass", name, provisioner="kubernetes.io/no-provisioner", volumeBindingMode="WaitForFirstConsumer")
    with k.gone_after("storageclasses", name):
        claim(k, "none", name)
        k.pod("asks", volumes=mounts("none"))
        k.says("unschedulable", "pod/asks", "node(s) didn't find available persistent volumes to bind")
        k.says("unschedulable", "pvc/none", "find available persistent volumes to bind", "pod/asks")


def test_a_volume_in_another_zone_is_told(k: Asker, own_node: str) -> None:
    name = f"zone-{k.namespace}"
    k.patch("nodes", own_node, {"metadata": {"labels": {"topology.kubernetes.io/zone": "a"}}})
    csi(k, name, {"topology.kubernetes.io/zone": "b"})
    with k.gone_after("persistentvolumes", name):
        claim(k, "zone", name)
        k.until(lambda: k.get("persistentvolumeclaims", "zone")["status"].get("phase") == "Bound")
        on_own_node(k, own_node, "here", volumes=mounts("zone"))
        k.says("unschedulable", "pod/here", "node(s) had no available volume zone", "the volume is in another zone")


def test_a_node_that_takes_no_more_volumes_is_told(k: Asker, own_node: str) -> None:
    driver = {"name": "none.example.com", "nodeID": own_node, "topologyKeys": [], "allocatable": {"count": 1}}
    k.make("CSINode", own_node, {"drivers": [driver]})
    names = [f"{n}-{k.namespace}" for n in ("one", "two")]
    with k.gone_after("csinodes", own_node), k.gone_after("persistentvolumes", names[0]):
        for name in names:
            csi(k, name, {})
            claim(k, name[:3], name)
            k.until(lambda n=name: k.get("persistentvolumeclaims", n[:3])["status"].get("phase") == "Bound")
        with k.gone_after("persistentvolumes", names[1]):
            on_own_node(k, own_node, "first", volumes=mounts("one"))
            k.until(lambda: k.get("pods", "first")["spec"].get("nodeName"))
            on_own_node(k, own_node, "second", volumes=mounts("two"))
            k.says("unschedulable", "pod/second", "node(s) exceed max volume count", "attaches no more volumes")


def test_a_disk_that_another_pod_uses_is_told(k: Asker, own_node: str) -> None:
    disk = [{"name": "v", "gcePersistentDisk": {"pdName": "d"}}]
    on_own_node(k, own_node, "first", volumes=disk)
    k.until(lambda: k.get("pods", "first")["spec"].get("nodeName"))
    on_own_node(k, own_node, "second", volumes=disk)
    k.says("unschedulable", "pod/second", "node(s) had no available disk", "mount it read-only")


def test_a_driver_without_enough_free_storage_is_told(k: Asker, own_node: str) -> None:
    name = f"full-{k.namespace}"
    k.make("StorageClass", name, provisioner=f"{name}.example.com", volumeBindingMode="WaitForFirstConsumer")
    k.make("CSIDriver", f"{name}.example.com", {"storageCapacity": True})
    with k.gone_after("storageclasses", name), k.gone_after("csidrivers", f"{name}.example.com"):
        claim(k, "large", name)
        on_own_node(k, own_node, "asks", volumes=mounts("large"))
        k.says("unschedulable", "pod/asks", "node(s) did not have enough free storage", "claim less")


def test_devices_that_no_node_has_are_told(k: Asker) -> None:
    name = f"gpu-{k.namespace}"
    k.make("DeviceClass", name, {})
    with k.gone_after("deviceclasses", name):
        k.make("ResourceClaim", "gpu", {"devices": {"requests": [{"name": "g", "exactly": {"deviceClassName": name}}]}})
        k.pod("trains", resourceClaims=[{"name": "g", "resourceClaimName": "gpu"}])
        k.says("unschedulable", "pod/trains", "cannot allocate all claims", "kubectl get resourceslices")


def test_a_cluster_without_nodes_is_told() -> None:
    with cluster() as api:
        asker = Asker(api.kubeconfig, "default")
        asker.pod("lonely")
        asker.says("unschedulable", "pod/lonely", "no nodes available to schedule pods", "portside join")
        asker.api.close()


def test_a_claim_for_one_pod_alone_is_told(k: Asker, own_node: str) -> None:
    name = f"single-{k.namespace}"
    csi(k, name, {}, "ReadWriteOncePod")
    with k.gone_after("persistentvolumes", name):
        claim(k, "single", name, "ReadWriteOncePod")
        k.until(lambda: k.get("persistentvolumeclaims", "single")["status"].get("phase") == "Bound")
        k.pod("holder", volumes=mounts("single"))
        k.until(lambda: k.get("pods", "holder")["spec"].get("nodeName"))
        k.pod("second", volumes=mounts("single"))
        k.says("unschedulable", "pod/second", SINGLE_POD, "end the pod that uses the claim")


def test_a_gate_of_readiness_that_nobody_opens_is_told(k: Asker) -> None:
    k.pod("gated", readinessGates=[{"conditionType": "example.com/warm"}])
    k.says("readiness-gate", "pod/gated", "example.com/warm", "spec.readinessGates")


def test_a_node_that_does_not_exist_is_told(k: Asker) -> None:
    k.pod("ghostly", nodeName="ghost")
    k.says("node-gone", "pod/ghostly", "ghost", "spec.nodeName")


def test_what_is_not_ready_and_has_no_cause_is_said_to_have_none(k: Asker) -> None:
    k.pod("slow", {"annotations": {"sim.portside.io/ready-after": "600s"}})
    k.condition("pods", "slow", "PodScheduled")
    k.says("pod-not-ready", "pod/slow", "phase Running", consequence=True)
    found = k.asked("pod/slow")
    assert found["state"] == "unknown"
    assert any("conditions[Ready]" in f["path"] for f in found["evidence"])


# -- Terminating ------------------------------------------------------------------------------------------------------


def test_a_finalizer_is_named_with_the_way_out(k: Asker) -> None:
    k.make("ConfigMap", "kept", meta={"finalizers": ["example.com/backup"]})
    k.delete("configmaps", "kept")
    k.says("being-deleted", "configmap/kept", "being deleted", consequence=True)
    k.says("finalizers", "cm/kept", "example.com/backup", "metadata.deletionTimestamp", "kubectl patch", later=30)
    k.patch("configmaps", "kept", {"metadata": {"finalizers": None}})


def test_a_deletion_in_the_foreground_names_what_it_waits_for(k: Asker) -> None:
    meta = {"finalizers": ["example.com/hold"]}
    k.make("ReplicaSet", "front", workload("front", meta=meta, replicas=1))
    k.until(lambda: (k.get("replicasets", "front").get("status") or {}).get("readyReplicas"))
    k.delete("replicasets", "front", propagationPolicy="Foreground")
    k.says("waits-for-dependents", "rs/front", "waits until pod/front-", later=60, consequence=True)
    k.tells("rs/front", ("finalizers", 1), later=60)
    name = k.api.send("GET", k.path("pods"))["items"][0]["metadata"]["name"]
    k.says("finalizers", f"pod/{name}", "example.com/hold", later=60)
    k.patch("pods", name, {"metadata": {"finalizers": None}})


def test_a_namespace_that_can_not_end_says_what_is_left(k: Asker) -> None:
    k.make("ConfigMap", "kept", meta={"finalizers": ["example.com/backup"]})
    k.delete("namespaces", k.namespace)
    about = f"namespace/{k.namespace}"
    k.says("namespace-stuck", about, "example.com/backup in 1 resource instances", later=60, consequence=True)
    k.says("finalizers", about, "configmap/kept metadata.finalizers = example.com/backup", later=60)
    k.says("finalizers", "", "configmap/kept metadata.finalizers = example.com/backup", later=60)
    k.patch("configmaps", "kept", {"metadata": {"finalizers": None}})


def test_a_pod_within_its_grace_is_told_so(k: Asker) -> None:
    k.pod("long", {"annotations": {"sim.portside.io/stop-after": "600s"}}, terminationGracePeriodSeconds=600)
    k.condition("pods", "long", "Ready")
    k.delete("pods", "long")
    k.says("grace-runs", "pod/long", "metadata.deletionGracePeriodSeconds", "--grace-period=0")
    k.delete("pods", "long", gracePeriodSeconds=0)


def test_a_pod_of_a_silent_node_is_told_so(k: Asker) -> None:
    name = f"dead-{k.namespace}"
    k.make("Node", name, {})
    with k.gone_after("nodes", name):
        k.pod("stuck", nodeName=name)
        k.delete("pods", "stuck")
        k.says("node-does-not-answer", "pod/stuck", name, "does not answer", "--force")
        k.says("node-not-ready", f"node/{name}")
        k.delete("pods", "stuck", gracePeriodSeconds=0)


def test_a_claim_that_is_in_use_names_its_pod(k: Asker) -> None:
    name = f"used-{k.namespace}"
    volume(k, name, "node-0")
    with k.gone_after("persistentvolumes", name):
        claim(k, "used", name)
        k.pod("user", volumes=mounts("used"))
        k.condition("pods", "user", "Ready")
        k.delete("persistentvolumeclaims", "used")
        k.says("still-in-use", "pvc/used", "pod/user still uses it", "kubernetes.io/pvc-protection")
        k.delete("pods", "user", gracePeriodSeconds=0)
