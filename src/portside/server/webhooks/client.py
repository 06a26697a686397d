"""One POST to a webhook: over TLS that its caBundle vouches for, within its time, without following redirects.

    client = WebhookClient(caches)
    answer = await client.post(hook["clientConfig"], body, seconds=10)      # bytes; raises CallFailure

Connections are kept alive and shared by all webhooks. Error texts are those of upstream's client, since they reach users
in messages such as ``failed calling webhook "x": failed to call webhook: Post "https://…": …``.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import posixpath
import ssl
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from portside.base.dialing import words
from portside.base.posting import exchange, session_over, whole
from portside.server.webhooks.service_names import Resolver, Unresolved, safe, service_host

if TYPE_CHECKING:
    import aiohttp

    from portside.server.watchcache_feed import WatchCaches

Json = dict[str, Any]
ANSWER_LIMIT = 16 << 20
MOST_CONNECTIONS = 512
IDLE_SECONDS = 30.0
MOST_CONTEXTS = 64
SAID_LIMIT = 2048
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, */*", "Accept-Encoding": "identity"}
# What upstream's client says of a status code when the answer says nothing better.
SAID_OF_CODE = {
    400: "the server rejected our request for an unknown reason",
    401: "the server has asked for the client to provide credentials",
    404: "the server could not find the requested resource",
    405: "the server does not allow this method on the requested resource",
    409: "the server reported a conflict",
    422: "the server rejected our request due to an error in our request",
    429: "the server has received too many requests and has asked us to try again later",
    503: "the server is currently unable to handle the request",
    504: "the server was unable to return a response in the time allotted, but may still be processing the request",
}


class CallFailure(Exception):
    """The call gave no usable answer; the text says why. ``late``: its time was over. ``code``: the answer's, if any."""

    def __init__(self, text: str, *, late: bool = False, code: int = 0) -> None:
        super().__init__(text)
        self.late = late
        self.code = code


def url_of(config: Json) -> str:
    """Where a clientConfig points, its path cleaned. Raises CallFailure when it points nowhere."""
    url, service = config.get("url"), config.get("service")
    if url:
        parts = urlsplit(url)
        base, path = f"{parts.scheme}://{parts.netloc}", unquote(parts.path)
    elif service:
        host = service_host(service.get("name") or "", service.get("namespace") or "")
        base, path = f"https://{host}:{service.get('port') or 443}", service.get("path") or ""
    else:
        raise CallFailure("webhook configuration must have either service or URL")
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return base + quote(cleaned, safe="/:@!$&'()*+,;=~-._")


def tls_context(bundle: str) -> ssl.SSLContext:
    """TLS that trusts a base64 PEM bundle, or the machine's authorities when it is empty. Raises CallFailure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    if not bundle:
        context.load_default_certs()
        return context
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=base64.b64decode(bundle, validate=True).decode("ascii"))
    except (binascii.Error, ValueError, ssl.SSLError):
        raise CallFailure("unable to load root certificates: unable to parse bytes as PEM block") from None
    return context


def refusal_text(code: int, body: bytes) -> str:
    """What upstream's client says of an answer that is no success: the Status in it, else words for the code."""
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if isinstance(said, dict) and said.get("kind") == "Status" and said.get("message"):
        return str(said["message"])
    text = body[:SAID_LIMIT].decode("utf-8", "replace").strip()
    if code in SAID_OF_CODE:
        return SAID_OF_CODE[code]
    if code in (403, 406, 415):
        return text or "unknown"
    if code >= 500:
        return f"an error on the server ({json.dumps(text or 'unknown')}) has prevented the request from succeeding"
    return f"the server responded with the status code {code} but did not return more information"


class WebhookClient:
    """Keeps connections to all webhooks. Nothing is opened or imported before the first call."""

    def __init__(self, caches: WatchCaches) -> None:
        self._resolver = Resolver(caches)
        self._session: aiohttp.ClientSession | None = None
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()

    async def post(
        self,
        config: Json,
        body: bytes,
        *,
        seconds: float,
        say_timeout: bool = True,
        agent: str = "kube-apiserver-admission",
        limit: int = ANSWER_LIMIT,
    ) -> bytes:
        """The answer's body. ``config`` is a clientConfig (url or service, caBundle); ``say_timeout`` tells the webhook
        its time as ``?timeout=10s``. Raises CallFailure."""
        url = url_of(config)
        shown = f"{url}?timeout={seconds:g}s" if say_timeout else url
        parts = urlsplit(url)
        host = parts.hostname or ""
        if (":" in host or host.replace(".", "").isdigit()) and not safe(host, loopback=True):
            raise CallFailure(f'Post "{shown}": dial tcp {parts.netloc}: address not allowed')
        context = self._context(config.get("caBundle") or "")
        try:
            async with asyncio.timeout(seconds):
                code, answer = await self._exchange(shown, body, context, agent, limit)
        except TimeoutError:
            raise CallFailure(f'Post "{shown}": context deadline exceeded', late=True) from None
        except OSError as problem:
            raise CallFailure(f'Post "{shown}": {self._words(problem, host)}') from None
        if not 200 <= code <= 206:
            raise CallFailure(refusal_text(code, answer), code=code)
        return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _context(self, bundle: str) -> ssl.SSLContext:
        found = self._contexts.get(bundle)
        if found is None:
            found = self._contexts[bundle] = tls_context(bundle)
            if len(self._contexts) > MOST_CONTEXTS:
                self._contexts.popitem(last=False)
        self._contexts.move_to_end(bundle)
        return found

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            connector = aiohttp.TCPConnector(
                limit=MOST_CONNECTIONS,
                use_dns_cache=False,
                keepalive_timeout=IDLE_SECONDS,
                resolver=self._resolver,  # type: ignore[arg-type]  # its protocol, not its base class
            )
            self._session = session_over(connector)
        return self._session

    async def _exchange(
        self, url: str, body: bytes, context: ssl.SSLContext, agent: str, limit: int
    ) -> tuple[int, bytes]:
        """Code and body."""
        from yarl import URL

        session, headers = self._open(), HEADERS | {"User-Agent": agent}

        def send() -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
            return session.post(URL(url, encoded=True), data=body, headers=headers, ssl=context, allow_redirects=False)

        async def read(response: aiohttp.ClientResponse) -> tuple[int, bytes]:
            return response.status, await whole(response, limit)

        return await exchange(send, read)

    def _words(self, problem: OSError, host: str) -> str:
        """A transport error as upstream words it."""
        inner = getattr(problem, "os_error", problem)
        if isinstance(inner, Unresolved):
            return str(inner)
        place = self._resolver.last.get(host)
        return words(problem, host, (place.host, place.port) if place else None)
