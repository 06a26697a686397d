"""Default ClusterRoles, Roles and their bindings, made from the tables beside this file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portside.server.bootstrap.cluster_roles import CLUSTER_ROLES
from portside.server.bootstrap.controller_roles import CONTROLLER_ROLES

Json = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
API = f"{GROUP}/v1"
LABELS = {"kubernetes.io/bootstrapping": "rbac-defaults"}
ANNOTATIONS = {"rbac.authorization.kubernetes.io/autoupdate": "true"}
VERBS = {
    "READ": ("get", "list", "watch"),
    "WRITE": ("create", "delete", "deletecollection", "patch", "update"),
    "ALL": ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"),
}
_AGGREGATE = f"{GROUP}/aggregate-to-"
# role -> the roles it is aggregated into
AGGREGATED_INTO = {
    "edit": "admin",
    "view": "edit",
    "system:aggregate-to-admin": "admin",
    "system:aggregate-to-edit": "edit",
    "system:aggregate-to-view": "view",
}
AGGREGATES = ("view", "edit", "admin")

# binding = role name -> subjects (``G`` group, ``U`` user, ``S`` service account of kube-system)
BINDINGS: dict[str, tuple[str, ...]] = {
    "cluster-admin": ("G system:masters",),
    "system:basic-user": ("G system:authenticated",),
    "system:cluster-trust-bundle-discovery": ("G system:serviceaccounts",),
    "system:discovery": ("G system:authenticated",),
    "system:kube-controller-manager": ("U system:kube-controller-manager",),
    "system:kube-dns": ("S kube-dns",),
    "system:kube-scheduler": ("U system:kube-scheduler",),
    "system:monitoring": ("G system:monitoring",),
    "system:node": (),
    "system:node-proxier": ("U system:kube-proxy",),
    "system:public-info-viewer": ("G system:authenticated", "G system:unauthenticated"),
    "system:service-account-issuer-discovery": ("G system:serviceaccounts",),
    "system:volume-scheduler": ("U system:kube-scheduler",),
}

_LEADER = """
    coordination.k8s.io : leases : create get list update watch
    coordination.k8s.io : leasecandidates : create get list update watch
"""
# (namespace, role, rules, binding, subjects)
NAMESPACED: tuple[tuple[str, str, str, str, tuple[str, ...]], ...] = (
    (
        "kube-system",
        "extension-apiserver-authentication-reader",
        "core : configmaps : READ : extension-apiserver-authentication",
        "system::extension-apiserver-authentication-reader",
        ("U system:kube-controller-manager", "U system:kube-scheduler"),
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        _LEADER,
        "",
        ("U system:kube-controller-manager", "S kube-controller-manager", "S leader-election-controller"),
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        _LEADER,
        "",
        ("U system:kube-scheduler", "S kube-scheduler"),
    ),
    ("kube-system", "system:controller:bootstrap-signer", "core : secrets : READ", "", ("S bootstrap-signer",)),
    ("kube-system", "system:controller:cloud-provider", "core : configmaps : create READ", "", ("S cloud-provider",)),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "core : secrets : delete READ\ncore events.k8s.io : events : create patch update",
        "",
        ("S token-cleaner",),
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "core : configmaps : READ\ncore : configmaps : update : cluster-info\n"
        "core events.k8s.io : events : create patch update",
        "",
        ("S bootstrap-signer",),
    ),
)


def parse_rules(text: str) -> list[Json]:
    """The rules of a table's text."""
    return [_rule(line) for line in text.split("\n") if line.strip()]


def _rule(line: str) -> Json:
    # Names hold colons, so the separators are colons with a space on both sides.
    parts = [part.split() for part in line.strip().split(" : ")]
    verbs = sorted(verb for word in parts[2] for verb in VERBS.get(word, (word,)))
    if parts[0] == ["urls"]:
        return {"verbs": verbs, "nonResourceURLs": parts[1]}
    rule: Json = {"verbs": verbs, "apiGroups": ["" if g == "core" else g for g in parts[0]], "resources": parts[1]}
    if len(parts) > 3:
        rule["resourceNames"] = parts[3]
    return rule


def node_rules() -> list[Json]:
    """What the node authorizer grants without a relationship: the rules of ClusterRole system:node."""
    return parse_rules(CLUSTER_ROLES["system:node"])


def cluster_roles() -> Iterator[Json]:
    """All default ClusterRoles; the aggregated ones with their rules already joined."""
    rules = {name: parse_rules(text) for name, text in CLUSTER_ROLES.items()}
    rules |= {f"system:controller:{name}": parse_rules(text) for name, text in CONTROLLER_ROLES.items()}
    for target in AGGREGATES:
        joined: list[Json] = []
        for source in sorted(name for name, into in AGGREGATED_INTO.items() if into == target):
            joined.extend(rule for rule in rules[source] if rule not in joined)
        rules[target] = joined
    for name, held in rules.items():
        role = _object("ClusterRole", name)
        if into := AGGREGATED_INTO.get(name):
            role["metadata"]["labels"] = LABELS | {_AGGREGATE + into: "true"}
        if name in AGGREGATES:
            role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {_AGGREGATE + name: "true"}}]}
        role["rules"] = held
        yield role


def cluster_role_bindings() -> Iterator[Json]:
    bindings = BINDINGS | {f"system:controller:{name}": (f"S {name}",) for name in CONTROLLER_ROLES}
    for name, subjects in bindings.items():
        yield _binding("ClusterRoleBinding", name, "", "ClusterRole", name, subjects)


def roles() -> Iterator[Json]:
    for namespace, name, rules, _, _ in NAMESPACED:
        yield _object("Role", name, namespace) | {"rules": parse_rules(rules)}


def role_bindings() -> Iterator[Json]:
    for namespace, role, _, name, subjects in NAMESPACED:
        yield _binding("RoleBinding", name or role, namespace, "Role", role, subjects)


def _object(kind: str, name: str, namespace: str = "") -> Json:
    meta: Json = {"name": name}
    if namespace:
        meta["namespace"] = namespace
    return {"apiVersion": API, "kind": kind, "metadata": meta | {"labels": LABELS, "annotations": ANNOTATIONS}}


def _binding(kind: str, name: str, namespace: str, role_kind: str, role: str, subjects: tuple[str, ...]) -> Json:
    binding = _object(kind, name, namespace)
    if subjects:
        binding["subjects"] = [_subject(text) for text in subjects]
    return binding | {"roleRef": {"apiGroup": GROUP, "kind": role_kind, "name": role}}


def _subject(text: str) -> Json:
    kind, name = text.split(" ", 1)
    if kind == "S":
        return {"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}
    return {"kind": {"G": "Group", "U": "User"}[kind], "apiGroup": GROUP, "name": name}
