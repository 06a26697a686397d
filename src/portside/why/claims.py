"""Why a PersistentVolumeClaim is not bound, and why a resource claim has no devices."""

from __future__ import annotations

from typing import Any

from portside.api import quantity
from portside.api.selector import from_object
from portside.why.finding import Cause, Fact, Finding, Grade, Role, describe, seen, title
from portside.why.reach import consumers
from portside.why.world import World

Json = dict[str, Any]
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
DEFAULT_MARKS = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
NO_PROVISIONER = "kubernetes.io/no-provisioner"
PATIENCE = 15.0  # seconds a provisioner has before it counts as missing


def pending(claim: Json) -> bool:
    status = claim.get("status") or {}
    return status.get("phase", "Pending") == "Pending" and not claim["metadata"].get("deletionTimestamp")


def class_of(claim: Json) -> str:
    named = (claim["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    return str(named if named is not None else claim["spec"].get("storageClassName") or "")


def class_missing(world: World, claim: Json) -> Finding | None:
    name = class_of(claim)
    if not pending(claim) or not name or not world.missing("storageclasses", name) or _volume_for(world, claim):
        return None
    there = ", ".join(c["metadata"]["name"] for c in world.all("storageclasses")) or "(none)"
    instead = f"a class that exists: {there}" if there != "(none)" else "a class, once there is one"
    return Finding(
        f"the StorageClass {name} does not exist",
        (
            seen(claim, "spec", "storageClassName"),
            Fact("storageclasses", "in the cluster", there),
            *world.told(claim, world.event(claim, "ProvisioningFailed")),
        ),
        (
            f"delete the claim and create it with {instead}",
            "a StatefulSet's claims are as its volumeClaimTemplates say: it has to be created anew",
        ),
    )


def no_class(world: World, claim: Json) -> Finding | None:
    """No class is named, none is the default, and no volume without a class fits."""
    if not pending(claim) or class_of(claim) or claim["spec"].get("volumeName") or not world.knows("storageclasses"):
        return None
    if "storageClassName" in claim["spec"] or _volume_for(world, claim):
        return None
    if any(_is_default(c) for c in world.all("storageclasses")):
        return None
    there = ", ".join(c["metadata"]["name"] for c in world.all("storageclasses")) or "(none)"
    return Finding(
        "the claim names no StorageClass, and none is the default",
        (
            seen(claim, "spec", "storageClassName"),
            Fact("storageclasses", "in the cluster", there),
            *world.told(claim, world.event(claim, "FailedBinding")),
        ),
        (
            "name a class in spec.storageClassName, or make one the default:",
            f"kubectl annotate storageclass NAME {DEFAULT_MARKS[0]}=true",
        ),
    )


def _is_default(held: Json) -> bool:
    notes = held["metadata"].get("annotations") or {}
    return any(notes.get(mark) == "true" for mark in DEFAULT_MARKS)


def no_volume_fits(world: World, claim: Json) -> Finding | None:
    """Nothing makes volumes for the claim, and of those that are there none fits."""
    held = world.get("storageclasses", class_of(claim)) if class_of(claim) else None
    by_hand = held is None if not class_of(claim) else held is not None and held.get("provisioner") == NO_PROVISIONER
    unclassed = not class_of(claim) and "storageClassName" in claim["spec"]
    named = claim["spec"].get("volumeName")
    if (
        not pending(claim)
        or not world.knows("persistentvolumes")
        or not ((by_hand and class_of(claim)) or unclassed or named)
    ):
        return None
    if held is not None and held.get("volumeBindingMode") == "WaitForFirstConsumer" and not named:
        return None
    if not named and _volume_for(world, claim):
        return None
    volumes = [v for v in world.all("persistentvolumes") if named in (None, v["metadata"]["name"])]
    reasons = [Fact(title(v), "does not fit", unfit(v, claim)) for v in volumes]
    what = f"the volume {named} that it names " if named else "none of the cluster's PersistentVolumes "
    says = what + ("fits" if not named else "does not fit" if volumes else "does not exist")
    if not volumes and not named:
        says = "there is no PersistentVolume in the cluster, and nothing makes one for the claim"
    event = world.event(claim, "FailedBinding", "VolumeMismatch", "ProvisioningFailed")
    return Finding(
        says,
        (
            seen(claim, "spec", "resources", "requests", "storage"),
            seen(claim, "spec", "accessModes"),
            seen(claim, "spec", "storageClassName"),
            *reasons[:5],
            *world.told(claim, event),
        ),
        ("make a PersistentVolume that fits, or change the claim", "kubectl get pv"),
    )


def unfit(volume: Json, claim: Json) -> str:
    """Why a volume can't serve a claim; "" when it can."""
    wants, has = claim["spec"], volume["spec"]
    size = (has.get("capacity") or {}).get("storage", "0")
    asked = ((wants.get("resources") or {}).get("requests") or {}).get("storage", "0")
    modes = set(wants.get("accessModes") or ())
    ref, meta = has.get("claimRef") or {}, claim["metadata"]
    if ref and (ref.get("namespace"), ref.get("name")) != (meta.get("namespace"), meta["name"]):
        return f"it belongs to claim {ref.get('namespace')}/{ref.get('name')}"
    if (phase := (volume.get("status") or {}).get("phase", "Pending")) not in ("Available", "Pending") and not ref:
        return f"its phase is {phase}"
    if class_of(volume) != class_of(claim):
        return f"its class is {class_of(volume) or '(none)'}, not {class_of(claim) or '(none)'}"
    if quantity.parse(size) < quantity.parse(asked):
        return f"it has {size}, and {asked} are asked for"
    if not modes <= set(has.get("accessModes") or ()):
        return f"its accessModes are {', '.join(has.get('accessModes') or ())}"
    if (has.get("volumeMode") or "Filesystem") != (wants.get("volumeMode") or "Filesystem"):
        return f"its volumeMode is {has.get('volumeMode') or 'Filesystem'}"
    if wants.get("selector") is not None and not from_object(wants["selector"]).matches_object(volume):
        return "the claim's selector does not match its labels"
    return ""


def _volume_for(world: World, claim: Json) -> bool:
    return any(not unfit(v, claim) for v in world.all("persistentvolumes"))


def waits_for_pod(world: World, claim: Json) -> Finding | None:
    held = world.get("storageclasses", class_of(claim))
    if not pending(claim) or held is None or held.get("volumeBindingMode") != "WaitForFirstConsumer":
        return None
    if claim["spec"].get("volumeName") or (world.knows("pods") and consumers(world, claim)):
        return None
    return Finding(
        "its class binds only when a pod uses the claim, and no pod does",
        (
            seen(claim, "spec", "storageClassName"),
            seen(held, "volumeBindingMode"),
            *world.told(claim, world.event(claim, "WaitForFirstConsumer")),
        ),
        ("start a pod that mounts it; nothing is wrong until then",),
    )


def provisioner_missing(world: World, claim: Json) -> Finding | None:
    """A volume was ordered from a provisioner that has not answered."""
    held = world.get("storageclasses", class_of(claim))
    if not pending(claim) or held is None or held.get("provisioner") == NO_PROVISIONER:
        return None
    event = world.event(claim, "ExternalProvisioning", "ProvisioningFailed", "Provisioning")
    if event is None or event.get("reason") == "Provisioning" or world.age(claim) < PATIENCE:
        return None
    name = held["provisioner"]
    failed = event.get("reason") == "ProvisioningFailed"
    says = (
        f"the provisioner {name} can't make the volume: {event.get('message', '')}"
        if failed
        else f"the provisioner {name} of its class has not made a volume: it does not run, or is not done"
    )
    return Finding(
        says,
        (seen(claim, "spec", "storageClassName"), seen(held, "provisioner"), *world.told(claim, event)),
        (
            f"see that {name} runs, and read its log" if not failed else "correct the class or the claim",
            describe(claim),
        ),
    )


def lost(world: World, claim: Json) -> Finding | None:
    if (claim.get("status") or {}).get("phase") != "Lost":
        return None
    return Finding(
        f"its volume {claim['spec'].get('volumeName')} is gone, and what was on it with it",
        (
            seen(claim, "status", "phase"),
            seen(claim, "spec", "volumeName"),
            *world.told(claim, world.event(claim, "ClaimLost", "ClaimMisbound")),
        ),
        ("delete the claim, make it anew, and bring the data back from a backup",),
    )


def not_bound(world: World, claim: Json) -> Finding | None:
    if not pending(claim):
        return None
    return Finding(
        "the claim is not bound to a volume",
        (seen(claim, "status", "phase"), seen(claim, "spec", "storageClassName")),
        (describe(claim),),
    )


CLAIMS = ("persistentvolumeclaims",)
CAUSES: tuple[Cause, ...] = (
    Cause("claim-lost", CLAIMS, lost, "the volume a claim was bound to is gone"),
    Cause(
        "storageclass-missing",
        CLAIMS,
        class_missing,
        "a claim's StorageClass does not exist",
        ("storageclasses", "persistentvolumes"),
    ),
    Cause(
        "no-default-storageclass",
        CLAIMS,
        no_class,
        "a claim names no class, and none is the default",
        ("storageclasses", "persistentvolumes"),
    ),
    Cause(
        "no-volume-fits",
        CLAIMS,
        no_volume_fits,
        "no PersistentVolume fits a claim that nothing makes one for",
        ("storageclasses", "persistentvolumes"),
    ),
    Cause(
        "claim-waits-for-pod",
        CLAIMS,
        waits_for_pod,
        "the class waits for a pod that uses the claim",
        ("storageclasses", "pods"),
        grade=Grade.NOTE,
    ),
    Cause(
        "provisioner-missing",
        CLAIMS,
        provisioner_missing,
        "the provisioner of the class has not made the volume",
        ("storageclasses",),
    ),
    Cause("claim-not-bound", CLAIMS, not_bound, "a claim is not bound", role=Role.SYMPTOM),
)
