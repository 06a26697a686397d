"""The API server's own lease in kube-system, by which clients count the control planes; and the end of those of lost ones."""

from __future__ import annotations

import base64
import hashlib
from uuid import uuid4

from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, create, delete, patch

LEASES: Resource = ("coordination.k8s.io", "v1", "leases")
SPACE = "kube-system"
LABEL = "apiserver.kubernetes.io/identity"
COMPONENT = "kube-apiserver"
SECONDS, RENEW = 3600, 10.0  # how long a lease holds, and how often it is renewed


def name_of(host: str) -> str:
    """The lease of the API server on this host: a hash of both, each with its length before it."""
    parts = (host.encode(), COMPONENT.encode())
    digest = hashlib.sha256(b"".join(len(p).to_bytes(2, "big") + p for p in parts)).digest()[:16]
    return "apiserver-" + base64.b32encode(digest).decode().rstrip("=").lower()


def _ours(lease: Json) -> bool:
    meta = lease["metadata"]
    return meta.get("namespace") == SPACE and (meta.get("labels") or {}).get(LABEL) == COMPONENT


def _left(lease: Json, now: float) -> float:
    spec = lease.get("spec") or {}
    at, seconds = parse_time(spec.get("renewTime")), spec.get("leaseDurationSeconds")
    return 0.0 if at is None or seconds is None else at + float(seconds) - now


def controller(host: str) -> Controller:
    """Keeps the lease of ``host`` and deletes those that ended. A process holds it under a name of its own."""
    own = name_of(host)
    holder = f"{own}_{uuid4()}"

    def spec(now: float) -> Json:
        stamp = rfc3339(now).replace("Z", f".{int(now % 1 * 1e6):06d}Z")
        return {"holderIdentity": holder, "leaseDurationSeconds": SECONDS, "renewTime": stamp}

    def plan(view: View, key: str, now: float) -> Plan:
        lease = view.get(LEASES, *split_key(key))
        if key != f"{SPACE}/{own}":
            if lease is None or not _ours(lease):
                return NOTHING
            left = _left(lease, now)
            return Plan(again=left + 0.01) if left > 0 else Plan([delete(LEASES, lease)])
        labels = {LABEL: COMPONENT, "kubernetes.io/hostname": host}
        if lease is None:
            meta = {"name": own, "namespace": SPACE, "labels": labels}
            body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec(now)}
            return Plan([create(LEASES, body, ignore=frozenset({409}))], again=RENEW)
        held = lease.get("spec") or {}
        left = _left(lease, now) - SECONDS + RENEW
        if held.get("holderIdentity") == holder and held.get("leaseDurationSeconds") == SECONDS and left > 0:
            return Plan(again=left)
        body = {"metadata": {"labels": labels}, "spec": spec(now)}
        return Plan([patch(LEASES, lease, body, ignore=frozenset({404}))], again=RENEW)

    return Controller(
        "apiserver-identity-lease",
        LEASES,
        plan,
        workers=1,
        ignores=lambda old, new: not any(o is not None and _ours(o) for o in (old, new)),
        always=(f"{SPACE}/{own}",),
    )
