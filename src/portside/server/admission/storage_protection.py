"""StorageObjectInUseProtection and PodGroupProtection: claims, volumes, attribute classes and groups of pods get the
finalizer that guards them while in use."""

from __future__ import annotations

from portside.server.admission.review import Review

FINALIZERS = {
    "persistentvolumeclaims": "kubernetes.io/pvc-protection",
    "persistentvolumes": "kubernetes.io/pv-protection",
    "volumeattributesclasses": "kubernetes.io/vac-protection",
    "podgroups": "scheduling.k8s.io/podgroup-protection",
}


def mutate(review: Review) -> None:
    finalizer = FINALIZERS[review.attributes.resource]
    held = review.obj["metadata"].get("finalizers") or []
    if finalizer not in held:
        review.obj["metadata"]["finalizers"] = [*held, finalizer]
