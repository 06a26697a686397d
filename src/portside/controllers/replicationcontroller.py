"""The ReplicationController controller."""

from __future__ import annotations

from portside.client.cache import View
from portside.controllers.claim import matching_owners
from portside.controllers.harness import Controller
from portside.controllers.plan import Plan, Thinking
from portside.controllers.pods import PODS
from portside.controllers.replicas import COUNTED, Flavour, gather, plan_replicas

CONTROLLERS = ("", "v1", "replicationcontrollers")
FLAVOUR = Flavour(CONTROLLERS, "v1", "ReplicationController", plain_selector=True)


def plan(view: View, key: str, now: float) -> Plan | Thinking:
    """As many active pods as ``spec.replicas``."""
    return plan_replicas(FLAVOUR, view, key, now)


CONTROLLER = Controller(
    "replication-controller",
    CONTROLLERS,
    plan,
    watches={PODS: matching_owners(CONTROLLERS, "ReplicationController", "", "labels")},
    relevant={PODS: COUNTED},
    settle=gather(CONTROLLERS),
)
