"""Binds PersistentVolumeClaims to volumes, asks provisioners for volumes, and says why a claim waits.

Of the two objects the volume is written first: whatever crashes in between, the reference on the volume brings the next
plan to the same pair.
"""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, split_key
from portside.client.events import reference
from portside.client.protocol import Json
from portside.controllers.claimprotection import claims_of
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Op, Plan, Step, patch
from portside.controllers.pods import PODS, is_finished
from portside.controllers.volumematch import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    CLAIMS,
    CLASS_ANNOTATION,
    CLASSES,
    DEFAULT_CLASS,
    PROVISIONERS,
    SELECTED_NODE,
    VOLUMES,
    best,
    class_of,
    default_class,
    is_for,
    notes,
    phase_of,
    unsuitable,
    waits_for_consumer,
)

NAME = "persistentvolume-controller"
LOOK_AGAIN = 15.0  # seconds until a pending claim is looked at (and its event counted) again
IN_TREE = "kubernetes.io/"
NO_VOLUME = "no persistent volumes available for this claim and no storage class is set"
EXTERNAL = (
    "Waiting for a volume to be created either by the external provisioner '{}' or manually by the system administrator. "
    "If volume creation is delayed, please verify that the provisioner is running and correctly registered."
)
LOST = {
    "reference": ("ClaimLost", "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"),
    "volume": ("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!"),
    "stolen": (
        "ClaimMisbound",
        "Two claims are bound to the same volume, this one is bound incorrectly",
    ),
}


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a claim."""
    claim = view.get(CLAIMS, *split_key(key))
    if claim is None:
        return NOTHING
    if BIND_COMPLETED in notes(claim):
        return Plan(_bound(view, claim))
    steps, settled = _unbound(view, claim)
    return Plan(steps, again=None if settled else LOOK_AGAIN)


def _bound(view: View, claim: Json) -> list[Step]:
    """Keeps a pair together, or says that the claim has lost its volume."""
    name = claim["spec"].get("volumeName")
    volume = view.get(VOLUMES, "", name) if name else None
    if not name:
        return _lose(claim, "reference")
    if volume is None:
        return _lose(claim, "volume")
    ref = volume["spec"].get("claimRef")
    if ref is None or ref.get("uid") == claim["metadata"]["uid"]:
        return bind(volume, claim)
    return _lose(claim, "stolen")


def _lose(claim: Json, how: str) -> list[Step]:
    if phase_of(claim) == "Lost":
        return []
    reason, text = LOST[how]
    return [*_status(claim, "Lost", None), Emit(claim, "Warning", reason, text)]


def _unbound(view: View, claim: Json) -> tuple[list[Step], bool]:
    """(steps, whether the claim needs no further look)."""
    name = claim["spec"].get("volumeName")
    if name:
        return _asked_for(claim, view.get(VOLUMES, "", name))
    delayed = waits_for_consumer(view, claim)
    volume = best(view.all(VOLUMES), claim, delayed=delayed)
    if volume is not None:
        return bind(volume, claim), True
    if claim["spec"].get("storageClassName") is None and CLASS_ANNOTATION not in notes(claim):
        given = default_class(view)
        if given is not None:  # a class that became the default after the claim was made
            return [patch(CLAIMS, claim, {"spec": {"storageClassName": given["metadata"]["name"]}})], True
    if delayed:
        return [_waiting(view, claim)], False
    if class_of(claim):
        return _provision(view, claim), False
    return [Emit(claim, "Normal", "FailedBinding", NO_VOLUME), *_status(claim, "Pending", None)], False


def _asked_for(claim: Json, volume: Json | None) -> tuple[list[Step], bool]:
    if volume is None:
        return _status(claim, "Pending", None), False
    name = volume["metadata"]["name"]
    if volume["spec"].get("claimRef") is None:
        trouble = unsuitable(volume, claim)
        if trouble is None:
            return bind(volume, claim), True
        text = f'Cannot bind to requested volume "{name}": {trouble}'
        return [Emit(claim, "Warning", "VolumeMismatch", text), *_status(claim, "Pending", None)], False
    if is_for(volume, claim):
        return bind(volume, claim), True
    text = f'volume "{name}" already bound to a different claim.'
    return [Emit(claim, "Warning", "FailedBinding", text), *_status(claim, "Pending", None)], False


def _waiting(view: View, claim: Json) -> Emit:
    """Which pod the claim waits for."""
    meta = claim["metadata"]
    names = sorted(
        p["metadata"]["name"]
        for p in view.in_namespace(PODS, meta["namespace"])
        if not (p.get("spec") or {}).get("nodeName") and not is_finished(p) and meta["name"] in claims_of(p)
    )
    if not names:
        return Emit(claim, "Normal", "WaitForFirstConsumer", "waiting for first consumer to be created before binding")
    which = f"pods {','.join(names)}" if len(names) > 1 else f"pod {names[0]}"
    return Emit(claim, "Normal", "WaitForPodScheduled", f"waiting for {which} to be scheduled")


def _provision(view: View, claim: Json) -> list[Step]:
    """Names the provisioner that is to make a volume; those inside upstream's controllers no longer exist."""
    held = view.get(CLASSES, "", class_of(claim))
    if held is None:
        text = f'storageclass.storage.k8s.io "{class_of(claim)}" not found'
        return [Emit(claim, "Warning", "ProvisioningFailed", text)]
    provisioner = held["provisioner"]
    if provisioner.startswith(IN_TREE):
        text = f"no volume plugin matched name: {provisioner}"
        return [Emit(claim, "Warning", "ProvisioningFailed", text)]
    event = Emit(claim, "Normal", "ExternalProvisioning", EXTERNAL.format(provisioner))
    wanted = dict.fromkeys(PROVISIONERS, provisioner)
    if all(notes(claim).get(k) == v for k, v in wanted.items()):
        return [event]
    meta = {"uid": claim["metadata"]["uid"], "annotations": wanted}
    return [patch(CLAIMS, claim, {"metadata": meta}), event]


