"""Tokens in Secrets: marked after a year without use, gone a year later; those of people and of pods stay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from portside.client.cache import View
from portside.controllers.legacytoken import (
    CONFIGMAPS,
    DAY,
    INVALID_SINCE,
    LAST_USED,
    SPACE,
    TRACKING,
    TRACKING_KEY,
    plan_secret,
    plan_tracking,
)
from portside.controllers.plan import Op
from portside.controllers.pods import PODS
from portside.controllers.serviceaccount import ACCOUNTS
from portside.controllers.serviceaccounttoken import NAME, SECRETS, TYPE

Json = dict[str, Any]
NOW = datetime(2026, 6, 1, tzinfo=UTC).timestamp()


def ops(
    labels: Json | None = None,
    *,
    since: str = "2020-01-01",
    made: str = "2020-02-01T00:00:00Z",
    listed: bool = True,
    mounted: bool = False,
) -> list[Op]:
    meta: Json = {"name": "tok", "namespace": "ns", "uid": "s", "resourceVersion": "1", "creationTimestamp": made}
    secret = {"metadata": {**meta, "annotations": {NAME: "robot"}, "labels": labels or {}}, "type": TYPE}
    account: Json = {"metadata": {"name": "robot", "namespace": "ns", "uid": "a"}}
    if listed:
        account["secrets"] = [{"name": "tok"}]
    volumes = [{"name": "v", "secret": {"secretName": "tok"}}] if mounted else []
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "p"}, "spec": {"containers": [], "volumes": volumes}}
    note = {"metadata": {"name": TRACKING, "namespace": SPACE}, "data": {"since": since}}
    view = View.of({SECRETS: [secret], ACCOUNTS: [account], PODS: [pod], CONFIGMAPS: [note]})
    plan = plan_secret(view, "ns/tok", NOW)
    assert plan.again == DAY or plan.steps, "time alone changes the answer"
    return [s for s in plan.steps if isinstance(s, Op)]


def test_an_unused_token_is_marked_and_a_year_later_removed() -> None:
    (mark,) = ops()
    assert mark.body["metadata"]["labels"] == {INVALID_SINCE: "2026-06-01"}
    (mark,) = ops({LAST_USED: "2025-05-01"})
    assert mark.verb == "patch"
    (gone,) = ops({INVALID_SINCE: "2025-05-31"})
    assert gone.verb == "delete"
    assert gone.body["preconditions"]["resourceVersion"] == "1", "a use in the same moment saves it"
    assert ops({INVALID_SINCE: "2025-06-02"}) == []


@pytest.mark.parametrize("case", [
    {"since": "2025-12-01"},
    {"since": "nonsense"},
    {"made": "2026-01-01T00:00:00Z"},
    {"labels": {LAST_USED: "2025-06-01"}},
    {"labels": {LAST_USED: "yesterday"}},
    {"listed": False},
    {"mounted": True},
])  # fmt: skip
def test_a_token_stays_that_may_be_in_use(case: Json) -> None:
    assert ops(**case) == []


def test_since_when_uses_are_noted_is_written_down_and_mended() -> None:
    (made,) = plan_tracking(View.of({CONFIGMAPS: []}), TRACKING_KEY, NOW).steps
    assert isinstance(made, Op) and made.body["data"] == {"since": "2026-06-01"}
    note = {"metadata": {"name": TRACKING, "namespace": SPACE}, "data": {"since": "once"}}
    (mended,) = plan_tracking(View.of({CONFIGMAPS: [note]}), TRACKING_KEY, NOW).steps
    assert isinstance(mended, Op) and mended.body["data"] == {"since": "2026-06-01"}
    note["data"] = {"since": "2024-02-29"}
    assert plan_tracking(View.of({CONFIGMAPS: [note]}), TRACKING_KEY, NOW).steps == ()
