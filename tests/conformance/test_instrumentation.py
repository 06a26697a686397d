"""The conformance list's instrumentation: events of both groups, and the server's own figures."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import Cluster

Json = dict[str, Any]
NEW, OLD = "events.events.k8s.io", "events.v1."


@pytest.fixture
def space(simulated: Cluster) -> Iterator[str]:
    name = f"ev-{uuid.uuid4().hex[:8]}"
    simulated.kubectl("create", "namespace", name)
    yield name
    simulated.kubectl("delete", "namespace", name, "--wait=false")


def _core(space: str, name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": {"test": "event"}},
        "message": "This is a test event",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": space, "kind": "Pod", "name": "p"},
    }


def _modern(space: str, name: str) -> Json:
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": {"test": "event"}},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "note": "This is a test event",
        "reason": "Test",
        "action": "Do",
        "type": "Normal",
        "reportingController": "test.example/controller",
        "reportingInstance": "test-node",
        "regarding": {"namespace": space, "kind": "Pod", "name": "p"},
    }


@pytest.mark.parametrize(
    ("made", "plural"),
    [
        pytest.param(_core, OLD, marks=conformance("Instrumentation", "core events: lifecycle")),
        pytest.param(
            _modern,
            NEW,
            marks=conformance("Instrumentation", "events.k8s.io: fetch, patch, update series, delete, list"),
        ),
    ],
)
def test_an_event_lives_through_its_verbs(simulated: Cluster, space: str, made: Any, plural: str) -> None:
    k = lambda *words, stdin=None: simulated.kubectl("-n", space, *words, stdin=stdin)  # noqa: E731
    k("create", "-f", "-", stdin=json.dumps(made(space, "e")))
    first = {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.500000Z"}
    k("patch", plural, "e", "--type=merge", "-p", json.dumps({"series": first}))
    held = json.loads(k("get", plural, "e", "-o", "json"))
    assert held["series"] == first
    series = {"count": 100, "lastObservedTime": "2026-01-01T00:00:01.000000Z"}
    k("replace", "-f", "-", stdin=json.dumps(held | {"series": series}))
    assert json.loads(k("get", plural, "e", "-o", "json"))["series"] == series
    everywhere = json.loads(simulated.kubectl("get", plural, "-A", "-l", "test=event", "-o", "json"))["items"]
    assert any(e["metadata"]["namespace"] == space for e in everywhere)
    k("delete", plural, "e")
    assert k("get", plural, "-l", "test=event", "-o", "name") == ""


@pytest.mark.parametrize(
    ("made", "plural"),
    [
        pytest.param(_core, OLD, marks=conformance("Instrumentation", "core events: deletecollection")),
        pytest.param(_modern, NEW, marks=conformance("Instrumentation", "events.k8s.io: deletecollection")),
    ],
)
def test_events_are_deleted_as_a_collection(simulated: Cluster, space: str, made: Any, plural: str) -> None:
    for name in ("a", "b", "c"):
        simulated.kubectl("-n", space, "create", "-f", "-", stdin=json.dumps(made(space, name)))
    simulated.kubectl("-n", space, "delete", plural, "-l", "test=event")
    assert simulated.kubectl("-n", space, "get", plural, "-l", "test=event", "-o", "name") == ""


def test_an_event_of_one_group_is_seen_in_the_other(simulated: Cluster, space: str) -> None:
    simulated.kubectl("-n", space, "create", "-f", "-", stdin=json.dumps(_modern(space, "m")))
    old = json.loads(simulated.kubectl("-n", space, "get", OLD, "m", "-o", "json"))
    assert (old["message"], old["involvedObject"]["name"]) == ("This is a test event", "p")


def test_the_servers_metrics_count_requests(simulated: Cluster) -> None:
    text = simulated.kubectl("get", "--raw", "/metrics")
    assert 'kubernetes_build_info{major="1",minor="37"' in text
    assert 'apiserver_request_total{code="200",component="apiserver",group="",resource="nodes"' in text
    assert 'apiserver_request_duration_seconds_bucket{component="apiserver"' in text
    assert 'apiserver_resource_objects{group="",resource="nodes"}' in text
