"""Use of nodes and pods: from two looks at counters, and made up for simulated nodes."""

from __future__ import annotations

from typing import Any

from portside.server.aggregation.usage import NODE, Look, NodeUsage, Used, between, pretended, read

Json = dict[str, Any]


def _summary(cpu: int, memory: int, time: str = "2026-01-01T00:00:00Z") -> Json:
    entry = {"cpu": {"time": time, "usageCoreNanoSeconds": cpu}, "memory": {"workingSetBytes": memory}}
    container = {"name": "c"} | entry
    return {"node": entry, "pods": [{"podRef": {"namespace": "n", "name": "p"}, "containers": [container]}]}


def test_use_is_the_difference_of_two_looks_over_their_time() -> None:
    usage = NodeUsage()
    usage.take(read(_summary(0, 1)))
    assert usage.used == {}
    usage.take(read(_summary(5_000_000_000, 2048, "2026-01-01T00:00:10Z")))
    used = usage.used["n", "p", "c"]
    assert (used.cpu, used.window, used.as_usage()) == (500_000_000, 10.0, {"cpu": "500000000n", "memory": "2Ki"})
    assert usage.used[NODE].memory == 2048


def test_a_container_that_started_again_is_left_out_until_the_look_after() -> None:
    before, after = {NODE: Look(0.0, 100, 1)}, {NODE: Look(1.0, 5, 1)}
    assert between(before, after) == {}


def test_the_last_figures_stay_when_a_look_finds_nothing_newer() -> None:
    usage = NodeUsage(used={NODE: Used(1.0, 1.0, 7, 7)})
    usage.take({})
    assert usage.used[NODE].cpu == 7


def test_a_simulated_container_uses_a_steady_part_of_what_it_asks_for() -> None:
    requests = {"cpu": "1", "memory": "1Gi"}
    pod = {
        "metadata": {"namespace": "n", "name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": requests}}, {"name": "idle"}]},
    }
    first, again = (pretended({}, [pod], 0.0) for _ in range(2))
    assert first == again
    assert 0.3 * 10**9 <= first["n", "p", "c"].cpu <= 0.9 * 10**9
    assert first[NODE].cpu > first["n", "p", "c"].cpu + first["n", "p", "idle"].cpu
