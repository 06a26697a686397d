"""Default FlowSchemas and PriorityLevelConfigurations (facts of Kubernetes 1.37)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
API = "flowcontrol.apiserver.k8s.io/v1"
_EVERYTHING = "*"

# name -> (lendable percent, shares, queues, hand size); no queues: refuse when full; "exempt" has no limit at all.
LEVELS: dict[str, tuple[int, int, int, int]] = {
    "exempt": (0, 0, 0, 0),
    "system": (33, 30, 64, 6),
    "node-high": (25, 40, 64, 6),
    "leader-election": (0, 10, 16, 4),
    "workload-high": (50, 40, 128, 6),
    "workload-low": (90, 100, 128, 6),
    "global-default": (50, 20, 128, 6),
    "catch-all": (0, 5, 0, 0),
}

# name, precedence, level, distinguisher, subjects, what: everything, or rule texts ``groups:resources:verbs[:cluster]``.
SCHEMAS: tuple[tuple[str, int, str, str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("exempt", 1, "exempt", "", ("G system:masters",), ("*",)),
    ("probes", 2, "exempt", "", ("G system:unauthenticated", "G system:authenticated"), ("probes",)),
    (
        "system-leader-election",
        100,
        "leader-election",
        "ByUser",
        ("U system:kube-controller-manager", "U system:kube-scheduler", "S *"),
        ("coordination.k8s.io:leases:get create update",),
    ),
    (
        "system-node-high",
        400,
        "node-high",
        "ByUser",
        ("G system:nodes",),
        (":nodes nodes/status:*:cluster", "coordination.k8s.io:leases:*"),
    ),
    ("system-nodes", 500, "system", "ByUser", ("G system:nodes",), ("*",)),
    ("kube-controller-manager", 800, "workload-high", "ByNamespace", ("U system:kube-controller-manager",), ("*",)),
    ("kube-scheduler", 800, "workload-high", "ByNamespace", ("U system:kube-scheduler",), ("*",)),
    ("kube-system-service-accounts", 900, "workload-high", "ByNamespace", ("S *",), ("*",)),
    ("service-accounts", 9000, "workload-low", "ByUser", ("G system:serviceaccounts",), ("*",)),
    (
        "global-default",
        9900,
        "global-default",
        "ByUser",
        ("G system:unauthenticated", "G system:authenticated"),
        ("*",),
    ),
    ("catch-all", 10000, "catch-all", "ByUser", ("G system:unauthenticated", "G system:authenticated"), ("*",)),
)


def priority_levels() -> Iterator[Json]:
    for name, (lendable, shares, queues, hand) in LEVELS.items():
        if name == "exempt":
            spec: Json = {"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}
        else:
            response: Json = {"type": "Reject"}
            if queues:
                queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
                response = {"type": "Queue", "queuing": queuing}
            limited = {"nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable}
            spec = {"type": "Limited", "limited": limited}
        yield _object("PriorityLevelConfiguration", name, spec) | {"status": {}}


def flow_schemas(now: str) -> Iterator[Json]:
    """``now``: RFC 3339, when the condition "not dangling" was found."""
    for name, precedence, level, distinguisher, subjects, what in SCHEMAS:
        spec: Json = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence}
        if distinguisher:
            spec["distinguisherMethod"] = {"type": distinguisher}
        spec["rules"] = [{"subjects": [_subject(text) for text in subjects]} | _rules(what)]
        condition = {
            "type": "Dangling",
            "status": "False",
            "lastTransitionTime": now,
            "reason": "Found",
            "message": f'This FlowSchema references the PriorityLevelConfiguration object named "{level}" and it exists',
        }
        yield _object("FlowSchema", name, spec) | {"status": {"conditions": [condition]}}


def _rules(what: tuple[str, ...]) -> Json:
    if what == ("probes",):
        return {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}
    if what == ("*",):
        resources = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": True, "namespaces": ["*"]}
        return {"resourceRules": [resources], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}
    return {"resourceRules": [_resource_rule(*text.split(":")) for text in what]}


def _resource_rule(group: str, resources: str, verbs: str, scope: str = "") -> Json:
    rule: Json = {"verbs": verbs.split(), "apiGroups": [group], "resources": resources.split()}
    if scope:
        rule["clusterScope"] = True
    return rule | {"namespaces": ["*"]}


def _subject(text: str) -> Json:
    kind, name = text.split(" ", 1)
    if kind == "S":
        return {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}
    word = {"G": "Group", "U": "User"}[kind]
    return {"kind": word, word.lower(): {"name": name}}


def _object(kind: str, name: str, spec: Json) -> Json:
    meta = {"name": name, "generation": 1, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}}
    return {"apiVersion": API, "kind": kind, "metadata": meta, "spec": spec}
