"""Claims that ask for more than they have: who can give it is told, and folders on nodes grow at once.

A CSI driver's resizer grows a volume and says so in volume and claim. A folder has no size of its own, so growing it is to say so.
"""

from __future__ import annotations

from collections.abc import Iterable

from portside.api import quantity
from portside.client.cache import View, split_key
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers.harness import Controller
from portside.controllers.localpath import PROVISIONER
from portside.controllers.plan import NOTHING, Emit, Plan, Step, patch
from portside.controllers.pods import is_terminating
from portside.controllers.volumematch import CLAIMS, PROVISIONED_BY, VOLUMES, notes, phase_of, requested

NAME = "volume_expand"
WAITING = "waiting for an external controller to expand this PVC"
RESIZING = ("Resizing", "FileSystemResizePending", "ControllerResizeError", "NodeResizeError")


def larger(claim: Json) -> bool:
    """It asks for more than it has."""
    held = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    return held is not None and quantity.value(requested(claim)) > quantity.value(held)


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a claim."""
    claim = view.get(CLAIMS, *split_key(key))
    if claim is None or is_terminating(claim) or phase_of(claim) != "Bound" or not larger(claim):
        return NOTHING
    volume = view.get(VOLUMES, "", claim["spec"].get("volumeName") or "-")
    if volume is None or (volume["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
        return NOTHING
    if notes(volume).get(PROVISIONED_BY) != PROVISIONER:
        return Plan([Emit(claim, "Normal", "ExternalExpanding", WAITING)])
    return Plan(_grow(claim, volume))


def _grow(claim: Json, volume: Json) -> list[Step]:
    """Volume first: whatever crashes in between, the claim still asks for more."""
    size, name = requested(claim), volume["metadata"]["name"]
    steps: list[Step] = []
    if quantity.value((volume["spec"].get("capacity") or {}).get("storage", "0")) < quantity.value(size):
        steps.append(Emit(claim, "Normal", "Resizing", f"External resizer is resizing volume {name}"))
        meta = {"uid": volume["metadata"]["uid"], "resourceVersion": volume["metadata"]["resourceVersion"]}
        steps.append(patch(VOLUMES, volume, {"metadata": meta, "spec": {"capacity": {"storage": size}}}))
    status: Json = {"capacity": {"storage": size}}
    held = (claim.get("status") or {}).get("conditions") or []
    kept = [c for c in held if c.get("type") not in RESIZING]
    if kept != held:
        status["conditions"] = kept or None
    done = Emit(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")
    body = {"metadata": {"uid": claim["metadata"]["uid"]}, "status": status}
    return [*steps, patch(CLAIMS, claim, body, subresource="status", ok=lambda _: [done])]


def _sizes(old: Json | None, new: Json | None) -> bool:
    """Only what is asked for, what is there, and the binding matter."""
    if old is None or new is None:
        return False
    return all(
        old_part == new_part
        for old_part, new_part in (
            (requested(old), requested(new)),
            (phase_of(old), phase_of(new)),
            ((old.get("status") or {}).get("capacity"), (new.get("status") or {}).get("capacity")),
        )
    )


def _claim_of(view: View, volume: Json) -> Iterable[str]:
    ref = volume["spec"].get("claimRef")
    return (f"{ref.get('namespace', '')}/{ref.get('name', '')}",) if ref else ()


CONTROLLER = Controller(
    NAME,
    CLAIMS,
    plan,
    watches={VOLUMES: _claim_of},
    relevant={
        VOLUMES: (Fact(lambda v: (v["spec"].get("capacity"), (v["spec"].get("claimRef") or {}).get("uid")), "spec"),)
    },
    workers=1,
    ignores=_sizes,
)
