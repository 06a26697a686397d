"""Autoscalers and the metrics of an adapter behind the aggregation layer, from the APIService to size, status and events."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.ground import Ground, ground, workload
from tests.conftest import Cluster
from tests.metrics_server import CUSTOM, GROUPS, MetricsServer
from tests.webhook_server import within

__all__ = ["ground"]
Json = dict[str, Any]
AUTOSCALERS = "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers"
AT_ONCE = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 20, "periodSeconds": 15}]}


def _objects(server: MetricsServer, namespace: str) -> Json:
    labels = {"kubernetes.io/service-name": "adapter"}
    port = {"name": "https", "port": server.port, "protocol": "TCP"}
    items: list[Json] = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "adapter"},
            "spec": {"ports": [port | {"port": 443}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "adapter-1", "labels": labels},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [server.address], "conditions": {"ready": True}}],
            "ports": [port],
        },
    ]
    for item in items:
        item["metadata"]["namespace"] = namespace
    service = {"name": "adapter", "namespace": namespace, "port": 443}
    for group, versions in GROUPS.items():
        for number, version in enumerate(versions):
            spec = {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100 + number}
            meta = {"name": f"{version}.{group}"}
            body = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": meta}
            items.append(body | {"spec": spec | {"caBundle": server.bundle, "service": service}})
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _names() -> list[str]:
    return [f"{version}.{group}" for group, versions in GROUPS.items() for version in versions]


def _available(cluster: Cluster) -> bool:
    """Whether every one of the adapter's groups is asked."""
    return all(
        any(c["type"] == "Available" and c["status"] == "True" for c in (s.get("status") or {}).get("conditions") or ())
        for s in json.loads(cluster.kubectl("get", "apiservices", *_names(), "-o", "json"))["items"]
    )


@pytest.fixture(scope="module")
def adapter(simulated: Cluster) -> Iterator[MetricsServer]:
    namespace = f"metrics-{uuid.uuid4().hex[:6]}"
    simulated.kubectl("create", "namespace", namespace)
    trust = simulated.kubectl(
        "-n", "kube-system", "get", "configmap", "extension-apiserver-authentication", "-o",
        r"jsonpath={.data.requestheader-client-ca-file}",
    )  # fmt: skip

    with MetricsServer("adapter", namespace, trust) as server:
        simulated.kubectl("apply", "-f", "-", stdin=json.dumps(_objects(server, namespace)))
        assert within(60, lambda: _available(simulated))
        yield server
        simulated.kubectl("delete", "apiservices", *_names(), "--ignore-not-found")
    simulated.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def scaled(ground: Ground, adapter: MetricsServer) -> Iterator[Ground]:
    """Two ready pods, and an adapter that knows nothing."""
    adapter.values, adapter.usage, adapter.asked = {}, {}, []
    ground.create("deployments", workload(replicas=2))
    ground.status("deployments", "web", availableReplicas=2)
    yield ground
    ground.api.send("DELETE", AUTOSCALERS.format(ground.name))


