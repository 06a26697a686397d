"""Approves requests for nodes' client certificates of those who may have them: joining nodes, and nodes that renew their own."""

from __future__ import annotations

from portside.base.clock import rfc3339
from portside.client.protocol import Json, Resource
from portside.controllers import csr
from portside.controllers.harness import Context, Controller, write
from portside.controllers.plan import update

REVIEWS: Resource = ("authorization.k8s.io", "v1", "subjectaccessreviews")
RETRY_SECONDS = 60.0


def recognized(request: Json) -> list[tuple[str, str]]:
    """Subresources whose creation would allow the approval, each with what is then said. Most particular first."""
    spec = request["spec"]
    if spec.get("signerName") != csr.KUBELET_CLIENT:
        return []
    asked = csr.read(request)
    if asked is None or csr.kubelet_client_problem(asked, spec.get("usages") or []):
        return []
    node = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
    own = ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
    return [own, node] if asked.name == spec.get("username") else [node]


def review(request: Json, subresource: str) -> Json:
    """The question whether the requestor may create this subresource."""
    spec = request["spec"]
    attributes = {
        "group": "certificates.k8s.io",
        "version": "*",
        "resource": "certificatesigningrequests",
        "subresource": subresource,
        "verb": "create",
    }
    who = {"user": spec.get("username", ""), "groups": spec.get("groups") or [], "uid": spec.get("uid", "")}
    asked = who | {"extra": spec.get("extra") or {}, "resourceAttributes": attributes}
    return {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {}, "spec": asked}


def approved(request: Json, message: str, now: float) -> Json:
    status = request.get("status") or {}
    entry = {
        "type": "Approved",
        "status": "True",
        "reason": "AutoApproved",
        "message": message,
        "lastUpdateTime": rfc3339(now),
    }
    return {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), entry]}}


async def reconcile(context: Context, key: str) -> float | None:
    """Ask for each way that fits; the first allowed one approves. A refusal is asked again: rights may come later."""
    request = context.view.key(csr.REQUESTS, key)
    if request is None or csr.certificate(request) or csr.condition(request, "Approved", "Denied"):
        return None
    ways = recognized(request)
    for subresource, message in ways:
        answer = await context.client.create(REVIEWS, review(request, subresource))
        if (answer.get("status") or {}).get("allowed"):
            new = approved(request, message, context.clock.now())
            await write(context, update(csr.REQUESTS, new, subresource="approval"))
            return None
    return RETRY_SECONDS if ways else None


CONTROLLER = Controller("certificatesigningrequest-approving-controller", csr.REQUESTS, reconcile=reconcile, workers=1)
