"""Conversations recorded with kube-apiserver 1.37, replayed against a running Portside.

The floor per area is what was reached before; the share may rise, never fall.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Cluster

GOLDEN = ROOT.parent / "shared" / "golden"
FLOOR = json.loads((Path(__file__).parent / "golden_floor.json").read_text())


@pytest.mark.skipif(
    not GOLDEN.is_dir(), reason="the recorded conversations (../shared/golden) are not beside this checkout"
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("area", sorted(FLOOR))
def test_recorded_conversations_give_the_same_answers(
    area: str, simulated: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    command = [
        sys.executable,
        str(GOLDEN / "replay"),
        "check",
        "--kubeconfig",
        str(simulated.kubeconfig),
        "--area",
        area,
        "--json",
        str(report),
    ]
    subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=880,
        env={"KUBECTL": str(simulated.tools / "kubectl"), "PATH": "/usr/bin:/bin"},
    )
    results = json.loads(report.read_text())
    same = sum(not step["differences"] for step in results)
    share = same / len(results)
    with capsys.disabled():
        print(
            f"\nrecorded conversations, {area}: {same} of {len(results)} steps the same ({share:.1%}, floor {FLOOR[area]:.1%})"
        )
    assert share >= FLOOR[area]
