"""The everyday kubectl commands on containers that really run: logs, exec, cp, port-forward, debug, services, failures."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.names import conformance
from tests.conftest import ROOT, Cluster
from tests.real.neighbourhood import until

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]

IMAGE = "docker.io/portside/busybox:1"
PATIENCE = 120.0  # seconds; the machine may be loaded


class Bench:
    """kubectl in one namespace."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def kubectl(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, stdin=stdin, timeout=PATIENCE + 30, check=check)

    def start(self, *words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """kubectl that goes on; its errors come with its output."""
        command = [str(self.cluster.tools / "kubectl"), "--kubeconfig", str(self.cluster.kubeconfig)]
        return subprocess.Popen(
            [*command, "-n", self.namespace, *words],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"HOME": str(self.cluster.home), "KUBECTL_KUBERC": "false"},
        )

    def code(self, *words: str) -> int:
        with ended(self.start(*words)) as running:
            running.communicate(timeout=PATIENCE)
            return running.returncode

    def pod(self, name: str, script: str, **changes: Any) -> None:
        """Create a pod that runs a shell script; keys of its container and of its spec are told apart by ``spec``."""
        spec = changes.pop("spec", {})
        container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script]} | changes
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]} | spec,
        }
        self.kubectl("create", "-f", "-", stdin=json.dumps(body))

    def wait(self, what: str, condition: str) -> None:
        self.kubectl("wait", what, f"--for={condition}", f"--timeout={PATIENCE:.0f}s")

    def ready(self, name: str) -> None:
        self.wait(f"pod/{name}", "condition=Ready")

    def state(self, name: str) -> dict[str, Any]:
        status = json.loads(self.kubectl("get", "pod", name, "-o", "json"))["status"]
        return dict((status.get("containerStatuses") or [{"state": {}}])[0])

    def eventually(self, found: Callable[[], str], wanted: str) -> str:
        """Ask until the answer matches the pattern."""
        end = time.monotonic() + PATIENCE
        while not re.search(wanted, answer := found(), re.MULTILINE):
            assert time.monotonic() < end, f"no {wanted!r} in:\n{answer}"
            time.sleep(0.2)
        return answer


