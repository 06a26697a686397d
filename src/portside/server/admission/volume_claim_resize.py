"""PersistentVolumeClaimResize: a claim grows only where its class allows it."""

from __future__ import annotations

from typing import Any

from portside.api.quantity import compare
from portside.server.admission.review import Review

Json = dict[str, Any]
_REFUSED = (
    "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
)


def validate(review: Review) -> None:
    old = review.old
    if old is None or compare(_size(review.obj), _size(old)) <= 0:
        return
    if (old.get("status") or {}).get("phase") != "Bound":
        raise review.refuse("Only bound persistent volume claims can be expanded")
    annotations = review.obj["metadata"].get("annotations") or {}
    name = annotations.get("volume.beta.kubernetes.io/storage-class") or review.obj["spec"].get("storageClassName")
    found = review.server.live.of("storageclasses", "storage.k8s.io").get(name) if name else None
    if found is None or not found.get("allowVolumeExpansion"):
        raise review.refuse(_REFUSED)


def _size(claim: Json) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))
