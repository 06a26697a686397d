"""A machine's own address is one that others could reach, as far as there is one."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from portside.base import address


def test_it_is_an_address() -> None:
    assert ipaddress.ip_address(address.own_address())


def test_without_any_way_out_an_interface_or_loopback_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "TOWARDS", ("255.255.255.255", 9))  # refused without the right to broadcast
    found = ipaddress.ip_address(address.own_address())
    assert found.is_loopback or not found.is_link_local
    monkeypatch.setattr(socket, "if_nameindex", list)
    assert address.own_address() == "127.0.0.1"
