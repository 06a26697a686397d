"""The ReplicaSet controller."""

from __future__ import annotations

from portside.client.cache import View
from portside.controllers.claim import matching_owners
from portside.controllers.harness import Controller
from portside.controllers.plan import Plan, Thinking
from portside.controllers.pods import PODS
from portside.controllers.replicas import COUNTED, Flavour, gather, plan_replicas

REPLICASETS = ("apps", "v1", "replicasets")
FLAVOUR = Flavour(REPLICASETS, "apps/v1", "ReplicaSet", plain_selector=False)


def plan(view: View, key: str, now: float) -> Plan | Thinking:
    """As many active pods as ``spec.replicas``."""
    return plan_replicas(FLAVOUR, view, key, now)


CONTROLLER = Controller(
    "replicaset-controller",
    REPLICASETS,
    plan,
    watches={PODS: matching_owners(REPLICASETS, "ReplicaSet", "apps")},
    relevant={PODS: COUNTED},
    settle=gather(REPLICASETS),
)
