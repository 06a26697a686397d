"""The conformance list's dynamic resource allocation: every kind of resource.k8s.io through all its verbs."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import Cluster

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
    simulated.kubectl(*where, "replace", "-f", "-", stdin=json.dumps(held))
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
