"""One HTTP/1.1 exchange with another server on a client's behalf: answers are streamed, upgrades tunnelled raw.

No redirect is followed, no name is resolved here, and a failed upgrade closes both sides.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from portside.api.status import ApiError
from portside.server.request import RawStream, Response

HEAD_LIMIT = 64 << 10
CHUNK = 64 << 10
CONNECT_SECONDS = 10.0
HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "host", "content-length", "date")
)  # fmt: skip
PRIVATE = frozenset(("authorization", "cookie"))
NOT_PASSED = ("impersonate-", "x-remote-")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to: an address that was checked, a port, and TLS when a context is given. ``common_name`` pins the peer;
    ``authority`` is the Host header, the address when empty."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""
    common_name: str = ""
    authority: str = ""


def _unreachable(target: Target, problem: object) -> ApiError:
    text = f"error trying to reach service: dial tcp {target.host}:{target.port}: {problem}"
    return ApiError(503, "ServiceUnavailable", text)


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                target.host,
                target.port,
                ssl=target.tls,
                server_hostname=(target.server_name or target.host) if target.tls else None,
                limit=HEAD_LIMIT,
            )
    except TimeoutError:
        raise _unreachable(target, "i/o timeout") from None
    except ConnectionRefusedError:
        raise _unreachable(target, "connect: connection refused") from None
    except OSError as problem:
        raise _unreachable(target, problem) from None
    if target.common_name:
        certificate = writer.get_extra_info("peercert") or {}
        subject = {key: value for pair in certificate.get("subject", ()) for key, value in pair}
        if subject.get("commonName") != target.common_name:
            writer.close()
            raise _unreachable(target, f"tls: the certificate is not {target.common_name}'s")
    return reader, writer


def _parse(head: bytes) -> tuple[int, list[tuple[str, str]]]:
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    pairs = [(k.strip(), v.strip()) for k, colon, v in (line.partition(":") for line in lines) if colon]
    return int(first.split(" ", 2)[1]), pairs


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """The body's bytes as they come, by chunks, length or the connection's end."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        while size := int((await reader.readline()).split(b";")[0].strip() or b"0", 16):
            left = size
            while left and (part := await reader.read(min(left, CHUNK))):
                left -= len(part)
                yield part
            if left:
                return
            await reader.readline()
        return
    left = int(headers["content-length"]) if "content-length" in headers else -1
    while left and (part := await reader.read(CHUNK if left < 0 else min(left, CHUNK))):
        left -= len(part) if left > 0 else 0
        yield part


async def _pieces(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]
) -> AsyncIterator[bytes]:
    try:
        async for part in _body(reader, headers):
            yield part
    except (OSError, ValueError, asyncio.IncompleteReadError):
        return
    finally:
        writer.close()


async def _tunnel(raw: RawStream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Bytes both ways until one side ends; then both are closed."""

    async def out() -> None:
        while data := await raw.read():
            writer.write(data)
            await writer.drain()

    async def back() -> None:
        while data := await reader.read(CHUNK):
            raw.write(data)
            await raw.drain()

    tasks = [asyncio.create_task(out()), asyncio.create_task(back())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            await asyncio.gather(*tasks, return_exceptions=True)
        writer.close()
        raw.close()


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")


async def forward(
    target: Target,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    upgrade: bool,
    identity: Iterable[tuple[str, str]] = (),
) -> Response:
    """The peer's answer; ``identity`` are headers that say who asks. Raises ApiError 503 when it can't be reached."""
    reader, writer = await _connect(target)
    host = f"[{target.host}]" if ":" in target.host else target.host
    lines = [f"{method} {path} HTTP/1.1", f"Host: {target.authority or f'{host}:{target.port}'}"]
    for name, value in headers.items():
        if name not in HOP_BY_HOP and name not in PRIVATE and not name.startswith(NOT_PASSED):
            lines.extend(f"{name}: {one}" for one in value.split("\n"))
    lines.extend(f"{name}: {_one_line(value)}" for name, value in identity)
    if upgrade:
        lines += ["Connection: Upgrade", f"Upgrade: {headers.get('upgrade', '')}"]
    else:
        lines.append("Connection: close")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    try:
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + body)
        while True:
            code, pairs = _parse(await reader.readuntil(b"\r\n\r\n"))
            if code != 100:
                break
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as problem:
        writer.close()
        raise _unreachable(target, f"malformed answer: {problem}") from None
    found = {k.lower(): v for k, v in pairs}
    if code == 101 and upgrade:

        async def take_over(raw: RawStream) -> None:
            await _tunnel(raw, reader, writer)

        return Response(101, headers=pairs, upgrade=take_over)
    passed = [(k, v) for k, v in pairs if k.lower() not in HOP_BY_HOP and k.lower() != "content-type"]
    kind = found.get("content-type", "")
    if method == "HEAD" or code in (204, 304):
        writer.close()
        return Response(code, b"", kind, passed)
    return Response(code, content_type=kind, headers=passed, stream=_pieces(reader, writer, found))


async def whole(response: Response, limit: int = 64 << 10) -> bytes:
    """The beginning of a streamed answer's body, for messages."""
    text = response.body
    if response.stream is not None:
        async for part in response.stream:
            text += part
            if len(text) > limit:
                break
    return text[:limit]
