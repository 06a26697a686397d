"""NamespaceLifecycle: nothing new in a namespace that is not there or going; the system's namespaces stay."""

from __future__ import annotations

from portside.api.status import not_found
from portside.server.admission.review import Review

IMMORTAL = frozenset(("default", "kube-system", "kube-public"))


def validate(review: Review) -> None:
    """Raises ApiError 403, 404."""
    namespace = review.attributes.namespace
    if review.operation == "DELETE":
        if review.attributes.resource == "namespaces" and review.attributes.name in IMMORTAL:
            raise review.refuse("this namespace may not be deleted")
        return
    if not namespace or review.attributes.resource == "namespaces":
        return
    held = review.server.live.of("namespaces").get(namespace)
    if held is None:
        raise not_found("namespaces", namespace)
    # Subresources make nothing new: drains and token refreshes go on while a namespace ends.
    if (
        review.operation == "CREATE"
        and not review.attributes.subresource
        and ("deletionTimestamp" in held["metadata"] or held.get("status", {}).get("phase") == "Terminating")
    ):
        error = review.refuse(f"unable to create new content in namespace {namespace} because it is being terminated")
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        error.details = (error.details or {}) | {"causes": [cause]}
        raise error
