"""Endpoints of the cluster's name server: every node that announces one serves kube-system/kube-dns, its own pods first."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, create, update
from portside.controllers.pods import is_terminating, owner_reference
from portside.controllers.slices import MANAGED_BY, SERVICE_NAME, SLICES

NAME_SERVER = "net.portside.io/name-server"
MANAGER = "cluster-dns.portside.io"
KEY = "kube-system/kube-dns"
PORTS = [
    {"name": "dns", "protocol": "UDP", "port": 53},
    {"name": "dns-tcp", "protocol": "TCP", "port": 53},
]
MOST = 1000  # endpoints a slice may have


def announced(node: Json) -> str:
    """Where the node answers names, "" when it does not."""
    return (node["metadata"].get("annotations") or {}).get(NAME_SERVER) or ""


def is_ready(node: Json) -> bool:
    """Whether the node says that it works, and was heard of."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _endpoint(node: Json) -> Json:
    ready, name = is_ready(node), node["metadata"]["name"]
    return {
        "addresses": [announced(node)],
        "conditions": {"ready": ready, "serving": ready, "terminating": False},
        "nodeName": name,
        "hints": {"forNodes": [{"name": name}]},
    }


def plan(view: View, key: str, now: float) -> Plan:
    """The one slice of kube-dns."""
    service = view.key(SERVICES, key)
    if key != KEY or service is None or is_terminating(service):
        return NOTHING
    nodes = sorted((n for n in view.all(NODES) if announced(n)), key=lambda n: str(n["metadata"]["name"]))
    endpoints = [_endpoint(node) for node in nodes[:MOST]]
    held = view.get(SLICES, "kube-system", "kube-dns-nodes")
    if held is None:
        if not endpoints:
            return NOTHING
        meta: Json = {
            "name": "kube-dns-nodes",
            "namespace": "kube-system",
            "labels": {SERVICE_NAME: "kube-dns", MANAGED_BY: MANAGER},
            "ownerReferences": [owner_reference(service, "v1", "Service")],
        }
        body: Json = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": meta}
        body |= {"addressType": "IPv4", "endpoints": endpoints, "ports": PORTS}
        return Plan([create(SLICES, body, ignore=frozenset({409}))])
    if held.get("endpoints") == endpoints:
        return NOTHING
    return Plan([update(SLICES, {**held, "endpoints": endpoints, "ports": PORTS})])


def _serving(view: View, node: Json) -> Iterable[str]:
    return (KEY,) if announced(node) else ()


def _own(view: View, piece: Json) -> Iterable[str]:
    return (KEY,) if (piece["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER else ()


def _foreign(old: Json | None, new: Json | None) -> bool:
    meta = (new or old or {"metadata": {}})["metadata"]
    return f"{meta.get('namespace')}/{meta.get('name')}" != KEY


CONTROLLER = Controller(
    "cluster-dns-controller",
    SERVICES,
    plan,
    watches={NODES: _serving, SLICES: _own},
    relevant={NODES: (Fact(announced), Fact(is_ready, "status"))},
    ignores=_foreign,
    workers=1,
)
