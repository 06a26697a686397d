"""client-go with its defaults (protobuf before JSON): typed clients, informers, watches, leader election, apply."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Cluster

CACHE = ROOT / ".cache"
SOURCE = Path(__file__).with_name("goclient")
STEPS = (
    "configmaps", "invalid", "workloads", "pages", "watch", "expired", "informer", "apply", "election", "untyped",
    "everything",
)  # fmt: skip
PROTOBUF = "application/vnd.kubernetes.protobuf"


def _go() -> str | None:
    beside = Path("/usr/local/go/bin/go")
    return shutil.which("go") or (str(beside) if beside.exists() else None)


@pytest.fixture(scope="module")
def client() -> Path:
    """The program, built when its source is newer; modules come from the Go module proxy."""
    go = _go()
    if go is None:
        pytest.skip("Go is not installed: client-go can't be built here")
    made = CACHE / "goclient"
    newest = max(f.stat().st_mtime for f in SOURCE.iterdir())
    if not made.exists() or made.stat().st_mtime < newest:
        CACHE.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            [go, "build", "-o", str(made), "."], cwd=SOURCE, capture_output=True, text=True, timeout=900,
            env=os.environ | {"GOFLAGS": "-mod=mod -buildvcs=false"},
        )  # fmt: skip
        if done.returncode != 0:
            unreachable = ("dial tcp", "no such host", "i/o timeout", "proxyconnect", "403 Forbidden")
            if any(sign in done.stderr for sign in unreachable):
                pytest.skip(f"the Go module proxy can't be reached: {done.stderr.strip()[-200:]}")
            raise AssertionError(done.stderr)
    return made


@pytest.fixture(scope="module")
def steps(simulated: Cluster, client: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """What each step said, by its name."""
    name = f"go-{uuid.uuid4().hex[:6]}"
    simulated.kubectl("create", "namespace", name)
    simulated.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    done = subprocess.run([str(client), str(simulated.kubeconfig), name], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    yield {line["step"]: line for line in map(json.loads, done.stdout.splitlines())}
    simulated.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("step", STEPS)
def test_client_go_finds_what_it_expects(steps: dict[str, dict[str, Any]], step: str) -> None:
    assert steps[step]["error"] == ""


@pytest.mark.timeout(1000)
@pytest.mark.parametrize("step", [s for s in STEPS if s not in ("untyped", "everything")])
def test_typed_clients_are_answered_in_protobuf(steps: dict[str, dict[str, Any]], step: str) -> None:
    assert steps[step]["media"] == [PROTOBUF]