def autoscale(g: Ground, *metrics: Json, **spec: Any) -> None:
    """An autoscaler of the deployment that may move at once."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    body = {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 20, "metrics": list(metrics)}
    body |= {"behavior": {"scaleUp": AT_ONCE, "scaleDown": AT_ONCE}} | spec
    g.api.send("POST", AUTOSCALERS.format(g.name), json.dumps({"metadata": {"name": "h"}, "spec": body}).encode())


def look(g: Ground) -> Json:
    found: Json = g.api.send("GET", AUTOSCALERS.format(g.name) + "/h")
    return found


def decided(g: Ground) -> Json:
    """The autoscaler once it has looked at its specification."""

    def done() -> Json | None:
        found = look(g)
        return found if (found.get("status") or {}).get("observedGeneration") else None

    answer: Json = g.until(done)
    return answer


def told_of(g: Ground) -> list[Json]:
    """The autoscaler as it was after each of its looks, oldest first: every quarter of a minute it says something new."""
    items = g.api.send("GET", "/portside/history" + AUTOSCALERS.format(g.name) + "/h")["items"]
    return [
        item["object"] for item in reversed(items) if (item.get("object") or {}).get("status", {}).get("conditions")
    ]


def once(g: Ground, replicas: int) -> Json:
    """The autoscaler when it had just asked for so many."""

    def found() -> Json | None:
        return next((hpa for hpa in told_of(g) if hpa["status"]["desiredReplicas"] == replicas), None)

    answer: Json = g.until(found)
    return answer


def conditions(hpa: Json) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in hpa["status"]["conditions"]}


def told(g: Ground) -> set[tuple[str, str]]:
    return {
        (e["reason"], e["message"]) for e in g.all("events") if e["involvedObject"]["kind"] == "HorizontalPodAutoscaler"
    }


def names(g: Ground) -> list[str]:
    return [p["metadata"]["name"] for p in g.pods("app=web")]


def average(name: str, value: str) -> Json:
    return {
        "type": "Pods",
        "pods": {"metric": {"name": name}, "target": {"type": "AverageValue", "averageValue": value}},
    }


def test_pods_metrics_scale_to_their_average_and_pods_without_one_hold_it_back(
    scaled: Ground, adapter: MetricsServer
) -> None:
    adapter.values["pods/rps"] = dict.fromkeys(names(scaled), "20")
    metric = average("rps", "10")
    metric["pods"]["metric"]["selector"] = {"matchLabels": {"verb": "GET"}}
    autoscale(scaled, metric)
    scaled.status("deployments", "web", replicas=4)
    hpa = once(scaled, 4)
    assert (hpa["status"]["currentReplicas"], hpa["status"]["desiredReplicas"]) == (2, 4)
    assert hpa["status"]["currentMetrics"][0]["pods"]["current"] == {"averageValue": "20"}
    assert conditions(hpa)["AbleToScale"] == ("True", "SucceededRescale")
    scaled.until(lambda: ("SuccessfulRescale", "New size: 4; reason: pods metric rps above target") in told(scaled))
    (path,) = {p for p in adapter.asked if "/rps" in p}
    assert path.startswith(f"/apis/{CUSTOM}/v1beta2/namespaces/{scaled.name}/pods/*/rps?")
    assert "labelSelector=app%3Dweb" in path and "metricLabelSelector=verb%3DGET" in path
    scaled.until(lambda: look(scaled)["status"]["currentReplicas"] == 4)
    assert scaled.get("deployments", "web")["spec"]["replicas"] == 4, "the two new pods count as idle"


def test_an_adapter_of_the_older_version_serves_as_well(scaled: Ground, adapter: MetricsServer) -> None:
    kept = scaled.kubectl("get", "apiservice", f"v1beta2.{CUSTOM}", "-o", "json")
    scaled.kubectl("delete", "apiservice", f"v1beta2.{CUSTOM}")
    try:
        adapter.values["pods/rps"] = dict.fromkeys(names(scaled), "15")
        scaled.until(lambda: "v1beta2" not in scaled.kubectl("get", "--raw", f"/apis/{CUSTOM}"))
        autoscale(scaled, average("rps", "10"))
        scaled.status("deployments", "web", replicas=3)
        assert any(f"{CUSTOM}/v1beta1/" in path for path in adapter.asked)
    finally:
        body = json.loads(kept)
        body["metadata"] = {"name": body["metadata"]["name"]}
        del body["status"]
        scaled.kubectl("apply", "-f", "-", stdin=json.dumps(body))
        scaled.until(lambda: _available(scaled.cluster))


def described(kind: str, name: str, metric: str, api_version: str = "v1", **target: str) -> Json:
    place = {"apiVersion": api_version, "kind": kind, "name": name}
    kinds = {"value": "Value", "averageValue": "AverageValue"}
    aim = {"type": kinds[next(iter(target))], **target}
    return {"type": "Object", "object": {"describedObject": place, "metric": {"name": metric}, "target": aim}}


def test_object_metrics_scale_by_value_and_by_share(scaled: Ground, adapter: MetricsServer) -> None:
    adapter.values["ingresses.networking.k8s.io/front/hits"] = "30"
    adapter.values["services/web/queue"] = "50"
    adapter.values["namespaces/load"] = "9"
    front = described("Ingress", "front", "hits", "networking.k8s.io/v1", value="10")
    autoscale(
        scaled,
        front,
        described("Service", "web", "queue", averageValue="5"),
        described("Namespace", "elsewhere", "load", averageValue="3"),
    )
    scaled.status("deployments", "web", replicas=10)
    shown = [m["object"]["current"] for m in once(scaled, 10)["status"]["currentMetrics"]]
    assert shown == [{"value": "30"}, {"averageValue": "25"}, {"averageValue": "4500m"}]
    scaled.until(
        lambda: ("SuccessfulRescale", "New size: 10; reason: external metric queue(nil) above target") in told(scaled)
    )
    assert f"/apis/{CUSTOM}/v1beta2/namespaces/{scaled.name}/metrics/load" in adapter.asked, "never another namespace"


def external(name: str, **target: str) -> Json:
    kinds = {"value": "Value", "averageValue": "AverageValue"}
    aim = {"type": kinds[next(iter(target))], **target}
    return {"type": "External", "external": {"metric": {"name": name}, "target": aim}}


def test_external_metrics_are_summed_and_scale_to_zero_and_back(scaled: Ground, adapter: MetricsServer) -> None:
    adapter.values["backlog"] = ["4", "6"]
    autoscale(scaled, external("backlog", averageValue="2"), minReplicas=0)
    scaled.status("deployments", "web", replicas=5)
    assert once(scaled, 5)["status"]["currentMetrics"][0]["external"]["current"] == {"averageValue": "5"}
    adapter.values["backlog"] = ["0"]
    scaled.until(lambda: scaled.get("deployments", "web")["spec"]["replicas"] == 0)
    scaled.until(lambda: conditions(look(scaled))["ScaledToZero"] == ("True", "ScaledToZero"))
    adapter.values["backlog"] = ["6"]
    scaled.until(lambda: scaled.get("deployments", "web")["spec"]["replicas"] == 3)
    scaled.until(lambda: conditions(look(scaled))["ScaledToZero"] == ("False", "NotScaledToZero"))


def test_one_containers_memory_counts_without_its_neighbours(scaled: Ground, adapter: MetricsServer) -> None:
    usage = {"c": {"memory": "128Mi"}, "sidecar": {"memory": "4Gi"}}
    adapter.usage = dict.fromkeys(names(scaled), usage)
    target = {"type": "AverageValue", "averageValue": "64Mi"}
    resource = {"name": "memory", "container": "c", "target": target}
    autoscale(scaled, {"type": "ContainerResource", "containerResource": resource})
    scaled.status("deployments", "web", replicas=4)
    (shown,) = once(scaled, 4)["status"]["currentMetrics"]
    wanted = {"name": "memory", "container": "c", "current": {"averageValue": "128Mi"}}
    assert shown == {"type": "ContainerResource", "containerResource": wanted}
    scaled.until(lambda: ("SuccessfulRescale", "New size: 4; reason: memory resource above target") in told(scaled))


@pytest.mark.parametrize(
    ("value", "behavior", "size", "condition", "wanted"),
    [
        ("40", {"scaleUp": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}, 3, "ScalingLimited", "ScaleUpLimit"),
        (
            "40",
            {"scaleUp": {"selectPolicy": "Min", "policies": [
                {"type": "Percent", "value": 100, "periodSeconds": 60},
                {"type": "Pods", "value": 3, "periodSeconds": 60},
            ]}},
            4, "ScalingLimited", "ScaleUpLimit",
        ),
        ("14", {"scaleUp": {"tolerance": "500m"}}, 2, "AbleToScale", "ReadyForNewScale"),
        ("14", {"scaleUp": {"tolerance": "300m"}}, 3, "AbleToScale", "SucceededRescale"),
        ("40", {"scaleUp": {"selectPolicy": "Disabled"}}, 2, "ScalingLimited", "ScaleUpLimit"),
        ("5", {"scaleDown": {"stabilizationWindowSeconds": 300}}, 2, "AbleToScale", "ScaleDownStabilized"),
        ("5", {"scaleDown": {"stabilizationWindowSeconds": 0}}, 1, "AbleToScale", "SucceededRescale"),
        ("40", {"scaleUp": {"stabilizationWindowSeconds": 300}}, 2, "AbleToScale", "ScaleUpStabilized"),
    ],
    ids=[
        "one pod a minute", "the least of two policies", "within its own tolerance", "beyond it",
        "never up", "down only after a while", "down at once", "up only after a while",
    ],
)  # fmt: skip
def test_behaviours_bound_the_change(
    scaled: Ground, adapter: MetricsServer, value: str, behavior: Json, size: int, condition: str, wanted: str
) -> None:
    adapter.values["pods/rps"] = dict.fromkeys(names(scaled), value)
    autoscale(scaled, average("rps", "10"), behavior=behavior)
    scaled.until(lambda: any(conditions(hpa).get(condition, ("", ""))[1] == wanted for hpa in told_of(scaled)))
    scaled.until(lambda: scaled.get("deployments", "web")["spec"]["replicas"] == size)


def test_missing_metrics_are_told_and_stop_only_what_would_shrink(scaled: Ground, adapter: MetricsServer) -> None:
    autoscale(scaled, average("gone", "10"))
    hpa = decided(scaled)
    assert conditions(hpa)["ScalingActive"] == ("False", "FailedGetPodsMetric")
    inner = (
        "unable to get metric gone: unable to fetch metrics from custom metrics API: "
        "the server could not find the metric gone for pods"
    )
    whole = f"invalid metrics (1 invalid out of 1), first error is: failed to get pods metric value: {inner}"
    scaled.until(lambda: told(scaled) == {("FailedGetPodsMetric", inner), ("FailedComputeMetricsReplicas", whole)})
    scaled.api.send("DELETE", AUTOSCALERS.format(scaled.name) + "/h")
    adapter.values["backlog"] = ["3"]
    autoscale(scaled, average("gone", "10"), external("backlog", averageValue="1"))
    scaled.status("deployments", "web", replicas=3)
    assert conditions(decided(scaled))["ScalingActive"] == ("True", "ValidMetricFound")
    adapter.values["backlog"] = ["1"]
    scaled.until(lambda: conditions(look(scaled))["ScalingActive"] == ("False", "FailedGetPodsMetric"))
    assert scaled.get("deployments", "web")["spec"]["replicas"] == 3


def test_two_autoscalers_of_the_same_pods_are_told_and_do_nothing(scaled: Ground, adapter: MetricsServer) -> None:
    adapter.values["pods/rps"] = dict.fromkeys(names(scaled), "20")
    spec = {"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}}
    autoscale(scaled, average("rps", "10"), **spec)
    decided(scaled)
    first = look(scaled)
    body = {"metadata": {"name": "g"}, "spec": first["spec"]}
    scaled.api.send("POST", AUTOSCALERS.format(scaled.name), json.dumps(body).encode())
    text = f"pods by selector app=web are controlled by more than one HPA (e.g. [{scaled.name}/g {scaled.name}/h])"
    scaled.until(lambda: ("AmbiguousSelector", text) in told(scaled))
