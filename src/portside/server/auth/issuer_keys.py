"""The keys of one OpenID issuer: found by its discovery document, fetched again when a token names one that is not known.

An issuer that does not answer keeps nothing from starting: it is asked again until it does. What comes over the network is
limited in size and time, and no redirect is followed.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from portside.base.clock import Clock
from portside.server.auth.jws import BadToken, Key, Token, key_set

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)
Json = dict[str, Any]
WELL_KNOWN = "/.well-known/openid-configuration"
MOST_BYTES = 1 << 20
MOST_KEYS = 200
SECONDS = 30.0
RETRY_SECONDS = 10.0
"""After which an issuer that could not be reached is asked again."""
REFETCH_SECONDS = 10.0
"""At least between two fetches for the sake of tokens whose key is not known: anybody can make such tokens."""


class KeysWanted(Exception):
    """The keys at hand do not verify a token, and newer ones may be there: ``await keys.fetch()``, then ask once more."""

    def __init__(self, keys: IssuerKeys) -> None:
        super().__init__(keys.issuer)
        self.keys = keys


class IssuerKeys:
    """``discovery`` is the document's address where it is not below the issuer's own; ``authority`` a PEM bundle, "" for the
    machine's authorities."""

    def __init__(self, issuer: str, discovery: str, authority: str, clock: Clock) -> None:
        self.issuer = issuer
        self._discovery = discovery or issuer.removesuffix("/") + WELL_KNOWN
        self._authority = authority
        self._clock = clock
        self._keys_url = ""
        self._keys: list[Key] = []
        self._fetched = float("-inf")
        self._fetching: asyncio.Task[None] | None = None

    @property
    def place(self) -> tuple[str, str, str]:
        """Where and by whose word the keys are found."""
        return self.issuer, self._discovery, self._authority

    @property
    def ready(self) -> bool:
        """Whether the issuer was reached."""
        return bool(self._keys_url)

    def check(self, token: Token) -> None:
        """Raises BadToken when no key verifies the signature, KeysWanted when the issuer should be asked first."""
        if not self.ready:
            raise BadToken("oidc: authenticator not initialized")
        for key in self._keys:
            if (not token.key_id or key.key_id == token.key_id) and key.verifies(token):
                return
        if self._clock.monotonic() - self._fetched >= REFETCH_SECONDS:
            raise KeysWanted(self)
        raise BadToken("oidc: verify token: failed to verify signature: failed to verify id token signature")

    async def keep(self) -> None:
        """Reach the issuer, however long it takes."""
        while not self.ready:
            try:
                await self._discover()
                return
            except (OSError, ValueError, TimeoutError) as problem:
                log.error(
                    "oidc authenticator: initializing plugin: %s: %s", self.issuer, problem or "no answer in time"
                )
            await self._clock.sleep(RETRY_SECONDS)

    async def fetch(self) -> None:
        """Newer keys, once for all who want them. A failure is logged: the keys at hand stay."""
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        self._fetched = self._clock.monotonic()
        try:
            await self._load()
        except (OSError, ValueError, TimeoutError) as problem:
            log.error("oidc: fetching keys of %s: %s", self.issuer, problem or "no answer in time")

    async def _discover(self) -> None:
        found = await self._get(self._discovery)
        if not isinstance(found, dict):
            raise ValueError("the discovery document is no object")
        if (said := found.get("issuer")) != self.issuer:
            raise ValueError(
                f'oidc: issuer did not match the issuer returned by provider, expected "{self.issuer}" got "{said}"'
            )
        url = found.get("jwks_uri")
        if not isinstance(url, str) or urlsplit(url).scheme != "https":
            raise ValueError("the discovery document has no jwks_uri over https")
        self._keys_url = url
        self._fetched = self._clock.monotonic()
        try:
            await self._load()
        except BaseException:
            self._keys_url = ""
            raise

    async def _load(self) -> None:
        keys = key_set(await self._get(self._keys_url))
        if len(keys) > MOST_KEYS:
            raise ValueError(f"the issuer has {len(keys)} keys; at most {MOST_KEYS} are looked at")
        self._keys = keys

    async def _get(self, url: str) -> Any:
        """A JSON document. Raises OSError, ValueError, TimeoutError."""
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=SECONDS)
        connector = aiohttp.TCPConnector(ssl=self._context())
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session,
                session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
            ):
                if answer.status != 200:
                    raise ValueError(f"{url} answered {answer.status}")
                return orjson.loads(await _whole(answer))
        except aiohttp.ClientError as problem:
            raise OSError(str(problem)) from problem

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._authority or None)


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(64 << 10):
        size += len(part)
        if size > MOST_BYTES:
            raise ValueError(f"the answer has more than {MOST_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)
