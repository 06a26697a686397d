"""kubectl top and the server's own metrics, on simulated nodes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster
from tests.webhook_server import within

SERVICE = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": "v1beta1.metrics.k8s.io"},
    "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100},
}


@pytest.fixture
def metrics(simulated: Cluster) -> Iterator[Cluster]:
    simulated.kubectl("apply", "-f", "-", stdin=json.dumps(SERVICE))
    yield simulated
    simulated.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")


def test_top_shows_what_pods_use_once_metrics_are_served(metrics: Cluster) -> None:
    space = f"top-{uuid.uuid4().hex[:6]}"
    metrics.kubectl("create", "namespace", space)
    metrics.kubectl("wait", "--for=create", "serviceaccount/default", "-n", space, "--timeout=60s")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "busy"},
        "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]},
    }
    metrics.kubectl("-n", space, "create", "-f", "-", stdin=json.dumps(pod))
    metrics.kubectl("-n", space, "wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")
    top = lambda: metrics.kubectl("-n", space, "top", "pod", "--no-headers", check=False)  # noqa: E731
    assert within(60, lambda: top().startswith("busy")), top()
    cores = int(top().split()[1].removesuffix("m"))
    assert 300 <= cores <= 1000
    assert len(metrics.kubectl("top", "node", "--no-headers").splitlines()) >= 3
    metrics.kubectl("delete", "namespace", space, "--wait=false")


def test_without_metrics_top_says_that_there_are_none(simulated: Cluster) -> None:
    assert "Metrics API not available" in simulated.kubectl("top", "node", check=False)
