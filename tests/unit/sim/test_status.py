"""What simulated nodes say: Ready at once, pods Running, jobs done, users' capacity kept."""

from __future__ import annotations

from portside.sim.status import FAKE, managed, node_object, node_status, pod_status

NOW = "2026-01-01T00:00:00Z"


def test_a_bare_node_becomes_ready_and_then_needs_nothing() -> None:
    node = node_object("n", 0)
    assert managed(node)
    patch = node_status(node, "10.0.0.1", NOW, "v1.37.2")
    assert patch is not None
    node["status"] = patch["status"]
    assert node["status"]["allocatable"]["pods"] == "110"
    assert node_status(node, "10.0.0.1", NOW, "v1.37.2") is None


def test_the_users_capacity_stays_and_other_nodes_are_left_alone() -> None:
    node = {"metadata": {"name": "n", "annotations": {FAKE: "fake"}}, "status": {"capacity": {"cpu": "1"}}}
    patch = node_status(node, "10.0.0.1", NOW, "v1.37.2")
    assert patch is not None
    assert "capacity" not in patch["status"]
    assert patch["status"]["allocatable"] == {"cpu": "1"}
    assert not managed({"metadata": {"name": "real"}})


def test_pods_run_and_jobs_end() -> None:
    pod = {
        "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    }
    patch = pod_status(pod, "10.0.0.1", "10.245.0.2", NOW)
    assert patch is not None
    assert patch["status"]["phase"] == "Running"
    assert patch["status"]["containerStatuses"][0]["ready"]
    pod["status"] = patch["status"]
    assert pod_status(pod, "10.0.0.1", "10.245.0.2", NOW) is None
    job = {"metadata": {"name": "j", "ownerReferences": [{"kind": "Job"}]}, "spec": {"containers": [{"name": "c"}]}}
    done = pod_status(job, "10.0.0.1", "10.245.0.3", NOW)
    assert done is not None
    assert done["status"]["phase"] == "Succeeded"
    assert done["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0


def test_a_readiness_gate_is_the_users_to_open() -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c"}], "readinessGates": [{"conditionType": "x/y"}]},
    }
    patch = pod_status(pod, "10.0.0.1", "10.245.0.2", NOW)
    assert patch is not None
    ready = next(c for c in patch["status"]["conditions"] if c["type"] == "Ready")
    assert ready["status"] == "False"
