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
from tests.real.lab import Lab
from tests.real.neighbourhood import SLEEP, Neighbourhood, pod, service, web


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


@pytest.fixture(scope="session")
def town(real: Cluster) -> Iterator[Neighbourhood]:
    """Three pods that answer (app=web, tier=front) and one that asks (box), shared by the tests of the network."""
    name = f"net-{uuid.uuid4().hex[:6]}"
    real.kubectl("create", "namespace", name)
    real.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    found = Neighbourhood(real, name)
    front = [web(f"web-{n}", labels={"app": "web", "tier": "front"}) for n in range(3)]
    found.apply(*front, pod("box", SLEEP), service("web", {"app": "web"}))
    found.ready("web-0", "web-1", "web-2", "box")
    found.served("web", 3)
    yield found
    real.kubectl("delete", "namespace", name, "--wait=false", check=False)


@pytest.fixture(scope="module")
def lab(real: Cluster) -> Iterator[Lab]:
    """A namespace for the tests of one file, with the API at hand."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    real.kubectl("create", "namespace", name)
    real.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    yield Lab(real.kubeconfig, name)
    real.kubectl("delete", "namespace", name, "--wait=false", check=False)
