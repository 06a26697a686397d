"""Why a pod does not get its devices: claims that are missing, devices that are not ready, and what each request finds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from portside.api.device_taints import PREVENT, selects, tolerates
from portside.api.podrefs import resource_claims
from portside.why.finding import Cause, Fact, Finding, Grade, lookup, seen, title
from portside.why.world import World

Json = dict[str, Any]
NEEDS = ("resourceclaims", "resourceslices", "deviceclasses", "devicetaintrules")
MAX_REQUESTS = 4  # shown as evidence


def waits(pod: Json) -> bool:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return phase == "Pending" and not pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]


def claim_missing(world: World, pod: Json) -> Finding | None:
    namespace = pod["metadata"].get("namespace", "")
    made = {n for n, own in resource_claims(pod) if own}
    for number, wish in enumerate(pod["spec"].get("resourceClaims") or () if waits(pod) else ()):
        name, template = wish.get("resourceClaimName"), wish.get("resourceClaimTemplateName")
        if name and world.missing("resourceclaims", name, namespace):
            says, todo = f"the ResourceClaim {name} does not exist", "create the claim, or correct resourceClaimName"
        elif template and not made and world.missing("resourceclaimtemplates", template, namespace):
            says = f"the ResourceClaimTemplate {template} does not exist"
            todo = "create the template, or correct resourceClaimTemplateName"
        else:
            continue
        facts = (seen(pod, "spec", "resourceClaims", number),)
        return Finding(f"{says} in namespace {namespace}", facts, (todo, f"kubectl get resourceclaims -n {namespace}"))
    return None


def not_ready(world: World, pod: Json) -> Finding | None:
    for claim in claims(world, pod) if waits(pod) else ():
        users = (claim.get("status") or {}).get("reservedFor") or ()
        if not any(u.get("uid") == pod["metadata"].get("uid") for u in users):
            continue
        reports = (claim.get("status") or {}).get("devices") or ()
        for result in results(claim):
            mine: Json = next(
                (r for r in reports if all(r.get(f) == result[f] for f in ("driver", "pool", "device"))), {}
            )
            owed = [
                c for c in result.get("bindingConditions") or () if lookup(mine, "conditions", c, "status") != "True"
            ]
            if owed:
                name = f"{result['driver']}/{result['pool']}/{result['device']}"
                return Finding(
                    f"the device {name} has not been made ready: its driver does not report {', '.join(owed)}",
                    (seen(claim, "status", "devices"), seen(claim, "status", "allocation", "allocationTimestamp")),
                    (
                        "see what the driver says; after ten minutes the scheduler takes other devices",
                        f"kubectl get resourceclaim {claim['metadata']['name']} -n {claim['metadata']['namespace']} -o yaml",
                    ),
                )
    return None


def claims(world: World, pod: Json) -> list[Json]:
    namespace = pod["metadata"].get("namespace", "")
    found = (world.get("resourceclaims", name, namespace) for name, _ in resource_claims(pod))
    return [c for c in found if c is not None]


def results(claim: Json) -> list[Json]:
    return lookup(claim, "status", "allocation", "devices", "results") or []


def facts(world: World, pod: Json) -> list[Fact]:
    """What each request of the pod's claims finds: how many devices match it, and why they are not free."""
    if not world.knows("resourceslices") or not world.knows("resourceclaims"):
        return []
    taken = {_id(r) for c in world.all("resourceclaims") for r in results(c) if not r.get("shareID")}
    found = []
    for claim in claims(world, pod):
        if results(claim):
            found.append(seen(claim, "status", "allocation", "nodeSelector"))
            continue
        for request in lookup(claim, "spec", "devices", "requests") or ():
            for wanted in request.get("firstAvailable") or (request.get("exactly") or {},):
                path = f"spec.devices.requests[{request['name']}]"
                found.append(Fact(title(claim), path, _sum(world, wanted, taken)))
    return found[:MAX_REQUESTS]


def _sum(world: World, wanted: Json, taken: set[tuple[str, str, str]]) -> str:
    name = wanted.get("deviceClassName", "")
    asked = "all" if wanted.get("allocationMode") == "All" else str(wanted.get("count") or 1)
    said = f"asks for {asked} of class {name}"
    if world.missing("deviceclasses", name):
        return f"{said}, which does not exist"
    matching = [(i, d) for i, d in published(world) if _selected(world, wanted, i, d)]
    used = sum(i in taken for i, _ in matching)
    kept = sum(i not in taken and _kept_off(world, wanted, i, d) for i, d in matching)
    incomplete = "".join(f", pool {p} is incomplete" for p in sorted(_incomplete(world)))
    return (
        f"{said}: {len(matching)} published in all, {used} in use, {kept} with taints it does not tolerate{incomplete}"
    )


def _id(result: Json) -> tuple[str, str, str]:
    return result["driver"], result["pool"], result["device"]


def _newest(world: World) -> dict[tuple[str, str], list[Json]]:
    pools: dict[tuple[str, str], list[Json]] = {}
    for spec in (s["spec"] for s in world.all("resourceslices")):
        pools.setdefault((spec["driver"], spec["pool"]["name"]), []).append(spec)
    return {
        key: [s for s in found if s["pool"]["generation"] == max(x["pool"]["generation"] for x in found)]
        for key, found in pools.items()
    }


def published(world: World) -> Iterator[tuple[tuple[str, str, str], Json]]:
    """Every device of the newest slices."""
    for (driver, pool), found in _newest(world).items():
        for spec in found:
            yield from (((driver, pool, d["name"]), d) for d in spec.get("devices") or ())


def _incomplete(world: World) -> list[str]:
    return [f"{k[0]}/{k[1]}" for k, f in _newest(world).items() if len(f) != f[0]["pool"]["resourceSliceCount"]]


def _selected(world: World, wanted: Json, id_: tuple[str, str, str], device: Json) -> bool:
    from portside.api.cel.values import (
        EvaluationFailed,
    )  # not before it is needed: most questions are about other things
    from portside.api.device_selectors import SelectorProblem, compile_selector, matches

    held = world.get("deviceclasses", wanted.get("deviceClassName", "")) or {"spec": {}}
    for selector in (*(held["spec"].get("selectors") or ()), *(wanted.get("selectors") or ())):
        try:
            if not matches(compile_selector(lookup(selector, "cel", "expression") or ""), device, id_[0]):
                return False
        except (SelectorProblem, EvaluationFailed):
            return False
    return True


def _kept_off(world: World, wanted: Json, id_: tuple[str, str, str], device: Json) -> bool:
    taints = [*(device.get("taints") or ())]
    taints += [r["spec"]["taint"] for r in world.all("devicetaintrules") if selects(r, *id_)]
    borne = wanted.get("tolerations") or ()
    return any(t.get("effect") in PREVENT and not any(tolerates(b, t) for b in borne) for t in taints)


PODS = ("pods",)
CAUSES: tuple[Cause, ...] = (
    Cause(
        "device-claim-missing",
        PODS,
        claim_missing,
        "the pod asks for devices by a ResourceClaim or template that does not exist",
        ("resourceclaims", "resourceclaimtemplates"),
    ),
    Cause(
        "devices-not-ready",
        PODS,
        not_ready,
        "a driver has not made the pod's devices ready, which its node waits for",
        ("resourceclaims",),
        grade=Grade.WAITS,
    ),
)
