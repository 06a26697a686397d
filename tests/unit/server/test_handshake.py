"""WebSockets at their beginning, and what a watch sends over one."""

from __future__ import annotations

import base64

import pytest

from portside.server.handshake import BEARER, wants_websocket, with_token
from portside.server.watchsocket import events

TOKEN = BEARER + base64.urlsafe_b64encode(b"abc.def").decode().rstrip("=")


def test_a_websocket_is_asked_for_by_two_headers() -> None:
    assert wants_websocket({"upgrade": "WebSocket", "connection": "keep-alive, Upgrade"})
    assert not wants_websocket({"upgrade": "SPDY/3.1", "connection": "Upgrade"})
    assert not wants_websocket({"upgrade": "websocket", "connection": "keep-alive"})


def test_a_token_among_the_protocols_is_a_bearer_token_that_nobody_else_sees() -> None:
    read = with_token({"sec-websocket-protocol": f"{TOKEN}, v4.channel.k8s.io"})
    assert read == {"sec-websocket-protocol": "v4.channel.k8s.io", "authorization": "Bearer abc.def"}


def test_a_header_with_a_token_comes_first() -> None:
    headers = {"sec-websocket-protocol": f"{TOKEN}, v4.channel.k8s.io", "authorization": "Bearer other"}
    assert with_token(headers) == headers


@pytest.mark.parametrize(
    "offered", [TOKEN, f"{TOKEN}, {TOKEN}, v4.channel.k8s.io", f"{BEARER}-, v4.channel.k8s.io", f"{BEARER}_w, x"]
)
def test_a_token_that_cannot_be_read_is_refused(offered: str) -> None:
    with pytest.raises(ValueError, match="token"):
        with_token({"sec-websocket-protocol": offered})


def test_what_a_watch_writes_at_once_is_told_in_single_events() -> None:
    assert list(events(b'{"a":1}\n{"b":2}\n', framed=False)) == [b'{"a":1}\n', b'{"b":2}\n']
    assert list(events(b"\0\0\0\2ab\0\0\0\0\0\0\0\1c", framed=True)) == [b"ab", b"", b"c"]
