"""A request and its answer, free of the transport: the HTTP connection and the in-process client use the same two."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import unquote_plus

from portside.server.attributes import ANONYMOUS, User
from portside.server.pieces import Pieces


class RawStream(Protocol):
    """The connection after a switch of protocols: bytes both ways, with back-pressure."""

    async def read(self) -> bytes:
        """The next bytes of the peer, b"" at its end."""
        ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Wait until the peer has taken enough. Raises ConnectionError when it is gone."""
        ...

    def close(self) -> None: ...


Upgrade = Callable[[RawStream], Awaitable[None]]


def _valid_escapes(text: str) -> bool:
    at = text.find("%")
    while at >= 0:
        if len(text) < at + 3:
            return False
        try:
            int(text[at + 1 : at + 3], 16)
        except ValueError:
            return False
        at = text.find("%", at + 3)
    return True


def parse_query(query: str) -> dict[str, list[str]]:
    """Decoded parameters, in order per name. As Go does, a pair with a broken escape is left out."""
    params: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair or not _valid_escapes(pair):
            continue
        name, _, value = pair.partition("=")
        params.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return params


@dataclass(slots=True)
class Request:
    """``path`` is percent-decoded, ``query`` the raw text behind the question mark; header names are lower case.
    A header sent several times is joined with ``, `` (impersonation headers with a line break)."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    peer_cert: bytes | None = None
    remote: str = ""
    too_large: bool = False
    user: User = ANONYMOUS
    impersonator: User | None = None  # who acts as ``user``
    authenticated: bool = False
    warnings: list[str] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)  # audit annotations
    attributes: Any = None  # set once the request has passed the gate
    direct: bool = False  # asked by a component in this process: a write may answer its object instead of bytes
    _params: dict[str, list[str]] | None = None

    @property
    def params(self) -> dict[str, list[str]]:
        """Decoded query parameters, in order of appearance per name."""
        if self._params is None:
            self._params = parse_query(self.query) if self.query else {}
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
    """``body`` is complete; ``stream`` yields pieces instead (watch, logs); ``upgrade`` takes over the connection; ``ended`` is
    called when one of the latter two has come to its end. ``obj`` instead of them: what a direct request's write made, held by
    nobody else."""

    code: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: list[tuple[str, str]] = field(default_factory=list)
    stream: AsyncIterable[bytes] | None = None
    upgrade: Upgrade | None = None
    ended: Callable[[], None] | None = None
    obj: dict[str, Any] | None = None

    @property
    def lasts(self) -> bool:
        """Whether the answer goes on behind its beginning, as a watch does. A large list is only sent in pieces."""
        return self.upgrade is not None or (self.stream is not None and not isinstance(self.stream, Pieces))
