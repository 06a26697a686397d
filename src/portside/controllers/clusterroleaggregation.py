"""Writes the joined rules of the ClusterRoles it selects into every ClusterRole with an aggregationRule."""

from __future__ import annotations

from collections.abc import Iterable

from portside.api.selector import from_object
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, update

CLUSTER_ROLES: Resource = ("rbac.authorization.k8s.io", "v1", "clusterroles")


def joined(role: Json, others: Iterable[Json]) -> list[Json]:
    """The rules of the selected roles, selector by selector, each role by name, equal rules once."""
    by_name = sorted(others, key=lambda r: str(r["metadata"]["name"]))
    rules: list[Json] = []
    for selector in role["aggregationRule"].get("clusterRoleSelectors") or ():
        matches = from_object(selector).matches
        for other in by_name:
            if other["metadata"]["name"] == role["metadata"]["name"]:
                continue
            if matches(other["metadata"].get("labels") or {}):
                rules.extend(rule for rule in other.get("rules") or () if rule not in rules)
    return rules


def plan(view: View, key: str, now: float) -> Plan:
    role = view.key(CLUSTER_ROLES, key)
    if role is None or not role.get("aggregationRule"):
        return NOTHING
    rules = joined(role, view.all(CLUSTER_ROLES))
    if rules == (role.get("rules") or []):
        return NOTHING
    return Plan([update(CLUSTER_ROLES, {**role, "rules": rules})])


def _aggregating(view: View, obj: Json) -> Iterable[str]:
    for role in view.all(CLUSTER_ROLES):
        if role.get("aggregationRule"):
            yield str(role["metadata"]["name"])


CONTROLLER = Controller(
    "clusterrole-aggregation-controller",
    CLUSTER_ROLES,
    plan,
    watches={CLUSTER_ROLES: _aggregating},
    workers=1,
    settle=0.1,
)
