"""Watches over WebSockets, as browsers and older Java clients read them, and tokens that come as a protocol."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest
from websocket import WebSocketBadStatusException  # type: ignore[import-untyped]

from tests.conformance.ground import Ground
from tests.conformance.ground import ground as ground
from tests.sockets import Dial
from tests.unit.server.test_handshake import BEARER


@pytest.fixture
def dial(ground: Ground) -> Iterator[Dial]:
    made = Dial(ground.cluster.kubeconfig)
    yield made
    made.close()


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
