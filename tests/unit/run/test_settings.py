"""The port of the API: chosen once, and still to be had at the next start."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from portside.run import settings as module
from portside.run.settings import KEPT_PORTS, Settings, choose_port, free_port


def test_a_chosen_port_is_kept_and_is_none_that_the_kernel_lends_to_outgoing_connections(tmp_path: Path) -> None:
    port = choose_port(Settings(tmp_path))
    assert choose_port(Settings(tmp_path)) == port
    lent = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    assert port in KEPT_PORTS and not int(lent[0]) <= port <= int(lent[1])
    assert choose_port(Settings(tmp_path, port=6443)) == 6443 == choose_port(Settings(tmp_path))


def test_a_port_that_somebody_has_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        first = free_port("127.0.0.1", random.Random(7))
        taken.bind(("127.0.0.1", first))
        assert free_port("127.0.0.1", random.Random(7)) != first
        monkeypatch.setattr(module, "KEPT_PORTS", range(first, first + 1))
        monkeypatch.setattr(module, "PORT_TRIES", 1)
        assert free_port("127.0.0.1") not in (0, first), "where all are taken the kernel chooses"
