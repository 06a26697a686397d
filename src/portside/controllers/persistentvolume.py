"""The phases of PersistentVolumes: available, bound, released; and what becomes of a volume whose claim is gone."""

from __future__ import annotations

import re
from collections.abc import Iterable

from portside.client.cache import View
from portside.client.protocol import Json
from portside.controllers.claimprotection import claims_of
from portside.controllers.harness import Controller
from portside.controllers.persistentvolumeclaim import IN_TREE, NAME, bind, phase
from portside.controllers.plan import NOTHING, Emit, Plan, Step, delete, patch
from portside.controllers.pods import PODS, is_finished
from portside.controllers.volumematch import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    CLAIMS,
    PROVISIONED_BY,
    VOLUMES,
    mode_of,
    notes,
    phase_of,
)

# The sources whose code lives in upstream's controllers: only these can be told "this can't be deleted".
COMPILED_IN = ("hostPath", "nfs", "local", "csi", "iscsi", "fc")


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a volume."""
    volume = view.get(VOLUMES, "", key)
    if volume is None:
        return NOTHING
    ref = volume["spec"].get("claimRef")
    if ref is None or not ref.get("uid"):
        return Plan(_phase(volume, "Available"))  # reserved for a claim to come, perhaps
    claim = view.get(CLAIMS, ref.get("namespace", ""), ref.get("name", ""))
    if claim is None or claim["metadata"]["uid"] != ref["uid"]:
        return Plan(_released(view, volume))
    name = claim["spec"].get("volumeName")
    if name == volume["metadata"]["name"]:
        return Plan(_phase(volume, "Bound"))
    if name:
        return Plan(_elsewhere(view, volume))
    return Plan(_half_bound(volume, claim))


def _phase(volume: Json, name: str) -> list[Step]:
    return [] if phase_of(volume) == name else [phase(volume, name)]


def _half_bound(volume: Json, claim: Json) -> list[Step]:
    """The volume names the claim, the claim no volume yet: by the scheduler, by a person, or a crash in between."""
    name = volume["metadata"]["name"]
    if mode_of(volume) != mode_of(claim):
        text = f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{claim["metadata"]["name"]}" due to incompatible volumeMode.'
        other = (
            f'Cannot bind PersistentVolume "{name}" to requested PersistentVolumeClaim due to incompatible volumeMode.'
        )
        return [Emit(volume, "Warning", "VolumeMismatch", text), Emit(claim, "Warning", "VolumeMismatch", other)]
    return [] if BIND_COMPLETED in notes(claim) else bind(volume, claim)


def _elsewhere(view: View, volume: Json) -> list[Step]:
    """The claim is bound to another volume: this one is made free, or goes if it was made for that claim alone."""
    spec = volume["spec"]
    if PROVISIONED_BY in notes(volume) and spec.get("persistentVolumeReclaimPolicy") == "Delete":
        return _released(view, volume)
    return unbind(volume)


def unbind(volume: Json) -> list[Step]:
    """Takes back our reference; of a reservation made by a person only the uid goes."""
    meta: Json = {"uid": volume["metadata"]["uid"], "resourceVersion": volume["metadata"]["resourceVersion"]}
    spec: Json = {"claimRef": {"uid": None}}
    if BOUND_BY_CONTROLLER in notes(volume):
        spec = {"claimRef": None}
        meta["annotations"] = {BOUND_BY_CONTROLLER: None}
    return [patch(VOLUMES, volume, {"metadata": meta, "spec": spec}), *_phase(volume, "Available")]


def _released(view: View, volume: Json) -> list[Step]:
    steps = [] if phase_of(volume) in ("Released", "Failed") else _phase(volume, "Released")
    policy = volume["spec"].get("persistentVolumeReclaimPolicy")
    if policy == "Delete":
        return [*steps, *_delete(volume)]
    if policy == "Recycle":
        return [*steps, *_recycle(view, volume)]
    return steps


def _fail(volume: Json, reason: str, message: str) -> list[Step]:
    if phase_of(volume) == "Failed":
        return []
    return [phase(volume, "Failed", message), Emit(volume, "Warning", reason, message)]


def _delete(volume: Json) -> list[Step]:
    """Volumes of an external provisioner are its to delete; of those compiled in, only hostPath below /tmp can be."""
    if not notes(volume).get(PROVISIONED_BY, IN_TREE).startswith(IN_TREE):
        return []
    spec, name = volume["spec"], volume["metadata"]["name"]
    if spec.get("hostPath") is not None:
        path = str(spec["hostPath"].get("path", ""))
        if re.search("/tmp/.+", path):
            return [delete(VOLUMES, volume)]
        text = f"host_path deleter only supports /tmp/.+ but received provided {path}"
        return _fail(volume, "VolumeFailedDelete", text)
    known = any(spec.get(source) is not None for source in COMPILED_IN)
    why = "no deletable volume plugin matched" if known else "no volume plugin matched"
    return _fail(volume, "VolumeFailedDelete", f'error getting deleter volume plugin for volume "{name}": {why}')


def _recycle(view: View, volume: Json) -> list[Step]:
    """Nothing here empties volumes; that is said, once no pod uses the volume any more."""
    ref = volume["spec"].get("claimRef") or {}
    users = [
        f"{p['metadata']['namespace']}/{p['metadata']['name']}"
        for p in view.in_namespace(PODS, ref.get("namespace", ""))
        if not is_finished(p) and str(ref.get("name")) in claims_of(p)
    ]
    if users:
        text = f"Volume is used by pods: {','.join(sorted(users))}"
        return [Emit(volume, "Normal", "VolumeFailedRecycle", text)]
    return _fail(volume, "VolumeFailedRecycle", "No recycler plugin found for the volume!")


def _of_claim(view: View, claim: Json) -> Iterable[str]:
    """The volume a claim names, and those that name it."""
    meta = claim["metadata"]
    if claim["spec"].get("volumeName"):
        yield claim["spec"]["volumeName"]
    for volume in view.by(VOLUMES, "claim", f"{meta['namespace']}/{meta['name']}"):
        yield volume["metadata"]["name"]


CONTROLLER = Controller(NAME, VOLUMES, plan, watches={CLAIMS: _of_claim}, reads=(PODS,))
