"""Columnar scheduler: filters are masks, scores are arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from portside.base.clock import Clock
from portside.client.protocol import Client

if TYPE_CHECKING:
    from portside.scheduler.extender_config import Extender
    from portside.scheduler.profile import Profile


async def run(
    client: Client,
    clock: Clock,
    profiles: tuple[Profile, ...] = (),
    backoff: tuple[float, float] | None = None,
    extenders: tuple[Extender, ...] = (),
) -> None:
    """Place pods until cancelled; no profiles and no back-off (seconds, first and longest): upstream's. NumPy is loaded only here, so that a server starts
    without waiting for it."""
    from portside.scheduler import runner
    from portside.scheduler.profile import DEFAULT

    await runner.run(client, clock, profiles or (DEFAULT,), backoff, extenders)
