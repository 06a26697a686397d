"""Approves serving certificates of nodes: for exactly the node that asks, its name and the addresses its Node object says.

Upstream leaves this to administrators, as a node may write any address into its own Node object. So an address or name of
another node, of the API server or of the machine itself is never approved.
"""

from __future__ import annotations

import base64

from portside.base.clock import rfc3339
from portside.client.cache import View, key_of
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers import csr
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, update
from portside.controllers.slices import SLICES

RESERVED = {"localhost", "kubernetes", "127.0.0.1", "::1"}
USER = "system:node:"
USAGES = {"digital signature", "key encipherment", "server auth"}
MESSAGE = "Auto approving kubelet serving certificate: name and addresses are the node's own."


def names(request: Json) -> tuple[str, set[str]] | None:
    """Common name and alternative names of the request's subject, None for what can't be read."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        asked = x509.load_pem_x509_csr(base64.b64decode(request["spec"]["request"]))
        if not asked.is_signature_valid:
            return None
        common = [str(a.value) for a in asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        groups = [str(a.value) for a in asked.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
        found = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, KeyError, x509.ExtensionNotFound):
        return None
    if len(common) != 1 or groups != ["system:nodes"]:
        return None
    texts = {str(n) for n in found.get_values_for_type(x509.DNSName)}
    texts |= {str(n) for n in found.get_values_for_type(x509.IPAddress)}
    return (common[0], texts) if len(texts) == len(list(found)) else None


def others(view: View, name: str) -> set[str]:
    """Names and addresses that are not this node's to have."""
    found = set(RESERVED)
    for node in view.all(NODES):
        if node["metadata"]["name"] != name:
            found |= {
                node["metadata"]["name"],
                *(a["address"] for a in (node.get("status") or {}).get("addresses") or ()),
            }
    service = view.get(SERVICES, "default", "kubernetes") or {"spec": {}}
    found |= set(service["spec"].get("clusterIPs") or ())
    for endpoint in (view.get(SLICES, "default", "kubernetes") or {}).get("endpoints") or ():
        found |= set(endpoint["addresses"])
    return found


def deserved(request: Json, node: Json | None, foreign: set[str]) -> bool:
    """Whether the request is the node's own, for nothing but what it is."""
    spec = request["spec"]
    user = spec.get("username") or ""
    if node is None or user != USER + node["metadata"]["name"] or "system:nodes" not in (spec.get("groups") or ()):
        return False
    if not set(spec.get("usages") or ()) <= USAGES or "server auth" not in (spec.get("usages") or ()):
        return False
    found = names(request)
    known = {node["metadata"]["name"]} | {a["address"] for a in (node.get("status") or {}).get("addresses") or ()}
    return found is not None and found[0] == user and bool(found[1]) and found[1] <= known - foreign


def _open(request: Json) -> bool:
    """Whether the request is for a serving certificate, and nobody has decided it."""
    if request["spec"].get("signerName") != csr.KUBELET_SERVING:
        return False
    return not (csr.certificate(request) or csr.condition(request, "Approved", "Denied"))


def plan(view: View, key: str, now: float) -> Plan:
    """Approve, or leave it to a person."""
    request = view.key(csr.REQUESTS, key)
    if request is None or not _open(request):
        return NOTHING
    user = str(request["spec"].get("username") or "")
    node = view.get(NODES, "", user.removeprefix(USER)) if user.startswith(USER) else None
    if node is None or not deserved(request, node, others(view, node["metadata"]["name"])):
        return NOTHING
    status = request.get("status") or {}
    entry = {
        "type": "Approved",
        "status": "True",
        "reason": "AutoApproved",
        "message": MESSAGE,
        "lastUpdateTime": rfc3339(now),
    }
    new = {**request, "status": {**status, "conditions": [*(status.get("conditions") or ()), entry]}}
    return Plan([update(csr.REQUESTS, new, subresource="approval")])


def _waiting(view: View, node: Json) -> list[str]:
    """Requests that a node's address may decide: one that moved asks before its Node says so; one that goes frees its own."""
    return [key_of(request) for request in view.all(csr.REQUESTS) if _open(request)]


def _addresses(node: Json) -> Json:
    return {"addresses": (node.get("status") or {}).get("addresses")}


CONTROLLER = Controller(
    "node-serving-approver",
    csr.REQUESTS,
    plan,
    watches={NODES: _waiting},
    reads=(SERVICES, SLICES),
    relevant={NODES: (Fact(_addresses, "status"),)},
    workers=1,
)
