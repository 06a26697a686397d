"""A control plane with three simulated nodes of one file's own, and a namespace for each test that asks why."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from portside.api.status import ApiError
from portside.testing.cluster import Api, cluster
from tests.asking import Asker


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder: Path = tmp_path_factory.mktemp("why")
    with cluster(nodes=3, folder=folder) as running:
        yield running


@pytest.fixture
def k(plane: Api) -> Iterator[Asker]:
    made = plane.new_namespace("why-")
    asker = Asker(plane.kubeconfig, made.namespace)
    yield asker
    asker.api.close()
    with contextlib.suppress(ApiError):  # a test may have deleted it
        made.delete_namespace()


@pytest.fixture
def own_node(k: Asker) -> Iterator[str]:
    """A node with ten of a resource of its own, so that tests can't take each other's room."""
    name = f"own-{k.namespace}"
    amounts = {"cpu": "8", "memory": "16Gi", "pods": "20", "example.com/thing": "10"}
    k.make(
        "Node",
        name,
        {},
        meta={"labels": {"own": name, "kubernetes.io/hostname": name}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        status={"allocatable": amounts, "capacity": amounts},
    )
    k.condition("nodes", name, "Ready")
    k.until(lambda: not k.get("nodes", name)["spec"].get("taints"))
    with k.gone_after("nodes", name):
        yield name
