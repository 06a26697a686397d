"""Who may write a claim's status: each part is somebody's own."""

from __future__ import annotations

from typing import Any

from portside.api.rules.device_authority import ADMIN_LABEL, validate
from portside.api.rules.registry import Context

Json = dict[str, Any]
TERM = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}


def status(*reports: Json, **result: Any) -> Json:
    given = {"request": "r", "driver": "d.example", "pool": "p", "device": "g0", **result}
    allocation = {"devices": {"results": [given]}, "nodeSelector": {"nodeSelectorTerms": [TERM]}}
    return {"allocation": allocation, "devices": list(reports)}


def report(driver: str = "d.example", **more: Any) -> Json:
    return {"driver": driver, "pool": "p", "device": "g0", **more}


def said(mine: Json, before: Json, *granted: tuple[str, str, str, str], node: str = "", label: str = "") -> list[str]:
    def refused(*asked: str) -> str:
        return "" if asked in granted else "no"

    space = {"metadata": {"labels": {ADMIN_LABEL: label}}}
    ctx = Context(namespace="ns", verb="update", node=node, refused=refused, space=lambda: space)
    return [f"{e.field}: {e.detail_text}" for e in validate(mine, before, ctx)]


BINDING = ("update", "binding", "", "")


def test_allocations_and_reservations_are_for_those_who_bind() -> None:
    refused = (
        "status.allocation: Forbidden: changing status.allocation or status.reservedFor requires "
        'resource="resourceclaims/binding", verb="update" permission: no'
    )
    assert said(status(), {}) == [refused]
    assert said(status(), {}, BINDING) == []
    assert said({**status(), "reservedFor": [{"uid": "u"}]}, status()) == [refused]
    assert said(status(), {**status(), "reservedFor": []}) == []


def test_a_drivers_reports_are_written_by_whom_its_name_is_granted() -> None:
    anywhere = ("arbitrary-node:update", "driver", "ns", "d.example")
    here = ("associated-node:update", "driver", "ns", "d.example")
    (refused,) = said(status(report()), status())
    assert refused == (
        'status.devices: Forbidden: changing status.devices requires resource="resourceclaims/driver", '
        'verb="[arbitrary-node:update]" permission: no'
    )
    assert said(status(report()), status(), anywhere) == []
    assert len(said(status(report()), status(), here, node="other")) == 1
    assert said(status(report()), status(), here, node="n") == []
    (both,) = said(status(report()), status(), node="n")
    assert 'verb="[associated-node:update arbitrary-node:update]"' in both
    assert said(status(report()), status(report())) == []
    assert len(said(status(), status(report("other.example")), anywhere)) == 1, "taking one away is a change too"


def test_access_for_administration_is_given_in_labelled_namespaces_only() -> None:
    given = status(adminAccess=True)
    (refused,) = said(given, {}, BINDING)
    assert refused.startswith("status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices")
    assert said(given, {}, BINDING, label="true") == []
    assert said(given, given) == [], "what was granted stays"
