"""Removes signing requests that have served their time, and requests of pods that nobody answered."""

from __future__ import annotations

from datetime import datetime

from portside.base.signing import not_after
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers import csr
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, delete

POD_REQUESTS: Resource = ("certificates.k8s.io", "v1", "podcertificaterequests")
DONE_KEPT = 3600.0  # seconds: issued, denied and failed ones
PENDING_KEPT = 24 * 3600.0
POD_REQUEST_KEPT = 15 * 60.0


def _seconds(stamp: str | None, otherwise: float) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else otherwise


def ends(request: Json, now: float) -> float:
    """When a signing request may go."""
    created = _seconds(request["metadata"].get("creationTimestamp"), now)
    issued = csr.certificate(request)
    if issued and csr.condition(request, "Approved"):
        decided = csr.condition(request, "Approved") or {}
        until = _seconds(decided.get("lastUpdateTime"), created) + DONE_KEPT
        try:
            return min(until, not_after(issued))
        except ValueError:
            return until
    if (decided := csr.condition(request, "Denied", "Failed") or {}) != {}:
        return _seconds(decided.get("lastUpdateTime"), created) + DONE_KEPT
    return created + PENDING_KEPT if not csr.condition(request, "Approved") else float("inf")


def _until(resource: Resource, held: Json, end: float, now: float) -> Plan:
    if end <= now:
        return Plan([delete(resource, held)])
    return NOTHING if end == float("inf") else Plan(again=end - now + 0.01)


def plan(view: View, key: str, now: float) -> Plan:
    request = view.key(csr.REQUESTS, key)
    return NOTHING if request is None else _until(csr.REQUESTS, request, ends(request, now), now)


def plan_pod_request(view: View, key: str, now: float) -> Plan:
    request = view.key(POD_REQUESTS, key)
    if request is None:
        return NOTHING
    created = _seconds(request["metadata"].get("creationTimestamp"), now)
    return _until(POD_REQUESTS, request, created + POD_REQUEST_KEPT, now)


CONTROLLERS = (
    Controller("certificatesigningrequest-cleaner-controller", csr.REQUESTS, plan, workers=1),
    Controller("podcertificaterequest-cleaner-controller", POD_REQUESTS, plan_pod_request, workers=1),
)
