"""Seeded whole-cluster runs in virtual time: the workload survives what happens to its nodes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from portside.run.simulation import SCENARIOS, Plan, play

SMALL = Plan(nodes=6, zones=3, pods=12, apps=3)


def test_a_silent_nodes_pods_are_replaced_when_their_patience_ends() -> None:
    report = play("node-failure", SMALL)
    assert report.problems == []
    assert report.recovered is not None
    assert 300 < report.recovered < 400  # 50 s until the node counts as silent, 300 s of toleration
    assert report.replaced == SMALL.pods - report.lowest
    assert [lost for lost, _ in report.moved.values() if lost] == [report.replaced]
    assert sum(got for _, got in report.moved.values()) == report.replaced


def test_the_report_says_what_waited_and_why() -> None:
    report = play("zone-failure", Plan(nodes=2, zones=2, pods=80, apps=2))  # a node has room for 64
    why = "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s)."
    assert any(reason.startswith(why) and count >= 16 for reason, count in report.waited.items()), report.waited
    assert report.pending == {}
    assert report.as_json()["waited"]


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_ends_with_a_whole_workload(name: str, seed: int) -> None:
    report = play(name, Plan(6, 3, 12, 3, seed))
    assert report.problems == []


def test_a_rolling_reboot_never_takes_more_than_a_pod_of_a_deployment_at_once() -> None:
    report = play("rolling-reboot", SMALL)
    assert report.lowest >= SMALL.pods - SMALL.apps
    assert report.replaced == SMALL.pods


def test_gangs_are_simulated_with_the_gate_that_they_need() -> None:
    asked = ["sim", "node-failure", "--nodes", "3", "--pods", "6", "--apps", "2", "--gangs", "1", "-o", "json"]
    told = subprocess.run(
        [sys.executable, "-m", "portside.cli.main", *asked], capture_output=True, text=True, check=False
    )
    report = json.loads(told.stdout)
    assert (told.returncode, report["problems"], report["gangs"]) == (0, [], 1), told.stderr
    assert report["mostMissing"] == report["podsReplaced"] > 0
