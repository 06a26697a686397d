"""The node authorizer: a node reads what its own pods need, its own Node, Lease and CSINode, and nothing of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.podrefs import references
from portside.server.attributes import Attributes, User
from portside.server.auth.rbac import Decision
from portside.server.auth.rules import Rule, compile_rules
from portside.server.live import Live

Json = dict[str, Any]
READ = ("get", "list", "watch")
MIRROR = "kubernetes.io/config.mirror"
_NO_OPINION = Decision(False)
_ALLOWED = Decision(True)
_STORAGE, _LEASES, _DRA = "storage.k8s.io", "coordination.k8s.io", "resource.k8s.io"


def node_name(user: User) -> str:
    """The node behind an identity (``system:node:NAME`` in ``system:nodes``), "" for everybody else."""
    if "system:nodes" in user.groups and user.name.startswith("system:node:"):
        return user.name[len("system:node:") :]
    return ""


class PodGraph:
    """Which node's pods refer to what. Pods are read when a node asks, not when they change."""

    def __init__(self, live: Live) -> None:
        self._pods = live.of("pods")
        self._dirty: set[str] = set(self._pods.keys())
        self._of_pod: dict[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {}
        self._nodes: dict[tuple[str, str, str], dict[str, set[str]]] = {}
        self._pods.on_change(self._dirty.add)

    def related(self, node: str, plural: str, namespace: str, name: str) -> bool:
        """Whether a pod on ``node`` refers to the object."""
        self._refresh()
        return node in self._nodes.get((plural, namespace, name), ())

    def pod_on(self, node: str, namespace: str, name: str) -> bool:
        self._refresh()
        return self._of_pod.get(f"{self._pods.prefix}{namespace}/{name}", ("", ()))[0] == node

    def _refresh(self) -> None:
        if not self._dirty:
            return
        dirty = list(self._dirty)
        self._dirty.clear()
        for key in dirty:
            node, refs = self._of_pod.pop(key, ("", ()))
            for ref in refs:
                holders = self._nodes[ref][node]
                holders.discard(key)
                if not holders:
                    del self._nodes[ref][node]
                    if not self._nodes[ref]:
                        del self._nodes[ref]
            pod = self._pods.at(key)
            if pod is None or not (node := pod["spec"].get("nodeName", "")):
                continue
            space = pod["metadata"]["namespace"]
            mirror = MIRROR in (pod["metadata"].get("annotations") or {})
            found = () if mirror else tuple({(plural, space, name) for plural, name in references(pod)})
            self._of_pod[key] = (node, found)
            for ref in found:
                self._nodes.setdefault(ref, {}).setdefault(node, set()).add(key)


class NodeAuthorizer:
    """``rules`` are those of the ClusterRole system:node: what needs no relationship."""

    def __init__(self, live: Live, rules: list[Json]) -> None:
        self._live = live
        self.graph = PodGraph(live)
        self._rules: tuple[Rule, ...] = compile_rules(rules)
        self._special: dict[tuple[str, str], Callable[[str, Attributes], Decision]] = {
            ("", "secrets"): self._read_related,
            ("", "configmaps"): self._read_related,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._read_related,
            (_STORAGE, "volumeattachments"): self._read_related,
            ("", "serviceaccounts"): self._account,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            (_LEASES, "leases"): self._lease,
            (_STORAGE, "csinodes"): self._csi_node,
            (_DRA, "resourceclaims"): self._read_related,
            (_DRA, "resourceslices"): self._slices,
        }

    def authorize(self, asked: Attributes) -> Decision:
        """No opinion (not allowed, no reason) for anybody but nodes."""
        if "system:nodes" not in asked.user.groups or not asked.user.name.startswith("system:node:"):
            return _NO_OPINION
        node = node_name(asked.user)
        if not node:
            return _NO_OPINION
        if asked.is_resource and (special := self._special.get((asked.group, asked.resource))) is not None:
            return special(node, asked)
        return self._plain(asked)

    def _plain(self, asked: Attributes) -> Decision:
        for rule in self._rules:
            if not asked.is_resource:
                if rule.urls and rule.matches_url(asked.verb, asked.path):
                    return _ALLOWED
            elif rule.matches(asked.verb, asked.group, asked.resource, asked.subresource) and (
                not rule.names or asked.name in rule.names
            ):
                return _ALLOWED
        return _NO_OPINION

    def _read_related(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in READ:
            return _no("can only read resources of this type")
        if asked.subresource:
            return _no("cannot read subresource")
        return self._related(node, asked)

    def _related(self, node: str, asked: Attributes) -> Decision:
        if not asked.name:
            return _no("No Object name found")
        if self._is_related(node, asked.resource, asked.namespace, asked.name):
            return _ALLOWED
        return _no(f"no relationship found between node '{node}' and this object")

    def _is_related(self, node: str, resource: str, namespace: str, name: str) -> bool:
        if resource == "volumeattachments":
            found = self._live.of(resource, _STORAGE).get(name)
            return found is not None and found["spec"].get("nodeName") == node
        if resource == "persistentvolumes":
            found = self._live.of(resource).get(name)
            claim = (found or {}).get("spec", {}).get("claimRef") or {}
            return self.graph.related(node, "persistentvolumeclaims", claim.get("namespace", ""), claim.get("name", ""))
        if self.graph.related(node, resource, namespace, name):
            return True
        return resource == "secrets" and self._volume_secret(node, namespace, name)

    def _volume_secret(self, node: str, namespace: str, name: str) -> bool:
        """Secrets that a volume of one of the node's pods needs for mounting."""
        for volume in self._live.of("persistentvolumes").items():
            sources = [source for source in volume["spec"].values() if isinstance(source, dict)]
            refs = [ref for source in sources for ref in source.values() if isinstance(ref, dict)]
            named = any(r.get("name") == name and r.get("namespace", namespace) == namespace for r in refs)
            if named and self._is_related(node, "persistentvolumes", "", volume["metadata"]["name"]):
                return True
        return False

    def _claim(self, node: str, asked: Attributes) -> Decision:
        if asked.verb in ("update", "patch"):
            if asked.subresource != "status":
                return _no("can only update PVC status")
            return self._related(node, asked)
        return self._read_related(node, asked)

    def _account(self, node: str, asked: Attributes) -> Decision:
        if asked.verb == "get" and not asked.subresource:
            return self._related(node, asked)
        if asked.verb != "create" or asked.subresource != "token":
            return _no("can only get individual service accounts or create tokens for service accounts")
        return self._related(node, asked)

    def _node(self, node: str, asked: Attributes) -> Decision:
        if not asked.subresource and asked.verb in READ and asked.name != node:
            if not asked.name:
                return _no(f"node '{node}' cannot read all nodes, only its own Node object")
            return _no(f"node '{node}' cannot read '{asked.name}', only its own Node object")
        if asked.subresource in ("configz", "healthz", "log", "metrics", "pods", "proxy", "stats"):
            return self._plain(asked)
        return self._plain(asked)

    def _pod(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource:
            return self._plain(asked)
        if asked.verb == "get":
            if not asked.name:
                return _no("No Object name found")
            if self.graph.pod_on(node, asked.namespace, asked.name):
                return _ALLOWED
            return _no(f"no relationship found between node '{node}' and this object")
        if asked.verb in ("list", "watch"):
            if f"spec.nodeName={node}" in asked.field_selector.replace("==", "=").split(","):
                return _ALLOWED
            if asked.name and self.graph.pod_on(node, asked.namespace, asked.name):
                return _ALLOWED
            return _no("can only list/watch pods with spec.nodeName field selector")
        return self._plain(asked)

    def _lease(self, node: str, asked: Attributes) -> Decision:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return _no("can only get, create, update, patch, or delete a node lease")
        if asked.namespace != "kube-node-lease":
            return _no('can only access leases in the "kube-node-lease" system namespace')
        if asked.verb != "create" and asked.name != node:
            return _no("can only access node lease with the same name as the requesting node")
        return _ALLOWED

    def _csi_node(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource:
            return _no("cannot authorize CSINode subresources")
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return _no("can only get, create, update, patch, or delete a CSINode")
        if asked.verb != "create" and asked.name != node:
            return _no("can only access CSINode with the same name as the requesting node")
        return _ALLOWED

    def _slices(self, node: str, asked: Attributes) -> Decision:
        if asked.subresource:
            return _no("cannot authorize ResourceSlice subresources")
        if asked.verb in ("list", "watch", "deletecollection"):
            if f"spec.nodeName={node}" in asked.field_selector.replace("==", "=").split(","):
                return _ALLOWED
            return _no("can only list/watch/deletecollection resourceslices with spec.nodeName field selector")
        return _ALLOWED if asked.verb in ("get", "create", "update", "patch", "delete") else _NO_OPINION


def _no(why: str) -> Decision:
    return Decision(False, f"node: {why}")
