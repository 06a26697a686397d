"""The pytest plugin. Fixtures:

portside_cluster  one cluster for the session, with as many simulated nodes as the ini option ``portside_nodes`` says (1)
portside          that cluster, in a namespace of the test's own, with a kubeconfig that defaults to it
portside_fresh    a cluster of the test's own, for tests of cluster-wide things such as definitions of custom resources
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from portside.testing.cluster import Api, cluster


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("portside_nodes", "simulated nodes of the fixtures' clusters", default="1")


def _nodes(config: pytest.Config) -> int:
    said = str(config.getini("portside_nodes"))
    if not said.isdigit():
        raise pytest.UsageError(f"portside_nodes is {said!r}; it takes a number of simulated nodes, such as 1")
    return int(said)


@pytest.fixture(scope="session")
def portside_cluster(pytestconfig: pytest.Config) -> Iterator[Api]:
    """One cluster for the whole session; every worker of pytest-xdist has one of its own."""
    with cluster(nodes=_nodes(pytestconfig)) as api:
        yield api


@pytest.fixture
def portside(portside_cluster: Api) -> Iterator[Api]:
    """The session's cluster, in a namespace that only this test sees."""
    api = portside_cluster.new_namespace()
    yield api
    api.delete_namespace()


@pytest.fixture
def portside_fresh(pytestconfig: pytest.Config) -> Iterator[Api]:
    """A cluster that only this test sees."""
    with cluster(nodes=_nodes(pytestconfig)) as api:
        yield api
