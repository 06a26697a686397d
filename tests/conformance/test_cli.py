"""The conformance names of the CLI that need no container: the real kubectl 1.37 against simulated nodes."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.ground import complete
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import within

Json = dict[str, Any]
IMAGE = "docker.io/portside/busybox:1"


class Space:
    """kubectl within a namespace of the test's own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin, check=check)

    def create(self, body: Json) -> None:
        self("create", "-f", "-", stdin=json.dumps(body))

    def get(self, *words: str) -> Json:
        return dict(json.loads(self("get", *words, "-o", "json")))


@pytest.fixture
def k(simulated: Cluster) -> Iterator[Space]:
    name = f"cli-{uuid.uuid4().hex[:8]}"
    simulated.kubectl("create", "namespace", name)
    complete(simulated, name)
    yield Space(simulated, name)
    simulated.kubectl("delete", "namespace", name, "--wait=false")


def controller(name: str, replicas: int = 1) -> Json:
    labels = {"app": name}
    container = {"name": "main", "image": IMAGE, "ports": [{"containerPort": 6379}]}
    spec = {"replicas": replicas, "selector": labels}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name, "labels": labels},
        "spec": spec | {"template": template},
    }


def ready(k: Space, name: str, count: int) -> list[str]:
    """Waits until the controller's pods are ready; their names."""
    k("wait", f"rc/{name}", f"--for=jsonpath={{.status.readyReplicas}}={count}", "--timeout=60s")
    return k("get", "pods", "-l", f"app={name}", "-o", "jsonpath={.items[*].metadata.name}").split()


@conformance("CLI", "api-versions has v1")
def test_api_versions(k: Space) -> None:
    assert "v1" in k("api-versions").split("\n")


@conformance("CLI", "cluster-info names the control plane")
def test_cluster_info(k: Space) -> None:
    assert re.search(r"Kubernetes control plane.*is running at.*https://127\.0\.0\.1:\d+", k("cluster-info"))


@conformance("CLI", "version prints client and server fields")
def test_version(k: Space) -> None:
    said = json.loads(k("version", "-o", "json"))
    for side in ("clientVersion", "serverVersion"):
        found = said[side]
        assert (found["major"], found["minor"]) == ("1", "37")
        assert found.keys() >= {
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        }


@conformance("CLI", "describe rc, pod, service, node, namespace")
def test_describe(k: Space) -> None:
    k.create(controller("primary"))
    (pod,) = ready(k, "primary", 1)
    k("expose", "rc", "primary", "--port=6379", "--name=primary")
    node = str(k.get("pod", pod)["spec"]["nodeName"])
    wanted = {
        f"pod {pod}": ("Name: +primary-", "Namespace:", "Node: +node-", "Labels: +app=primary", "Status: +Running", "IP:",
                       "Controlled By: +ReplicationController/primary", f"Image: +{IMAGE}", "State: +Running", "QoS Class:"),
        "rc primary": ("Name: +primary", "Namespace:", "Selector: +app=primary", "Replicas: +1 current / 1 desired",
                       "Pods Status: +1 Running / 0 Waiting / 0 Succeeded / 0 Failed", "Pod Template:", "Events:"),
        "service primary": ("Name: +primary", "Namespace:", "Labels: +app=primary", "Selector: +app=primary",
                            "Type: +ClusterIP", "IP:", "Port: +<unset> +6379/TCP", "Endpoints: +[0-9.]+:6379", "Session Affinity: +None"),
        f"node {node}": (f"Name: +{node}", "Labels:", "Annotations:", "CreationTimestamp:", "Conditions:",
                         "MemoryPressure", "DiskPressure", "PIDPressure", "Ready", "Addresses:", "Capacity:", "Version:",
                         "Kubelet Version:", "Pods:"),
        f"namespace {k.name}": (f"Name: +{k.name}", "Labels:", "Annotations:", "Status: +Active", "No resource quota",
                                "No LimitRange resource"),
    }  # fmt: skip

    def lacking(words: str) -> str:
        text = k("describe", *words.split())
        left = [p for p in wanted[words] if not re.search(p, text)]
        return f"{left} in:\n{text}" if left else ""

    for words in wanted:
        assert within(60, lambda words=words: not lacking(words)), lacking(words)  # type: ignore[misc]


@conformance("CLI", "diff of a Deployment")
def test_diff_of_a_deployment(k: Space) -> None:
    made = k("create", "deployment", "web", f"--image={IMAGE}", "--dry-run=client", "-o", "json")
    k("apply", "-f", "-", stdin=made)
    k("rollout", "status", "deployment/web", "--timeout=60s")  # a diff of what still changes shows that too
    changed = k("diff", "-f", "-", stdin=made.replace(IMAGE, "docker.io/portside/other:2"), check=False)
    assert re.search(rf"^-\s+- image: {IMAGE}$", changed, re.M)
    assert re.search(r"^\+\s+- image: docker.io/portside/other:2$", changed, re.M)
    assert k("diff", "-f", "-", stdin=made) == ""


