"""The address ranges of a new cluster: what is taken, what is refused, and what is kept."""

from __future__ import annotations

import argparse
import ipaddress
from typing import Any

import pytest

from portside.cli import ranges
from portside.cli.steps import CliError
from portside.run import networks
from portside.run.networks import Routed

USED = [Routed(ipaddress.IPv4Network("10.244.0.0/24"), "portside0")]


def asked(cidr: str | None = None, mask: int | None = None) -> argparse.Namespace:
    return argparse.Namespace(cluster_cidr=cidr, node_cidr_mask_size=mask)


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "present", lambda: USED)


def test_without_a_wish_the_next_free_ranges_are_taken() -> None:
    assert ranges.chosen(asked()) == {"cluster_cidr": "10.245.0.0/16", "service_cidr": "10.96.0.0/16"}


def test_a_wish_is_kept_and_services_keep_away_from_it() -> None:
    found = ranges.chosen(asked("10.96.0.0/14", 22))
    assert found == {"cluster_cidr": "10.96.0.0/14", "service_cidr": "10.100.0.0/16", "node_cidr_mask_size": 22}


@pytest.mark.parametrize(
    ("cidr", "mask", "why"),
    [
        ("10.1.2.3/16", None, "has host bits set"),
        ("fd00::/48", None, "Expected 4 octets"),
        ("127.0.0.0/16", None, "addresses of its own meaning"),
        ("10.1.0.0/16", 12, "a prefix length from 16 to 28, not 12"),
        ("10.1.0.0/16", 30, "a prefix length from 16 to 28, not 30"),
        ("10.0.0.0/8", 28, "more than 65536 parts"),
        ("10.244.0.0/16", None, "10.244.0.0/24 is routed to portside0"),
    ],
)
def test_ranges_that_cannot_work_are_refused_with_the_reason(cidr: str, mask: int | None, why: str) -> None:
    with pytest.raises(CliError) as caught:
        ranges.chosen(asked(cidr, mask))
    assert why in caught.value.why


def test_what_was_chosen_stays() -> None:
    facts: dict[str, Any] = {"simulate": 0, "cluster_cidr": "10.245.0.0/16"}
    ranges.check_kept(asked("10.245.0.0/16", 24), facts)
    with pytest.raises(CliError, match="can't change: it is 10"):
        ranges.check_kept(asked("10.246.0.0/16"), facts)
    with pytest.raises(CliError, match="--node-cidr-mask-size can't change: it is 24"):
        ranges.check_kept(asked(mask=25), facts)
    with pytest.raises(CliError, match="is for real nodes"):
        ranges.check_kept(asked("10.245.0.0/16"), {"simulate": 3})
