"""Columnar scheduler: filters are masks, scores are arrays."""

from __future__ import annotations

from portside.base.clock import Clock
from portside.client.protocol import Client


async def run(client: Client, clock: Clock) -> None:
    """Place pods until cancelled. NumPy is loaded only here, so that a server starts without waiting for it."""
    from portside.scheduler import runner

    await runner.run(client, clock)
