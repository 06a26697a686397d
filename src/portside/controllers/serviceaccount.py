"""Gives every namespace its default ServiceAccount."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.namespaces import NAMESPACES, active, namespace_of
from portside.controllers.plan import NOTHING, Plan, create

ACCOUNTS: Resource = ("", "v1", "serviceaccounts")


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a namespace."""
    if not active(view.get(NAMESPACES, "", key)) or view.get(ACCOUNTS, key, "default") is not None:
        return NOTHING
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
    return Plan([create(ACCOUNTS, body, ignore=frozenset({409}))])


def _default(view: View, obj: Json) -> Iterable[str]:
    return namespace_of(view, obj) if obj["metadata"]["name"] == "default" else ()


CONTROLLER = Controller("service-account-controller", NAMESPACES, plan, watches={ACCOUNTS: _default}, workers=2)
