"""Simulated pods with a life of their own: how long they take, fail, restart and end, as their annotations say."""

from __future__ import annotations

from typing import Any

import pytest

from portside.sim.lifecycle import (
    FAILED,
    INSTANT,
    PENDING,
    READY,
    RUNNING,
    SUCCEEDED,
    WAITING,
    Life,
    at,
    duration,
    life_of,
)
from portside.sim.status import FAKE, managed, status_at

Json = dict[str, Any]


def pod(**said: str) -> Json:
    annotations = {f"sim.portside.io/{k.replace('_', '-')}": v for k, v in said.items()}
    return {
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("1m30s", 90), ("500ms", 0.5), ("1h", 3600), ("", None), ("soon", None), ("5", None)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


def test_without_annotations_a_pod_is_ready_at_once() -> None:
    assert life_of(pod()) == INSTANT
    assert INSTANT.instant


def test_a_start_takes_its_time_and_then_readiness() -> None:
    life = life_of(pod(start_after="2s", ready_after="3s"))
    stages = [(at(life, "Always", 100, t).stage, at(life, "Always", 100, t).until) for t in (100, 102, 105)]
    assert stages == [(PENDING, 102), (RUNNING, 105), (READY, None)]


def test_a_failing_container_restarts_with_a_back_off_that_doubles() -> None:
    life = life_of(pod(fail_after="5s"))
    seen = [(at(life, "Always", 0, t).stage, at(life, "Always", 0, t).restarts) for t in (4, 5, 14, 15, 20, 39, 40)]
    assert seen == [(READY, 0), (WAITING, 0), (WAITING, 0), (READY, 1), (WAITING, 1), (WAITING, 1), (READY, 2)]


def test_the_restart_policy_decides_what_an_end_means() -> None:
    fails, ends = Life(fail=5.0), Life(end=5.0)
    assert at(fails, "Never", 0, 6).stage == FAILED
    assert at(ends, "Never", 0, 6).stage == SUCCEEDED
    assert at(ends, "OnFailure", 0, 6).stage == SUCCEEDED
    assert at(ends, "Always", 0, 16).restarts == 1


def test_the_status_says_each_moment_and_nothing_twice() -> None:
    body = pod(start_after="1s", fail_after="5s")
    life = life_of(body)
    for t, phase, state, restarts in (
        (0, "Pending", "waiting", 0),
        (2, "Running", "running", 0),
        (7, "Running", "waiting", 0),
    ):
        moment = at(life, "Always", 0, t)
        patch = status_at(body, "10.0.0.1", "10.1.0.1", "2026-01-01T00:00:00Z", moment)
        assert patch is not None
        body["status"] = body["status"] | patch["status"]
        container = body["status"]["containerStatuses"][0]
        assert (body["status"]["phase"], next(iter(container["state"])), container["restartCount"]) == (
            phase,
            state,
            restarts,
        )
        assert status_at(body, "10.0.0.1", "10.1.0.1", "2026-01-01T00:00:01Z", moment) is None


def test_a_silent_node_is_nobodys() -> None:
    node = {"metadata": {"annotations": {FAKE: "fake", "sim.portside.io/silent": "true"}}}
    assert not managed(node)
    node["metadata"]["annotations"].pop("sim.portside.io/silent")
    assert managed(node)


def test_a_pre_stop_hook_that_sleeps_holds_the_end_up_unless_an_annotation_says_otherwise() -> None:
    def life(seconds: int, **said: str) -> Life:
        hooks = {"preStop": {"sleep": {"seconds": seconds}}}
        spec = {"containers": [{"name": "a"}, {"name": "b", "lifecycle": hooks}]}
        annotations = {f"sim.portside.io/{key.replace('_', '-')}": value for key, value in said.items()}
        return life_of({"metadata": {"annotations": annotations}, "spec": spec})

    assert life(79).stop == 79 and life(79).instant
    assert life(79, stop_after="2s").stop == 2
    assert life(0) == Life()
