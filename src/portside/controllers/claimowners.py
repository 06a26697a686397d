"""Who owns the claims of a StatefulSet's pods: with a retention policy that deletes, the set or the pod takes them along.

A claim that another controller manages, or whose owner was an earlier set or pod of the same name, is nobody's to take.
"""

from __future__ import annotations

from dataclasses import dataclass

from portside.client.protocol import Json

CONTESTED = (
    "PersistentVolumeClaim {} has a conflicting OwnerReference that acts as a manging controller, the retention policy is "
    "ignored for this claim"
)


@dataclass(frozen=True, slots=True)
class Owners:
    """The owner references a claim should have; ``contested``: another controller manages it."""

    refs: list[Json]
    contested: bool = False


def _names(ref: Json, obj: Json, api_version: str, kind: str) -> bool:
    """Refers to an object of this name, be it this one or an earlier one."""
    return bool(
        (ref.get("apiVersion"), ref.get("kind"), ref.get("name")) == (api_version, kind, obj["metadata"]["name"])
    )


def claim_refs(refs: list[Json], owner: Json, pod: Json, wanted: Json | None, *, deletes: bool) -> Owners:
    """``refs`` as they should be for a claim of ``pod`` of the set ``owner``, with ``wanted`` as the reference of ours;
    ``deletes``: the policy deletes claims at all."""
    ours = [r for r in refs if _names(r, owner, "apps/v1", "StatefulSet") or _names(r, pod, "v1", "Pod")]
    uids = {owner["metadata"]["uid"], pod["metadata"]["uid"]}
    contested = deletes and any(r.get("controller") and r not in ours for r in refs)
    if any(r.get("uid") not in uids for r in ours):
        return Owners(refs, contested or deletes)
    others = [r for r in refs if r not in ours]
    if contested:
        return Owners(others, True)
    if wanted is None:
        return Owners(others)
    return Owners(refs if ours == [wanted] else [*others, wanted])
