"""The server's side of a WebSocket's beginning: whether one is asked for, its protocols, and a token among them.

Browsers can't set headers on a WebSocket, so upstream takes a bearer token as one of the offered protocols
(``base64url.bearer.authorization.k8s.io.TOKEN``), beside at least one that the stream itself speaks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from portside.base import websocket
from portside.server.request import Request

OFFERED = "sec-websocket-protocol"
BEARER = "base64url.bearer.authorization.k8s.io."


def wants_websocket(headers: Mapping[str, str]) -> bool:
    """Whether the client wants a WebSocket."""
    return headers.get("upgrade", "").lower() == "websocket" and "upgrade" in headers.get("connection", "").lower()


def protocols(headers: Mapping[str, str]) -> list[str]:
    """What the client offers to speak, best first."""
    return [p.strip() for p in headers.get(OFFERED, "").split(",") if p.strip()]


def with_token(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers with a token among the protocols moved to where tokens are read; nobody further down sees it.

    Raises ValueError when there are several, none beside it, or it is no text in base64.
    """
    offered = protocols(headers)
    tokens = [p[len(BEARER) :] for p in offered if p.startswith(BEARER)]
    if not tokens or "authorization" in headers:
        return headers
    rest = [p for p in offered if not p.startswith(BEARER)]
    if len(tokens) > 1 or not rest:
        raise ValueError("one token among the protocols, and one protocol beside it")
    try:
        token = base64.urlsafe_b64decode(tokens[0] + "=" * (-len(tokens[0]) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError) as problem:
        raise ValueError("the token is no text in base64") from problem
    return {**headers, OFFERED: ", ".join(rest), "authorization": f"Bearer {token}"}


def accepted(request: Request, protocol: str) -> list[tuple[str, str]]:
    """The headers that switch to a WebSocket; ``protocol`` may be empty."""
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", websocket.accept_key(request.header("sec-websocket-key"))),
    ]
    return [*headers, ("Sec-WebSocket-Protocol", protocol)] if protocol else headers