@contextlib.contextmanager
def ended(running: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def bench(real: Cluster, namespace: str) -> Bench:
    return Bench(real, namespace)


SLEEP = "trap 'exit 0' TERM; while :; do sleep 1; done"
WEB = "mkdir /www; echo hello from $HOSTNAME > /www/index.html; exec httpd -f -p 8080 -h /www"


@conformance("CLI", "logs: tail, limit-bytes, timestamps, since")
def test_logs(bench: Bench) -> None:
    """Whole, tail, limit, timestamps, since, and by label."""
    bench.pod("talk", "for i in 1 2 3 4 5; do echo line $i; done", spec={"restartPolicy": "Never"})
    bench.wait("pod/talk", "jsonpath={.status.phase}=Succeeded")
    assert bench.kubectl("logs", "talk") == "".join(f"line {i}\n" for i in range(1, 6))
    assert bench.kubectl("logs", "talk", "--tail=2") == "line 4\nline 5\n"
    assert bench.kubectl("logs", "talk", "--limit-bytes=6") == "line 1"
    stamped = bench.kubectl("logs", "talk", "--timestamps", "--tail=1")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z line 5\n", stamped)
    assert bench.kubectl("logs", "talk", "--since=1h") == bench.kubectl("logs", "talk")
    assert bench.kubectl("logs", "talk", "--since-time=2999-01-01T00:00:00Z") == ""
    assert bench.kubectl("logs", "-l", "app=talk", "--prefix", "--tail=1") == "[pod/talk/main] line 5\n"
    assert "container nope is not valid for pod talk" in bench.kubectl("logs", "talk", "-c", "nope", check=False)


def test_logs_follow(bench: Bench) -> None:
    """-f shows what is written while it looks, and ends with the container."""
    bench.pod("follow", "echo one; until test -e /go; do sleep 0.1; done; echo two", spec={"restartPolicy": "Never"})
    bench.ready("follow")
    with ended(bench.start("logs", "-f", "follow")) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "one\n"
        bench.kubectl("exec", "follow", "--", "touch", "/go")
        out, _ = running.communicate(timeout=PATIENCE)
        assert (out, running.returncode) == ("two\n", 0)


def test_logs_previous(bench: Bench) -> None:
    """The log of the run before the restart; refused while there was none."""
    script = f"if test -e /keep/ran; then echo second; {SLEEP}; fi; touch /keep/ran; echo first; exit 3"
    mount = [{"name": "keep", "mountPath": "/keep"}]
    bench.pod("again", script, volumeMounts=mount, spec={"volumes": [{"name": "keep", "emptyDir": {}}]})
    bench.wait("pod/again", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    bench.ready("again")
    assert bench.kubectl("logs", "again", "--previous") == "first\n"
    bench.eventually(lambda: bench.kubectl("logs", "again"), r"\Asecond\n\Z")
    state = bench.state("again")
    assert state["lastState"]["terminated"]["exitCode"] == 3
    assert state["lastState"]["terminated"]["reason"] == "Error"
    bench.pod("once", SLEEP)
    bench.ready("once")
    refused = bench.kubectl("logs", "once", "--previous", check=False)
    assert 'previous terminated container "main" in pod "once" not found' in refused


def test_exec(bench: Bench) -> None:
    """Output, errors, exit code, and standard input to its end."""
    bench.pod("box", SLEEP)
    bench.ready("box")
    assert bench.kubectl("exec", "box", "--", "sh", "-c", "echo out; id -u") == "out\n0\n"
    failed = bench.kubectl("exec", "box", "--", "sh", "-c", "echo bad >&2; exit 7", check=False)
    assert "bad\n" in failed and "command terminated with exit code 7" in failed
    assert bench.code("exec", "box", "--", "sh", "-c", "exit 7") == 7
    text = "".join(f"{n}\n" for n in range(50_000))
    assert bench.kubectl("exec", "-i", "box", "--", "cat", stdin=text) == text
    assert bench.kubectl("exec", "-i", "box", "--", "wc", "-c", stdin=text).strip() == str(len(text))
    missing = bench.kubectl("exec", "box", "--", "no-such-command", check=False)
    assert "no-such-command" in missing and "not found" in missing
    assert bench.code("exec", "box", "--", "no-such-command") != 0


def test_cp(bench: Bench, tmp_path: Path) -> None:
    """A file and a folder into the container and back, byte for byte."""
    bench.pod("box", SLEEP)
    bench.ready("box")
    data = os.urandom(600_000)
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "data").write_bytes(data)
    (tmp_path / "tree" / "note").write_text("hello\n")
    bench.kubectl("cp", str(tmp_path / "tree" / "note"), "box:/tmp/note")
    assert bench.kubectl("exec", "box", "--", "cat", "/tmp/note") == "hello\n"
    bench.kubectl("cp", str(tmp_path / "tree"), "box:/tmp/tree")
    bench.kubectl("cp", "box:/tmp/tree", str(tmp_path / "back"))
    assert (tmp_path / "back" / "deep" / "data").read_bytes() == data
    assert (tmp_path / "back" / "note").read_text() == "hello\n"


def test_port_forward(bench: Bench) -> None:
    """To a pod and to a service, several requests through one tunnel."""
    bench.pod("web", WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    bench.ready("web")
    bench.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080")
    for target, port in (("pod/web", "8080"), ("service/web", "80")):
        with ended(bench.start("port-forward", "--address=127.0.0.1", target, f":{port}")) as running:
            assert running.stdout is not None
            line = running.stdout.readline()
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) -> 8080", line)
            assert found, line
            for _ in range(3):
                assert _get("127.0.0.1", int(found[1])) == "hello from web\n"


@conformance("ReplicaSet", "serves a basic image on each replica")
@conformance("ReplicationController", "serves a basic image on each replica")
@pytest.mark.parametrize("kind", ["ReplicaSet", "ReplicationController"])
def test_every_replica_answers_with_its_own_name(bench: Bench, kind: str) -> None:
    """Each pod of a set is asked through the API server's proxy."""
    probe = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    container = {"name": "main", "image": IMAGE, "command": ["sh", "-c", WEB], "readinessProbe": probe}
    labels = {"app": "web"}
    pod = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]}}
    modern = kind == "ReplicaSet"
    selector = {"matchLabels": labels} if modern else labels
    spec = {"replicas": 2, "selector": selector, "template": pod}
    body = {"apiVersion": "apps/v1" if modern else "v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}
    bench.kubectl("create", "-f", "-", stdin=json.dumps(body))
    bench.wait(f"{kind.lower()}/web", "jsonpath={.status.readyReplicas}=2")
    for name in bench.kubectl("get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.name}").split():
        path = f"/api/v1/namespaces/{bench.namespace}/pods/{name}:8080/proxy/"
        assert bench.kubectl("get", "--raw", path) == f"hello from {name}\n"


@conformance("CLI", "guestbook application")
def test_the_guestbook_keeps_what_is_written(real: Cluster, tmp_path: Path) -> None:
    """The example of the README, but for its volume: built, started by up, and written to through its front end."""
    folder = shutil.copytree(ROOT / "examples", tmp_path / "examples")
    manifest = folder / "guestbook.yaml"
    volume = "hostPath: {path: /var/lib/portside-guestbook, type: DirectoryOrCreate}"
    assert volume in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(volume, "emptyDir: {}"))
    real.portside("up", str(manifest))
    try:
        door = "/api/v1/namespaces/default/services/guestbook:http/proxy"
        # Its three tiers are ready each for itself; they find each other by Services a moment later.
        until(lambda: real.kubectl("get", "--raw", f"{door}/entries", check=False), lambda a: a == '{"entries":[]}')
        real.kubectl("create", "--raw", f"{door}/entries", "-f", "-", stdin="text=hello+there", check=False)
        assert real.kubectl("get", "--raw", f"{door}/entries") == '{"entries":[{"text":"hello there"}]}'
        assert "<form" in real.kubectl("get", "--raw", f"{door}/")
    finally:
        real.kubectl("delete", "-f", str(manifest), "--wait=false")


