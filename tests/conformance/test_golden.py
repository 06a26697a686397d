"""Conversations recorded with kube-apiserver 1.37, replayed against a running Portside.

The floor per area is what was reached before; the share may rise, never fall.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cluster

GOLDEN = ROOT.parent / "shared" / "golden"
FLOOR = json.loads((Path(__file__).parent / "golden_floor.json").read_text())
SECONDS = 1200


@dataclass(frozen=True, slots=True)
class Replay:
    """One area's conversations under way."""

    cluster: Cluster
    process: subprocess.Popen[str]
    report: Path

    def results(self) -> list[dict[str, Any]]:
        """Wait for the end; a result per step."""
        printed, _ = self.process.communicate(timeout=SECONDS)
        assert self.report.exists(), printed
        return list(json.loads(self.report.read_text()))


@pytest.fixture(scope="module")
def replays(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Replay]]:
    """Every area with a cluster of its own, all at the same time: conversations mostly wait."""
    started: dict[str, Replay] = {}
    try:
        for area in sorted(FLOOR):
            folder = tmp_path_factory.mktemp(area)
            cluster = Cluster(folder / "home", tools)
            cluster.portside("up", "--simulate", "3")
            command = [sys.executable, str(GOLDEN / "replay"), "check", "--kubeconfig", str(cluster.kubeconfig)]
            report = folder / "report.json"
            process = subprocess.Popen(
                [*command, "--area", area, "--json", str(report)],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={"KUBECTL": str(tools / "kubectl"), "PATH": "/usr/bin:/bin"},
            )
            started[area] = Replay(cluster, process, report)
        yield started
    finally:
        for replay in started.values():
            replay.process.kill()
            replay.process.wait()
            replay.cluster.portside("down", check=False)


@pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the recorded conversations (../shared/golden) are not beside this checkout"
)
@pytest.mark.timeout(SECONDS + 100)
@pytest.mark.parametrize("area", sorted(FLOOR))
def test_recorded_conversations_give_the_same_answers(
    area: str, replays: dict[str, Replay], capsys: pytest.CaptureFixture[str]
) -> None:
    results = replays[area].results()
    differing = [step for step in results if step["differences"]]
    same = len(results) - len(differing)
    share = same / len(results)
    with capsys.disabled():
        print(
            f"\nrecorded conversations, {area}: {same} of {len(results)} steps the same ({share:.1%}, floor {FLOOR[area]:.1%})"
        )
    assert share >= FLOOR[area], json.dumps(differing, indent=1)[:6000]
