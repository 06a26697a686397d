"""One small HTTP request, for probes and hooks: no redirects to other hosts, answers cut, certificates not checked."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

BODY_LIMIT = 10 << 10  # as much of an answer as a probe looks at
HEAD_LIMIT = 64 << 10
REDIRECTS = 10

_unchecked: ssl.SSLContext | None = None


def _context() -> ssl.SSLContext:
    global _unchecked
    if _unchecked is None:
        _unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _unchecked.check_hostname = False
        _unchecked.verify_mode = ssl.CERT_NONE
    return _unchecked


async def _head(reader: asyncio.StreamReader) -> list[str]:
    """The lines of an answer's head; servers that end lines with a bare newline are understood."""
    lines, size = [], 0
    while line := (await reader.readuntil(b"\n")).rstrip(b"\r\n"):
        size += len(line)
        if size > HEAD_LIMIT:
            raise asyncio.LimitOverrunError("head too large", size)
        lines.append(line.decode("latin-1"))
    return lines


async def _once(
    scheme: str, host: str, port: int, target: str, headers: Mapping[str, str]
) -> tuple[int, dict[str, str], bytes]:
    reader, writer = await asyncio.open_connection(
        host, port, ssl=_context() if scheme == "https" else None, limit=HEAD_LIMIT
    )
    try:
        lines = [f"GET {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close", "", ""]
        writer.write("\r\n".join(lines).encode("latin-1", "replace"))
        status, *rest = await _head(reader)
        found = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in rest if line)}
        body = b""
        want = min(BODY_LIMIT, int(found.get("content-length") or BODY_LIMIT))
        while len(body) < want and (part := await reader.read(want - len(body))):
            body += part
        return int(status.split(" ", 2)[1]), found, body
    finally:
        writer.close()


async def get(
    scheme: str, host: str, port: int, path: str, headers: Mapping[str, str], *, timeout: float
) -> tuple[int, bytes]:
    """Status and body's beginning. Redirects on the same host are followed. Raises OSError, TimeoutError, ValueError."""
    wire = {k: v for k, v in headers.items() if v != ""}
    if not any(k.lower() == "host" for k in wire):
        name = f"[{host}]" if ":" in host else host
        wire = {"Host": f"{name}:{port}", **wire}
    if not any(k.lower() == "user-agent" for k in wire):
        wire["User-Agent"] = "kube-probe/1.37"
    if not any(k.lower() == "accept" for k in wire):
        wire["Accept"] = "*/*"
    target = path if path.startswith("/") else "/" + path
    async with asyncio.timeout(timeout):
        for _ in range(REDIRECTS):
            try:
                status, found, body = await _once(scheme, host, port, target, wire)
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as problem:
                raise ValueError(f"malformed HTTP response: {problem}") from None
            location = found.get("location")
            if status not in (301, 302, 303, 307, 308) or not location:
                return status, body
            parts = urlsplit(location)
            if parts.hostname and parts.hostname != host:
                return 200, b"Probe terminated redirects, Response body: " + body
            if parts.scheme:
                scheme = parts.scheme
            if parts.port:
                port = parts.port
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        raise ValueError(f"stopped after {REDIRECTS} redirects")
