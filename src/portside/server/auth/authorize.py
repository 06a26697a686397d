"""May they: system:masters, then the node authorizer, then RBAC. The first that allows decides."""

from __future__ import annotations

from typing import Any

from portside.server.attributes import Attributes, User
from portside.server.auth.nodes import NodeAuthorizer
from portside.server.auth.rbac import Decision, Held, Rbac
from portside.server.auth.rules import compile_rules
from portside.server.live import Live

__all__ = ["Authorizer", "Decision"]

MASTERS = "system:masters"
_MASTER = Decision(True)
_EVERYTHING: list[dict[str, Any]] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class Authorizer:
    """Synchronous; a repeated question costs two dictionary look-ups. ``node_rules``: rules of system:node."""

    def __init__(self, live: Live, node_rules: list[dict[str, Any]] | None = None) -> None:
        if node_rules is None:
            from portside.server.bootstrap.roles import node_rules as table

            node_rules = table()
        self.rbac = Rbac(live)
        self.nodes = NodeAuthorizer(live, node_rules)

    def authorize(self, attributes: Attributes) -> Decision:
        """The decision with upstream's reason (several refusers' reasons joined by a line feed)."""
        if MASTERS in attributes.user.groups:
            return _MASTER
        reasons = []
        if "system:nodes" in attributes.user.groups:
            decision = self.nodes.authorize(attributes)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        decision = self.rbac.authorize(attributes)
        if decision.allowed or not reasons:
            return decision
        if decision.reason:
            reasons.append(decision.reason)
        return Decision(False, "\n".join(reasons))

    def allowed(self, attributes: Attributes) -> bool:
        return self.authorize(attributes).allowed

    def held(self, user: User, namespace: str) -> Held:
        """The user's rules, for rule reviews and escalation checks."""
        if MASTERS in user.groups:
            return Held(tuple((rule, "") for rule in compile_rules(_EVERYTHING)), ())
        return self.rbac.held(user, namespace)
