"""A cluster whose ``scheduler.yaml`` names an extender, which answers over TLS: where pods go, what they are told, gangs, what-if."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.test_gangs import GATE, group, make, pod, until
from tests.conftest import Cluster
from tests.extender_server import ExtenderServer, leaving

Json = dict[str, Any]
TOKEN = "example.com/token"
CONFIG = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
podInitialBackoffSeconds: 1
podMaxBackoffSeconds: 1
extenders:
- urlPrefix: {url}
  filterVerb: filter
  prioritizeVerb: prioritize
  weight: 10
  enableHTTPS: true
  tlsConfig: {{caData: {bundle}}}
  httpTimeout: 2s
  nodeCacheCapable: true
  managedResources: [{{name: {token}, ignoredByScheduler: true}}]
"""


@pytest.fixture(scope="module")
def extender() -> Iterator[ExtenderServer]:
    with ExtenderServer(tls=True) as server:
        yield server


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tools: Path, extender: ExtenderServer) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("extenders"), tools)
    (made.home / "scheduler.yaml").write_text(CONFIG.format(url=extender.url, bundle=extender.bundle, token=TOKEN))
    try:
        made.portside("up", "--simulate", "3", "--feature-gates", GATE)
        yield made
    finally:
        made.portside("down", check=False)


@pytest.fixture
def cluster(site: Cluster, extender: ExtenderServer) -> Iterator[Cluster]:
    extender.asked.clear()
    extender.verbs = {"filter": leaving("node-0", "node-1", "node-2"), "prioritize": []}
    yield site
    site.kubectl("delete", "pods,podgroups", "--all", "--wait=true", "--grace-period=0", "--force", timeout=120)


def wanting(name: str, group: str = "") -> Json:
    made = pod(name, "100m", group)
    amounts = {"cpu": "100m", TOKEN: "1"}
    made["spec"]["containers"][0]["resources"] = {"requests": amounts, "limits": {TOKEN: "1"}}
    return made


def status(cluster: Cluster, name: str) -> Json:
    return dict(json.loads(cluster.kubectl("get", "pod", name, "-o", "json")))


def message(cluster: Cluster, name: str) -> str:
    held = [c for c in status(cluster, name)["status"].get("conditions", ()) if c["type"] == "PodScheduled"]
    return str(held[0].get("message", "")) if held else ""


def test_an_extender_says_where_a_pod_goes_and_others_never_meet_it(cluster: Cluster, extender: ExtenderServer) -> None:
    extender.verbs["filter"] = leaving("node-1", "node-2")
    extender.verbs["prioritize"] = [{"Host": "node-2", "Score": 10}]
    make(cluster, wanting("asked"), pod("other", "100m"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/asked", "pod/other", "--timeout=60s", timeout=90)
    assert status(cluster, "asked")["spec"]["nodeName"] == "node-2"
    assert {args["Pod"]["metadata"]["name"] for _, args in extender.asked} == {"asked"}


def test_a_pod_that_it_refuses_everywhere_says_so_and_why_repeats_it(
    cluster: Cluster, extender: ExtenderServer
) -> None:
    extender.verbs["filter"] = leaving(
        failed=dict.fromkeys(("node-0", "node-1"), "no token left"), final={"node-2": "no shelf"}
    )
    make(cluster, wanting("refused"))
    text = "0/3 nodes are available: 1 no shelf, 2 no token left. preemption: 0/3 nodes are available: "
    until(lambda: message(cluster, "refused").startswith(text))
    until(lambda: text in cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].message}"))
    assert "no token left" in cluster.portside("why", "pod/refused", check=False).stdout
    extender.verbs["filter"] = leaving("node-0")
    make(cluster, pod("anything", "100m"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/refused", "--timeout=60s", timeout=90)


def test_an_extender_in_trouble_is_told_and_its_pods_go_on_when_it_is_well(
    cluster: Cluster, extender: ExtenderServer
) -> None:
    extender.verbs["filter"] = 503
    make(cluster, wanting("troubled"))
    until(lambda: message(cluster, "troubled") == f"failed filter with extender at URL {extender.url}/filter, code 503")
    assert "code 503" in cluster.portside("why", "pod/troubled", check=False).stdout
    extender.verbs["filter"] = leaving("node-1")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/troubled", "--timeout=60s", timeout=90)


def test_a_gang_is_placed_where_the_extender_lets_each_of_it_or_not_at_all(
    cluster: Cluster, extender: ExtenderServer
) -> None:
    def only_first(args: Json) -> Json:
        last = args["Pod"]["metadata"]["name"] == "g2"
        names = [] if last else ["node-1"]
        return {"NodeNames": names, "FailedNodes": dict.fromkeys(args["NodeNames"], "no token left") if last else {}}

    extender.verbs["filter"] = only_first
    make(cluster, group("g", 3), *(wanting(f"g{i}", "g") for i in range(3)))
    until(lambda: "no token left" in message(cluster, "g2"))
    assert "minCount (3)" in message(cluster, "g0")
    assert not any(status(cluster, f"g{i}")["spec"].get("nodeName") for i in range(3))
    extender.verbs["filter"] = leaving("node-1")
    make(cluster, pod("anything", "100m"))
    cluster.kubectl("wait", "--for=condition=Ready", "pod/g0", "pod/g1", "pod/g2", "--timeout=60s", timeout=90)
    assert {status(cluster, f"g{i}")["spec"]["nodeName"] for i in range(3)} == {"node-1"}


def test_a_gang_whose_extender_fails_is_told_and_tried_again(cluster: Cluster, extender: ExtenderServer) -> None:
    extender.verbs["filter"] = b"nonsense"
    make(cluster, group("h", 2), *(wanting(f"h{i}", "h") for i in range(2)))
    until(lambda: "invalid character 'n' looking for beginning of value" in message(cluster, "h1"))
    extender.verbs["filter"] = leaving("node-0", "node-2")
    cluster.kubectl("wait", "--for=condition=Ready", "pod/h0", "pod/h1", "--timeout=60s", timeout=90)


def test_what_if_names_the_extender_that_it_did_not_ask(cluster: Cluster, extender: ExtenderServer) -> None:
    extender.verbs["filter"] = leaving()
    make(cluster, wanting("waits"))
    until(lambda: message(cluster, "waits"))
    extender.asked.clear()
    done = cluster.portside("what-if", "add", "1", "like", "node-0", check=False)
    assert f"the extender {extender.url} was not asked, which has a say about 1 of these pods" in done.stdout
    assert not extender.asked
