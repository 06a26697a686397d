"""The conformance list's dynamic resource allocation: every kind of resource.k8s.io through all its verbs."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import within

Json = dict[str, Any]
REQUEST = {"name": "r0", "exactly": {"deviceClassName": "gpu.example"}}
SLICE = {
    "driver": "gpu.example",
    "pool": {"name": "pool", "generation": 1, "resourceSliceCount": 1},
    "nodeName": "node-0",
    "devices": [{"name": "d0"}],
}
# kind, plural, namespaced, spec, what an update changes in the spec
KINDS: list[tuple[str, str, bool, Json, Json]] = [
    ("DeviceClass", "deviceclasses", False, {}, {"selectors": [{"cel": {"expression": "true"}}]}),
    ("DeviceTaintRule", "devicetaintrules", False, {"taint": {"key": "k", "effect": "NoSchedule"}}, {"taint": {"value": "v"}}),
    ("ResourceClaim", "resourceclaims", True, {"devices": {"requests": [REQUEST]}}, {}),
    ("ResourceClaimTemplate", "resourceclaimtemplates", True, {"spec": {"devices": {"requests": [REQUEST]}}}, {}),
    ("ResourceSlice", "resourceslices", False, SLICE, {"devices": [{"name": "d1"}]}),
]  # fmt: skip


@conformance(
    "dynamic resource allocation",
    "DeviceClass CRUD",
    "DeviceTaintRule CRUD",
    "ResourceClaim CRUD",
    "ResourceClaimTemplate CRUD",
    "ResourceSlice CRUD",
)
@pytest.mark.parametrize(("kind", "plural", "namespaced", "spec", "change"), KINDS, ids=[k[0] for k in KINDS])
def test_a_kind_lives_through_its_verbs(
    simulated: Cluster, kind: str, plural: str, namespaced: bool, spec: Json, change: Json
) -> None:
    label = f"d{uuid.uuid4().hex[:6]}"
    where = ("-n", "default") if namespaced else ()
    body = {"apiVersion": "resource.k8s.io/v1", "kind": kind, "spec": spec}
    for number in range(2):
        meta = {"name": f"{label}-{number}", "labels": {"test": label}}
        simulated.kubectl(*where, "create", "-f", "-", stdin=json.dumps(body | {"metadata": meta}))
    simulated.kubectl(*where, "annotate", plural, f"{label}-0", "seen=yes")
    if change:
        patch = json.dumps({"spec": change})
        simulated.kubectl(*where, "patch", plural, f"{label}-0", "--type=merge", "-p", patch)
    held = json.loads(simulated.kubectl(*where, "get", plural, f"{label}-0", "-o", "json"))
    assert held["metadata"]["annotations"]["seen"] == "yes"
    for field, value in change.items():
        assert (
            held["spec"][field] == value
            if not isinstance(value, dict)
            else value.items() <= held["spec"][field].items()
        )

    def replaced() -> bool:
        """What was read is written back; a controller may have been faster."""
        read = simulated.kubectl(*where, "get", plural, f"{label}-0", "-o", "json")
        said = simulated.kubectl(*where, "replace", "-f", "-", stdin=read, check=False)
        assert " replaced\n" in said or "(Conflict)" in said, said
        return " replaced\n" in said

    assert within(60, replaced)
    listed = simulated.kubectl(*where, "get", plural, "-l", f"test={label}", "-o", "name").split()
    assert len(listed) == 2
    simulated.kubectl(*where, "delete", plural, f"{label}-0")
    simulated.kubectl(*where, "delete", plural, "-l", f"test={label}")
    assert simulated.kubectl(*where, "get", plural, "-l", f"test={label}", "-o", "name") == ""


def test_a_claims_status_is_written_and_taken_back(simulated: Cluster) -> None:
    name = f"d{uuid.uuid4().hex[:6]}"
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
    simulated.kubectl("create", "-f", "-", stdin=json.dumps(body | {"spec": {"devices": {"requests": [REQUEST]}}}))
    device = {"driver": "gpu.example", "pool": "p", "device": "d0"}
    status = {"allocation": {"devices": {"results": [device | {"request": "r0"}]}}, "devices": [device]}
    words = ("patch", "resourceclaim", name, "--subresource=status", "--type=merge", "-o", "json", "-p")
    done = json.loads(simulated.kubectl(*words, json.dumps({"status": status})))
    assert done["status"]["allocation"] == status["allocation"]
    assert device.items() <= done["status"]["devices"][0].items()
    freed = json.loads(simulated.kubectl(*words, json.dumps({"status": {"allocation": None}})))
    assert freed["status"] == {}
    simulated.kubectl("delete", "resourceclaim", name)


def publish(cluster: Cluster, label: str, *devices: Json, **more: Any) -> str:
    """A class and a slice on the first node, as a driver would publish it. Returns the node."""
    node = cluster.kubectl(
        "get", "nodes", "-l", "type=portside-simulated", "-o", "jsonpath={.items[0].metadata.name}"
    ).strip()
    selector = {"cel": {"expression": f"device.driver == '{label}.example'"}}
    spec = {"selectors": [selector], "extendedResourceName": f"{label}.example/gpu"}
    make(cluster, "DeviceClass", label, spec)
    pool = {"name": label, "generation": 1, "resourceSliceCount": 1}
    given = {"driver": f"{label}.example", "pool": pool, "nodeName": node, "devices": list(devices), **more}
    make(cluster, "ResourceSlice", label, given)
    return node


def make(cluster: Cluster, kind: str, name: str, spec: Json, version: str = "resource.k8s.io/v1") -> None:
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))


def start(cluster: Cluster, name: str, **spec: Any) -> None:
    container = {"name": "c", "image": "i", **spec.pop("container", {})}
    make(cluster, "Pod", name, {"containers": [container], **spec}, "v1")


def claimed(cluster: Cluster, name: str, label: str, **exactly: Any) -> None:
    """A claim, and a pod that uses it."""
    request = {"name": "r", "exactly": {"deviceClassName": label, **exactly}}
    make(cluster, "ResourceClaim", name, {"devices": {"requests": [request]}})
    start(cluster, name, resourceClaims=[{"name": "x", "resourceClaimName": name}])


def test_pods_get_devices_and_lose_them_by_a_taint_rule(simulated: Cluster) -> None:
    label = f"d{uuid.uuid4().hex[:6]}"
    node = publish(simulated, label, {"name": "g0"}, {"name": "g1"})
    tolerant = [{"key": "broken", "operator": "Exists", "effect": "NoExecute"}]
    claimed(simulated, f"{label}-a", label)
    claimed(simulated, f"{label}-b", label, tolerations=tolerant)
    for name in "ab":
        simulated.kubectl("wait", f"pod/{label}-{name}", "--for=condition=Ready", "--timeout=90s", timeout=100)
        path = "jsonpath={.spec.nodeName}"
        assert simulated.kubectl("get", "pod", f"{label}-{name}", "-o", path) == node
    taint = {"key": "broken", "effect": "NoExecute"}
    make(simulated, "DeviceTaintRule", label, {"deviceSelector": {"driver": f"{label}.example"}, "taint": taint})
    simulated.kubectl("wait", f"pod/{label}-a", "--for=delete", "--timeout=90s", timeout=100)
    simulated.kubectl(
        "wait", f"devicetaintrule/{label}", "--for=condition=EvictionInProgress=False", "--timeout=90s", timeout=100
    )
    simulated.kubectl("get", "pod", f"{label}-b")
    claimed(simulated, f"{label}-c", label)
    waiting = "jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable"
    simulated.kubectl("wait", f"pod/{label}-c", f"--for={waiting}", "--timeout=90s", timeout=100)
    simulated.kubectl("delete", "devicetaintrule", label)
    simulated.kubectl("wait", f"pod/{label}-c", "--for=condition=Ready", "--timeout=90s", timeout=100)
    simulated.kubectl("delete", "pod", f"{label}-b", f"{label}-c", "--grace-period=0", "--force")
    simulated.kubectl("delete", "resourceclaim", *(f"{label}-{n}" for n in "abc"))
    simulated.kubectl("delete", "resourceslice,deviceclass", label)


def test_an_extended_resource_is_served_by_devices(simulated: Cluster) -> None:
    label = f"d{uuid.uuid4().hex[:6]}"
    publish(simulated, label, {"name": "g0"}, {"name": "g1"})
    amount = {f"{label}.example/gpu": "2"}
    start(simulated, label, container={"resources": {"requests": amount, "limits": amount}})
    simulated.kubectl("wait", f"pod/{label}", "--for=condition=Ready", "--timeout=90s", timeout=100)
    path = "jsonpath={.status.extendedResourceClaimStatus.resourceClaimName}"
    special = simulated.kubectl("get", "pod", label, "-o", path)
    held = json.loads(simulated.kubectl("get", "resourceclaim", special, "-o", "json"))
    assert [r["device"] for r in held["status"]["allocation"]["devices"]["results"]] == ["g0", "g1"]
    simulated.kubectl("delete", "pod", label, "--grace-period=0", "--force")
    simulated.kubectl("wait", f"resourceclaim/{special}", "--for=delete", "--timeout=90s", timeout=100)
    simulated.kubectl("delete", "resourceslice,deviceclass", label)


def test_a_quota_counts_devices_by_class(simulated: Cluster) -> None:
    label = f"d{uuid.uuid4().hex[:6]}"
    simulated.kubectl("create", "namespace", label)
    here = ("-n", label)
    hard = {"count/resourceclaims.resource.k8s.io": "5", f"{label}.deviceclass.resource.k8s.io/devices": "3"}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": hard}}
    simulated.kubectl(*here, "create", "-f", "-", stdin=json.dumps(quota))
    simulated.kubectl(*here, "wait", "quota/q", "--for=jsonpath={.status.used}", "--timeout=90s", timeout=100)

    def claim(name: str, count: int) -> str:
        request = {"name": "r", "exactly": {"deviceClassName": label, "count": count}}
        body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": name}}
        return json.dumps(body | {"spec": {"devices": {"requests": [request]}}})

    simulated.kubectl(*here, "create", "-f", "-", stdin=claim("a", 2))
    refused = simulated.kubectl(*here, "create", "-f", "-", stdin=claim("b", 2), check=False)
    assert "exceeded quota: q" in refused and "used" in refused
    simulated.kubectl(*here, "delete", "resourceclaim", "a")
    used = f"jsonpath={{.status.used.{label}\\.deviceclass\\.resource\\.k8s\\.io/devices}}=0"
    simulated.kubectl(*here, "wait", "quota/q", f"--for={used}", "--timeout=90s", timeout=100)
    simulated.kubectl(*here, "create", "-f", "-", stdin=claim("b", 3))
    simulated.kubectl("delete", "namespace", label, "--wait=false")
