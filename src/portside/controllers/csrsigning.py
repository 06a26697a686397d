"""Signs approved requests of the cluster's own signers; a request that its signer must not serve gets a Failed condition."""

from __future__ import annotations

import base64
from collections.abc import Callable

from portside.base.clock import rfc3339
from portside.base.signing import Sign
from portside.client.cache import View
from portside.client.protocol import Json
from portside.controllers import csr
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, update_status


def _anything(asked: csr.Asked, usages: list[str]) -> str:
    return ""


CHECKS: dict[str, Callable[[csr.Asked, list[str]], str]] = {
    csr.CLIENT: csr.client_problem,
    csr.KUBELET_CLIENT: csr.kubelet_client_problem,
    csr.KUBELET_SERVING: csr.kubelet_serving_problem,
    csr.LEGACY: _anything,
}


def failed(request: Json, why: str, now: float) -> Json:
    """The status that says why nothing is signed."""
    status = request.get("status") or {}
    entry = {
        "type": "Failed",
        "status": "True",
        "reason": "SignerValidationFailure",
        "message": why,
        "lastUpdateTime": rfc3339(now),
    }
    return {**status, "conditions": [*(status.get("conditions") or ()), entry]}


def controller(sign: Sign) -> Controller:
    """The signers that use ``sign``."""

    def plan(view: View, key: str, now: float) -> Plan:
        request = view.key(csr.REQUESTS, key)
        if request is None or csr.certificate(request) or not csr.condition(request, "Approved"):
            return NOTHING
        spec = request["spec"]
        check = CHECKS.get(spec.get("signerName") or "")
        if check is None or csr.condition(request, "Denied", "Failed"):
            return NOTHING
        asked, usages = csr.read(request), spec.get("usages") or []
        why = "the request can't be read" if asked is None else check(asked, usages)
        if why:
            return Plan([update_status(csr.REQUESTS, request, failed(request, why, now))])
        issued = base64.b64encode(sign(csr.body(request), usages, spec.get("expirationSeconds"))).decode()
        return Plan([update_status(csr.REQUESTS, request, {**(request.get("status") or {}), "certificate": issued})])

    return Controller("certificatesigningrequest-signing-controller", csr.REQUESTS, plan, workers=2)