# -- binding ----------------------------------------------------------------------------------------------------------


def bind(volume: Json, claim: Json) -> list[Step]:
    """Writes the pair, as far as it is not written: volume, its phase, claim, its status."""
    steps: list[Step] = []
    reserved = _reserve(volume, claim)
    if reserved is not None:
        steps.append(reserved)
    if phase_of(volume) != "Bound":
        steps.append(phase(volume, "Bound"))
    taken = _take(volume, claim)
    if taken is not None:
        steps.append(taken)
    return [*steps, *_status(claim, "Bound", volume)]


def phase(volume: Json, name: str, message: str = "") -> Op:
    """The write of a volume's phase."""
    body = {"metadata": {"uid": volume["metadata"]["uid"]}, "status": {"phase": name, "message": message or None}}
    return patch(VOLUMES, volume, body, subresource="status")


def _reserve(volume: Json, claim: Json) -> Op | None:
    ref = volume["spec"].get("claimRef") or {}
    meta: Json = {"uid": volume["metadata"]["uid"], "resourceVersion": volume["metadata"]["resourceVersion"]}
    body: Json = {}
    if not (is_for(volume, claim) and ref.get("uid")):
        body["spec"] = {"claimRef": reference(claim)}
    if not is_for(volume, claim) and BOUND_BY_CONTROLLER not in notes(volume):
        meta["annotations"] = {BOUND_BY_CONTROLLER: "yes"}
    if not body and "annotations" not in meta:
        return None
    return patch(VOLUMES, volume, {"metadata": meta, **body})


def _take(volume: Json, claim: Json) -> Op | None:
    name, held = volume["metadata"]["name"], notes(claim)
    wanted: Json = {BIND_COMPLETED: "yes"}
    spec: Json = {}
    if claim["spec"].get("volumeName") != name:
        spec = {"spec": {"volumeName": name}}
        wanted[BOUND_BY_CONTROLLER] = "yes"
    missing = {k: v for k, v in wanted.items() if k not in held}
    if not missing and not spec:
        return None
    return patch(CLAIMS, claim, {"metadata": {"uid": claim["metadata"]["uid"], "annotations": missing}, **spec})


def _status(claim: Json, phase: str, volume: Json | None) -> list[Step]:
    """The claim's phase, with what the volume offers; capacity is only taken over when the claim becomes bound."""
    old = claim.get("status") or {}
    body: Json = {}
    if old.get("phase") != phase:
        body["phase"] = phase
    if volume is None:
        offered = ("accessModes", "capacity", "currentVolumeAttributesClassName")
        body |= {f: None for f in offered if old.get(f) is not None}
    else:
        modes, size = volume["spec"].get("accessModes") or [], volume["spec"].get("capacity") or {}
        if old.get("accessModes") != modes:
            body["accessModes"] = modes
        if "phase" in body and old.get("capacity") != size:
            body["capacity"] = size
        attributes = volume["spec"].get("volumeAttributesClassName")
        first = "phase" in body and old.get("phase", "Pending") == "Pending"  # later it is the resizer's to say
        if first and attributes and old.get("currentVolumeAttributesClassName") != attributes:
            body["currentVolumeAttributesClassName"] = attributes
    if not body:
        return []
    return [patch(CLAIMS, claim, {"metadata": {"uid": claim["metadata"]["uid"]}, "status": body}, subresource="status")]


# -- news -------------------------------------------------------------------------------------------------------------


def _of_volume(view: View, volume: Json) -> Iterable[str]:
    """The claim that a volume refers to, or those of its class that wait for one."""
    ref = volume["spec"].get("claimRef")
    if ref is not None:
        return [f"{ref.get('namespace', '')}/{ref.get('name', '')}"]
    return _pending(view, class_of(volume))


def _of_class(view: View, held: Json) -> Iterable[str]:
    default = any(notes(held).get(a) == "true" for a in DEFAULT_CLASS)
    return [*_pending(view, held["metadata"]["name"]), *(_pending(view, "") if default else ())]


def _pending(view: View, name: str) -> list[str]:
    found = []
    for claim in view.all(CLAIMS):
        if BIND_COMPLETED not in notes(claim) and class_of(claim) == name:
            found.append(f"{claim['metadata']['namespace']}/{claim['metadata']['name']}")
    return found


def _settled(old: Json | None, new: Json | None) -> bool:
    """Our own bookkeeping is no news: a pending claim would have its event counted for it."""
    if old is None or new is None or phase_of(old) != phase_of(new) or old.get("spec") != new.get("spec"):
        return False
    return all(notes(old).get(a) == notes(new).get(a) for a in (BIND_COMPLETED, SELECTED_NODE))


CONTROLLER = Controller(
    NAME,
    CLAIMS,
    plan,
    watches={VOLUMES: _of_volume, CLASSES: _of_class},
    reads=(PODS,),
    ignores=_settled,
)
