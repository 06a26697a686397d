"""Tokens in Secrets that nobody uses: since when their use is noted, and the end of those that were unused for a year.

Only Secrets that an account lists among its own are judged: those were made for it by earlier versions, not by people. First
such a Secret is marked as invalid, then, a year later, it goes; using the token meanwhile is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

from portside.api.podrefs import secret_names
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Op, Plan, create, patch, update
from portside.controllers.pods import PODS, created, is_terminating
from portside.controllers.serviceaccount import ACCOUNTS
from portside.controllers.serviceaccounttoken import SECRETS, TYPE, account_of

CONFIGMAPS: Resource = ("", "v1", "configmaps")
TRACKING = "kube-apiserver-legacy-service-account-token-tracking"
SPACE, SINCE = "kube-system", "since"
TRACKING_KEY = f"{SPACE}/{TRACKING}"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
DAY = 86400.0
UNUSED = 365 * DAY  # until a token is marked, and again until it goes
DATE = re.compile(r"\d{4}-\d\d-\d\d")


def day(now: float) -> str:
    """The date in the form of the labels."""
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")


def read_day(text: str | None) -> float | None:
    """The beginning of a day; None for what is no date."""
    if not text or not DATE.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def plan_tracking(view: View, key: str, now: float) -> Plan:
    """Keeps the note since when uses are noted."""
    if key != TRACKING_KEY:
        return NOTHING
    held = view.key(CONFIGMAPS, key)
    data = {SINCE: day(now)}
    if held is None:
        meta: Json = {"name": TRACKING, "namespace": SPACE}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
        return Plan([create(CONFIGMAPS, body, ignore=frozenset({409}))])
    if read_day((held.get("data") or {}).get(SINCE)) is not None:
        return NOTHING
    return Plan([update(CONFIGMAPS, {**held, "data": {**(held.get("data") or {}), **data}})])


def plan_secret(view: View, key: str, now: float) -> Plan:
    """Key: a Secret. Looks again every day, as time alone changes the answer."""
    secret = view.get(SECRETS, *split_key(key))
    if secret is None or secret.get("type") != TYPE or is_terminating(secret):
        return NOTHING
    meta, labels = secret["metadata"], secret["metadata"].get("labels") or {}
    since = read_day(((view.key(CONFIGMAPS, TRACKING_KEY) or {}).get("data") or {}).get(SINCE))
    if since is None or now < since + DAY + UNUSED or created(secret) >= now - UNUSED:
        return Plan(again=DAY)
    used = labels.get(LAST_USED)
    if used is not None and (read_day(used) is None or used >= day(now - UNUSED)):
        return Plan(again=DAY)
    account = account_of(view, secret)
    if account is None or not any(s.get("name") == meta["name"] for s in account.get("secrets") or ()):
        return Plan(again=DAY)
    if any(meta["name"] in secret_names(p["spec"]) for p in view.in_namespace(PODS, meta["namespace"])):
        return Plan(again=DAY)
    invalid = labels.get(INVALID_SINCE)
    if read_day(invalid) is None:
        body = {"metadata": {"uid": meta["uid"], "labels": {INVALID_SINCE: day(now)}}}
        return Plan([patch(SECRETS, secret, body, ignore=frozenset({404}))], again=DAY)
    if str(invalid) >= day(now - UNUSED):
        return Plan(again=DAY)
    kept = {"resourceVersion": meta["resourceVersion"], "uid": meta["uid"]}
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": kept}
    gone = frozenset({404, 409})
    return Plan([Op("delete", SECRETS, meta["name"], meta["namespace"], body=options, obj=secret, ignore=gone)])


def _secrets_of(view: View, account: Json) -> Iterable[str]:
    meta = account["metadata"]
    for listed in account.get("secrets") or ():
        yield f"{meta['namespace']}/{listed.get('name', '')}"


def _no_token(old: Json | None, new: Json | None) -> bool:
    return (new or old or {}).get("type") != TYPE


CONTROLLERS = (
    Controller(
        "legacy-token-tracking-controller",
        CONFIGMAPS,
        plan_tracking,
        workers=1,
        always=(TRACKING_KEY,),
        ignores=lambda old, new: (new or old or {})["metadata"]["name"] != TRACKING,
    ),
    Controller(
        "legacy-service-account-token-cleaner",
        SECRETS,
        plan_secret,
        watches={ACCOUNTS: _secrets_of},
        reads=(CONFIGMAPS, PODS),
        workers=1,
        ignores=_no_token,
    ),
)
