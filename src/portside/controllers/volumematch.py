"""Which volume suits which claim: classes, modes, sizes, selectors, reservations. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.api import quantity
from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.claim import selector_of
from portside.controllers.pods import created, is_terminating

VOLUMES: Resource = ("", "v1", "persistentvolumes")
CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
CLASSES: Resource = ("storage.k8s.io", "v1", "storageclasses")
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONERS = ("volume.beta.kubernetes.io/storage-provisioner", "volume.kubernetes.io/storage-provisioner")
SELECTED_NODE = "volume.kubernetes.io/selected-node"


def notes(obj: Json) -> dict[str, str]:
    found: dict[str, str] = obj["metadata"].get("annotations") or {}
    return found


def class_of(obj: Json) -> str:
    """The storage class of a volume or claim: the old annotation counts before the field."""
    held = notes(obj).get(CLASS_ANNOTATION)
    return held if held is not None else str((obj.get("spec") or {}).get("storageClassName") or "")


def phase_of(obj: Json) -> str:
    return str((obj.get("status") or {}).get("phase") or "Pending")


def storage(amounts: Json | None) -> Any:
    return (amounts or {}).get("storage", "0")


def capacity(volume: Json) -> Any:
    return storage(volume["spec"].get("capacity"))


def requested(claim: Json) -> Any:
    return storage((claim["spec"].get("resources") or {}).get("requests"))


def mode_of(obj: Json) -> str:
    return str(obj["spec"].get("volumeMode") or "Filesystem")


def is_for(volume: Json, claim: Json) -> bool:
    """The volume's reference names this claim; one without uid is a reservation that any claim of the name takes."""
    ref, meta = volume["spec"].get("claimRef"), claim["metadata"]
    if ref is None or (ref.get("namespace"), ref.get("name")) != (meta.get("namespace"), meta["name"]):
        return False
    return not ref.get("uid") or ref["uid"] == meta["uid"]


def waits_for_consumer(view: View, claim: Json) -> bool:
    """The claim's class binds only when a pod has been placed, and none has."""
    if notes(claim).get(SELECTED_NODE):
        return False
    held = view.get(CLASSES, "", class_of(claim)) if class_of(claim) else None
    return held is not None and held.get("volumeBindingMode") == "WaitForFirstConsumer"


def default_class(view: View) -> Json | None:
    """The newest class that is marked as default; of one age, the first by name."""
    marked = [c for c in view.all(CLASSES) if any(notes(c).get(a) == "true" for a in DEFAULT_CLASS)]
    return min(marked, key=lambda c: (-created(c), c["metadata"]["name"]), default=None)


def unsuitable(volume: Json, claim: Json) -> str | None:
    """Why a volume that a claim asks for by name can't serve it; None when it can."""
    if is_terminating(volume):
        return f"the volume is marked for deletion {_quoted(volume['metadata']['name'])}"
    if quantity.compare(capacity(volume), requested(claim)) < 0:
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if _attributes(volume) != _attributes(claim):
        return "volumeAttributesClassName does not match"
    if mode_of(volume) != mode_of(claim):
        return "incompatible volumeMode"
    if not _access(volume, claim):
        return "incompatible accessMode"
    return None


def best(volumes: Iterable[Json], claim: Json, *, delayed: bool) -> Json | None:
    """The volume reserved for the claim, else the available one with the fewest access modes, of these the smallest.

    ``delayed``: binding is the scheduler's, so only a reservation counts.
    """
    found: list[Json] = []
    raw = claim["spec"].get("selector")
    selector = selector_of(raw) if raw is not None else None
    for volume in volumes:
        fits = quantity.compare(capacity(volume), requested(claim)) >= 0
        if not _access(volume, claim) or mode_of(volume) != mode_of(claim) or is_terminating(volume) or not fits:
            continue
        if is_for(volume, claim):
            return volume
        if delayed or volume["spec"].get("claimRef") is not None or phase_of(volume) != "Available":
            continue
        if selector is not None and not selector.matches_object(volume):
            continue
        if class_of(volume) == class_of(claim) and _attributes(volume) == _attributes(claim):
            found.append(volume)
    return min(found, key=_rank, default=None)


def _rank(volume: Json) -> Any:
    return len(volume["spec"].get("accessModes") or ()), quantity.parse(capacity(volume)), volume["metadata"]["name"]


def _attributes(obj: Json) -> str:
    return str(obj["spec"].get("volumeAttributesClassName") or "")


def _access(volume: Json, claim: Json) -> bool:
    return set(claim["spec"].get("accessModes") or ()) <= set(volume["spec"].get("accessModes") or ())


def _quoted(name: str) -> str:
    return f'"{name}"'
