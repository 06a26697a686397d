"""Secrets at rest, as somebody who gets hold of the store's file sees them; and keys that change, are lost and come back."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from portside.cli.api import Refused
from portside.run.encryption_config import written
from portside.run.home import Home, write_private
from tests.asking import Patient
from tests.conftest import Cluster

SECRETS = "/api/v1/namespaces/default/secrets"
WORD = "correct-horse-battery"


def until(what: Callable[[], object], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


def bytes_of(home: Path) -> bytes:
    return b"".join(p.read_bytes() for p in home.glob("store.db*"))


def holds(home: Path, word: str) -> bool:
    """Whether the store's files hold a word, as it is or in base64 at any of the three offsets."""
    stored = bytes_of(home)
    forms = [word.encode()] + [base64.b64encode(b" " * i + word.encode())[4:-4] for i in range(3)]
    return any(form in stored for form in forms)


def state_of(cluster: Cluster) -> dict:
    return json.loads(cluster.portside("secrets", "status", "-o", "json").stdout)


def make(api: Patient, name: str, word: str = WORD) -> None:
    body = {"metadata": {"name": name}, "stringData": {"password": f"{word}-{name}"}}
    api.send("POST", SECRETS, json.dumps(body).encode())


def read(api: Patient, name: str) -> str:
    return base64.b64decode(api.send("GET", f"{SECRETS}/{name}")["data"]["password"]).decode()


def hang_up(api: Patient) -> None:
    """Before the end of a server, which waits for clients that are still there."""
    if api.connection is not None:
        api.connection.close()
        api.connection = None


@pytest.fixture
def alone(tmp_path: Path, tools: Path) -> Iterator[Cluster]:
    """A cluster of the test's own."""
    cluster = Cluster(tmp_path / "home", tools)
    try:
        cluster.portside("up", "--simulate", "1")
        yield cluster
    finally:
        cluster.portside("down", check=False)


def test_out_of_the_box_no_secret_is_in_the_file_its_log_or_its_history(alone: Cluster) -> None:
    api = Patient(alone.kubeconfig)
    for i in range(3):
        make(api, f"s{i}")
        api.send(
            "PATCH",
            f"{SECRETS}/s{i}",
            b'{"stringData":{"password":"second-%s"}}' % WORD.encode(),
            "application/merge-patch+json",
        )
    api.send("DELETE", f"{SECRETS}/s2")
    api.send(
        "POST", "/api/v1/namespaces/default/configmaps", b'{"metadata":{"name":"c"},"data":{"k":"in-a-configmap"}}'
    )
    assert not holds(alone.home, WORD)
    assert holds(alone.home, "in-a-configmap"), "what is not a Secret is stored as it is: the search itself works"
    assert (alone.home / "encryption.yaml").stat().st_mode & 0o777 == 0o600
    said = api.send("GET", f"/portside/history{SECRETS}/s0")
    first = said["items"][-1]["object"]["data"]["password"]
    assert base64.b64decode(first).decode() == f"{WORD}-s0", "whoever may read it still sees its history"
    listed = alone.kubectl("get", "secrets", "-o", "name")
    assert "secret/s0" in listed and "secret/s2" not in listed
    hang_up(api)
    alone.portside("down")
    assert not holds(alone.home, WORD)
    alone.portside("up")
    assert read(Patient(alone.kubeconfig), "s0") == f"second-{WORD}"


def test_a_rotation_ends_with_one_new_key_whatever_is_killed_in_between(alone: Cluster) -> None:
    api = Patient(alone.kubeconfig)
    names = [f"s{i}" for i in range(150)]
    for name in names:
        make(api, name)
    path = alone.home / "encryption.yaml"
    first = path.read_bytes()
    command = [sys.executable, "-m", "portside.cli.main", "secrets", "rotate", "--home", str(alone.home)]
    rotation = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: path.read_bytes() != first or rotation.poll() is not None)
    record = Home(alone.home).record("control-plane")
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    _, told = rotation.communicate(timeout=90)
    alone.portside("up")
    assert [read(Patient(alone.kubeconfig), n) for n in names] == [f"{WORD}-{n}" for n in names]
    if len(state_of(alone)["resources"][0]["keys"]) > 1:  # it was killed before the end, not after
        assert rotation.returncode and "portside secrets rotate again" in told
        alone.portside("secrets", "rotate")
    until(lambda: state_of(alone)["done"])
    assert state_of(alone) == {
        "resources": [{"resources": ["secrets"], "writes": "secretbox", "keys": ["secretbox:key2"]}],
        "done": True,
        "unreadable": 0,
    }
    stored = bytes_of(alone.home)
    assert b"secretbox:v2:key2:" in stored and b"secretbox:v2:key1:" not in stored
    assert [read(Patient(alone.kubeconfig), n) for n in names] == [f"{WORD}-{n}" for n in names]


