"""What counts against a quota: the same sums whether admission charges or the controller recounts."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api.usage import Devices, counted, missing_for, pod_usage, scopes_match, sources_of, subtract, usage

Json = dict[str, Any]


def pod(**spec: Any) -> Json:
    return {"metadata": {"name": "p", "namespace": "a"}, "spec": {"containers": [], **spec}}


def asks(name: str, cpu: str, **more: Any) -> Json:
    return {"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}, **more}


def test_a_pod_counts_its_sum_or_its_largest_init_step_with_sidecars() -> None:
    steps = [asks("i", "900m"), asks("side", "200m", restartPolicy="Always"), asks("j", "1")]
    used = pod_usage(pod(containers=[asks("a", "300m"), asks("b", "400m")], initContainers=steps))
    assert used["requests.cpu"] == used["cpu"] == "1200m" and used["limits.cpu"] == "1200m" and used["pods"] == "1"
    done = pod(containers=[asks("a", "1")]) | {"status": {"phase": "Succeeded"}}
    assert pod_usage(done) == {"count/pods": "1"}


@pytest.mark.parametrize(
    ("spec", "ports", "balancers"),
    [
        ({"type": "ClusterIP", "ports": [{}]}, "0", "0"),
        ({"type": "NodePort", "ports": [{}, {}]}, "2", "0"),
        ({"type": "LoadBalancer", "ports": [{}]}, "1", "1"),
        ({"type": "LoadBalancer", "ports": [{}], "allocateLoadBalancerNodePorts": False}, "0", "1"),
    ],
)
def test_services_count_ports_and_balancers(spec: Json, ports: str, balancers: str) -> None:
    used = usage("services", "", {"metadata": {"name": "s"}, "spec": spec})
    assert (used["services.nodeports"], used["services.loadbalancers"]) == (ports, balancers)


def test_scopes_choose_pods() -> None:
    terminating = {"spec": {"scopes": ["Terminating", "NotBestEffort"]}}
    assert scopes_match(terminating, "pods", "", pod(activeDeadlineSeconds=5, containers=[asks("a", "1")]))
    assert not scopes_match(terminating, "pods", "", pod(activeDeadlineSeconds=5))
    assert not scopes_match(terminating, "services", "", {"metadata": {}, "spec": {}})


def test_a_claim_is_in_the_scope_of_every_attributes_class_it_wants_has_or_moves_to() -> None:
    def quota(operator: str, *values: str) -> Json:
        term = {"scopeName": "VolumeAttributesClass", "operator": operator} | (
            {"values": list(values)} if values else {}
        )
        return {"spec": {"scopeSelector": {"matchExpressions": [term]}}}

    moves = {
        "metadata": {},
        "spec": {"volumeAttributesClassName": "silver"},
        "status": {
            "currentVolumeAttributesClassName": "gold",
            "modifyVolumeStatus": {"targetVolumeAttributesClassName": "lead"},
        },
    }
    plain: Json = {"metadata": {}, "spec": {}}
    for name, found in (("silver", True), ("gold", True), ("lead", True), ("tin", False)):
        assert scopes_match(quota("In", name), "persistentvolumeclaims", "", moves) is found
    assert scopes_match(quota("NotIn", "gold"), "persistentvolumeclaims", "", moves)
    assert scopes_match(quota("Exists"), "persistentvolumeclaims", "", moves)
    assert not scopes_match(quota("DoesNotExist"), "persistentvolumeclaims", "", moves)
    assert [scopes_match(quota(o, *v), "persistentvolumeclaims", "", plain) for o, *v in (("In", "gold"), ("NotIn", "gold"), ("Exists",), ("DoesNotExist",))] == [False, True, False, True]  # fmt: skip


def test_a_claim_of_devices_counts_them_by_class_and_of_alternatives_the_most() -> None:
    def asks_for(name: str, count: int = 1, mode: str = "ExactCount") -> Json:
        return {"deviceClassName": name, "allocationMode": mode} | ({"count": count} if mode == "ExactCount" else {})

    requests = [
        {"name": "a", "exactly": asks_for("gold", 2)},
        {"name": "b", "firstAvailable": [asks_for("gold", 3), asks_for("silver"), asks_for("gold")]},
        {"name": "c", "exactly": asks_for("lead", mode="All")},
    ]
    claim = {"metadata": {"name": "c"}, "spec": {"devices": {"requests": requests}}}
    used = usage("resourceclaims", "resource.k8s.io", claim)
    assert {n: a for n, a in used.items() if not n.startswith("requests.")} == {
        "count/resourceclaims.resource.k8s.io": "1",
        "gold.deviceclass.resource.k8s.io/devices": "5",
        "silver.deviceclass.resource.k8s.io/devices": "1",
        "lead.deviceclass.resource.k8s.io/devices": "32",
    }
    assert sources_of("gold.deviceclass.resource.k8s.io/devices") == [("resource.k8s.io", "resourceclaims")]


def test_recount_and_what_is_missing() -> None:
    hard = {"pods": "5", "requests.cpu": "2", "count/deployments.apps": "1", "limits.memory": "1Gi"}
    quota = {"spec": {"hard": hard}}
    pods = [pod(containers=[asks("a", "600m")]), pod(containers=[asks("a", "400m")])]
    used = counted(quota, {("", "pods"): pods, ("apps", "deployments"): [{"metadata": {}}]})
    assert used == {"pods": "2", "requests.cpu": "1", "count/deployments.apps": "1", "limits.memory": "0"}
    assert missing_for(hard, pods[0]) == {"limits.memory": ["a"]}
    assert subtract({"a": "1Gi"}, {"a": "512Mi"}) == {"a": "512Mi"}
    assert sources_of("gold.storageclass.storage.k8s.io/requests.storage") == [("", "persistentvolumeclaims")]
    assert sources_of("count/roles.rbac.authorization.k8s.io") == [("rbac.authorization.k8s.io", "roles")]


def claim(*requests: Json, **meta: Any) -> Json:
    listed = [r | {"name": f"r{i}"} for i, r in enumerate(requests)]
    return {"metadata": {"name": "c", "namespace": "a", **meta}, "spec": {"devices": {"requests": listed}}}


def test_devices_of_an_extended_resource_count_once_whoever_asks_for_them() -> None:
    gpus = {"exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}}
    classes = [{"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}}]
    user = pod(containers=[{"name": "c", "resources": {"requests": {"example.com/gpu": "2"}}}])
    user["metadata"]["uid"] = "u"
    owner = {"kind": "Pod", "name": "p", "uid": "u", "controller": True}
    special = claim(
        gpus, annotations={"resource.kubernetes.io/extended-resource-claim": "true"}, ownerReferences=[owner]
    )
    quota = {"spec": {"hard": {"requests.example.com/gpu": "9", "gpu.deviceclass.resource.k8s.io/devices": "9"}}}

    def recount(*claims: Json) -> Json:
        known = lambda c: Devices.of(c, classes, {"p": user}.get)  # noqa: E731
        return counted(quota, {("", "pods"): [user], ("resource.k8s.io", "resourceclaims"): claims}, known)

    one = {"requests.example.com/gpu": "2", "gpu.deviceclass.resource.k8s.io/devices": "2"}
    assert recount(special) == one
    assert recount(special, claim(gpus)) == {n: "4" for n in one}
    assert set(map(tuple, sources_of("requests.example.com/gpu"))) == {
        ("", "pods"),
        ("resource.k8s.io", "resourceclaims"),
    }
