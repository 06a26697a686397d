"""A request and its answer, free of the transport: the HTTP connection and the in-process client use the same two."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from portside.server.attributes import ANONYMOUS, User

# Receives the raw duplex transport of a connection the answer switched to another protocol.
Upgrade = Callable[[Any, bytes], Awaitable[None]]


@dataclass(slots=True)
class Request:
    """``path`` is percent-decoded, ``query`` the raw text behind the question mark; header names are lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer_cert: bytes | None = None
    remote: str = ""
    raw_path: str = ""
    user: User = ANONYMOUS
    authenticated: bool = False
    warnings: list[str] = field(default_factory=list)
    upgrade: Any = None
    _params: dict[str, list[str]] | None = None

    @property
    def params(self) -> dict[str, list[str]]:
        """Decoded query parameters, in order of appearance per name."""
        if self._params is None:
            self._params = parse_qs(self.query, keep_blank_values=True) if self.query else {}
        return self._params

    def param(self, name: str, default: str = "") -> str:
        """The first value of a parameter, as upstream takes it."""
        if not self.query:
            return default
        values = self.params.get(name)
        return values[0] if values else default

    def header(self, name: str, default: str = "") -> str:
        return self.headers.get(name, default)


@dataclass(slots=True)
class Response:
    """``body`` is complete; ``stream`` yields pieces instead (watch, logs); ``upgrade`` takes over the connection."""

    code: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: AsyncIterator[bytes] | None = None
    upgrade: Upgrade | None = None
