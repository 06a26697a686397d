"""The HTTP transport: aiohttp with client certificates or a token, and watch streams with lines of any length."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from portside.client.kubeconfig import Connection, load_kubeconfig
from portside.client.rest import RestClient, refusal

if TYPE_CHECKING:
    import aiohttp

REQUEST_SECONDS = 60.0  # an API call that takes longer is lost; watches have no such limit
MAX_LINE = 64 * 1024 * 1024  # a watch event of more bytes than any object may have: the stream is broken


class HttpTransport:
    """Keeps connections open. Lost connections surface as ConnectionError, time-outs as TimeoutError."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: aiohttp.ClientSession | None = None
        self._token = ("", 0.0)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            import aiohttp

            context = self._connection.ssl_context()
            connector = aiohttp.TCPConnector(limit=0, ssl=context if context is not None else True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                auto_decompress=True,
                skip_auto_headers=("User-Agent", "Content-Type"),
            )
        return self._session

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        found = dict(headers)
        token = self._bearer()
        if token and "authorization" not in found:
            found["authorization"] = f"Bearer {token}"
        return found

    def _bearer(self) -> str:
        """The token; a token file is read again when its time of change moved (the node agent renews it)."""
        if not self._connection.token_file:
            return self._connection.token
        changed = os.stat(self._connection.token_file).st_mtime
        if self._token[1] != changed:
            with open(self._connection.token_file, encoding="utf-8") as file:
                self._token = (file.read().strip(), changed)
        return self._token[0]

    async def exchange(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        import aiohttp
        from yarl import URL

        url = URL(self._connection.server + path + (f"?{query}" if query else ""), encoded=True)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                async with self._open().request(
                    method,
                    url,
                    data=body or None,
                    headers=self._headers(headers),
                    allow_redirects=False,
                    server_hostname=self._connection.server_name or None,
                ) as answer:
                    data = await answer.read()
                    return answer.status, {k.lower(): v for k, v in answer.headers.items()}, data
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{self._connection.server}: {error}") from error

    async def ask(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes]:
        code, _, data = await self.exchange(method, path, query, headers, body)
        return code, data

    async def lines(self, path: str, query: str, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        import aiohttp
        from yarl import URL

        url = URL(self._connection.server + path + (f"?{query}" if query else ""), encoded=True)
        try:
            async with self._open().get(
                url,
                headers=self._headers(headers),
                allow_redirects=False,
                server_hostname=self._connection.server_name or None,
            ) as answer:
                if answer.status >= 300:
                    raise refusal(answer.status, await answer.read())
                rest: list[bytes] = []
                size = 0
                async for piece in answer.content.iter_any():
                    first, *more = piece.split(b"\n")
                    rest.append(first)
                    size += len(first)
                    if size > MAX_LINE:
                        raise ConnectionError(f"{self._connection.server}: a line longer than {MAX_LINE} bytes")
                    for part in more:
                        line = b"".join(rest)
                        rest, size = [part], len(part)
                        if line:
                            yield line
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{self._connection.server}: {error}") from error

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def http_client(connection: Connection, *, user_agent: str = "portside") -> RestClient:
    """A client of a server elsewhere."""
    return RestClient(HttpTransport(connection), user_agent=user_agent)


def kubeconfig_client(path: str, *, context: str = "", user_agent: str = "portside") -> RestClient:
    """A client as a kubeconfig describes it. Raises KubeconfigError."""
    return http_client(load_kubeconfig(path, context=context), user_agent=user_agent)
