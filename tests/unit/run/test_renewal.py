"""The control plane's certificates are renewed while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509

from portside.base.clock import SYSTEM
from portside.base.pki import (
    LEAF_DAYS,
    Pki,
    ensure_client,
    ensure_ingress_server,
    ensure_node_client,
    ensure_node_server,
    ensure_pki,
    load_certificate,
)
from portside.run import certificates
from portside.run.certificates import keep, server_chain
from portside.run.control_plane import tls_context
from portside.run.home import Home
from portside.run.node import renew_own

DAY = 86400.0


class Leap:
    """A clock that waits for nobody: each sleep is a jump of days."""

    def __init__(self) -> None:
        self.ahead, self.slept = 0.0, list[float]()
        self.go = asyncio.Event()

    def now(self) -> float:
        return SYSTEM.now() + self.ahead

    def monotonic(self) -> float:
        return self.now()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.go.wait()
        self.go.clear()

    async def pass_days(self, days: float) -> None:
        """From one sleep to the next: what there is to do between them is done."""
        await self._asleep(1)
        self.ahead += days * DAY
        seen = len(self.slept)
        self.go.set()
        await self._asleep(seen + 1)

    async def _asleep(self, times: int) -> None:
        async with asyncio.timeout(60):
            while len(self.slept) < times:
                await asyncio.sleep(0.01)


async def presented(port: int) -> int:
    """The serial number of the certificate a new connection is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(shown).serial_number


@contextlib.asynccontextmanager
async def serving(pki: Pki, context: ssl.SSLContext) -> AsyncIterator[int]:
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_server_shows_a_renewed_certificate_without_a_restart(tmp_path: Path) -> None:
    clock, used = Leap(), list[int]()
    pki = ensure_pki(tmp_path)
    context = tls_context(pki)
    first = load_certificate(pki.certificate("server")).serial_number

    def use() -> None:
        server_chain(context, pki)
        used.append(1)

    async with serving(pki, context) as port:
        work = asyncio.create_task(keep(pki, lambda: ensure_pki(tmp_path, clock=clock), use, clock))
        assert await presented(port) == first
        await clock.pass_days(LEAF_DAYS / 2)
        assert not used
        await clock.pass_days(LEAF_DAYS / 2 - 10)
        assert used == [1]
        assert await presented(port) == load_certificate(pki.certificate("server")).serial_number != first
        await clock.pass_days(1)
        assert used == [1]
        work.cancel()


class Fixed:
    """A clock that stands."""

    def __init__(self, now: float) -> None:
        self.stands = now

    def now(self) -> float:
        return self.stands

    def monotonic(self) -> float:
        return self.stands

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody waits here")


def test_the_first_machines_node_gets_new_certificates_when_its_own_end_soon(tmp_path: Path) -> None:
    home, address = Home(tmp_path), "192.0.2.1"
    home.save_cluster({"node": "first", "simulate": 0, "ingress": True})
    pki = ensure_pki(tmp_path)
    assert renew_own(home, address)  # the first ones
    assert not renew_own(home, address)
    for name in ("node-first", "node-first-server", "ingress", "ingress-default"):
        pki.certificate(name).unlink()
    old = Fixed(SYSTEM.now() - (LEAF_DAYS - 10) * DAY)
    ensure_node_client(pki, "first", clock=old)
    ensure_node_server(pki, "first", (address,), clock=old)
    ensure_client(pki, "ingress", "portside:ingress", clock=old)
    ensure_ingress_server(pki, [address], clock=old)
    ends = load_certificate(pki.certificate("node-first")).not_valid_after_utc
    assert renew_own(home, address)
    assert load_certificate(pki.certificate("node-first")).not_valid_after_utc > ends
    assert not renew_own(home, address)
    assert renew_own(home, "192.0.2.9")  # another address is another certificate


async def test_a_renewal_that_fails_is_tried_again_soon(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, full = Leap(), [True]
    pki = ensure_pki(tmp_path)

    def ensure() -> None:
        if full[0]:
            raise OSError(28, "No space left on device")

    work = asyncio.create_task(keep(pki, ensure, lambda: None, clock))
    await clock.pass_days(0)
    assert set(clock.slept) == {certificates.AGAIN}
    assert "No space left on device" in caplog.text
    full[0] = False
    await clock.pass_days(0)
    assert clock.slept[-1] == certificates.LOOK
    work.cancel()
