"""The counters of /metrics: what was asked, how it was answered, how long it took."""

from __future__ import annotations

from portside.server.attributes import ANONYMOUS, Attributes
from portside.server.request_metrics import MOST_SERIES, RequestMetrics


def _asked(verb: str, name: str = "", sub: str = "", resource: str = "pods") -> Attributes:
    return Attributes(ANONYMOUS, verb, "", "v1", resource, sub, "default", name, f"/api/v1/{resource}")


def test_requests_are_counted_by_what_they_ask_and_their_answer() -> None:
    metrics = RequestMetrics()
    metrics.record(_asked("list"), 200, 0.01)
    metrics.record(_asked("list"), 200, 0.3)
    metrics.record(_asked("get", "a"), 404, 0.001)
    text = "\n".join(metrics.render())
    assert 'resource="pods",scope="namespace",subresource="",verb="LIST",version="v1"} 2' in text
    assert 'apiserver_request_total{code="404"' in text
    assert 'verb="LIST",version="v1",le="0.025"} 1' in text
    assert 'verb="LIST",version="v1",le="+Inf"} 2' in text


def test_watches_and_streams_are_counted_without_a_duration() -> None:
    metrics = RequestMetrics()
    metrics.record(_asked("watch"), 200, 1800.0)
    metrics.record(_asked("create", "a", "exec"), 101, 60.0)
    text = "\n".join(metrics.render())
    assert 'verb="WATCH"' in text and 'subresource="exec",verb="CONNECT"' in text
    assert "duration_seconds_bucket" not in text


def test_paths_of_nothing_do_not_fill_memory() -> None:
    metrics = RequestMetrics()
    for number in range(MOST_SERIES + 10):
        metrics.record(_asked("list", resource=f"r{number}"), 404, 0.0)
    assert sum("apiserver_request_total{" in line for line in metrics.render()) == MOST_SERIES
