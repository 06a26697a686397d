"""Who changed what, and the way back: portside history, diff and undo on a running cluster."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import Cluster


@pytest.fixture
def name(simulated: Cluster) -> Iterator[str]:
    made = f"h-{uuid.uuid4().hex[:8]}"
    yield made
    simulated.kubectl("delete", "configmap", made, "--ignore-not-found")


def change(cluster: Cluster, name: str, data: str) -> None:
    cluster.kubectl("patch", "configmap", name, "--type=merge", "-p", f'{{"data":{data}}}')


def test_every_change_is_told_with_its_author(simulated: Cluster, name: str) -> None:
    simulated.kubectl("create", "configmap", name, "--from-literal=color=red")
    change(simulated, name, '{"color":"blue","size":"9"}')
    simulated.kubectl("label", "configmap", name, "tier=front")
    simulated.kubectl("delete", "configmap", name)
    told = simulated.portside("history", f"cm/{name}").stdout.splitlines()
    assert [line.split("   ")[-1].strip() for line in told] == [
        "CHANGE",
        "deleted",
        "metadata.labels added",
        "data.color red -> blue, data.size added",
        "created",
    ]
    assert all("kubernetes-admin" in line and "kubectl/" in line for line in told[1:])
    versions = json.loads(simulated.portside("history", "configmap", name, "-o", "json").stdout)["items"]
    assert [v["verb"] for v in versions] == ["delete", "patch", "patch", "create"]
    assert [v.get("object", {}).get("data") for v in versions][2] == {"color": "blue", "size": "9"}


def test_a_change_is_seen_and_undone(simulated: Cluster, name: str) -> None:
    simulated.kubectl("create", "configmap", name, "--from-literal=color=red")
    change(simulated, name, '{"color":"blue"}')
    shown = simulated.portside("diff", f"configmap/{name}").stdout.splitlines()
    assert "-  color: red" in shown and "+  color: blue" in shown
    assert "is as it was at revision" in simulated.portside("undo", f"configmap/{name}").stdout
    assert simulated.kubectl("get", "configmap", name, "-o", "jsonpath={.data.color}") == "red"
    simulated.kubectl("delete", "configmap", name)
    simulated.portside("undo", f"configmap/{name}")
    assert simulated.kubectl("get", "configmap", name, "-o", "jsonpath={.data.color}") == "red"
    oldest = json.loads(simulated.portside("history", f"cm/{name}", "-o", "json").stdout)["items"][-1]["revision"]
    change(simulated, name, '{"color":"green"}')
    simulated.portside("undo", f"cm/{name}", "--to", oldest)
    assert simulated.kubectl("get", "configmap", name, "-o", "jsonpath={.data.color}") == "red"


def test_what_can_not_be_told_says_why(simulated: Cluster, name: str) -> None:
    for words, code, said in (
        (("history", f"cm/{name}"), 6, "nothing is known of"),
        (("history", "widget/x"), 6, 'no resource type "widget"'),
        (("history", "cm"), 2, "names no object"),
        (("undo", "cm/kube-root-ca.crt", "--to", "1"), 6, "older than all that is kept"),
        (("diff", "cm/kube-root-ca.crt", "--since", "5 years"), 2, "no duration"),
    ):
        try:
            done = simulated.portside(*words, check=False)
        except SystemExit as ended:
            assert ended.code == code
            continue
        assert done.returncode == code, done.stderr
        assert said in done.stderr


def test_who_may_not_read_an_object_may_not_read_its_past(simulated: Cluster, name: str) -> None:
    simulated.kubectl("create", "configmap", name, "--from-literal=secret=x")
    path = f"/portside/history/api/v1/namespaces/default/configmaps/{name}"
    assert "secret" in simulated.kubectl("get", "--raw", path)
    stranger = ("--as=somebody", "--as-group=system:authenticated")
    refused = simulated.kubectl("get", "--raw", path, *stranger, check=False)
    assert 'configmaps "' in refused and "is forbidden" in refused
