"""The API server as a way in: the proxy subresource by every method and name, kubectl proxy, port-forward to Services."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.names import conformance
from tests.real.neighbourhood import Neighbourhood, endpoint_slice, fetch, pod, server, service, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(str(self.path))


class Door:
    """The API through `kubectl proxy` on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, path: str, method: str = "GET", body: str = "") -> tuple[int, str, dict[str, str]]:
        link = UnixConnection(self.path)
        link.request(method, path, body=body or None)
        answer = link.getresponse()
        text = answer.read().decode()
        headers = {k.lower(): v for k, v in answer.getheaders()}
        link.close()
        return answer.status, text, headers

    def message(self, path: str) -> tuple[int, str]:
        code, text, _ = self(path)
        return code, str(json.loads(text)["message"])


def answers(door: Door) -> bool:
    try:
        return door("/version")[0] == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def door(town: Neighbourhood, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    path = Path("/tmp") / f"door-{os.getpid()}"
    path.unlink(missing_ok=True)
    command = [str(town.cluster.tools / "kubectl"), "--kubeconfig", str(town.cluster.kubeconfig), "proxy"]
    running = subprocess.Popen([*command, f"--unix-socket={path}", "--reject-paths=^$", "--reject-methods=^$"])
    try:
        until(lambda: path.exists() and answers(Door(path)), bool)
        yield Door(path)
    finally:
        running.kill()
        running.wait()
        path.unlink(missing_ok=True)


def of(town: Neighbourhood, kind: str, name: str, path: str = "/") -> str:
    return f"/api/v1/namespaces/{town.namespace}/{kind}/{name}/proxy{path}"


@conformance("Network", "API server proxy to pod and service, many HTTP methods", "API server proxy with path")
def test_every_method_reaches_pod_and_service(town: Neighbourhood, door: Door) -> None:
    for kind, name in (("pods", "web-0:8080"), ("services", "web")):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
            code, text, headers = door(
                of(town, kind, name, "/some/path?q=a%20b"), method, "body" if method == "PUT" else ""
            )
            assert code == 200, (kind, method, text)
            assert text.split()[1:3] == [method, "/some/path?q=a%20b"]
            assert headers["x-method"] == method
            assert text.endswith("body\n") == (method == "PUT")
        code, text, headers = door(of(town, kind, name), "HEAD")
        assert (code, text, headers["x-method"]) == (200, "", "HEAD")


def test_a_path_without_its_slash_is_moved_for_readers_only(town: Neighbourhood, door: Door) -> None:
    for kind, name in (("pods", "web-0:8080"), ("services", "web")):
        for method in ("GET", "HEAD"):
            code, _, headers = door(of(town, kind, name, "?method=GET"), method)
            assert (code, headers["location"]) == (301, of(town, kind, name, "/?method=GET"))
        assert door(of(town, kind, name, "?method=PUT"), "PUT")[1].split()[1:3] == ["PUT", "/?method=PUT"]


@conformance("Network", "API server proxy through service and pod, ports and names")
def test_ports_by_number_and_name_and_schemes(town: Neighbourhood, door: Door) -> None:
    ports = [{"name": "a", "port": 8081, "targetPort": 8080}, {"name": "b", "port": 8082, "targetPort": 160}]
    town.apply(service("doors", {"app": "web"}, *ports), pod("deaf", server(160), labels={"app": "deaf"}))
    town.ready("deaf")
    town.served("doors", 3)
    for name in ("doors:a", "doors:8081", "http:doors:a", "http:doors:8081"):
        assert door(of(town, "services", name))[0] == 200, name
    for name in ("web-0:8080", "http:web-0:8080"):
        assert door(of(town, "pods", name))[0] == 200, name
    code, text = door.message(of(town, "services", "doors:b"))
    assert code == 503
    assert text.startswith("error trying to reach service: dial tcp ")
    assert text.endswith(":160: connect: connection refused")
    code, text = door.message(of(town, "services", "https:doors:a"))
    assert code == 503
    assert text.startswith("error trying to reach service: ")
    assert door.message(of(town, "services", "doors")) == (503, 'no endpoints available for service "doors"')
    assert door.message(of(town, "services", "doors:c")) == (503, 'no endpoints available for service "doors:c"')
    assert door.message(of(town, "services", "doors:99")) == (503, 'no service port 99 found for service "doors"')
    assert door.message(of(town, "services", "ftp:doors:a")) == (400, 'invalid service request "ftp:doors:a"')
    assert door.message(of(town, "pods", "a:b:c:d")) == (400, 'invalid pod request "a:b:c:d"')
    assert door.message(of(town, "pods", "nobody")) == (404, 'pods "nobody" not found')
    assert door.message(of(town, "services", "nobody:80")) == (404, 'services "nobody" not found')
    town.remove("service", "doors")
    town.remove("pod", "deaf")


def test_links_and_redirects_come_back_through_the_proxy(town: Neighbourhood, door: Door) -> None:
    base = of(town, "pods", "web-0:8080", "")
    _, text, headers = door(f"{base}/page")
    assert text == f'<a href="{base}/next">next</a> <a href="stay">stay</a> <img src="{base}/i.png">\n'
    assert headers["content-type"] == "text/html"
    code, _, headers = door(f"{base}/moved")
    assert (code, headers["location"]) == (302, f"{base}/there")
    assert door(f"{base}/teapot")[0] == 418


def test_only_pods_are_reached_through_a_service(town: Neighbourhood, door: Door) -> None:
    """A hand-made slice must not turn the API server into a way to anywhere."""
    town.apply(service("trick", None))
    town.apply(
        endpoint_slice("trick", "trick", [{"name": "", "port": 8080, "protocol": "TCP"}], town.address_of("web-0"))
    )
    assert door.message(of(town, "services", "trick")) == (503, 'no endpoints available for service "trick"')
    town.remove("service", "trick")
    town.remove("endpointslice", "trick")


def test_a_node_answers_through_the_proxy(town: Neighbourhood, door: Door) -> None:
    name = town.node["metadata"]["name"]
    assert door(f"/api/v1/nodes/{name}/proxy/healthz")[:2] == (200, "ok")
    port = town.node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    assert door(f"/api/v1/nodes/{name}:{port}/proxy/healthz")[:2] == (200, "ok")
    assert door.message("/api/v1/nodes/nobody/proxy/healthz") == (404, 'nodes "nobody" not found')


@contextlib.contextmanager
def running(town: Neighbourhood, *words: str) -> Iterator[str]:
    """kubectl that goes on, as long as the block; its first line."""
    command = [str(town.cluster.tools / "kubectl"), "--kubeconfig", str(town.cluster.kubeconfig), *words]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert started.stdout is not None
        yield started.stdout.readline()
    finally:
        started.kill()
        started.wait()


@conformance("CLI", "proxy --port 0")
def test_kubectl_proxy_on_a_port_it_chooses(town: Neighbourhood) -> None:
    with running(town, "proxy", "--port=0") as line:
        port = int(line.rsplit(":", 1)[1])
        assert '"v1"' in fetch("127.0.0.1", port, "/api/", timeout=60)


def test_port_forward_to_a_service(town: Neighbourhood) -> None:
    words = ("-n", town.namespace, "port-forward", "--address=127.0.0.1", "service/web", ":80")
    with running(town, *words) as line:
        port = int(line.split(" -> ")[0].rsplit(":", 1)[1])
        for _ in range(3):
            assert "GET /x" in fetch("127.0.0.1", port, "/x", timeout=60)
