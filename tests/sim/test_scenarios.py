"""Seeded whole-cluster runs in virtual time: the workload survives what happens to its nodes."""

from __future__ import annotations

import pytest

from portside.run.simulation import SCENARIOS, Plan, play

SMALL = Plan(nodes=6, zones=3, pods=12, apps=3)


def test_a_silent_nodes_pods_are_replaced_when_their_patience_ends() -> None:
    report = play("node-failure", SMALL)
    assert report.problems == []
    assert report.recovered is not None
    assert 300 < report.recovered < 400  # 50 s until the node counts as silent, 300 s of toleration
    assert report.replaced == SMALL.pods - report.lowest


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_ends_with_a_whole_workload(name: str, seed: int) -> None:
    report = play(name, Plan(6, 3, 12, 3, seed))
    assert report.problems == []


def test_a_rolling_reboot_never_takes_more_than_a_pod_of_a_deployment_at_once() -> None:
    report = play("rolling-reboot", SMALL)
    assert report.lowest >= SMALL.pods - SMALL.apps
    assert report.replaced == SMALL.pods
