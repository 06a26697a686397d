"""Every controller ends where an undisturbed one ends, whatever befalls it: deaths at every write, refusals, lost answers,
late news, broken watches. The table of stories covers every controller of the process.

Each first attempt at a write dies before it takes effect and each second one after it, so one run kills a controller at
every step it has; Hypothesis then picks a handful of writes and what befalls each of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.unit.controllers.ordeal import cluster, network, nodes, storage, workloads
from tests.unit.controllers.ordeal.faults import DEATHS, REFUSALS, Faults
from tests.unit.controllers.ordeal.world import Scenario, Told, every_controller, identity, told

from portside.base import gates

SCENARIOS = {s.name: s for area in (workloads, storage, network, nodes, cluster) for s in area.SCENARIOS}
DAYS = {
    "deaths at every write": Faults(always=DEATHS),
    "conflicts": Faults(always=("conflict",)),
    "errors and a busy server": Faults(always=("error", "busy")),
    "late news and deaths": Faults(lag=2.0, always=DEATHS),
    "late news and lost answers over broken watches": Faults(lag=2.0, breaks=3, always=("unheard",)),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@cache
def undisturbed(home: Path, name: str) -> Told:
    found = told(home, SCENARIOS[name], Faults())
    assert found.broken == []
    assert found.writes, "the controllers had something to do"
    return found


def _same(home: Path, name: str, faults: Faults) -> Told:
    found = told(home, SCENARIOS[name], faults)
    assert found.broken == []
    assert found.state == undisturbed(home, name).state
    return found


@pytest.mark.parametrize("day", DAYS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_outcome_is_that_of_an_undisturbed_run(name: str, day: str, home: Path) -> None:
    found = _same(home, name, DAYS[day])
    if DAYS[day].always:
        assert found.struck >= len(DAYS[day].always), "something did happen"


@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_several_faults_of_any_kind_in_one_run_change_nothing(data: st.DataObject, home: Path) -> None:
    name = data.draw(st.sampled_from(sorted(SCENARIOS)))
    last = len(undisturbed(home, name).writes)
    struck: dict[int, Any] = data.draw(
        st.dictionaries(st.integers(1, last), st.sampled_from(DEATHS + REFUSALS), min_size=1, max_size=6)
    )
    lag = data.draw(st.sampled_from((0.0, 1.0)))
    _same(home, name, Faults(at=struck, lag=lag, breaks=data.draw(st.sampled_from((0, 5))), seed=last))


def test_every_controller_of_the_process_has_a_story() -> None:
    told_of = {who for scenario in SCENARIOS.values() for who in scenario.controllers}
    there = {identity(c) for c in every_controller()}
    assert there - told_of == set(), "write a story for each new controller"
    assert told_of - there == set(), "stories name controllers that exist"


def test_controllers_behind_a_gate_pass_the_ordeal_with_the_gate_on() -> None:
    """Gates are read when the tables are loaded, so in a process of its own."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    chosen = " or ".join(
        [*(f"({s.name.replace(' ', ' and ')})" for s in cluster.GATED), "has_a_story", "in_the_reference"]
    )
    switched = {**os.environ, gates.VARIABLE: ",".join(f"{name}=true" for name in gates.KNOWN)}
    done = subprocess.run([*words, "-k", chosen], env=switched, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(cluster.GATED) * len(DAYS) + 2} passed" in done.stdout


def test_every_controller_is_in_the_reference() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "reference" / "controllers.md").read_text()
    for controller in every_controller():
        work: Any = controller.plan or controller.reconcile or controller.service
        module = work.__module__.rpartition(".")[2]
        assert f"`{module}.py`" in page, f"{module}.py is missing in docs/reference/controllers.md"


def test_a_story_is_told_under_one_name() -> None:
    names = [s.name for area in (workloads, storage, network, nodes, cluster) for s in area.SCENARIOS]
    assert len(names) == len(set(names))
    assert all(isinstance(s, Scenario) for s in SCENARIOS.values())
