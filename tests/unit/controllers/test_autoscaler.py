"""Autoscaling: sizes from metrics, how fast they may change, and what is said when there are no metrics."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from portside.api.status import conflict
from portside.base.clock import SYSTEM, rfc3339
from portside.client.events import EventRecorder
from portside.client.fake import FakeClient
from portside.client.informer import InformerSet
from portside.controllers.harness import Context, Harness
from portside.controllers.horizontalpodautoscaler import AUTOSCALERS, Autoscaling, controller
from portside.controllers.hpabehavior import Memory, normalize
from portside.controllers.hpareplicas import Sample, Tolerances, by_average, by_share, by_utilization, by_value
from portside.controllers.served import CRDS

DEPLOYMENTS = ("apps", "v1", "deployments")
PODS = ("", "v1", "pods")
T = 1_800_000_000.0
CLOSE = Tolerances()


def pod(name: str, *, cpu: str = "100m", ready: bool = True, phase: str = "Running", now: float = T) -> dict[str, Any]:
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": rfc3339(now - 900)}
    return {
        "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {"phase": phase, "startTime": rfc3339(now - 1000), "conditions": [condition]},
    }


def used(*values: int) -> dict[str, Sample]:
    return {f"p{i}": Sample(v, T - 10) for i, v in enumerate(values)}


def utilization(target: int, samples: dict[str, Sample], pods: list[dict[str, Any]], current: int) -> int:
    return by_utilization(current, target, samples, pods, "", "cpu", CLOSE, T)[0]


def test_the_size_follows_the_share_of_the_requests_that_is_used() -> None:
    pods = [pod("p0"), pod("p1")]
    assert by_utilization(2, 50, used(100, 100), pods, "", "cpu", CLOSE, T) == (4, 100, 100)
    assert utilization(50, used(25, 25), pods, 2) == 1


def test_a_ratio_within_the_tolerance_changes_nothing() -> None:
    pods = [pod("p0"), pod("p1")]
    assert utilization(50, used(54, 54), pods, 2) == 2
    assert by_utilization(2, 50, used(54, 54), pods, "", "cpu", Tolerances(0.1, 0.0), T)[0] == 3


def test_pods_without_metrics_damp_the_change_in_both_directions() -> None:
    pods = [pod("p0"), pod("p1"), pod("p2")]
    assert utilization(50, used(60, 60), pods, 3) == 3, "the third counts as idle, which would turn the direction"
    assert utilization(50, used(10, 10), pods, 3) == 3, "the third counts as using its whole request"


def test_pods_that_are_not_ready_yet_count_as_idle_when_scaling_up() -> None:
    young = pod("p1", phase="Pending")
    assert utilization(50, used(200, 200), [pod("p0"), young], 2) == 4


def test_an_average_counts_pods_and_a_value_counts_ready_ones() -> None:
    pods = [pod("p0"), pod("p1")]
    assert by_average(2, 10_000, used(30_000, 30_000), pods, "", CLOSE, T) == (6, 30_000)
    assert by_value(2, 30_000, 10_000, pods, CLOSE) == 6
    assert by_share(2, 50_000, 10_000, CLOSE) == (5, 25_000)


SPEC: dict[str, Any] = {"minReplicas": 1, "maxReplicas": 50}


def test_scaling_up_at_most_doubles_without_a_behavior() -> None:
    found = normalize(Memory(), SPEC, 3, 30, T)
    assert (found.size, found.limited, found.limit[0]) == (6, True, "ScaleUpLimit")
    assert normalize(Memory(), SPEC, 1, 3, T).size == 3, "up to four at once"


def test_scaling_down_waits_for_five_minutes_of_lower_recommendations() -> None:
    memory = Memory()
    memory.begin(T, 10)
    early = normalize(memory, SPEC, 10, 2, T + 60)
    assert (early.size, early.able[0]) == (10, "ScaleDownStabilized")
    assert normalize(memory, SPEC, 10, 2, T + 301).size == 2


def test_the_bounds_limit_and_say_so() -> None:
    found = normalize(Memory(), {"minReplicas": 2, "maxReplicas": 3}, 2, 9, T)
    assert (found.size, found.limited, found.limit[0]) == (3, True, "TooManyReplicas")
    memory = Memory()
    assert normalize(memory, {"minReplicas": 2, "maxReplicas": 3}, 2, 1, T).limit[0] == "TooFewReplicas"


def test_policies_bound_the_change_per_period() -> None:
    policies = [
        {"type": "Pods", "value": 2, "periodSeconds": 60},
        {"type": "Percent", "value": 10, "periodSeconds": 60},
    ]
    behavior: dict[str, Any] = {"scaleUp": {"policies": policies}, "scaleDown": {"policies": policies}}
    spec = {**SPEC, "behavior": behavior}
    memory = Memory()
    assert normalize(memory, spec, 10, 20, T).size == 12
    memory.record(T, 10, 12)
    assert normalize(memory, spec, 12, 20, T + 30).size == 12, "the period's two pods are spent"
    behavior["scaleUp"]["selectPolicy"] = "Min"
    assert normalize(Memory(), spec, 10, 20, T).size == 11
    behavior["scaleUp"]["selectPolicy"] = "Disabled"
    assert normalize(Memory(), spec, 10, 20, T).size == 10


class Metrics(FakeClient):
    """A cluster with a metrics API, or none."""

    def __init__(self) -> None:
        super().__init__()
        self.usage: dict[str, str] | None = None
        self.waiting = "0"  # the external metric
        self.conflicts = 0  # writes of a size that are refused

    async def get(
        self, resource: tuple[str, str, str], name: str, *, namespace: str = "", subresource: str = ""
    ) -> dict[str, Any]:
        found = await super().get(resource, name, namespace=namespace)
        if subresource != "scale":
            return found
        status = {"replicas": found["spec"]["replicas"], "selector": "app=web"}
        return {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": found["metadata"],
            "spec": {"replicas": found["spec"]["replicas"]},
            "status": status,
        }

    async def update(
        self, resource: tuple[str, str, str], body: dict[str, Any], *, namespace: str = "", subresource: str = ""
    ) -> dict[str, Any]:
        if subresource == "scale":
            if self.conflicts:
                self.conflicts -= 1
                raise conflict("deployments", body["metadata"]["name"], "the object has been modified", "apps")
            size = {"spec": {"replicas": body["spec"]["replicas"]}}
            return await self.patch(resource, body["metadata"]["name"], size, namespace=namespace)
        return await super().update(resource, body, namespace=namespace, subresource=subresource)

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        if "external.metrics" in path:
            return 200, {}, orjson.dumps({"items": [{"value": self.waiting}]})
        if self.usage is None:
            return 404, {}, b"404 page not found"
        stamp = rfc3339(SYSTEM.now())
        items = [
            {"metadata": {"name": n}, "timestamp": stamp, "window": "10s", "containers": [{"usage": {"cpu": u}}]}
            for n, u in self.usage.items()
        ]
        return 200, {}, orjson.dumps({"items": items})


@asynccontextmanager
async def running(client: Metrics) -> AsyncIterator[None]:
    harness = Harness(client, SYSTEM, [controller()])
    task = asyncio.create_task(harness.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def prepared(replicas: int = 1, **spec: Any) -> Metrics:
    client = Metrics()
    await client.create(
        DEPLOYMENTS,
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "ns"},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}},
        },
    )
    for i in range(replicas):
        await client.create(PODS, pod(f"p{i}", now=SYSTEM.now()))
    target = {"type": "Utilization", "averageUtilization": 50}
    await client.create(
        AUTOSCALERS,
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "h", "namespace": "ns"},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "minReplicas": 1,
                "maxReplicas": 4,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
                **spec,
            },
        },
    )
    return client


async def conditions(client: Metrics) -> dict[str, tuple[str, str]]:
    async with asyncio.timeout(60):
        while not (client.objects[AUTOSCALERS]["ns/h"].get("status") or {}).get("conditions"):
            await asyncio.sleep(0.01)
    found = client.objects[AUTOSCALERS]["ns/h"]["status"]["conditions"]
    return {c["type"]: (c["status"], c["reason"]) for c in found}


async def test_without_a_metrics_api_the_size_stays_and_the_conditions_say_why() -> None:
    client = await prepared(2)
    async with running(client):
        assert await conditions(client) == {
            "AbleToScale": ("True", "SucceededGetScale"),
            "ScalingActive": ("False", "FailedGetResourceMetric"),
        }
        async with asyncio.timeout(60):
            while len(client.objects.get(("", "v1", "events"), {})) < 2:
                await asyncio.sleep(0.01)
    inner = (
        "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource "
        "metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)"
    )
    assert sorted(e["message"] for e in client.objects[("", "v1", "events")].values()) == [
        inner,
        f"invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: {inner}",
    ]
    assert client.objects[DEPLOYMENTS]["ns/web"]["spec"]["replicas"] == 2


async def test_custom_metrics_that_nobody_serves_are_said_to_have_no_api() -> None:
    target = {"type": "AverageValue", "averageValue": "10"}
    client = await prepared(1, metrics=[{"type": "Pods", "pods": {"metric": {"name": "q"}, "target": target}}])
    async with running(client):
        assert (await conditions(client))["ScalingActive"] == ("False", "FailedGetPodsMetric")
    status = client.objects[AUTOSCALERS]["ns/h"]["status"]
    assert status["conditions"][1]["message"].endswith("no custom metrics API (custom.metrics.k8s.io) registered")
    assert status["observedGeneration"] == 1


async def test_load_scales_the_target_up_with_an_event_and_status() -> None:
    client = await prepared(2)
    client.usage = {"p0": "100m", "p1": "90m"}
    async with running(client):
        found = await conditions(client)
        async with asyncio.timeout(60):
            while not client.objects.get(("", "v1", "events")):
                await asyncio.sleep(0.01)
    assert found["AbleToScale"] == ("True", "SucceededRescale")
    assert client.objects[DEPLOYMENTS]["ns/web"]["spec"]["replicas"] == 4
    status = client.objects[AUTOSCALERS]["ns/h"]["status"]
    assert (status["currentReplicas"], status["desiredReplicas"]) == (2, 4)
    current = {"averageUtilization": 95, "averageValue": "95m"}
    assert status["currentMetrics"] == [{"type": "Resource", "resource": {"name": "cpu", "current": current}}]
    (event,) = client.objects[("", "v1", "events")].values()
    assert event["message"] == "New size: 4; reason: cpu resource utilization (percentage of request) above target"


EXTERNAL = {
    "type": "External",
    "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}},
}


async def looked(client: Metrics, autoscaling: Autoscaling) -> dict[str, tuple[str, str]]:
    """One look at the autoscaler, and its conditions after it."""
    informers = InformerSet(client)
    for resource in (AUTOSCALERS, PODS, CRDS):
        informers.informer(resource)
    informers.start()
    await informers.wait_synced()
    try:
        context = Context(client, informers, EventRecorder(client, SYSTEM), SYSTEM, "horizontal-pod-autoscaler")
        await autoscaling.reconcile(context, "ns/h")
    finally:
        await informers.stop()
    return await conditions(client)


def size(client: Metrics) -> int:
    return int(client.objects[DEPLOYMENTS]["ns/web"]["spec"]["replicas"])


async def test_a_target_without_work_goes_to_zero_and_comes_back_with_it() -> None:
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}]}
    behavior = {"scaleDown": at_once, "scaleUp": at_once}
    client = await prepared(2, minReplicas=0, metrics=[EXTERNAL], behavior=behavior)
    autoscaling = Autoscaling()
    found = await looked(client, autoscaling)
    assert size(client) == 0
    assert found["ScaledToZero"] == ("True", "ScaledToZero")
    found = await looked(client, autoscaling)
    assert found["ScalingActive"] == ("True", "ValidMetricFound"), "it still looks"
    client.waiting = "25"
    found = await looked(client, autoscaling)
    assert size(client) == 3
    assert found["ScaledToZero"] == ("False", "NotScaledToZero")


async def test_a_target_that_somebody_else_took_to_zero_is_left_there() -> None:
    client = await prepared(0, minReplicas=0, metrics=[EXTERNAL])
    client.waiting = "25"
    found = await looked(client, Autoscaling())
    assert size(client) == 0
    assert found["ScalingActive"] == ("False", "ScalingDisabled")


async def test_a_size_that_others_write_as_well_is_written_again() -> None:
    client = await prepared(1, metrics=[EXTERNAL])
    client.waiting, client.conflicts = "20", 3
    found = await looked(client, Autoscaling())
    assert size(client) == 2
    assert found["AbleToScale"] == ("True", "SucceededRescale")
