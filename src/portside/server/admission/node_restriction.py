"""NodeRestriction: a node writes its own Node, Lease, CSINode and mirror pods, and only what concerns it of those."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.podrefs import claim_names, config_map_names, secret_names
from portside.api.status import not_found
from portside.server.admission.review import Review
from portside.server.attributes import Attributes
from portside.server.auth.nodes import node_name

Json = dict[str, Any]
MIRROR = "kubernetes.io/config.mirror"
# Labels a node may set on itself although they lie in kubernetes.io or k8s.io.
OWN_LABELS = frozenset(
    (
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "node.kubernetes.io/windows-build",
    )
)
OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def validate(review: Review) -> None:
    """Nothing for anybody but nodes. Raises ApiError 403."""
    if "system:nodes" not in review.user.groups:
        return
    node = node_name(review.user)
    if not node:
        if review.user.name.startswith("system:node:"):
            raise review.refuse(f'could not determine node from user "{review.user.name}"')
        return
    where = (review.attributes.resource, review.attributes.subresource)
    if (check := _CHECKS.get(where)) is not None:
        check(review, node)


def _pods(review: Review, node: str) -> None:
    if review.operation == "CREATE":
        _create_pod(review, node)
    elif review.operation == "DELETE":
        pod = review.old
        if pod is not None and pod["spec"].get("nodeName") != node:
            raise review.refuse(f'node "{node}" can only delete pods with spec.nodeName set to itself')
    else:
        raise review.refuse(
            f'unexpected operation "{review.operation}", node "{node}" can only create and delete mirror pods'
        )


def _create_pod(review: Review, node: str) -> None:
    pod = review.obj
    if MIRROR not in (pod["metadata"].get("annotations") or {}):
        raise review.refuse(f'pod does not have "{MIRROR}" annotation, node "{node}" can only create mirror pods')
    spec = pod["spec"]
    if spec.get("nodeName") != node:
        raise review.refuse(f'node "{node}" can only create pods with spec.nodeName set to itself')
    owners = pod["metadata"].get("ownerReferences") or []
    if len(owners) > 1:
        raise review.refuse(f'node "{node}" can only create pods with a single owner reference set to itself')
    if not owners:
        raise review.refuse(f'node "{node}" can only create pods with an owner reference set to itself')
    _check_owner(review, node, owners[0])
    if spec.get("serviceAccountName"):
        raise review.refuse(f'node "{node}" can not create pods that reference a service account')
    for found, noun in (
        (secret_names(spec), "secrets"),
        (config_map_names(spec), "configmaps"),
        (claim_names(pod), "persistentvolumeclaims"),
    ):
        if next(found, None) is not None:
            raise review.refuse(f'node "{node}" can not create pods that reference {noun}')
    if spec.get("resourceClaims"):
        raise review.refuse(f'node "{node}" can not create pods that reference resourceclaims')


def _check_owner(review: Review, node: str, owner: Json) -> None:
    if owner.get("apiVersion") != "v1" or owner.get("kind") != "Node" or owner.get("name") != node:
        raise review.refuse(f'node "{node}" can only create pods with an owner reference set to itself')
    if not owner.get("controller"):
        raise review.refuse(f'node "{node}" can only create pods with a controller owner reference set to itself')
    if owner.get("blockOwnerDeletion"):
        raise review.refuse(f'node "{node}" must not set blockOwnerDeletion on an owner reference')
    held = review.server.live.of("nodes").get(node)
    if held is None:
        raise not_found("nodes", node)
    if held["metadata"]["uid"] != owner.get("uid"):
        raise review.refuse(f"node {node} UID mismatch: expected {held['metadata']['uid']} got {owner.get('uid', '')}")


def _pod_status(review: Review, node: str) -> None:
    old, new = review.old or {}, review.obj
    if old.get("spec", {}).get("nodeName") != node:
        raise review.refuse(f'node "{node}" can only update pod status for pods with spec.nodeName set to itself')
    if (old["metadata"].get("labels") or {}) != (new["metadata"].get("labels") or {}):
        raise review.refuse(f'node "{node}" cannot update labels through pod status')
    was, now = old.get("status") or {}, new.get("status") or {}
    if (was.get("resourceClaimStatuses") or []) != (now.get("resourceClaimStatuses") or []):
        raise review.refuse(f'node "{node}" cannot update resource claim statuses')


def _eviction(review: Review, node: str) -> None:
    name = review.attributes.name or review.name
    pod = review.server.live.of("pods").get(name, review.namespace)
    if pod is None:
        raise not_found("pods", name)
    if pod["spec"].get("nodeName") != node:
        raise review.refuse(f"node {node} can only evict pods with spec.nodeName set to itself")


def _node(review: Review, node: str) -> None:
    name = review.name
    if name != node:
        raise review.refuse(f'node "{node}" is not allowed to modify node "{name}"')
    if review.operation == "DELETE" or review.obj is None:
        return
    labels = review.obj["metadata"].get("labels") or {}
    if review.operation == "CREATE":
        if (review.obj.get("spec") or {}).get("configSource") is not None:
            raise review.refuse(f'node "{node}" is not allowed to create pods with a non-nil configSource')
        if forbidden := sorted(key for key in labels if not _own_label(key)):
            raise review.refuse(f'node "{node}" is not allowed to set the following labels: {", ".join(forbidden)}')
        if review.obj["metadata"].get("ownerReferences"):  # collected with its owner, it could register anew, untainted
            raise review.refuse(f'node "{node}" is not allowed to set ownerReferences')
        return
    old = review.old or {}
    if (old.get("spec") or {}).get("taints", []) != (review.obj.get("spec") or {}).get("taints", []):
        raise review.refuse(f'node "{node}" is not allowed to modify taints')
    if (old["metadata"].get("ownerReferences") or []) != (review.obj["metadata"].get("ownerReferences") or []):
        raise review.refuse(f'node "{node}" is not allowed to modify ownerReferences')
    held = old["metadata"].get("labels") or {}
    changed = {key for key in held.keys() | labels.keys() if held.get(key) != labels.get(key)}
    if forbidden := sorted(key for key in changed if not _own_label(key)):
        raise review.refuse(f"is not allowed to modify labels: {', '.join(forbidden)}")


def _own_label(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    if not slash:
        return True
    if prefix == "node-restriction.kubernetes.io" or prefix.endswith(".node-restriction.kubernetes.io"):
        return False
    if not any(prefix == domain or prefix.endswith("." + domain) for domain in ("kubernetes.io", "k8s.io")):
        return True
    return key in OWN_LABELS or any(prefix == own or prefix.endswith("." + own) for own in OWN_PREFIXES)


def _lease(review: Review, node: str) -> None:
    if review.namespace != "kube-node-lease":
        raise review.refuse('can only access leases in the "kube-node-lease" system namespace')
    if review.name != node:
        raise review.refuse("can only access node lease with the same name as the requesting node")


def _csi_node(review: Review, node: str) -> None:
    if review.name != node:
        raise review.refuse("can only access CSINode with the same name as the requesting node")


def _claim_status(review: Review, node: str) -> None:
    if review.operation != "UPDATE":
        raise review.refuse(f'unexpected operation "{review.operation}"')
    old, new = review.old or {}, review.obj

    def bare(claim: Json) -> Json:
        status = {
            key: value
            for key, value in (claim.get("status") or {}).items()
            if key not in ("capacity", "conditions", "allocatedResources", "allocatedResourceStatuses")
        }
        meta = {k: v for k, v in claim["metadata"].items() if k not in ("managedFields", "resourceVersion")}
        return claim | {"status": status, "metadata": meta}

    if bare(old) != bare(new):
        raise review.refuse(
            f'node "{node}" is not allowed to update fields other than status.quantity and status.conditions'
        )


def _token(review: Review, node: str) -> None:
    ref = (review.obj.get("spec") or {}).get("boundObjectRef") or {}
    if ref.get("apiVersion") != "v1" or ref.get("kind") != "Pod" or not ref.get("name"):
        raise review.refuse("node requested token not bound to a pod")
    if not ref.get("uid"):
        raise review.refuse("node requested token with a pod binding without a uid")
    pod = review.server.live.of("pods").get(ref["name"], review.namespace)
    if pod is None:
        raise not_found("pods", ref["name"])
    if pod["metadata"]["uid"] != ref["uid"]:
        raise review.refuse(
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record "
            f"({pod['metadata']['uid']}). The object might have been deleted and then recreated"
        )
    if pod["spec"].get("nodeName") != node:
        raise review.refuse("node requested token bound to a pod scheduled on a different node")
    _check_audiences(review, pod)


def _check_audiences(review: Review, pod: Json) -> None:
    """A node asks for the audiences its pod's volumes name, or those it is allowed to by RBAC."""
    projected = {
        (source.get("serviceAccountToken") or {}).get("audience", "")
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if source.get("serviceAccountToken") is not None
    }
    for audience in (review.obj.get("spec") or {}).get("audiences") or ():
        if not audience or audience in projected:
            continue
        asked = Attributes(
            review.user,
            "request-serviceaccounts-token-audience",
            version="v1",
            resource=audience,
            namespace=review.namespace,
            name=review.attributes.name,
        )
        if not review.server.authorizer.allowed(asked):
            raise review.refuse(f'{review.user.name} is not authorized to request tokens for audience "{audience}"')


def _slice(review: Review, node: str) -> None:
    for obj in (review.old, review.obj):
        if obj is not None and (obj.get("spec") or {}).get("nodeName", "") != node:
            verb = "create" if review.operation == "CREATE" else "delete" if review.operation == "DELETE" else "update"
            raise review.refuse(f"can only {verb} ResourceSlice with the same NodeName as the requesting node")


_CHECKS: dict[tuple[str, str], Callable[[Review, str], None]] = {
    ("pods", ""): _pods,
    ("pods", "status"): _pod_status,
    ("pods", "eviction"): _eviction,
    ("nodes", ""): _node,
    ("nodes", "status"): _node,
    ("persistentvolumeclaims", "status"): _claim_status,
    ("serviceaccounts", "token"): _token,
    ("leases", ""): _lease,
    ("csinodes", ""): _csi_node,
    ("resourceslices", ""): _slice,
}