def test_a_lost_key_hides_its_objects_alone_and_loses_nothing(alone: Cluster) -> None:
    api = Patient(alone.kubeconfig)
    make(api, "old")
    hang_up(api)
    alone.portside("down")
    path = alone.home / "encryption.yaml"
    right = path.read_text()
    write_private(path, right.replace("key1", "other"))
    alone.portside("up")
    api = Patient(alone.kubeconfig)
    make(api, "new")
    assert read(api, "new") == f"{WORD}-new"
    why = "no matching key was found for the provided Secretbox transformer"
    told = alone.kubectl("get", "secret", "old", check=False)
    assert f"Error from server (InternalError): Internal error occurred: {why}" in told
    told = alone.kubectl("get", "secrets", check=False)
    assert f'Internal error occurred: unable to transform key "/registry/secrets/default/old": {why}' in told
    assert '"old" already exists' in alone.kubectl("create", "secret", "generic", "old", check=False)
    assert why in alone.kubectl("delete", "secret", "old", check=False)
    assert "No resources found" in alone.kubectl("get", "secrets", "-n", "kube-public", check=False)
    alone.kubectl("create", "configmap", "other")
    until(lambda: state_of(alone)["unreadable"] == 1)
    told = alone.portside("secrets", "rotate", check=False).stderr
    assert "can't be decrypted with any key" in told and "no key was removed" in told
    write_private(path, right)  # the key that wrote "new" is lost now, the one that wrote "old" is back
    until(lambda: WORD in _maybe(api, "old"))
    with pytest.raises(Refused) as refused:
        api.send("DELETE", f"{SECRETS}/absent?ignoreStoreReadErrorWithClusterBreakingPotential=true")
    assert refused.value.code == 404
    hang_up(api)


def _maybe(api: Patient, name: str) -> str:
    try:
        return read(api, name)
    except Refused:
        return ""


def test_what_no_key_opens_can_be_given_up_with_a_right_of_its_own(alone: Cluster) -> None:
    make(Patient(alone.kubeconfig), "lost")
    alone.portside("down")
    path = alone.home / "encryption.yaml"
    write_private(path, path.read_text().replace("key1", "other"))
    alone.portside("up")
    alone.kubectl("create", "clusterrole", "deleter", "--verb=delete,get", "--resource=secrets")
    alone.kubectl("create", "clusterrolebinding", "deleter", "--clusterrole=deleter", "--user=deleter")
    url = f"{SECRETS}/lost?ignoreStoreReadErrorWithClusterBreakingPotential=true"
    told = alone.kubectl("delete", "--raw", url, "--as=deleter", check=False)
    assert 'cannot unsafe-delete-ignore-read-errors resource "secrets"' in told
    assert '"status":"Success"' in alone.kubectl("delete", "--raw", url)
    alone.kubectl("create", "secret", "generic", "lost", "--from-literal=a=b")
    assert "lost" in alone.kubectl("get", "secrets")


def test_encryption_of_more_kinds_is_turned_on_and_off_while_the_cluster_runs(alone: Cluster) -> None:
    api = Patient(alone.kubeconfig)
    make(api, "s")
    maps = "/api/v1/namespaces/default/configmaps"
    api.send("POST", maps, b'{"metadata":{"name":"c"},"data":{"k":"%s"}}' % WORD.encode())
    assert holds(alone.home, WORD)
    path = alone.home / "encryption.yaml"
    entries = yaml.safe_load(path.read_text())["resources"]
    entries[0]["resources"].append("configmaps")
    write_private(path, written(entries))
    until(lambda: state_of(alone)["done"] and not holds(alone.home, WORD))
    assert api.send("GET", f"{maps}/c")["data"] == {"k": WORD}
    entries[0]["providers"].reverse()
    write_private(path, written(entries))
    until(lambda: state_of(alone)["done"] and b"k8s:enc:" not in bytes_of(alone.home))
    assert read(api, "s") == f"{WORD}-s"
