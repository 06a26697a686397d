"""What counts against a quota: the same sums whether admission charges or the controller recounts."""

from __future__ import annotations

from typing import Any

import pytest

from portside.api.usage import counted, missing_for, pod_usage, scopes_match, source_of, subtract, usage

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


def test_recount_and_what_is_missing() -> None:
    hard = {"pods": "5", "requests.cpu": "2", "count/deployments.apps": "1", "limits.memory": "1Gi"}
    quota = {"spec": {"hard": hard}}
    pods = [pod(containers=[asks("a", "600m")]), pod(containers=[asks("a", "400m")])]
    used = counted(quota, {("", "pods"): pods, ("apps", "deployments"): [{"metadata": {}}]})
    assert used == {"pods": "2", "requests.cpu": "1", "count/deployments.apps": "1", "limits.memory": "0"}
    assert missing_for(hard, pods[0]) == {"limits.memory": ["a"]}
    assert subtract({"a": "1Gi"}, {"a": "512Mi"}) == {"a": "512Mi"}
    assert source_of("gold.storageclass.storage.k8s.io/requests.storage") == ("", "persistentvolumeclaims")
    assert source_of("count/roles.rbac.authorization.k8s.io") == ("rbac.authorization.k8s.io", "roles")
