"""The conformance names of StatefulSet, on simulated nodes; unhealthy pods are pods whose readiness the test takes away."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.ground import Ground, ground, template, workload
from tests.conformance.names import conformance
from tests.conformance.test_apps_workloads import scale_verbs, status_verbs

__all__ = ["ground"]
Json = dict[str, Any]


def stateful(**spec: Any) -> Json:
    return workload("ss", "web", serviceName="test", **spec)


def names(g: Ground) -> list[str]:
    return [p["metadata"]["name"] for p in g.pods("app=web") if "deletionTimestamp" not in p["metadata"]]


def readiness(g: Ground, name: str, ready: bool) -> None:
    """Simulated nodes say a pod's readiness once; what is said later stays."""
    state = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    g.patch("pods", name, {"status": {"conditions": [state]}}, "status", kind="strategic-merge-patch")


def images(g: Ground) -> dict[str, str]:
    return {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in g.pods("app=web")}


@conformance("StatefulSet", "ordered scaling halts on an unhealthy pod")
def test_scaling_goes_in_order_and_halts_at_an_unhealthy_pod(ground: Ground) -> None:
    ground.create("statefulsets", stateful(replicas=1))
    ground.status("statefulsets", "ss", readyReplicas=1)
    readiness(ground, "ss-0", False)
    ground.status("statefulsets", "ss", readyReplicas=0)
    ground.patch("statefulsets", "ss", {"spec": {"replicas": 3}})
    ground.status("statefulsets", "ss", replicas=1)
    assert names(ground) == ["ss-0"]
    readiness(ground, "ss-0", True)
    ground.status("statefulsets", "ss", readyReplicas=3)
    made = [p["metadata"]["creationTimestamp"] for p in ground.pods("app=web")]
    assert made == sorted(made)
    for name in names(ground):
        readiness(ground, name, False)
    ground.status("statefulsets", "ss", readyReplicas=0)
    ground.patch("statefulsets", "ss", {"spec": {"replicas": 0}})
    ground.status("statefulsets", "ss", replicas=3)
    readiness(ground, "ss-2", True)
    ground.until(lambda: names(ground) == ["ss-0", "ss-1"])
    readiness(ground, "ss-1", True)
    ground.until(lambda: names(ground) == [])


@conformance("StatefulSet", "Parallel burst scaling with unhealthy pods")
def test_parallel_sets_scale_past_unhealthy_pods(ground: Ground) -> None:
    ground.create("statefulsets", stateful(replicas=1, podManagementPolicy="Parallel"))
    ground.status("statefulsets", "ss", readyReplicas=1)
    readiness(ground, "ss-0", False)
    ground.patch("statefulsets", "ss", {"spec": {"replicas": 3}})
    ground.until(lambda: names(ground) == ["ss-0", "ss-1", "ss-2"])
    ground.patch("statefulsets", "ss", {"spec": {"replicas": 0}})
    ground.until(lambda: names(ground) == [])


@conformance("StatefulSet", "recreates an evicted/failed pod")
def test_a_failed_pod_and_an_evicted_one_are_made_again_under_their_names(ground: Ground) -> None:
    ground.create("statefulsets", stateful(replicas=2))
    ground.status("statefulsets", "ss", readyReplicas=2)
    before = {p["metadata"]["name"]: p["metadata"]["uid"] for p in ground.pods("app=web")}
    ground.says("ss-0", "Failed")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "ss-1"}}
    ground.create("pods", eviction, "ss-1", "eviction")

    def after() -> dict[str, str]:
        return {p["metadata"]["name"]: p["metadata"]["uid"] for p in ground.pods("app=web")}

    ground.until(lambda: list(after()) == ["ss-0", "ss-1"] and not set(before.values()) & set(after().values()))
    ground.status("statefulsets", "ss", readyReplicas=2)


@conformance("StatefulSet", "scale subresource", "status get, update, patch", "list, patch, deletecollection")
def test_scale_subresource_status_list_patch_and_delete_collection(ground: Ground) -> None:
    ground.create("statefulsets", stateful(replicas=1))
    ground.status("statefulsets", "ss", readyReplicas=1)
    scale_verbs(ground, "statefulsets", "ss", 1)
    ground.status("statefulsets", "ss", readyReplicas=3)
    status_verbs(ground, "statefulsets", "ss")
    ground.patch("statefulsets", "ss", {"metadata": {"labels": {"test": ground.name}}, "spec": {"replicas": 2}})
    ground.status("statefulsets", "ss", readyReplicas=2, replicas=2)
    assert len(ground.all("statefulsets", f"test={ground.name}", everywhere=True)) == 1
    ground.clear("statefulsets", f"test={ground.name}")
    ground.until(lambda: ground.gone("statefulsets", "ss") and not ground.pods("app=web"))