def test_attach(bench: Bench) -> None:
    """Standard input reaches the container's own process, and its output comes back."""
    script = "while read line; do echo got $line; test $line = end && exit 0; done"
    bench.pod("talk", script, stdin=True, stdinOnce=True, spec={"restartPolicy": "Never"})
    bench.ready("talk")
    out = bench.kubectl("attach", "-i", "talk", stdin="a\nend\n")
    assert "got a\ngot end\n" in out
    bench.wait("pod/talk", "jsonpath={.status.phase}=Succeeded")
    assert bench.kubectl("logs", "talk") == "got a\ngot end\n"


def test_run_and_remove(bench: Bench) -> None:
    """run --rm -i: input in, output out, and nothing left."""
    command = ("run", "one", f"--image={IMAGE}", "--rm", "-i", "--restart=Never", "--quiet", "--command", "--")
    out = bench.kubectl(*command, "sh", "-c", "sort; echo done", stdin="b\na\n")
    assert "a\nb\ndone\n" in out
    bench.eventually(lambda: bench.kubectl("get", "pods", check=False), "No resources found")


def test_debug(bench: Bench) -> None:
    """An ephemeral container joins a running pod and shares its network."""
    bench.pod("web", WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    bench.ready("web")
    bench.kubectl("debug", "web", f"--image={IMAGE}", "-c", "look", "--", "wget", "-qO-", "http://127.0.0.1:8080/")
    ended_well = "jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.exitCode}=0"
    bench.wait("pod/web", ended_well)
    assert bench.kubectl("logs", "web", "-c", "look") == "hello from web\n"
    assert bench.state("web")["restartCount"] == 0


def test_service(bench: Bench) -> None:
    """By cluster name from a pod, in all its forms, and by node port from the host."""
    bench.pod("web", WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    bench.pod("box", SLEEP)
    bench.kubectl("expose", "pod", "web", "--port=80", "--target-port=8080", "--type=NodePort")
    bench.ready("web")
    bench.ready("box")

    address = bench.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    full = f"web.{bench.namespace}.svc.cluster.local"
    # nslookup, ping and nc, because wget -T of the static busybox crashes, on the host as well.
    bench.eventually(lambda: bench.kubectl("exec", "box", "--", "nslookup", full, check=False), f"^Address: {address}$")
    for name in ("web", f"web.{bench.namespace}", full):
        asked = ("exec", "box", "--", "ping", "-c", "1", "-W", "1", name)
        bench.eventually(
            lambda asked=asked: bench.kubectl(*asked, check=False),  # type: ignore[misc]
            re.escape(f"PING {name} ({address})"),
        )
    fetch = ("exec", "-i", "box", "--", "nc", "-w", "5", address, "80")
    bench.eventually(lambda: bench.kubectl(*fetch, stdin="GET / HTTP/1.0\r\n\r\n", check=False), "^hello from web$")
    port = int(bench.kubectl("get", "service", "web", "-o", "jsonpath={.spec.ports[0].nodePort}"))
    node = bench.kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")
    bench.eventually(lambda: _get(node, port), r"\Ahello from web$")


def test_image_that_can_not_be_pulled(bench: Bench) -> None:
    bench.pod("lost", SLEEP, image="localhost:1/no/such:1")
    told = bench.eventually(lambda: bench.kubectl("get", "pod", "lost"), "ErrImagePull|ImagePullBackOff")
    assert "0/1" in told
    bench.eventually(lambda: bench.kubectl("get", "pod", "lost"), "ImagePullBackOff")
    # It is tried again now and then, and waits for another reason meanwhile.
    bench.eventually(
        lambda: json.dumps(bench.state("lost")["state"]["waiting"]["message"]),
        re.escape(r"Back-off pulling image \"localhost:1/no/such:1\""),
    )
    described = bench.eventually(lambda: bench.kubectl("describe", "pod", "lost"), "Error: ImagePullBackOff")
    assert re.search(r'Warning +Failed .*Failed to pull image "localhost:1/no/such:1": ', described)
    assert re.search(r'Normal +Pulling .*Pulling image "localhost:1/no/such:1"', described)
    assert "Error: ErrImagePull" in described
    refused = bench.kubectl("logs", "lost", check=False)
    assert 'container "main" in pod "lost" is waiting to start: trying and failing to pull image' in refused


def test_command_that_does_not_exist(bench: Bench) -> None:
    bench.pod("typo", "", command=["no-such-command"], spec={"restartPolicy": "Never"})
    bench.wait("pod/typo", "jsonpath={.status.phase}=Failed")
    ended_so = bench.state("typo")["state"]["terminated"]
    assert (ended_so["reason"], ended_so["exitCode"]) == ("StartError", 128)
    assert '"no-such-command": executable file not found in $PATH' in ended_so["message"]
    described = bench.eventually(lambda: bench.kubectl("describe", "pod", "typo"), r"Warning +Failed ")
    assert "StartError" in described and "executable file not found" in described


def test_probe_that_never_passes(bench: Bench) -> None:
    """Readiness keeps the pod out of service; liveness restarts it."""
    command = ["sh", "-c", "echo not yet; exit 1"]
    never = {"exec": {"command": command}, "periodSeconds": 1, "timeoutSeconds": 30}
    bench.pod("unready", SLEEP, readinessProbe=never)
    bench.pod("sick", SLEEP, livenessProbe=never | {"failureThreshold": 1})
    described = bench.eventually(lambda: bench.kubectl("describe", "pod", "unready"), "Readiness probe failed: not yet")
    assert re.search(r"Warning +Unhealthy ", described)
    assert re.search(r"^  Ready +False", described, re.MULTILINE)
    assert re.search(r"unready +0/1 +Running +0 ", bench.kubectl("get", "pod", "unready"))
    words = ("Restart Count: +[1-9]", "Liveness probe failed: not yet", "Container main failed liveness probe, will be restarted")  # fmt: skip
    for wanted in words:
        bench.eventually(lambda: bench.kubectl("describe", "pod", "sick"), wanted)


def test_delete_now(bench: Bench) -> None:
    """A process that ignores its end gets one second instead of its grace period."""
    bench.pod("deaf", "trap '' TERM; while :; do sleep 1; done", spec={"terminationGracePeriodSeconds": 300})
    bench.ready("deaf")
    began = time.monotonic()
    bench.kubectl("delete", "pod", "deaf", "--now")
    assert time.monotonic() - began < PATIENCE
    assert "NotFound" in bench.kubectl("get", "pod", "deaf", check=False)


def _get(host: str, port: int) -> str:
    """The page, or why there is none."""
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://{host}:{port}/", timeout=30) as answer:
            return str(answer.read().decode())
    except (TimeoutError, OSError) as error:
        return f"no answer: {error}"
