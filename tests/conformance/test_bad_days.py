"""Bad input and bad days: a message that says what, where and what to do, and nothing lost."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portside.run.settings import free_port
from tests.conftest import Cluster

Json = dict[str, Any]


class Api:
    """HTTPS as the kubeconfig's administrator, without any client library between us and the bytes."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.host, self.port = cluster["server"].removeprefix("https://").split(":")
        self.context = ssl.create_default_context(
            cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
        )
        with tempfile.NamedTemporaryFile("wb", suffix=".pem") as pem:
            pem.write(
                base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"])
            )
            pem.flush()
            self.context.load_cert_chain(pem.name)

    def open(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json", timeout: float = 60
    ) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection(self.host, int(self.port), context=self.context, timeout=timeout)
        connection.request(method, path, body=body, headers={"Content-Type": kind, "Accept": "application/json"})
        return connection.getresponse()

    def send(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, Json]:
        answer = self.open(method, path, body, kind)
        return answer.status, json.loads(answer.read() or b"{}")


@pytest.fixture
def api(simulated: Cluster) -> Api:
    return Api(simulated.kubeconfig)


@pytest.fixture
def lone(tmp_path: Path, tools: Path) -> Iterator[Cluster]:
    """A cluster of the test's own, to be hurt."""
    cluster = Cluster(tmp_path / "home", tools)
    yield cluster
    cluster.portside("down", check=False)


def test_a_yaml_bomb_and_forty_megabytes_are_refused_and_the_server_goes_on(api: Api) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
    )
    code, status = api.send("POST", "/api/v1/namespaces/default/configmaps", bomb.encode(), "application/yaml")
    assert 400 <= code < 500
    assert status["kind"] == "Status"
    try:
        code, _ = api.send("POST", "/api/v1/namespaces/default/configmaps", b'{"a":"' + b"x" * 40_000_000 + b'"}')
        assert code == 413
    except (ConnectionError, ssl.SSLError, http.client.HTTPException):
        pass  # the server may close while we still send
    deep = (
        b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"d"},"data":'
        + b'{"a":' * 200_000
        + b"1"
        + b"}" * 200_000
        + b"}"
    )
    code, _ = api.send("POST", "/api/v1/namespaces/default/configmaps", deep)
    assert 400 <= code < 500
    assert api.open("GET", "/readyz").status == 200
    assert api.send("GET", "/api/v1/namespaces/default")[0] == 200


def test_strangers_see_health_and_version_only(simulated: Cluster) -> None:
    config = json.loads(simulated.kubeconfig.read_text())
    host = config["clusters"][0]["cluster"]["server"].removeprefix("https://")
    context = ssl._create_unverified_context()

    def code(path: str, token: str = "") -> int:
        connection = http.client.HTTPSConnection(host, context=context, timeout=60)
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status

    assert [code(p) for p in ("/healthz", "/livez", "/readyz", "/version")] == [200] * 4
    assert [code(p) for p in ("/api/v1/secrets", "/api/v1/namespaces/default/pods", "/metrics", "/openapi/v2")] == [
        403
    ] * 4
    assert code("/api/v1/secrets", "nonsense") == 401


def test_a_port_in_use_is_said_and_the_cluster_starts_when_it_is_free(lone: Cluster) -> None:
    with socket.socket() as taken:
        port = free_port("127.0.0.1")  # none that is lent to somebody else between this and the second start
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = lone.portside("up", "--simulate", "1", "--port", str(port), check=False)
        assert done.returncode == 5
        assert str(port) in done.stderr
        assert "in use" in done.stderr
    assert lone.portside("up", "--simulate", "1", "--port", str(port)).returncode == 0


