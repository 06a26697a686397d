"""One extender's server: POSTs with a time limit over connections that are kept. Errors are worded as upstream's client has them."""

from __future__ import annotations

import asyncio
import io
import os
import ssl
import tempfile
import time
from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from portside.base.dialing import words
from portside.base.posting import exchange, session_over, whole
from portside.scheduler.extender_config import Extender
from portside.scheduler.extender_wire import ExtenderFailure, decoded, steps
from portside.scheduler.profile import ConfigError

if TYPE_CHECKING:
    import aiohttp

ANSWER_LIMIT = 32 << 20
HINT = ": make the extender nodeCacheCapable"
AT_ONCE = 512 << 10  # bytes of an answer that are decoded in one go; a longer one lets others have their turns
SLICE = 0.005  # seconds of it
BINDINGS_AT_ONCE = 32  # per extender
IDLE_SECONDS = 30.0
HEADERS = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": "kube-scheduler"}
LATE = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
LATE_BODY = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"


def tls_context(extender: Extender) -> ssl.SSLContext:
    """Reads certificates and keys. Raises ConfigError for those that can't be used."""
    tls = extender.tls
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.hostname_checks_common_name = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        if authorities := tls.ca_data or _read(tls.ca_file):
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        elif not tls.insecure and extender.url.startswith("https:"):
            context.load_default_certs()
    except (ssl.SSLError, UnicodeDecodeError):
        raise ConfigError("unable to load root certificates: unable to parse bytes as PEM block") from None
    certificate, key = tls.cert_data or _read(tls.cert_file), tls.key_data or _read(tls.key_file)
    if certificate:
        _identify(context, certificate, key)
    return context


def _read(path: str) -> bytes:
    if not path:
        return b""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as problem:
        raise ConfigError(f"open {path}: {(problem.strerror or str(problem)).lower()}") from None


def _identify(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The library takes a client's certificate from files only: one that is gone again at once, and our own."""
    handle, path = tempfile.mkstemp()
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(certificate.rstrip() + b"\n" + key)
        context.load_cert_chain(path)
    except ssl.SSLError as problem:
        raise ConfigError(f"tls: failed to use the client certificate and its key: {problem.reason}") from None
    finally:
        os.unlink(path)


class ExtenderClient:
    """``post`` asks; ``close`` ends the connections. Nothing is opened or imported before the first call."""

    def __init__(self, extender: Extender) -> None:
        self.extender = extender
        self.bindings = asyncio.Semaphore(BINDINGS_AT_ONCE)
        self._context = tls_context(extender)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, verb: str, body: bytes, *, again: bool = True) -> Any:
        """The answer to a verb, decoded. ``again``: a connection that broke in our hands may be tried once more. Raises
        ExtenderFailure."""
        extender = self.extender
        url = f"{extender.url.rstrip('/')}/{verb}"
        begun = [False]
        try:
            async with asyncio.timeout(extender.seconds):
                code, answer = await self._exchange(url, body, begun, again)
        except TimeoutError:
            if begun[0]:
                raise ExtenderFailure(LATE_BODY) from None
            raise ExtenderFailure(f'Post "{url}": {LATE}') from None
        except OSError as problem:
            if begun[0]:
                raise ExtenderFailure(str(problem)) from None
            host = extender.tls.server_name or urlsplit(url).hostname or ""
            raise ExtenderFailure(f'Post "{url}": {words(problem, host)}') from None
        if code != 200:
            raise ExtenderFailure(f"failed {verb} with extender at URL {url}, code {code}")
        if len(answer) <= AT_ONCE:
            return decoded(answer)
        return await _in_slices(steps(answer))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(
                limit=BINDINGS_AT_ONCE + 1, ssl=self._context, keepalive_timeout=IDLE_SECONDS
            )
            self._session = session_over(connector)
        return self._session

    async def _exchange(self, url: str, body: bytes, begun: list[bool], again: bool) -> tuple[int, bytes]:
        """Code and body; ``begun``: whether the answer's head had come."""
        from yarl import URL

        session = self._open()
        headers = HEADERS | {"Content-Length": str(len(body))}

        def send() -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.post(
                URL(url, encoded=True),
                data=io.BytesIO(body),
                headers=headers,
                allow_redirects=False,
                server_hostname=self.extender.tls.server_name or None,
            )

        async def read(response: aiohttp.ClientResponse) -> tuple[int, bytes]:
            begun[0] = True
            return response.status, await whole(response, ANSWER_LIMIT, HINT) if response.status == 200 else b""

        return await exchange(send, read, again=again)


async def _in_slices(work: Generator[None, None, Any]) -> Any:
    end = time.monotonic() + SLICE
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value
        if time.monotonic() > end:
            await asyncio.sleep(0)
            end = time.monotonic() + SLICE
