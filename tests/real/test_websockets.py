"""exec and port-forward over plain WebSockets, as Python's, Rust's and Java's client libraries speak them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from websocket import ABNF, WebSocket, WebSocketBadStatusException  # type: ignore[import-untyped]

from tests.conftest import Cluster
from tests.real.test_kubectl import WEB, Bench
from tests.sockets import Dial

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


@pytest.fixture(scope="module")
def dial(real: Cluster) -> Iterator[Dial]:
    made = Dial(real.kubeconfig)
    yield made
    made.close()


@pytest.fixture
def web(real: Cluster, namespace: str) -> str:
    """The path of a pod that serves one page."""
    bench = Bench(real, namespace)
    bench.pod("web", WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    bench.ready("web")
    return f"/api/v1/namespaces/{namespace}/pods/web"


def answer(socket: WebSocket, channel: int) -> bytes:
    """What comes on one channel behind its port, until the page is complete."""
    found = b""
    while b"hello from web" not in found:
        message = socket.recv()
        assert message, found
        if message[0] == channel:
            found += message[1:]
    return found


@pytest.mark.parametrize("protocols", [None, ["v4.channel.k8s.io"]])
def test_ports_are_forwarded_in_channels(dial: Dial, web: str, protocols: list[str] | None) -> None:
    """Two channels a port, data and errors, each beginning with its port in two bytes, the lower first."""
    socket = dial(f"{web}/portforward?ports=8080&ports=9999", protocols=protocols)
    begun = {(m := socket.recv())[0]: int.from_bytes(m[1:], "little") for _ in range(4)}
    assert begun == {0: 8080, 1: 8080, 2: 9999, 3: 9999}
    socket.send_binary(b"\0GET / HTTP/1.0\r\n\r\n")
    assert b"200 OK" in answer(socket, 0)


def test_a_forward_without_a_port_is_refused(dial: Dial, web: str) -> None:
    for query, why in (("", "is required"), ("?ports=0", "must be > 0"), ("?ports=x", "as a port")):
        with pytest.raises(WebSocketBadStatusException) as refused:
            dial(f"{web}/portforward{query}")
        assert (refused.value.status_code, why in str(refused.value.resp_body)) == (400, True)


def test_a_close_is_answered_by_a_close(dial: Dial, web: str) -> None:
    """Java's clients take a connection that just ends for a failure, and leave without the result."""
    socket = dial(f"{web}/exec?command=cat&stdin=true&stdout=true", protocols=["v4.channel.k8s.io"])
    socket.recv()
    socket.send_binary(b"\0hello")
    assert socket.recv() == b"\1hello"
    socket.send_close()
    while (frame := socket.recv_frame()).opcode != ABNF.OPCODE_CLOSE:
        pass
    assert int.from_bytes(frame.data[:2], "big") == 1000


def test_a_command_ends_with_its_status(dial: Dial, web: str) -> None:
    path = f"{web}/exec?command=sh&command=-c&command=exit+3&stdout=true&stderr=true"
    socket = dial(path, protocols=["v4.channel.k8s.io"])
    messages = [m for m in iter(socket.recv, "") if len(m) > 1]
    status = json.loads(messages[-1][1:])
    assert (messages[-1][0], status["reason"], status["details"]["causes"][0]["message"]) == (3, "NonZeroExitCode", "3")
