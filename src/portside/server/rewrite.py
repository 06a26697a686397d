"""Links in what a proxied server answers: absolute paths get the proxy's path in front, so that a browser stays inside.

The attributes are those of HTML whose value is one URL; what names another host, or is relative, stays.
"""

from __future__ import annotations

import re
import zlib
from urllib.parse import urlsplit, urlunsplit

MAX_PAGE = 10 << 20  # bytes; a larger page goes out as it is
LINKS: dict[str, frozenset[str]] = {
    "a": frozenset({"href"}),
    "applet": frozenset({"codebase"}),
    "area": frozenset({"href"}),
    "audio": frozenset({"src"}),
    "base": frozenset({"href"}),
    "blockquote": frozenset({"cite"}),
    "body": frozenset({"background"}),
    "button": frozenset({"formaction"}),
    "command": frozenset({"icon"}),
    "del": frozenset({"cite"}),
    "embed": frozenset({"src"}),
    "form": frozenset({"action"}),
    "frame": frozenset({"longdesc", "src"}),
    "head": frozenset({"profile"}),
    "html": frozenset({"manifest"}),
    "iframe": frozenset({"longdesc", "src"}),
    "img": frozenset({"longdesc", "src", "usemap"}),
    "input": frozenset({"src", "usemap", "formaction"}),
    "ins": frozenset({"cite"}),
    "link": frozenset({"href"}),
    "object": frozenset({"classid", "codebase", "data", "usemap"}),
    "q": frozenset({"cite"}),
    "script": frozenset({"src"}),
    "source": frozenset({"src"}),
    "video": frozenset({"poster", "src"}),
}
_TAG = re.compile(
    rb"""<([a-zA-Z][a-zA-Z0-9]*)((?:\s+[^\s"'<>/=]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'=<>`]+))?)+)(\s*/?>)"""
)
_ATTRIBUTE = re.compile(rb"""(\s)([^\s"'<>/=]+)(\s*=\s*)("[^"]*"|'[^']*'|[^\s"'=<>`]+)""")


def url(text: str, prefix: str, host: str) -> str:
    """The link as seen through the proxy. ``host``: the proxied server's own host and port."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return text
    if (parts.netloc and parts.netloc != host) or not parts.path.startswith("/") or parts.path.startswith(prefix):
        return text
    if parts.scheme and not parts.netloc:
        return text
    return urlunsplit(("", "", prefix + parts.path, parts.query, parts.fragment))


def page(text: bytes, prefix: str, host: str) -> bytes:
    """An HTML page with its links rewritten."""

    def tag(found: re.Match[bytes]) -> bytes:
        links = LINKS.get(found[1].decode("ascii").lower())
        if links is None:
            return found[0]

        def attribute(one: re.Match[bytes]) -> bytes:
            if one[2].decode("latin-1").lower() not in links:
                return one[0]
            value = one[4]
            quote = value[:1] if value[:1] in (b'"', b"'") else b""
            inner = value[1:-1] if quote else value
            changed = url(inner.decode("utf-8", "surrogateescape"), prefix, host)
            return one[1] + one[2] + one[3] + quote + changed.encode("utf-8", "surrogateescape") + quote

        return b"<" + found[1] + _ATTRIBUTE.sub(attribute, found[2]) + found[3]

    return _TAG.sub(tag, text)


def unpacked(body: bytes, encoding: str) -> bytes | None:
    """The page without its content encoding; None when it can't be read, or would be too large."""
    if not encoding or encoding == "identity":
        return body
    if encoding not in ("gzip", "deflate"):
        return None
    reader = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either header
    try:
        plain = reader.decompress(body, MAX_PAGE)
    except zlib.error:
        return None
    return None if reader.unconsumed_tail else plain
