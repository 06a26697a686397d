"""Counts and durations of requests, under the names that dashboards for upstream's API server know."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from portside.server.attributes import Attributes

BUCKETS = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
)  # fmt: skip
VERBS = {"create": "POST", "update": "PUT", "delete": "DELETE", "deletecollection": "DELETECOLLECTION"}
STREAMED = ("exec", "attach", "portforward", "proxy", "log")
MOST_SERIES = 4096  # combinations kept: paths of resources that are not served must not fill memory
# verb, group, version, resource, subresource, scope
Labels = tuple[str, str, str, str, str, str]


def labels_of(attributes: Attributes) -> Labels:
    """The labels of a request, by what it asks for."""
    if not attributes.is_resource:
        return (attributes.verb.upper(), "", "", "", attributes.path.partition("/")[2].partition("/")[0], "")
    scope = "resource" if attributes.name else "namespace" if attributes.namespace else "cluster"
    verb = VERBS.get(attributes.verb) or attributes.verb.upper()
    if attributes.subresource in STREAMED and attributes.subresource != "log":
        verb = "CONNECT"
    return (verb, attributes.group, attributes.version, attributes.resource, attributes.subresource, scope)


def long_running(labels: Labels) -> bool:
    """Watches and streams: they are counted, and their duration says nothing."""
    return labels[0] in ("WATCH", "CONNECT") or labels[4] == "log"


class _Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0


class RequestMetrics:
    """``record`` costs about a microsecond."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Labels, int], int] = {}
        self._durations: dict[Labels, _Histogram] = {}
        self.in_flight = {"mutating": 0, "readOnly": 0}

    def record(self, attributes: Attributes, code: int, seconds: float) -> None:
        """One answered request."""
        labels = labels_of(attributes)
        key = (labels, code)
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= MOST_SERIES:
                return
            count = 0
        self._counts[key] = count + 1
        if long_running(labels):
            return
        histogram = self._durations.get(labels)
        if histogram is None:
            histogram = self._durations[labels] = _Histogram()
        histogram.counts[bisect_left(BUCKETS, seconds)] += 1
        histogram.total += seconds

    def render(self) -> Iterator[str]:
        """Lines of the text format."""
        yield "# HELP apiserver_request_total Requests by what they asked for and how they were answered."
        yield "# TYPE apiserver_request_total counter"
        for (labels, code), count in self._counts.items():
            yield f'apiserver_request_total{{code="{code}",{_shown(labels)}}} {count}'
        yield "# HELP apiserver_request_duration_seconds How long answers took; watches and streams left out."
        yield "# TYPE apiserver_request_duration_seconds histogram"
        for labels, histogram in self._durations.items():
            shown, running = _shown(labels), 0
            for bound, count in zip((*BUCKETS, None), histogram.counts, strict=True):
                running += count
                limit = "+Inf" if bound is None else f"{bound:g}"
                yield f'apiserver_request_duration_seconds_bucket{{{shown},le="{limit}"}} {running}'
            yield f"apiserver_request_duration_seconds_sum{{{shown}}} {histogram.total:.6f}"
            yield f"apiserver_request_duration_seconds_count{{{shown}}} {running}"
        yield "# HELP apiserver_current_inflight_requests Requests in hand."
        yield "# TYPE apiserver_current_inflight_requests gauge"
        for kind, count in self.in_flight.items():
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {count}'


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _shown(labels: Labels) -> str:
    verb, group, version, resource, subresource, scope = map(_escaped, labels)
    return (
        f'component="apiserver",group="{group}",resource="{resource}",scope="{scope}",subresource="{subresource}",'
        f'verb="{verb}",version="{version}"'
    )
