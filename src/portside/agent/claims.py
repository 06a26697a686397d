"""Device claims of a pod: this node has no device drivers, so a claim with devices keeps its pod from starting."""

from __future__ import annotations

from typing import Any

from portside.agent.sources import Sources

Json = dict[str, Any]


class ClaimProblem(Exception):
    """A claim can't be prepared; the text goes into a FailedPrepareDynamicResources event."""


def claim_names(pod: Json) -> dict[str, str]:
    """The pod's claims: name in the pod -> the ResourceClaim ("" when it was not made yet)."""
    made = {
        s["name"]: s.get("resourceClaimName") or ""
        for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    return {
        entry["name"]: entry.get("resourceClaimName") or made.get(entry["name"], "")
        for entry in pod["spec"].get("resourceClaims") or ()
    }


def drivers(claim: Json) -> list[str]:
    """The drivers that would have to prepare the claim's devices."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return sorted({r["driver"] for r in results})


async def check(pod: Json, sources: Sources) -> None:
    """Raise ClaimProblem unless every claim is there, allocated to the pod and without devices."""
    namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
    for name, claim_name in claim_names(pod).items():
        claim = await sources.resource_claim(namespace, claim_name) if claim_name else None
        if claim is None:
            raise ClaimProblem(f"prepare dynamic resources: ResourceClaim {claim_name or name} not found")
        status = claim.get("status") or {}
        if not status.get("allocation"):
            raise ClaimProblem(f"prepare dynamic resources: ResourceClaim {claim_name} is not allocated")
        if uid not in {r.get("uid") for r in status.get("reservedFor") or ()}:
            raise ClaimProblem(f"prepare dynamic resources: pod is not allowed to use ResourceClaim {claim_name}")
        if wanted := drivers(claim):
            raise ClaimProblem(f"prepare dynamic resources: DRA driver {wanted[0]} is not registered")
