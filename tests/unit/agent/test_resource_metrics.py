"""What a node tells Prometheus and metrics servers about itself, its pods and their containers."""

from __future__ import annotations

import re
import time

from tests.unit.agent.cluster import pod
from tests.unit.agent.node import Node

from portside.agent.resource_metrics import own, text
from portside.agent.stamps import seconds
from portside.agent.stats import summary

LINE = re.compile(r'^(\w+)(\{(?:\w+="[^"]*",?)+\})? (\S+)( \d+)?$')


async def test_use_of_node_pods_and_containers_under_the_kubelets_names(node: Node) -> None:
    """Every line is one that Prometheus reads, every family is typed once, and figures are those of the summary."""
    before = time.time()
    node.api.add("pods", pod("web", {"command": ["sleep", "100000"]}, {"command": ["sleep", "100000"]}))
    await node.until("web", "Running")
    document = await summary(node.agent)
    shown = text(document)
    samples = {}
    for line in shown.splitlines():
        if not line.startswith("#"):
            found = LINE.match(line)
            assert found is not None, line
            samples[found[1] + (found[2] or "")] = float(found[3])
    typed = re.findall(r"^# TYPE (\w+)", shown, re.MULTILINE)
    assert sorted(set(typed)) == sorted(typed) and {key.partition("{")[0] for key in samples} == set(typed)
    own = 'namespace="default",pod="web"'
    assert samples[f'container_cpu_usage_seconds_total{{container="c0",{own}}}'] == 0.001
    assert samples[f"pod_cpu_usage_seconds_total{{{own}}}"] == 0.002
    assert samples[f"pod_memory_working_set_bytes{{{own}}}"] == 2_000_000
    assert samples["node_memory_working_set_bytes"] == document["node"]["memory"]["workingSetBytes"]
    assert samples["resource_scrape_error"] == 0
    started = samples[f'container_start_time_seconds{{container="c1",{own}}}']
    assert before - 2 <= started <= time.time() + 1
    assert seconds(document["node"]["startTime"]) < before
    assert document["pods"][0]["startTime"] == node.status("web")["startTime"]


async def test_the_nodes_own_metrics_count_what_runs(node: Node) -> None:
    node.api.add("pods", pod("web", {"command": ["sleep", "100000"]}, {"command": ["sleep", "100000"]}))
    await node.until("web", "Running")
    shown = own("n", [worker.current_pod() for worker in node.agent.workers.values()], 17.0).splitlines()
    assert 'kubelet_node_name{node="n"} 1' in shown and "kubelet_running_pods 1" in shown
    assert 'kubelet_running_containers{container_state="running"} 2' in shown
    assert "process_start_time_seconds 17.00" in shown
    assert all(line.startswith("# ") or LINE.match(line) for line in shown)