def test_a_corrupt_database_is_named_and_left_alone(lone: Cluster) -> None:
    lone.portside("up", "--simulate", "1")
    lone.portside("down")
    database = lone.home / "store.db"
    for extra in lone.home.glob("*.db-*"):
        extra.unlink()
    database.write_bytes(b"this is no database at all" * 1000)
    before = database.read_bytes()
    done = lone.portside("up", check=False)
    assert done.returncode == 5
    assert str(database) in done.stderr
    assert database.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_said_before_anything_starts(tmp_path: Path, tools: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], check=True)
    try:
        done = Cluster(place / "home", tools).portside("up", "--simulate", "1", check=False)
        assert done.returncode == 3
        assert "nearly full" in done.stderr
        assert "--home" in done.stderr
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_missing_packages_are_listed_and_simulation_is_offered(tmp_path: Path) -> None:
    code = (
        "import sys, os; os.geteuid = lambda: 1000; os.environ['PATH'] = '/nonexistent';"
        "from portside.cli import packages, steps\n"
        "try: packages.ensure(steps.Steps())\n"
        "except steps.CliError as e: print(e); sys.exit(e.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 3
    assert "containerd" in done.stdout
    assert "--simulate" in done.stdout


def test_interrupting_up_leaves_a_state_from_which_it_goes_on(lone: Cluster) -> None:
    command = [sys.executable, "-m", "portside.cli.main", "up", "--home", str(lone.home), "--simulate", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 120
    while not (lone.home / "cluster.json").exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert process.returncode in (0, 130, -signal.SIGINT), errors  # the last where it had just ended: a shell says 130
    assert lone.portside("up", "--simulate", "1").returncode == 0
    assert "node-0" in lone.kubectl("get", "nodes", "-o", "name")


def test_two_ups_at_once_do_not_meet(lone: Cluster) -> None:
    words = [sys.executable, "-m", "portside.cli.main", "up", "--home", str(lone.home), "--simulate", "1"]
    runs = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in runs:
        process.communicate(timeout=180)
    codes = [process.returncode for process in runs]
    assert sorted(codes) in ([0, 0], [0, 8])


def test_watches_resume_over_kill_9_without_gap_or_repeat(lone: Cluster) -> None:
    lone.portside("up", "--simulate", "1")
    path = "/api/v1/namespaces/default/configmaps"
    query = "watch=true&labelSelector=told%3Dyes"  # the namespace gets a map of its own soon after the start
    start = Api(lone.kubeconfig).send("GET", path)[1]["metadata"]["resourceVersion"]
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            name = f"w-{number}"
            meta = {"name": name, "labels": {"told": "yes"}}
            body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}).encode()
            try:
                code = Api(lone.kubeconfig).send("POST", path, body)[0]
                if code == 201:
                    acknowledged.append(name)
                if code in (201, 409):  # 409: the write before the crash stood
                    number += 1
                else:
                    time.sleep(0.05)
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)

    seen: list[str] = []
    last = start
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _round in range(3):
            end = time.monotonic() + 120
            target = len(seen) + 20
            while len(seen) < target and time.monotonic() < end:
                try:
                    stream = Api(lone.kubeconfig).open("GET", f"{path}?{query}&resourceVersion={last}", timeout=10)
                    for line in stream:
                        event = json.loads(line)
                        assert event["type"] == "ADDED", event
                        seen.append(event["object"]["metadata"]["name"])
                        last = event["object"]["metadata"]["resourceVersion"]
                        if len(seen) >= target:
                            break
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)
            record = json.loads((lone.home / "run" / "control-plane.json").read_text())
            os.kill(record["pid"], signal.SIGKILL)
            lone.portside("up")
    finally:
        stop.set()
        writer.join(timeout=30)
    stored = {i["metadata"]["name"] for i in Api(lone.kubeconfig).send("GET", path)[1]["items"]}
    assert set(acknowledged) <= stored
    assert len(seen) == len(set(seen)), "an event came twice"
    numbers = [int(name.removeprefix("w-")) for name in seen]
    assert numbers == list(range(len(numbers))), "an event is missing or out of order"
    assert len(seen) >= 60
