"""What ``up`` does about storage: a default class, once in a cluster's life; none on simulated nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portside.cli.api import Api
from portside.cli.storage import CLASSES, ensure_class
from portside.run.home import Home
from tests.conftest import Cluster


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> Iterator[Cluster]:
    """A cluster of this file's own, as a default class would reach into other tests' claims."""
    cluster = Cluster(tmp_path_factory.mktemp("own"), tools)
    try:
        cluster.portside("up", "--simulate", "1")
        yield cluster
    finally:
        cluster.portside("down", check=False)


def test_simulated_nodes_have_no_class_and_real_ones_get_one_default_once(own: Cluster, tmp_path: Path) -> None:
    api, home = Api(own.kubeconfig), Home(tmp_path)

    def classes() -> list[dict[str, Any]]:
        return list(api.send("GET", CLASSES)["items"])

    assert classes() == [], "up on simulated nodes made none"
    facts: dict[str, Any] = {"simulate": 0}
    ensure_class(home, facts, api, wanted=True)
    (made,) = classes()
    assert made["metadata"]["annotations"] == {"storageclass.kubernetes.io/is-default-class": "true"}
    assert made["parameters"] == {"path": f"{tmp_path}/volumes"}
    assert home.cluster()["storage"] == "local"
    api.send("DELETE", f"{CLASSES}/{made['metadata']['name']}")
    ensure_class(home, facts, api, wanted=True)
    assert classes() == [], "who deletes it does not find it again"
    declined: dict[str, Any] = {"simulate": 0}
    ensure_class(home, declined, api, wanted=False)
    assert classes() == [] and home.cluster()["storage"] == "none"
    api.close()
