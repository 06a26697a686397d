"""Fixtures: a cluster on this machine's own containerd, and a namespace of one test's own."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster


@pytest.fixture(scope="session")
def real(tools: Path) -> Iterator[Cluster]:
    """A cluster whose node is this machine. The home is short because socket paths end at 107 bytes."""
    if os.geteuid() != 0:
        pytest.skip("running containers needs root")
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="ps-", dir="/tmp")), tools)
    try:
        cluster.portside("up")
        yield cluster
    finally:
        cluster.portside("down", check=False)
        shutil.rmtree(cluster.home, ignore_errors=True)


@pytest.fixture
def namespace(real: Cluster) -> Iterator[str]:
    name = f"t-{uuid.uuid4().hex[:8]}"
    real.kubectl("create", "namespace", name)
    real.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    yield name
    real.kubectl("delete", "namespace", name, "--wait=false", check=False)
