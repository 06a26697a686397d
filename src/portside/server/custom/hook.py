"""Asking a conversion webhook: one POST of JSON to a URL or a Service, answered within 30 seconds."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import orjson

Json = dict[str, Any]
TIMEOUT_SECONDS = 30.0
ANSWER_BYTES = 64 * 1024 * 1024
Resolve = Callable[[Json], str]
"""From a clientConfig's service to the address that answers for it, ``https://10.96.0.7:443/path``. Raises HookError."""


class HookError(Exception):
    """Why no answer came; the text goes to the client."""


class Hook:
    """``config`` is a webhook's clientConfig: url or service, and caBundle."""

    def __init__(self, config: Json, resolve: Resolve) -> None:
        self.config = config
        self._resolve = resolve

    @property
    def url(self) -> str:
        """What is asked: the URL, or the Service by its name in the cluster."""
        service = self.config.get("service")
        if service is None:
            return str(self.config.get("url") or "")
        return f"https://{service['name']}.{service['namespace']}.svc:{service.get('port') or 443}{path_of(service)}"

    async def post(self, body: bytes) -> Json:
        """The answer to ``body``. Raises HookError."""
        import aiohttp

        target = self._resolve(self.config["service"]) if self.config.get("service") else self.url
        shown = f"{self.url}{'&' if '?' in self.url else '?'}timeout=30s"
        try:
            raw = await asyncio.wait_for(self._post(target, body), TIMEOUT_SECONDS)
        except TimeoutError:
            raise HookError(f'Post "{shown}": context deadline exceeded') from None
        except aiohttp.ClientError as error:
            raise HookError(f'Post "{shown}": {error}') from None
        try:
            found = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise HookError(f"the answer is no JSON: {error}") from None
        return found if isinstance(found, dict) else {}

    async def _post(self, target: str, body: bytes) -> bytes:
        import aiohttp

        name = urlsplit(self.url).hostname or ""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        session = aiohttp.ClientSession()
        async with session:
            asked = session.post(
                target,
                data=body,
                headers=headers,
                params={"timeout": "30s"},
                ssl=trust(self.config),
                server_hostname=name,
                allow_redirects=False,
            )
            async with asked as answer:
                raw = await answer.content.read(ANSWER_BYTES)
                if answer.status != 200:
                    text = raw[:200].decode("utf-8", "replace").strip()
                    raise HookError(f"the server responded with the status code {answer.status}: {text}")
                return raw


def path_of(service: Json) -> str:
    return "/" + (service.get("path") or "").lstrip("/")


def trust(config: Json) -> ssl.SSLContext:
    """Whom the webhook's certificate must come from. Raises HookError for a bundle that is none."""
    bundle = config.get("caBundle")
    context = ssl.create_default_context()
    if bundle:
        try:
            context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
        except (binascii.Error, ValueError, ssl.SSLError):
            raise HookError("unable to load root certificates: unable to parse bytes as PEM block") from None
    return context
