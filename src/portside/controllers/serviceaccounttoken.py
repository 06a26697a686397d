"""Fills Secrets of type service-account-token with a token, the CA and the namespace; removes them with their account."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, delete, patch
from portside.controllers.pods import is_terminating
from portside.controllers.serviceaccount import ACCOUNTS

SECRETS: Resource = ("", "v1", "secrets")
TYPE = "kubernetes.io/service-account-token"
NAME, UID = "kubernetes.io/service-account.name", "kubernetes.io/service-account.uid"
# (namespace, account, its uid, name of the Secret) -> a token that lives as long as the Secret
Mint = Callable[[str, str, str, str], str]


def account_of(view: View, secret: Json) -> Json | None:
    """The account a Secret belongs to, if it is there and the one that is meant."""
    meta = secret["metadata"]
    said = meta.get("annotations") or {}
    account = view.get(ACCOUNTS, meta["namespace"], said.get(NAME, ""))
    if account is None or said.get(UID, account["metadata"]["uid"]) != account["metadata"]["uid"]:
        return None
    return account


def controller(ca: str, mint: Mint) -> Controller:
    """``ca``: PEM."""

    def plan(view: View, key: str, now: float) -> Plan:
        secret = view.get(SECRETS, *split_key(key))
        if secret is None or secret.get("type") != TYPE or is_terminating(secret):
            return NOTHING
        account = account_of(view, secret)
        if account is None:
            return Plan([delete(SECRETS, secret)])
        meta, held = secret["metadata"], secret.get("data") or {}
        name, uid = account["metadata"]["name"], account["metadata"]["uid"]
        wanted = {"ca.crt": _encoded(ca)} if held.get("ca.crt") != _encoded(ca) else {}
        if not held.get("namespace"):
            wanted["namespace"] = _encoded(meta["namespace"])
        if not held.get("token"):
            wanted["token"] = _encoded(mint(meta["namespace"], name, uid, meta["name"]))
        if not wanted:
            return NOTHING
        kept = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "annotations": {NAME: name, UID: uid}}
        return Plan([patch(SECRETS, secret, {"metadata": kept, "data": wanted}, ignore=frozenset({404}))])

    return Controller("serviceaccount-token-controller", SECRETS, plan, watches={ACCOUNTS: _secrets}, workers=2)


def _secrets(view: View, account: Json) -> Iterable[str]:
    meta = account["metadata"]
    for secret in view.in_namespace(SECRETS, meta["namespace"]):
        if secret.get("type") == TYPE and (secret["metadata"].get("annotations") or {}).get(NAME) == meta["name"]:
            yield f"{meta['namespace']}/{secret['metadata']['name']}"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
