"""The control plane's own certificates, renewed while it runs: what is read at each use is read anew, the rest is told."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from portside.base.clock import Clock
from portside.base.errors import PortsideError
from portside.base.pki import Pki

log = logging.getLogger("portside.control-plane")
LOOK = 6 * 3600.0  # seconds between looks; certificates are made anew 30 days before their end
AGAIN = 300.0  # seconds until a renewal that failed is tried again


def server_chain(context: ssl.SSLContext, pki: Pki) -> None:
    """The server's certificate for the connections that begin from now on."""
    context.load_cert_chain(pki.certificate("server"), pki.key("server"))


def _contents(pki: Pki) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(pki.directory.glob("*.crt"))}


async def keep(pki: Pki, ensure: Callable[[], object], use: Callable[[], None], clock: Clock) -> None:
    """Until cancelled: ``ensure`` makes anew what ends soon, ``use`` is called when something was made."""
    held = _contents(pki)
    while True:
        pause = LOOK
        try:
            await asyncio.to_thread(ensure)
            if (now := _contents(pki)) != held:
                use()
                log.info("certificates were renewed: %s", ", ".join(sorted(n for n in now if now[n] != held.get(n))))
                held = now
        except (PortsideError, OSError, ssl.SSLError) as problem:
            log.warning("certificates could not be renewed: %s", problem)
            pause = AGAIN
        await clock.sleep(pause)
