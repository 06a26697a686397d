"""Health check ports of Services with externalTrafficPolicy Local: outside balancers ask which nodes have a pod."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass

from portside.net.services import ServicePort

log = logging.getLogger("portside.net")
HEAD_LIMIT, PATIENCE = 16 << 10, 5.0  # bytes and seconds of a request


@dataclass(frozen=True, slots=True)
class Health:
    """What a health check port says: whose it is, and how many of its pods run here."""

    namespace: str
    name: str
    local: int

    def answer(self) -> bytes:
        """The whole HTTP answer: 200 with pods here, 503 without."""
        body = json.dumps(
            {
                "service": {"namespace": self.namespace, "name": self.name},
                "localEndpoints": self.local,
                "serviceProxyHealthy": True,
            }
        ).encode()
        line = "200 OK" if self.local else "503 Service Unavailable"
        head = (
            f"HTTP/1.1 {line}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n"
            f"X-Load-Balancing-Endpoint-Weight: {self.local}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


def health_ports(ports: Iterable[ServicePort]) -> dict[int, Health]:
    """What each health check port has to say. Only ready pods count, each once."""
    found: dict[int, Health] = {}
    for port in ports:
        if port.health_port and port.external_local:
            namespace, _, rest = port.name.partition("/")
            held = found.get(port.health_port)
            local = max(port.local_ready, held.local if held else 0)
            found[port.health_port] = Health(namespace, rest.partition(":")[0], local)
    return found


class HealthServers:
    """Listens on exactly the ports that are wanted."""

    def __init__(self) -> None:
        self.wanted: dict[int, Health] = {}
        self._servers: dict[int, asyncio.Server] = {}

    async def update(self, wanted: dict[int, Health]) -> None:
        """Open and close ports; one that is taken by another process is tried again at the next change."""
        self.wanted = wanted
        for port in [p for p in self._servers if p not in wanted]:
            self._servers.pop(port).close()
        for port in wanted:
            if port not in self._servers:
                try:
                    self._servers[port] = await asyncio.start_server(
                        functools.partial(self._serve, port),
                        "0.0.0.0",
                        port,
                        limit=HEAD_LIMIT,
                    )
                except OSError as error:
                    log.warning("health check port %d can't be had: %s", port, error)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
            if health := self.wanted.get(port):
                writer.write(health.answer())
                await asyncio.wait_for(writer.drain(), PATIENCE)
        writer.close()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self._servers.clear()
