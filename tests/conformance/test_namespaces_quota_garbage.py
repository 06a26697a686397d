"""The conformance names of garbage collector, namespaces and resource quota."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import NOWHERE, Ground, ground, pod, workload
from tests.conformance.names import conformance
from tests.conformance.test_apps_workloads import controller

__all__ = ["ground"]
Json = dict[str, Any]


# -- garbage collector ------------------------------------------------------------------------------------------------


@conformance(
    "garbage collector", "Deployment deleted in background: ReplicaSet and pods go", "RC deleted in background: pods go"
)
def test_background_takes_the_dependents_along(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=2))
    ground.status("deployments", "web", availableReplicas=2)
    ground.delete("deployments", "web", propagationPolicy="Background")
    ground.until(lambda: not ground.all("replicasets") and not ground.pods("app=web"))
    ground.create("replicationcontrollers", controller("rc", replicas=2))
    ground.status("replicationcontrollers", "rc", readyReplicas=2)
    ground.delete("replicationcontrollers", "rc", propagationPolicy="Background")
    ground.until(lambda: not ground.pods("app=rc"))


def test_a_node_that_goes_takes_its_lease_along(ground: Ground) -> None:
    ground.create("nodes", {"metadata": {"name": ground.name, "annotations": {"kwok.x-k8s.io/node": "fake"}}})

    def leases() -> list[Json]:
        return [lease for lease in ground.all("leases", everywhere=True) if lease["metadata"]["name"] == ground.name]

    (lease,) = ground.until(leases)
    assert [ref["kind"] for ref in lease["metadata"]["ownerReferences"]] == ["Node"]
    ground.delete("nodes", ground.name)
    ground.until(lambda: not leases())


@conformance(
    "garbage collector", "Deployment deleted with orphan: ReplicaSet stays", "RC deleted with orphan: pods stay"
)
def test_orphan_leaves_them(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=2))
    ground.status("deployments", "web", availableReplicas=2)
    ground.delete("deployments", "web", propagationPolicy="Orphan")
    ground.until(lambda: ground.gone("deployments", "web"))
    (left,) = ground.all("replicasets")
    assert "ownerReferences" not in left["metadata"] and len(ground.pods("app=web")) == 2
    ground.create("replicationcontrollers", controller("rc", replicas=2))
    ground.status("replicationcontrollers", "rc", readyReplicas=2)
    ground.delete("replicationcontrollers", "rc", propagationPolicy="Orphan")
    ground.until(lambda: ground.gone("replicationcontrollers", "rc"))
    assert len(ground.pods("app=rc")) == 2


@conformance(
    "garbage collector",
    "RC deleted in foreground: stays until its pods are gone",
    "pods with a second live owner survive a foreground delete",
)
def test_foreground_waits_for_the_pods_and_spares_those_with_another_owner(ground: Ground) -> None:
    ground.create("replicationcontrollers", controller("rc", replicas=2))
    ground.create("replicationcontrollers", controller("stays", replicas=0))
    ground.status("replicationcontrollers", "rc", readyReplicas=2)
    held, shared = (p["metadata"]["name"] for p in ground.pods("app=rc"))
    other = ground.get("replicationcontrollers", "stays")["metadata"]
    ref = {"apiVersion": "v1", "kind": "ReplicationController", "name": "stays", "uid": other["uid"]}
    mine = ground.get("pods", shared)["metadata"]["ownerReferences"]
    ground.patch("pods", shared, {"metadata": {"ownerReferences": [*mine, ref]}})
    ground.patch("pods", held, {"metadata": {"finalizers": ["example.com/hold"]}})
    ground.delete("replicationcontrollers", "rc", propagationPolicy="Foreground")
    ground.until(lambda: "deletionTimestamp" in ground.get("pods", held)["metadata"])
    assert "foregroundDeletion" in ground.get("replicationcontrollers", "rc")["metadata"]["finalizers"]
    ground.patch("pods", held, {"metadata": {"finalizers": None}})
    ground.until(lambda: ground.gone("replicationcontrollers", "rc"))
    left = ground.get("pods", shared)["metadata"]
    assert [r["name"] for r in left["ownerReferences"]] == ["stays"] and "deletionTimestamp" not in left


@conformance("garbage collector", "ownership cycle doesn't block")
def test_a_circle_of_owners_goes_as_a_whole(ground: Ground) -> None:
    uids = {n: ground.create("pods", pod(n))["metadata"]["uid"] for n in "abc"}
    for name, owner in zip("abc", "cab", strict=True):
        ref = {"apiVersion": "v1", "kind": "Pod", "name": owner, "uid": uids[owner], "controller": True}
        ground.patch("pods", name, {"metadata": {"ownerReferences": [ref | {"blockOwnerDeletion": True}]}})
    ground.delete("pods", "a", propagationPolicy="Foreground")
    ground.until(lambda: not ground.pods("app=web"))


# -- namespaces -------------------------------------------------------------------------------------------------------


def space(g: Ground, **meta: Any) -> str:
    """A namespace that pods can be made in."""
    name = f"{g.name}-{uuid.uuid4().hex[:4]}"
    g.create("namespaces", {"metadata": {"name": name, **meta}})
    accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
    g.until(lambda: g.api.send("GET", accounts)["items"])
    return name


@conformance("namespaces", "update", "patch", "status get, patch, update")
def test_a_namespace_is_patched_updated_and_has_a_status(ground: Ground) -> None:
    name = space(ground)
    assert ground.patch("namespaces", name, {"metadata": {"labels": {"testLabel": "v"}}})["metadata"]["labels"][
        "testLabel"
    ]
    held = ground.get("namespaces", name)
    held["metadata"]["labels"]["updated"] = name
    assert ground.put("namespaces", held)["metadata"]["labels"]["updated"] == name
    mine = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched"}
    answer = ground.patch("namespaces", name, {"status": {"conditions": [mine]}}, "status")
    assert answer["status"]["conditions"][0]["type"] == "StatusPatch"
    answer["status"]["conditions"].append(mine | {"type": "StatusUpdate"})
    ground.put("namespaces", answer, "status")
    kept = ground.get("namespaces", name, "status")["status"]["conditions"]
    assert [c["type"] for c in kept] == ["StatusPatch", "StatusUpdate"]
    ground.delete("namespaces", name)
    ground.until(lambda: ground.gone("namespaces", name))


@conformance("namespaces", "add and remove a finalizer (finalize subresource)")
def test_a_finalizer_is_added_and_removed_by_the_finalize_subresource(ground: Ground) -> None:
    name = space(ground)
    held = ground.get("namespaces", name)
    held["spec"]["finalizers"].append("example.com/mine")
    assert ground.put("namespaces", held, "finalize")["spec"]["finalizers"] == ["kubernetes", "example.com/mine"]
    ground.delete("namespaces", name)
    ground.until(lambda: ground.get("namespaces", name)["spec"].get("finalizers") == ["example.com/mine"])
    held = ground.get("namespaces", name)
    held["spec"]["finalizers"] = []
    ground.put("namespaces", held, "finalize")
    ground.until(lambda: ground.gone("namespaces", name))


@conformance(
    "namespaces", "deletion removes pods", "deletion removes services", "ordered deletion: pods before the rest"
)
def test_the_end_of_a_namespace_takes_pods_first_then_all_the_rest(ground: Ground) -> None:
    name = space(ground)
    inside = f"/api/v1/namespaces/{name}"
    held = pod("p", nodeSelector=NOWHERE)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    for plural, body in (("pods", held), ("services", service), ("configmaps", {"metadata": {"name": "c"}})):
        ground.api.send("POST", f"{inside}/{plural}", json.dumps(body).encode())
    ground.delete("namespaces", name)

    def waits() -> bool:
        conditions = ground.get("namespaces", name)["status"].get("conditions") or ()
        return any(c["type"] == "NamespaceFinalizersRemaining" and c["status"] == "True" for c in conditions)

    ground.until(waits)
    assert ground.api.send("GET", f"{inside}/configmaps/c")["metadata"]["name"] == "c", "nothing goes before the pods"
    with pytest.raises(Refused, match="because it is being terminated"):
        ground.api.send("POST", f"{inside}/configmaps", b'{"metadata": {"name": "late"}}')
    patch = b'{"metadata": {"finalizers": null}}'
    ground.api.send("PATCH", f"{inside}/pods/p", patch, "application/merge-patch+json")
    ground.until(lambda: ground.gone("namespaces", name))
    ground.create("namespaces", {"metadata": {"name": name}})
    for plural in ("pods", "services"):
        assert ground.api.send("GET", f"{inside}/{plural}")["items"] == []
    ground.delete("namespaces", name)


# -- resource quota ---------------------------------------------------------------------------------------------------


def quota(name: str = "q", *scopes: str, **hard: str) -> Json:
    spec: Json = {"hard": {k.replace("__", "."): v for k, v in hard.items()}}
    return {
        "metadata": {"name": name, "labels": {"q": name}},
        "spec": spec | ({"scopes": list(scopes)} if scopes else {}),
    }


def used(g: Ground, resource: str, name: str = "q") -> str | None:
    status = g.get("resourcequotas", name).get("status") or {}
    found: str | None = (status.get("used") or {}).get(resource)
    return found


@conformance(
    "resource quota",
    "counts replicasets",
    "counts replicationcontrollers",
    "counts secrets",
    "counts services",
    "status promptly calculated",
)
def test_quota_status_is_calculated_at_once_and_counts_each_kind(ground: Ground) -> None:
    kinds: dict[str, tuple[str, Json]] = {
        "services": ("services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}),
        "secrets": ("secrets", {"metadata": {"name": "s"}}),
        "replicationcontrollers": ("replicationcontrollers", controller("rc", replicas=0)),
        "count/replicasets.apps": ("replicasets", workload("rs", replicas=0)),
        "persistentvolumeclaims": (
            "persistentvolumeclaims",
            {
                "metadata": {"name": "c"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            },
        ),
    }
    ground.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": dict.fromkeys(kinds, "5")}})
    ground.until(lambda: used(ground, "services") == "0")
    for resource, (plural, body) in kinds.items():
        ground.create(plural, body)
        ground.until(lambda r=resource: used(ground, r) == "1")
    for resource, (plural, body) in kinds.items():
        ground.delete(plural, body["metadata"]["name"])
        if plural != "persistentvolumeclaims":
            ground.until(lambda r=resource: used(ground, r) == "0")


@conformance("resource quota", "counts configmaps")
def test_quota_counts_configmaps(ground: Ground) -> None:
    ground.until(lambda: len(ground.all("configmaps")) == 1)
    ground.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "2"}}})
    ground.until(lambda: used(ground, "configmaps") == "1")
    ground.create("configmaps", {"metadata": {"name": "c"}})
    ground.until(lambda: used(ground, "configmaps") == "2")
    with pytest.raises(
        Refused, match="exceeded quota: q, requested: configmaps=1, used: configmaps=2, limited: configmaps=2"
    ):
        ground.create("configmaps", {"metadata": {"name": "d"}})


def amounts(**requests: str) -> Json:
    made = pod("p", nodeSelector=NOWHERE)
    named = {
        k.replace("ephemeral", "ephemeral-storage").replace("device", "example.com/dongle"): v
        for k, v in requests.items()
    }
    limits = {k: v for k, v in named.items() if "/" in k}
    made["spec"]["containers"][0]["resources"] = {"requests": named, "limits": limits}
    return made


@conformance(
    "resource quota", "counts a pod's cpu, memory, ephemeral storage, extended resources; over-quota pod refused"
)
def test_quota_counts_what_pods_ask_for_and_refuses_more(ground: Ground) -> None:
    hard = {"pods": "2", "cpu": "1", "memory": "500Mi", "requests.ephemeral-storage": "50Gi"}
    ground.create(
        "resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": hard | {"requests.example.com/dongle": "3"}}}
    )
    ground.until(lambda: used(ground, "pods") == "0")
    asked = {"cpu": "500m", "memory": "252Mi", "ephemeral": "30Gi", "device": "2"}
    ground.create("pods", amounts(**asked))
    wanted = {"pods": "1", "cpu": "500m", "memory": "252Mi"}
    wanted |= {"requests.ephemeral-storage": "30Gi", "requests.example.com/dongle": "2"}
    ground.until(lambda: ground.get("resourcequotas", "q")["status"]["used"] == wanted)
    for more in ({"cpu": "600m"}, {"memory": "300Mi"}, {"ephemeral": "40Gi"}, {"device": "2"}):
        over = amounts(**({"cpu": "1m", "memory": "1Mi", "ephemeral": "1Gi"} | more))
        over["metadata"]["name"] = "over"
        with pytest.raises(Refused, match="exceeded quota: q"):
            ground.create("pods", over)
    ground.delete("pods", "p", gracePeriodSeconds=0)
    ground.until(lambda: used(ground, "pods") == "0" and used(ground, "cpu") == "0")


@conformance("resource quota", "scopes BestEffort / NotBestEffort", "scopes Terminating / NotTerminating")
def test_quota_scopes(ground: Ground) -> None:
    scopes = ("BestEffort", "NotBestEffort", "Terminating", "NotTerminating")
    for name in scopes:
        ground.create("resourcequotas", quota(name.lower(), name, pods="5"))
    ground.until(lambda: all(used(ground, "pods", name.lower()) == "0" for name in scopes))

    def counted() -> list[str]:
        return [q["metadata"]["name"] for q in ground.all("resourcequotas") if q["status"]["used"]["pods"] == "1"]

    ground.create("pods", pod("p", nodeSelector=NOWHERE))
    ground.until(lambda: counted() == ["besteffort", "notterminating"])
    ground.delete("pods", "p", gracePeriodSeconds=0)
    ground.until(lambda: counted() == [])
    made = amounts(cpu="1m", memory="1Mi")
    made["spec"]["activeDeadlineSeconds"] = 3600
    ground.create("pods", made)
    ground.until(lambda: counted() == ["notbesteffort", "terminating"])


def test_a_pod_that_is_given_a_deadline_moves_to_the_quota_of_those_at_once(ground: Ground) -> None:
    for name in ("Terminating", "NotTerminating"):
        ground.create("resourcequotas", quota(name.lower(), name, pods="1"))
    ground.until(lambda: used(ground, "pods", "notterminating") == used(ground, "pods", "terminating") == "0")
    ground.create("pods", pod("p", nodeSelector=NOWHERE))
    ground.until(lambda: used(ground, "pods", "notterminating") == "1")
    ground.until(lambda: ground.get("pods", "p")["status"].get("conditions"))  # the scheduler has had its word
    ground.patch("pods", "p", {"spec": {"activeDeadlineSeconds": 3600}})
    assert used(ground, "pods", "terminating") == "1"
    with pytest.raises(Refused, match="exceeded quota: terminating, requested: pods=1, used: pods=1, limited: pods=1"):
        ground.create("pods", pod("q", nodeSelector=NOWHERE, activeDeadlineSeconds=60))
    ground.until(lambda: used(ground, "pods", "notterminating") == "0")


def test_a_quota_of_devices_counts_claims_and_refuses_more(ground: Ground) -> None:
    devices, claims = "gold.deviceclass.resource.k8s.io/devices", "count/resourceclaims.resource.k8s.io"
    ground.create("resourcequotas", {"metadata": {"name": "q"}, "spec": {"hard": {devices: "1", claims: "3"}}})
    ground.until(lambda: used(ground, devices) == "0")

    def claim(name: str) -> Json:
        request = {"name": "r", "exactly": {"deviceClassName": "gold"}}
        return {"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}

    ground.create("resourceclaims", claim("first"))
    ground.until(lambda: used(ground, devices) == used(ground, claims) == "1")
    with pytest.raises(Refused, match=f"exceeded quota: q, requested: {devices}=1, used: {devices}=1"):
        ground.create("resourceclaims", claim("second"))
    ground.delete("resourceclaims", "first")
    ground.until(lambda: used(ground, devices) == used(ground, claims) == "0")


def test_a_claim_that_changes_its_attributes_class_counts_for_both_until_its_volume_has_changed(ground: Ground) -> None:
    def scoped(name: str) -> Json:
        term = {"scopeName": "VolumeAttributesClass", "operator": "In", "values": [name]}
        spec = {"hard": {"persistentvolumeclaims": "1"}, "scopeSelector": {"matchExpressions": [term]}}
        return {"metadata": {"name": name}, "spec": spec}

    def counted() -> tuple[str | None, ...]:
        return tuple(used(ground, "persistentvolumeclaims", name) for name in ("gold", "silver"))

    for name in ("gold", "silver"):
        ground.create("resourcequotas", scoped(name))
    ground.until(lambda: counted() == ("0", "0"))
    spec: Json = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    classes: Json = {"storageClassName": "", "volumeAttributesClassName": "gold"}
    volume: Json = {
        "accessModes": spec["accessModes"],
        "capacity": {"storage": "1Gi"},
        "csi": {"driver": "csi.example.com", "volumeHandle": "v"},
        "claimRef": {"namespace": ground.name, "name": "c"},
        "persistentVolumeReclaimPolicy": "Retain",
    }
    ground.create("persistentvolumes", {"metadata": {"name": ground.name}, "spec": volume | classes})
    ground.create("persistentvolumeclaims", {"metadata": {"name": "c"}, "spec": spec | classes})
    ground.until(lambda: counted() == ("1", "0"))
    ground.status("persistentvolumeclaims", "c", phase="Bound", currentVolumeAttributesClassName="gold")
    ground.patch("persistentvolumeclaims", "c", {"spec": {"volumeAttributesClassName": "silver"}})
    ground.until(lambda: counted() == ("1", "1"))
    ground.patch("persistentvolumeclaims", "c", {"status": {"currentVolumeAttributesClassName": "silver"}}, "status")
    ground.until(lambda: counted() == ("0", "1"))
    ground.delete("persistentvolumes", ground.name)


@conformance(
    "resource quota",
    "update and delete",
    "status update/patch doesn't touch spec",
    "lifecycle, list in all namespaces, deletecollection",
)
def test_quota_update_delete_status_list_and_delete_collection(ground: Ground) -> None:
    ground.create("resourcequotas", quota(cpu="1", memory="500Mi"))
    held = ground.get("resourcequotas", "q")
    held["spec"]["hard"]["memory"] = "1Gi"
    held.pop("status", None)
    held["metadata"].pop("resourceVersion")
    ground.put("resourcequotas", held)
    ground.until(lambda: (ground.get("resourcequotas", "q").get("status") or {}).get("hard", {}).get("memory") == "1Gi")
    answer = ground.patch(
        "resourcequotas", "q", {"status": {"hard": {"cpu": "9"}}, "spec": {"hard": {"cpu": "7"}}}, "status"
    )
    assert answer["status"]["hard"]["cpu"] == "9" and answer["spec"]["hard"]["cpu"] == "1"
    ground.until(lambda: ground.get("resourcequotas", "q")["status"]["hard"]["cpu"] == "1")
    label = {"metadata": {"labels": {"own": ground.name}}}
    ground.patch("resourcequotas", "q", label)
    assert len(ground.all("resourcequotas", f"own={ground.name}", everywhere=True)) == 1
    ground.clear("resourcequotas", f"own={ground.name}")
    ground.until(lambda: ground.gone("resourcequotas", "q"))
    assert ground.create("configmaps", {"metadata": {"name": "free"}})


@conformance("list, watch, misc", "StorageVersionMigration CRUD")
def test_storage_version_migrations_live_through_their_verbs(ground: Ground) -> None:
    body = {"metadata": {"name": ground.name}, "spec": {"resource": {"group": "", "resource": "secrets"}}}
    ground.create("secrets", {"metadata": {"name": "s"}})
    ground.create("storageversionmigrations", body)
    assert ground.condition("storageversionmigrations", ground.name, "Succeeded")["reason"] == (
        "StorageVersionMigrationSucceeded"
    )
    ground.patch("storageversionmigrations", ground.name, {"metadata": {"labels": {"own": ground.name}}})
    assert len(ground.all("storageversionmigrations", f"own={ground.name}")) == 1
    ground.clear("storageversionmigrations", f"own={ground.name}")
    ground.until(lambda: ground.gone("storageversionmigrations", ground.name))
