"""What a node tells Prometheus and metrics servers, under the kubelet's names: /metrics of its process, and /metrics/resource with
the figures of /stats/summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from portside.agent.stamps import seconds
from portside.base import process_metrics

Json = dict[str, Any]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# family -> (type, what it says); the order is that of the answer
FAMILIES = {
    "container_cpu_usage_seconds_total": ("counter", "Core-seconds the container has used since its start"),
    "container_memory_working_set_bytes": ("gauge", "Working set of the container in bytes"),
    "container_start_time_seconds": ("gauge", "When the container started, in seconds since 1970"),
    "node_cpu_usage_seconds_total": ("counter", "Core-seconds the node has used since it booted"),
    "node_memory_working_set_bytes": ("gauge", "Working set of the node in bytes"),
    "pod_cpu_usage_seconds_total": ("counter", "Core-seconds the pod's containers have used"),
    "pod_memory_working_set_bytes": ("gauge", "Working set of the pod in bytes"),
    "resource_scrape_error": ("gauge", "1 if the figures of containers could not be read, 0 otherwise"),
}


def _samples(summary: Json) -> Iterator[tuple[str, str, float | int, str]]:
    """(family, labels, value, time of the sample)."""

    def usage(kind: str, labels: str, item: Json) -> Iterator[tuple[str, str, float | int, str]]:
        cpu, memory = item["cpu"], item["memory"]
        yield f"{kind}_cpu_usage_seconds_total", labels, cpu["usageCoreNanoSeconds"] / 1e9, cpu["time"]
        yield f"{kind}_memory_working_set_bytes", labels, memory["workingSetBytes"], memory["time"]

    yield from usage("node", "", summary["node"])
    for pod in summary["pods"]:
        reference = pod["podRef"]
        own = f'namespace="{reference["namespace"]}",pod="{reference["name"]}"'
        yield from usage("pod", f"{{{own}}}", pod)
        for container in pod["containers"]:
            labels = f'{{container="{container["name"]}",{own}}}'
            yield from usage("container", labels, container)
            yield "container_start_time_seconds", labels, seconds(container["startTime"]), ""
    yield "resource_scrape_error", "", 0, ""


def text(summary: Json) -> str:
    """The answer: every family with its samples, those with a time in milliseconds since 1970."""
    found: dict[str, list[str]] = {name: [] for name in FAMILIES}
    for family, labels, value, when in _samples(summary):
        time = f" {seconds(when) * 1000:.0f}" if when else ""
        shown = f"{value:.9f}" if isinstance(value, float) else value
        found[family].append(f"{family}{labels} {shown}{time}")
    lines = []
    for name, (kind, what) in FAMILIES.items():
        if found[name]:
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}", *sorted(found[name])]
    return "\n".join(lines) + "\n"


def own(node: str, pods: Iterable[Json], started: float) -> str:
    """/metrics: what the node runs, from its pods with their statuses, and what its process uses; ``started`` in seconds
    since 1970."""
    states: Counter[str] = Counter()
    running = 0
    for pod in pods:
        status = pod.get("status") or {}
        running += status.get("phase") == "Running"
        for container in status.get("containerStatuses") or ():
            states.update(list(container.get("state") or ()))
    lines = [
        "# HELP kubelet_node_name The node's name; always 1.",
        "# TYPE kubelet_node_name gauge",
        f'kubelet_node_name{{node="{node}"}} 1',
        "# HELP kubelet_running_pods Pods that run.",
        "# TYPE kubelet_running_pods gauge",
        f"kubelet_running_pods {running}",
        "# HELP kubelet_running_containers Containers of pods by their state.",
        "# TYPE kubelet_running_containers gauge",
        *(f'kubelet_running_containers{{container_state="{s}"}} {states[s]}' for s in sorted(states)),
        *process_metrics.lines(started),
    ]
    return "\n".join(lines) + "\n"
