"""Gangs in virtual time: time-outs, late members, schedulers that die and start again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from portside.base import gates

Json = dict[str, Any]
SCHEDULED = {"status": "True", "reason": "Scheduled", "message": ""}


@pytest.fixture(scope="module")
def told() -> Json:
    env = os.environ | {gates.VARIABLE: f"{gates.WORKLOADS}=true"}
    made = subprocess.run(
        [sys.executable, "-m", "tests.sim.gang_stories"], capture_output=True, text=True, env=env, check=False
    )
    assert made.returncode == 0, made.stderr
    found: Json = json.loads(made.stdout)
    return found


def test_a_gang_whose_volumes_do_not_come_gives_its_nodes_back_after_five_minutes(told: Json) -> None:
    story = told["volumes_that_never_come"]
    assert story["before"]["status"] is None  # after 290 s it still waits for them
    assert story["after"] == {
        "status": "False",
        "reason": "Unschedulable",
        "message": "the gang's volumes and devices were not ready within 300 s",
    }
    assert story["held"] == []
    assert (story["placed"], story["said"]) == (["a", "b"], SCHEDULED)


def test_what_a_dead_scheduler_bound_of_a_gang_counts_for_the_next_one(told: Json) -> None:
    story = told["a_scheduler_that_died_half_way"]
    assert (story["placed"], story["said"]) == (["a", "b", "c"], SCHEDULED)


def test_a_gang_that_waited_an_hour_for_a_member_starts_at_once_when_it_comes(told: Json) -> None:
    story = told["members_that_come_late"]
    assert story["held"] == []
    assert story["why"] == "waiting for minCount pods from a gang to appear in scheduling queue"
    assert story["placed"] == ["a", "b", "c"]


def test_a_gang_without_room_waits_through_restarts_and_takes_a_new_node(told: Json) -> None:
    story = told["a_restart_while_it_does_not_fit"]
    assert story["seen"] == [[[], "minCount (6) cannot be satisfied: 4 scheduled, 1 remaining"]] * 2
    assert (story["placed"], story["said"]) == (["a", "b", "c", "d", "e", "f"], SCHEDULED)
