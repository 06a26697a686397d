"""A removal that was interrupted on the machine that leaves: whatever starts next brings it to its end."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pytest

from portside.cli import up
from portside.cli.join import finish_leaving
from portside.cli.steps import CliError, Steps
from portside.run import leave, node
from portside.run.home import Home


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of a node whose process was killed after it had begun to leave. What clean does below is its files' part."""
    home = Home(tmp_path / "home")
    home.make()
    home.save_cluster({"joined": "https://192.0.2.1:6443", "node": "worker", "simulate": 0})
    (home.root / "leaving").write_text("removed from the cluster\n")
    monkeypatch.setattr(leave, "clean", lambda home: shutil.rmtree(home.root))
    return home


def test_the_node_that_starts_again_leaves(told: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "serve", lambda home: pytest.fail("it must not serve"))
    monkeypatch.setattr(sys, "argv", ["node", "--home", str(told.root)])
    assert node.main() == 0
    assert not told.root.exists()


def test_up_says_that_the_machine_was_removed_and_takes_the_rest_away(told: Home) -> None:
    with pytest.raises(CliError, match="was removed from its cluster") as refused:
        up._joined(told, Steps(), argparse.Namespace())
    assert refused.value.code == 4
    assert not told.root.exists()


def test_a_join_begins_with_a_clean_home(told: Home) -> None:
    assert finish_leaving(told, Steps())
    assert not told.root.exists()
    assert not finish_leaving(told, Steps())