@conformance("CLI", "expose an rc twice")
def test_expose_a_controller_and_its_service(k: Space) -> None:
    k.create(controller("primary"))
    ready(k, "primary", 1)
    address = k("get", "pods", "-l", "app=primary", "-o", "jsonpath={.items[0].status.podIP}")
    k("expose", "rc", "primary", "--name=rm2", "--port=1234", "--target-port=6379")
    k("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        k("wait", "--for=create", f"endpoints/{name}", "--timeout=60s")
        k("wait", "--for=jsonpath={.subsets[0].addresses[0].ip}", f"endpoints/{name}", "--timeout=60s")
        found = k.get("endpoints", name)["subsets"]
        assert [(s["addresses"][0]["ip"], s["ports"][0]["port"]) for s in found] == [(address, 6379)]
        assert k.get("service", name)["spec"]["ports"][0]["port"] == port


@conformance("CLI", "label add, read by -l, remove")
def test_labels(k: Space) -> None:
    k("run", "pause", f"--image={IMAGE}")
    assert k("label", "pods", "pause", "testing-label=testing-label-value") == "pod/pause labeled\n"
    assert "testing-label-value" in k("get", "pod", "pause", "-L", "testing-label")
    assert k("get", "pods", "-l", "testing-label=testing-label-value", "-o", "name") == "pod/pause\n"
    assert k("label", "pods", "pause", "testing-label-") == "pod/pause unlabeled\n"
    assert "testing-label-value" not in k("get", "pod", "pause", "-L", "testing-label")


@conformance("CLI", "patch annotations on an rc's pods")
def test_patch_of_a_controllers_pods(k: Space) -> None:
    k.create(controller("primary", 2))
    for name in ready(k, "primary", 2):
        assert k("patch", "pod", name, "-p", '{"metadata":{"annotations":{"x":"y"}}}') == f"pod/{name} patched\n"
    items = k.get("pods", "-l", "app=primary")["items"]
    assert [i["metadata"]["annotations"]["x"] for i in items] == ["y", "y"]


@conformance("CLI", "replace a pod's image")
def test_replace_of_a_pods_image(k: Space) -> None:
    k("run", "web", f"--image={IMAGE}", "--labels=run=web")
    k("wait", "pod/web", "--for=condition=Ready", "--timeout=60s")
    assert k("get", "pods", "-l", "run=web", "-o", "name") == "pod/web\n"
    body = k("get", "pod", "web", "-o", "json").replace(IMAGE, "docker.io/portside/other:2")
    assert k("replace", "-f", "-", stdin=body) == "pod/web replaced\n"
    assert k.get("pod", "web")["spec"]["containers"][0]["image"] == "docker.io/portside/other:2"


@conformance("CLI", "run with restart Never")
def test_run_with_restart_never(k: Space) -> None:
    assert k("run", "once", "--restart=Never", f"--image={IMAGE}") == "pod/once created\n"
    spec = k.get("pod", "once")["spec"]
    assert (spec["restartPolicy"], spec["containers"][0]["image"]) == ("Never", IMAGE)


@conformance("CLI", "server-side dry-run patch changes nothing")
def test_a_dry_run_on_the_server(k: Space) -> None:
    k("run", "web", f"--image={IMAGE}")
    other = '{"spec":{"containers":[{"name": "web","image": "docker.io/portside/other:2"}]}}'
    said = k("patch", "pod", "web", "-p", other, "--dry-run=server", "-o", "jsonpath={.spec.containers[0].image}")
    assert said == "docker.io/portside/other:2"
    assert k.get("pod", "web")["spec"]["containers"][0]["image"] == IMAGE


@conformance("CLI", "update-demo: create and stop an rc")
def test_a_controller_is_created_and_stopped(k: Space) -> None:
    k.create(controller("update-demo", 2))
    names = ready(k, "update-demo", 2)
    shown = "{{range .items}}{{range .status.containerStatuses}}{{.image}} {{.ready}};{{end}}{{end}}"
    assert k("get", "pods", "-l", "app=update-demo", "-o", "template", f"--template={shown}") == f"{IMAGE} true;" * 2
    assert len(set(names)) == 2
    k("delete", "rc", "update-demo", "--cascade=foreground", "--timeout=60s")
    assert k("get", "rc,pods", "-l", "app=update-demo", "-o", "name") == ""


@conformance("CLI", "update-demo: scale an rc")
def test_a_controller_is_scaled_down_and_up(k: Space) -> None:
    k.create(controller("update-demo", 2))
    ready(k, "update-demo", 2)
    for count in (1, 2):
        assert k("scale", "rc", "update-demo", f"--replicas={count}", "--timeout=60s").endswith("scaled\n")
        k("wait", "rc/update-demo", f"--for=jsonpath={{.status.replicas}}={count}", "--timeout=60s")
        ready(k, "update-demo", count)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


@contextlib.contextmanager
def proxy(k: Space, *words: str) -> Iterator[str]:
    """kubectl proxy, as long as the block; its first line."""
    command = [str(k.cluster.tools / "kubectl"), "--kubeconfig", str(k.cluster.kubeconfig), "proxy", *words]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        yield started.stdout.readline()
    finally:
        started.kill()
        started.wait()


def versions(connection: http.client.HTTPConnection) -> list[str]:
    with contextlib.closing(connection):
        connection.request("GET", "/api/")
        return list(json.loads(connection.getresponse().read())["versions"])


@conformance("CLI", "proxy on a unix socket")
def test_proxy_on_a_socket_file(k: Space, tmp_path: Path) -> None:
    path = tmp_path / "s"
    with proxy(k, f"--unix-socket={path}") as line:
        assert str(path) in line
        assert versions(UnixConnection(path)) == ["v1"]


@conformance("CLI", "proxy --port 0")
def test_proxy_on_a_port_it_chooses(k: Space) -> None:
    with proxy(k, "--port=0") as line:
        address, port = line.split()[-1].split(":")
        assert versions(http.client.HTTPConnection(address, int(port), timeout=60)) == ["v1"]
