"""What ``kubectl get`` shows: a row per kind, ages, and the words of a pod's state."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api import tables
from portside.api.kinds import BY_KIND, KINDS
from portside.api.tables_format import human

NOW = "2026-01-02T00:00:00Z"
META = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: f"{k.group}/{k.version}/{k.kind}")
def test_every_kind_fills_its_columns(kind: Any) -> None:
    for obj in ({"metadata": META}, {"metadata": {}}):
        extra = kind.kind == "IPAddress"  # upstream sends an age without a column
        assert len(tables.cells(kind, obj, NOW)) == len(tables.columns(kind)) + extra


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (7200, "120m"),
        (5 * 3600, "5h"),
        (50 * 3600, "2d2h"),
        (-5, "<invalid>"),
    ],
)
def test_age(seconds: int, text: str) -> None:
    assert human(seconds) == text


def _pod(status: dict[str, Any], **meta: Any) -> list[Any]:
    spec = {"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}
    pod = {"metadata": META | meta, "spec": spec, "status": {"phase": "Running"} | status}
    return tables.cells(BY_KIND["", "v1", "Pod"], pod, NOW)[1:4]


def test_pod_states() -> None:
    done = {"name": "i", "state": {"terminated": {"exitCode": 0}}}
    assert _pod({"initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}) == ["0/1", "Init:0/1", "0"]
    running = {"name": "c", "ready": True, "state": {"running": {}}, "restartCount": 2}
    assert _pod({"initContainerStatuses": [done], "containerStatuses": [running]}) == ["1/1", "Running", "2"]
    crash = {"name": "c", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "restartCount": 3}
    crash["lastState"] = {"terminated": {"finishedAt": "2026-01-01T23:59:00Z"}}
    assert _pod({"containerStatuses": [crash]}) == ["0/1", "CrashLoopBackOff", "3 (60s ago)"]
    assert _pod({"containerStatuses": [running]}, deletionTimestamp=NOW)[1] == "Terminating"


def test_cells_of_a_service_and_a_quota() -> None:
    spec = {
        "type": "NodePort",
        "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}],
    }
    row = tables.cells(BY_KIND["", "v1", "Service"], {"metadata": META, "spec": spec}, NOW)
    assert row == ["x", "NodePort", "10.0.0.1", "<none>", "80:30001/TCP", "24h", "<none>"]
    status = {"hard": {"pods": "5", "limits.cpu": "2"}, "used": {"pods": "1"}}
    row = tables.cells(BY_KIND["", "v1", "ResourceQuota"], {"metadata": META, "status": status}, NOW)
    assert row[1:3] == ["pods: 1/5", "limits.cpu: 0/2"]


def _cells(group: str, version: str, kind: str, **fields: Any) -> list[Any]:
    obj = {**fields, "metadata": META | fields.get("metadata", {})}
    return tables.cells(BY_KIND[group, version, kind], obj, NOW)


def test_cells_of_definitions_classes_and_device_taints() -> None:
    names = {"kind": "Thing", "shortNames": ["t", "th"]}
    versions = [{"name": "v1", "served": True, "storage": True}, {"name": "v0", "served": True}, {"name": "old"}]
    status = {"conditions": [{"type": "Established", "status": "True"}]}
    spec: dict[str, Any] = {"group": "g.io", "names": names, "scope": "Cluster", "versions": versions}
    made = META["creationTimestamp"]
    assert _cells("apiextensions.k8s.io", "v1", "CustomResourceDefinition", spec=spec, status=status) == [
        "x", "Cluster", "v0,v1(storage)", made, "g.io", "Thing", "t,th", True,
    ]  # fmt: skip
    default = {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}
    assert _cells("networking.k8s.io", "v1", "IngressClass", metadata=default)[0] == "x (default)"
    taint = {"key": "k", "value": "v", "effect": "NoExecute", "timeAdded": made}
    rule = _cells("resource.k8s.io", "v1", "DeviceTaintRule", spec={"taint": taint})
    assert rule == ["x", "k", "v", "NoExecute", "24h", "24h"]
    done = {"conditions": [{"type": "Running", "status": "False"}, {"type": "Succeeded", "status": "True"}]}
    moved = {"resource": {"group": "apps", "resource": "deployments"}}
    told = _cells("storagemigration.k8s.io", "v1", "StorageVersionMigration", spec=moved, status=done)
    assert told == ["x", "deployments.apps", "Succeeded"]
