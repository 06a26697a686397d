"""Cluster addresses come from every range that is ready and stays, and never from what somebody else holds."""

from __future__ import annotations

import random
from typing import Any

import pytest

from portside.api.status import ApiError
from portside.server.allocate import Allocator, Records

Json = dict[str, Any]


def cidr(name: str, *cidrs: str, ready: bool = True, leaving: bool = False) -> Json:
    meta: Json = {"name": name, **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if leaving else {})}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    return {"metadata": meta, "spec": {"cidrs": list(cidrs)}, "status": {"conditions": conditions}}


def allocator(*cidrs: Json, first: str = "10.0.0.0/30", **held: Json) -> Allocator:
    records = Records(lambda: cidrs, lambda name: held.get(name.replace(".", "_")))
    return Allocator(first, rng=random.Random(1), records=records)


def service(ip: str = "") -> Json:
    spec: Json = {"type": "ClusterIP", "ports": [{"port": 80}], **({"clusterIP": ip, "clusterIPs": [ip]} if ip else {})}
    return {"metadata": {"name": "s", "namespace": "ns"}, "spec": spec}


def given(of: Allocator, ip: str = "") -> str:
    body = service(ip)
    of.assign(body, None)
    of.take(body)
    return str(body["spec"]["clusterIP"])


def test_when_the_first_range_is_full_the_next_one_gives() -> None:
    of = allocator(cidr("kubernetes", "10.0.0.0/30"), cidr("more", "10.1.0.0/30", "fd00::/120"))
    assert {given(of) for _ in range(4)} == {"10.0.0.1", "10.0.0.2", "10.1.0.1", "10.1.0.2"}
    with pytest.raises(ApiError) as full:
        given(of)
    assert full.value.message == "Internal error occurred: failed to allocate a serviceIP: range is full"


def test_ranges_that_are_not_ready_or_on_their_way_out_give_nothing() -> None:
    of = allocator(cidr("kubernetes", "10.0.0.0/30", leaving=True), cidr("new", "10.1.0.0/30", ready=False))
    with pytest.raises(ApiError):
        given(of)
    with pytest.raises(ApiError) as outside:
        given(of, "10.1.0.1")
    assert "not in the valid range" in outside.value.message


def test_an_address_of_a_further_range_may_be_chosen_once() -> None:
    of = allocator(cidr("more", "10.1.0.0/24"))
    assert given(of, "10.1.0.77") == "10.1.0.77"
    with pytest.raises(ApiError) as twice:
        given(of, "10.1.0.77")
    assert "provided IP is already allocated" in twice.value.message


def test_an_address_with_a_record_that_somebody_else_made_is_taken() -> None:
    of = allocator(**{"10_0_0_1": {"metadata": {"name": "10.0.0.1"}}})
    assert given(of) == "10.0.0.2"
    with pytest.raises(ApiError):
        given(of, "10.0.0.1")
    ours = {"metadata": {"labels": {"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"}}}
    assert given(allocator(**{"10_0_0_1": ours}), "10.0.0.1") == "10.0.0.1", "our records follow the Services"
