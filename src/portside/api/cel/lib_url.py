"""URLs as Go's net/url reads request URIs: ``url('https://example.com/a')``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from portside.api.cel.values import CelRuntimeError, Opaque

DECLARATIONS = """
string_to_url: url(string) -> URL
is_url_string: isURL(string) -> bool
url_get_scheme: URL :: getScheme() -> string
url_get_host: URL :: getHost() -> string
url_get_hostname: URL :: getHostname() -> string
url_get_port: URL :: getPort() -> string
url_get_escaped_path: URL :: getEscapedPath() -> string
url_get_query: URL :: getQuery() -> map(string, list(string))
"""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*\Z")
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2}).{0,2}", re.S)
_HOST = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:\[\]<>\"%\u0080-\U0010ffff]*\Z")
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*\Z")
_PORT = re.compile(r"(?::[0-9]*)?\Z")
_KEPT_IN_PATH = re.compile(r"[A-Za-z0-9\-._~$&+,/:;=@!'()*\[\]]")


class URL(Opaque):
    """A parsed URL."""

    __slots__ = ("host", "path", "query", "scheme", "text")
    TYPE_NAME = "kubernetes.URL"

    def __init__(self, text: str, scheme: str, host: str, path: str, query: str) -> None:
        self.text = text
        self.scheme = scheme
        self.host = host
        self.path = path
        self.query = query

    def __eq__(self, other: object) -> bool:
        return isinstance(other, URL) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def _check(text: str) -> None:
    bad = _BAD_ESCAPE.search(text)
    if bad is not None:
        raise ValueError(f'invalid URL escape "{bad.group()[:3]}"')


def problem_of(text: str) -> str:
    """Why ``text`` is no request URI, in Go's words; empty when it is one."""
    try:
        parse(text)
    except CelRuntimeError as problem:
        return str(problem).partition("from string: ")[2]
    return ""


def parse(text: str) -> URL:
    """The URL. Raises CelRuntimeError with Go's words."""
    try:
        return _parse(text)
    except ValueError as problem:
        shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        raise CelRuntimeError(f'URL parse error during conversion from string: parse "{shown}": {problem}') from None


def _parse(text: str) -> URL:
    if any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise ValueError("net/url: invalid control character in URL")
    if not text:
        raise ValueError("empty url")
    if text == "*":
        return URL(text, "", "", "*", "")
    scheme, rest = _scheme(text)
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(text, scheme, "", "", query)
        raise ValueError("invalid URI for request")
    host = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        host = _authority(authority)
    _check(rest)
    return URL(text, scheme, host, rest, query)


def _scheme(text: str) -> tuple[str, str]:
    for index, char in enumerate(text):
        if char == ":":
            if index == 0:
                raise ValueError("missing protocol scheme")
            return text[:index].lower(), text[index + 1 :]
        if not (char.isascii() and (char.isalpha() or (index and char in "0123456789+-."))):
            break
    return "", text


def _authority(authority: str) -> str:
    user, at, host = authority.rpartition("@")
    if at and not _USER.match(user):
        raise ValueError("net/url: invalid userinfo")
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise ValueError("missing ']' in host")
        port = host[end + 1 :]
    else:
        colon = host.rfind(":")
        port = host[colon:] if colon >= 0 else ""
    if not _PORT.match(port):
        raise ValueError(f'invalid port "{port}" after host')
    bad = next((c for c in host if not _HOST.match(c)), None)
    if bad is not None:
        raise ValueError(f'invalid character "{bad}" in host name')
    _check(host)
    return unquote_plus(host.replace("+", "%2B")) if "%" in host else host


def _hostname(url: URL) -> str:
    host = url.host
    if host.startswith("["):
        return host[1 : host.rfind("]")]
    return host.rpartition(":")[0] if ":" in host else host


def _port(url: URL) -> str:
    tail = url.host[url.host.rfind("]") + 1 :]
    return tail.rpartition(":")[2] if ":" in tail else ""


def _escaped_path(url: URL) -> str:
    if all(_KEPT_IN_PATH.match(c) or c == "%" for c in url.path):
        return url.path
    kept = (c if _KEPT_IN_PATH.match(c) or c == "%" else "".join(f"%{b:02X}" for b in c.encode()) for c in url.path)
    return "".join(kept)


def _query(url: URL) -> dict[str, list[str]]:
    made: dict[str, list[str]] = {}
    for part in url.query.partition("#")[0].split("&"):
        if not part or ";" in part or _BAD_ESCAPE.search(part):
            continue
        name, _, value = part.partition("=")
        made.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return made


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "string_to_url": parse,
    "is_url_string": lambda text: not problem_of(text),
    "url_get_scheme": lambda url: url.scheme,
    "url_get_host": lambda url: url.host,
    "url_get_hostname": _hostname,
    "url_get_port": _port,
    "url_get_escaped_path": _escaped_path,
    "url_get_query": _query,
}
