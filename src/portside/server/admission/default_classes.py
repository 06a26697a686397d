"""DefaultStorageClass and DefaultIngressClass: the marked class, the newest of several, for objects that name none."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.server.admission.review import Review

Json = dict[str, Any]
STORAGE_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
INGRESS_MARKS = ("ingressclass.kubernetes.io/is-default-class",)


def storage_class(review: Review) -> None:
    """For a new claim without a class (an empty one is a choice)."""
    spec = review.obj["spec"]
    annotations = review.obj["metadata"].get("annotations") or {}
    if spec.get("storageClassName") is not None or "volume.beta.kubernetes.io/storage-class" in annotations:
        return
    if found := _default(review.server.live.of("storageclasses", "storage.k8s.io").items(), STORAGE_MARKS):
        spec["storageClassName"] = found


def ingress_class(review: Review) -> None:
    """For a new ingress without a class and without the old annotation."""
    spec = review.obj.get("spec") or {}
    annotations = review.obj["metadata"].get("annotations") or {}
    if spec.get("ingressClassName") is not None or "kubernetes.io/ingress.class" in annotations:
        return
    if found := _default(review.server.live.of("ingressclasses", "networking.k8s.io").items(), INGRESS_MARKS):
        review.obj["spec"] = spec | {"ingressClassName": found}


def _default(classes: Iterable[Json], marks: tuple[str, ...]) -> str:
    marked = [c for c in classes if any((c["metadata"].get("annotations") or {}).get(mark) == "true" for mark in marks)]
    # Newest first, ties by name.
    marked.sort(key=lambda c: str(c["metadata"]["name"]))
    marked.sort(key=lambda c: str(c["metadata"].get("creationTimestamp", "")), reverse=True)
    return str(marked[0]["metadata"]["name"]) if marked else ""