@conformance("StatefulSet", "partition: canary and phased updates")
def test_a_partition_makes_a_canary_and_then_phases(ground: Ground) -> None:
    strategy: Json = {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
    ground.create("statefulsets", stateful(replicas=3, updateStrategy=strategy))
    first = ground.status("statefulsets", "ss", readyReplicas=3)["status"]
    ground.patch("statefulsets", "ss", {"spec": {"template": template(image="new")}})
    held = ground.status("statefulsets", "ss", readyReplicas=3)["status"]
    assert held["currentRevision"] == first["currentRevision"] != held["updateRevision"]
    assert "new" not in images(ground).values()
    for partition in (2, 1, 0):
        ground.patch("statefulsets", "ss", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": partition}}}})
        ground.until(
            lambda n=partition: [k for k, v in images(ground).items() if v == "new"] == [f"ss-{i}" for i in range(n, 3)]
        )
        ground.status("statefulsets", "ss", readyReplicas=3)
        if partition == 2:
            remade(ground, "ss-0")
            assert images(ground)["ss-0"] != "new", "below the partition the current revision stays"
    done = ground.until(lambda: finished(ground))
    assert done["currentReplicas"] == done["updatedReplicas"] == 3


def remade(g: Ground, name: str) -> None:
    """Deletes a pod and waits for its successor."""
    old = g.get("pods", name)["metadata"]["uid"]
    g.delete("pods", name)
    g.until(lambda: [p for p in g.pods("app=web") if p["metadata"]["name"] == name and p["metadata"]["uid"] != old])


def finished(g: Ground) -> Json | None:
    status: Json = g.get("statefulsets", "ss")["status"]
    return (
        status if status["currentRevision"] == status["updateRevision"] and status.get("updatedReplicas") == 3 else None
    )


@conformance("StatefulSet", "rolling update and rollback, current/update revision")
def test_rolling_update_and_rollback_go_from_the_highest(ground: Ground) -> None:
    ground.create("statefulsets", stateful(replicas=3))
    first = ground.status("statefulsets", "ss", readyReplicas=3)["status"]["currentRevision"]
    ground.patch("statefulsets", "ss", {"spec": {"template": template(image="new")}})
    second = ground.until(lambda: (finished(ground) or {}).get("currentRevision") != first and finished(ground))
    assert set(images(ground).values()) == {"new"}
    made = [p["metadata"]["creationTimestamp"] for p in ground.pods("app=web")]
    assert made == sorted(made, reverse=True)
    ground.kubectl("rollout", "undo", "statefulset/ss")
    back = ground.until(lambda: (finished(ground) or {}).get("currentRevision") == first and finished(ground))
    assert back["currentRevision"] != second["currentRevision"]
    labels = {p["metadata"]["labels"]["controller-revision-hash"] for p in ground.pods("app=web")}
    assert labels == {first}


@pytest.mark.parametrize("policy", [("Delete", "Delete"), ("Retain", "Retain")])
def test_claims_follow_the_retention_policy(ground: Ground, policy: tuple[str, str]) -> None:
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}
    retention = {"whenDeleted": policy[0], "whenScaled": policy[1]}
    volumes = [{"metadata": {"name": "data"}, "spec": spec}]
    body = stateful(replicas=2, podManagementPolicy="Parallel", volumeClaimTemplates=volumes)
    ground.create("statefulsets", body | {"spec": body["spec"] | {"persistentVolumeClaimRetentionPolicy": retention}})

    def claims() -> list[str]:
        return sorted(c["metadata"]["name"] for c in ground.all("persistentvolumeclaims", "app=web"))

    ground.until(lambda: claims() == ["data-ss-0", "data-ss-1"])
    ground.patch("statefulsets", "ss", {"spec": {"replicas": 1}})
    left = ["data-ss-0"] if policy[1] == "Delete" else ["data-ss-0", "data-ss-1"]
    ground.until(lambda: claims() == left and names(ground) == ["ss-0"])
    ground.delete("statefulsets", "ss", propagationPolicy="Foreground")
    ground.until(lambda: ground.gone("statefulsets", "ss") and claims() == ([] if policy[0] == "Delete" else left))
