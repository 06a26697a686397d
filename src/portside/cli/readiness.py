"""Whether a node is ready by what the API tells of it: its Ready condition, and a heartbeat of the process that runs now."""

from __future__ import annotations

import time
from typing import Any, Protocol

HEARTBEATS = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


class Answers(Protocol):
    def send(self, method: str, path: str) -> Any: ...


def node_unready(api: Answers, name: str, since: float) -> str:
    """Why the node isn't ready, or "". ``since``: a heartbeat before this time, in seconds since the epoch, was another
    process's. Raises Refused and OSError as the client does."""
    return unready(api.send("GET", f"/api/v1/nodes/{name}"), api.send("GET", f"{HEARTBEATS}/{name}"), since)


def nodes_unready(api: Answers, count: int, since: float) -> str:
    """Why fewer than ``count`` nodes are ready, or ""; one more that isn't does no harm."""
    nodes = api.send("GET", "/api/v1/nodes")["items"]
    leases = {lease["metadata"]["name"]: lease for lease in api.send("GET", HEARTBEATS)["items"]}
    if len(nodes) < count:
        return f"{len(nodes)} of {count} nodes registered"
    whys = {node["metadata"]["name"]: unready(node, leases.get(node["metadata"]["name"], {}), since) for node in nodes}
    if sum(not why for why in whys.values()) >= count:
        return ""
    return next(f"{name}: {why}" for name, why in whys.items() if why)


def unready(node: dict[str, Any], lease: dict[str, Any], since: float) -> str:
    """The same for one node and its lease, both as the API has them."""
    conditions = node.get("status", {}).get("conditions", [])
    ready: dict[str, Any] = next((c for c in conditions if c["type"] == "Ready"), {})
    if ready.get("status") != "True":
        return str(ready.get("message") or "no status yet")
    # To the microsecond: a process that ended in the second in which the next one starts must not speak for it.
    limit = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(since)) + f".{int(since % 1 * 1e6):06d}Z"
    return "" if lease.get("spec", {}).get("renewTime", "") >= limit else "no fresh heartbeat"
