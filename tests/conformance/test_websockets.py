"""Watches over WebSockets, as browsers and older Java clients read them, and tokens that come as a protocol."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from websocket import WebSocket, WebSocketBadStatusException, create_connection  # type: ignore[import-untyped]

from tests.conformance.ground import Ground
from tests.conformance.ground import ground as ground
from tests.unit.server.test_handshake import BEARER

SECONDS = 60


class Dial:
    """Opens WebSockets to the cluster under test, as the administrator or as nobody."""

    def __init__(self, ground: Ground) -> None:
        config = yaml.safe_load(ground.cluster.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        self.files = {}
        for name, held in (("ca", cluster["certificate-authority-data"]), *((k, v) for k, v in user.items())):
            self.files[name] = ground.cluster.home / f"socket-{name}"
            self.files[name].write_bytes(base64.b64decode(held))
        self.open: list[WebSocket] = []

    def __call__(self, path: str, *, admin: bool = True, protocols: list[str] | None = None) -> WebSocket:
        options: dict[str, Any] = {"ca_certs": str(self.files["ca"]), "cert_reqs": ssl.CERT_REQUIRED}
        if admin:
            options |= {"certfile": str(self.files["client-certificate-data"])}
            options |= {"keyfile": str(self.files["client-key-data"])}
        url = self.server.replace("https:", "wss:") + path
        socket = create_connection(url, timeout=SECONDS, sslopt=options, subprotocols=protocols)
        self.open.append(socket)
        return socket


@pytest.fixture
def dial(ground: Ground) -> Iterator[Dial]:
    made = Dial(ground)
    yield made
    for socket in made.open:
        socket.close()


def test_each_event_of_a_watch_is_a_message(ground: Ground, dial: Dial) -> None:
    for name in "ab":
        ground.create("configmaps", {"metadata": {"name": name, "labels": {"app": "w"}}})
    socket = dial(ground.path("configmaps", watch="true", labelSelector="app=w"))
    held = [json.loads(socket.recv()) for _ in "ab"]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in held] == [("ADDED", "a"), ("ADDED", "b")]
    ground.patch("configmaps", "a", {"data": {"k": "v"}})
    ground.delete("configmaps", "b")
    news = [json.loads(socket.recv()) for _ in range(2)]
    assert [(e["type"], e["object"]["metadata"]["name"]) for e in news] == [("MODIFIED", "a"), ("DELETED", "b")]


def test_a_watch_that_is_over_closes_its_socket(ground: Ground, dial: Dial) -> None:
    socket = dial(ground.path("configmaps", watch="true", timeoutSeconds="1", labelSelector="app=none"))
    assert socket.recv() == ""
    assert not socket.connected


def test_a_token_may_come_as_a_protocol(ground: Ground, dial: Dial) -> None:
    """Browsers can't set headers. The answer names the other protocol, never the token."""
    ground.kubectl("create", "serviceaccount", "page")
    ground.kubectl("create", "rolebinding", "page", "--clusterrole=view", f"--serviceaccount={ground.name}:page")
    ground.create("configmaps", {"metadata": {"name": "a", "labels": {"app": "w"}}})
    token = base64.urlsafe_b64encode(ground.kubectl("create", "token", "page").strip().encode()).decode().rstrip("=")
    path = ground.path("configmaps", watch="true", labelSelector="app=w")
    socket = dial(path, admin=False, protocols=[BEARER + token, "base64.binary.k8s.io"])
    assert socket.subprotocol == "base64.binary.k8s.io"
    assert json.loads(socket.recv())["object"]["metadata"]["name"] == "a"
    with pytest.raises(WebSocketBadStatusException) as refused:
        dial(path, admin=False, protocols=[BEARER + token])
    assert refused.value.status_code == 401
    with pytest.raises(WebSocketBadStatusException) as refused:
        dial(path, admin=False)
    assert refused.value.status_code == 403
