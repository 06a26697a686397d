"""Bad manifests: the refusal kubectl users know, nothing half-applied, and a server that keeps answering."""

from __future__ import annotations

import http.client
import re
import threading
import time
from pathlib import Path

import pytest

from tests.conformance.test_bad_days import Api
from tests.conftest import Cluster

POD = (
    "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: c, image: i{more}}}]{spec}}}\n"
)
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def test_three_megabytes_of_yaml_hold_up_nobody(simulated: Cluster) -> None:
    body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: large-yaml}\ndata:\n"
    body += "".join(f"  k{i}: value {i}\n" for i in range(45_000))
    done: list[int] = []

    def post() -> None:
        done.append(Api(simulated.kubeconfig).send("POST", CONFIGMAPS, body.encode(), "application/yaml")[0])

    posting = threading.Thread(target=post)
    api, asked = Api(simulated.kubeconfig), 0
    posting.start()
    try:
        while posting.is_alive():
            assert api.open("GET", "/api/v1/namespaces/default").status == 200
            asked += 1
    finally:
        posting.join()
        api.send("DELETE", f"{CONFIGMAPS}/large-yaml")
    assert done in ([201], [422]), "a ConfigMap of a megabyte is too long, a smaller one is stored"
    assert asked >= 3, "others were answered meanwhile"


def test_forty_megabytes_of_yaml_are_refused_by_the_server_and_by_up(simulated: Cluster, tmp_path: Path) -> None:
    huge = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: huge}\ndata:\n" + f"  a: {'x' * 40_000_000}\n"
    try:
        code, status = Api(simulated.kubeconfig).send("POST", CONFIGMAPS, huge.encode(), "application/yaml")
        assert (code, status["reason"]) == (413, "RequestEntityTooLarge")
    except (OSError, http.client.HTTPException):
        pass  # the server may hang up while we still send
    file = tmp_path / "huge.yaml"
    file.write_text(huge)
    done = simulated.portside("up", str(file), check=False)
    assert done.returncode == 6
    assert "larger than 16 MiB" in done.stderr
    assert Api(simulated.kubeconfig).send("GET", f"{CONFIGMAPS}/huge")[0] == 404


@pytest.mark.parametrize(
    ("case", "manifest", "words"),
    [
        ("unknown field", POD.format(name="bad-b", more=", imagee: x", spec=""), r'containers\[name="c"\].imagee: field not declared'),
        ("wrong type", POD.format(name="bad-b", more="", spec=", nodeName: [1]"), r"nodeName"),
        ("missing name", "apiVersion: v1\nkind: ConfigMap\nmetadata: {labels: {a: b}}\n", r"metadata.name is missing"),
        ("duplicate key", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad-b}\ndata:\n  a: x\n  a: y\n", r'key "a" already set in map'),
        ("reference to nothing", POD.format(name="bad-b", more="", spec=", serviceAccountName: nobody"), r'"nobody" not found'),
        ("unknown kind", "apiVersion: nope/v1\nkind: Nope\nmetadata: {name: x}\n", r'no matches for kind "Nope"'),
        ("no YAML", "apiVersion: v1\nkind: [\n", r"not valid YAML"),
    ],
)  # fmt: skip
def test_up_applies_all_of_a_file_or_nothing(
    simulated: Cluster, tmp_path: Path, case: str, manifest: str, words: str
) -> None:
    file = tmp_path / "bad.yaml"
    good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad-a}\ndata: {a: b}\n"
    file.write_text(good + "---\n" + manifest)
    done = simulated.portside("up", str(file), check=False)
    assert done.returncode == 6, done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert str(file) in done.stderr, "it says where"
    assert "nothing was applied" in done.stderr or "install its" in done.stderr
    for name in ("bad-a", "bad-b"):
        assert Api(simulated.kubeconfig).send("GET", f"{CONFIGMAPS}/{name}")[0] == 404


def test_a_pod_that_mounts_what_is_not_there_waits_and_says_so(simulated: Cluster) -> None:
    """Upstream accepts the reference; the scheduler says what is missing."""
    spec = ", volumes: [{name: v, persistentVolumeClaim: {claimName: nowhere}}]"
    simulated.kubectl("apply", "-f", "-", stdin=POD.format(name="claims-nothing", more="", spec=spec))
    try:
        end = time.monotonic() + 60
        while 'persistentvolumeclaim "nowhere" not found' not in (
            told := simulated.kubectl("describe", "pod", "claims-nothing")
        ):
            assert time.monotonic() < end, told
            time.sleep(0.2)
        assert simulated.kubectl("get", "pod", "claims-nothing", "-o", "jsonpath={.status.phase}") == "Pending"
    finally:
        simulated.kubectl("delete", "pod", "claims-nothing", "--now")
