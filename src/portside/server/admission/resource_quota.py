"""ResourceQuota: what is asked for is added to the quota's used amounts before the object is stored, or refused.

Requests in one namespace take turns, and each reservation is a compare-and-commit on the quota, so two control planes
cannot both give away the last of it. The quota controller corrects what failed writes and deletions leave over.
"""

from __future__ import annotations

import asyncio
from typing import Any

from portside.api.quantity import compare, parse
from portside.api.status import ApiError, conflict
from portside.api.usage import DEVICE_CLAIMS, Amounts, Devices, add, missing_for, scopes_match, subtract, usage
from portside.server.admission.review import Review

Json = dict[str, Any]
TRIES = 5
# Kinds whose updates can raise usage; everything else counts at creation alone.
ON_UPDATE = frozenset(("pods", "services", "persistentvolumeclaims"))
_locks: dict[tuple[int, str], asyncio.Lock] = {}


def concerns(review: Review) -> bool:
    """Cheap look: most namespaces have no quota."""
    return review.server.live.of("resourcequotas").any_in(review.namespace)


async def validate(review: Review) -> None:
    """Raises ApiError 403 when a quota would be exceeded or does not know its usage yet."""
    if not concerns(review):
        return
    delta = _delta(review)
    if not delta and not any(
        _enters(review, q) for q in review.server.live.of("resourcequotas").items(review.namespace)
    ):
        return
    if review.dry_run:
        _reserve_plan(review, delta)
        return
    key = (id(review.server), review.namespace)
    lock = _locks.get(key)
    if lock is None:
        lock = _locks[key] = asyncio.Lock()
    async with lock:
        await _reserve(review, delta)
    if not lock.locked() and len(_locks) > 1024:
        _locks.pop(key, None)


def _delta(review: Review) -> Amounts:
    plural, group = review.attributes.resource, review.attributes.group
    if review.operation == "CREATE":
        return usage(plural, group, review.obj, _devices(review))
    if group or plural not in ON_UPDATE or review.old is None:
        return {}
    changed = subtract(usage(plural, group, review.obj), usage(plural, group, review.old))
    return {name: amount for name, amount in changed.items() if parse(amount)}


def _devices(review: Review) -> Devices | None:
    """What else is known of a claim for devices."""
    if (review.attributes.group, review.attributes.resource) != DEVICE_CLAIMS:
        return None
    live, space = review.server.live, review.namespace

    def pod(name: str) -> Json | None:
        return live.of("pods").get(name, space)

    return Devices.of(review.obj, live.of("deviceclasses", "resource.k8s.io").items(), pod)


def _enters(review: Review, quota: Json) -> bool:
    """Whether a change brings the object into the quota's scopes: then it is charged as a whole."""
    plural, group = review.attributes.resource, review.attributes.group
    if review.old is None or group or plural not in ON_UPDATE:
        return False
    return scopes_match(quota, plural, group, review.obj) and not scopes_match(quota, plural, group, review.old)


async def _reserve(review: Review, delta: Amounts) -> None:
    for _ in range(TRIES):
        plan = _reserve_plan(review, delta)
        done = True
        for quota, used in plan:
            meta = quota["metadata"]
            revision = review.server.live.of("resourcequotas").revision(meta["name"], meta["namespace"])
            fresh = quota | {"status": (quota.get("status") or {}) | {"used": used}}
            if not await review.server.put("", "resourcequotas", fresh, expected=revision):
                done = False
                break
        if done:
            return
        # What this try has reserved already is given back by the controller's next recount.
    raise conflict("resourcequotas", review.name, "the quota changes too often; try again")


def _reserve_plan(review: Review, delta: Amounts) -> list[tuple[Json, Amounts]]:
    """The quotas to write with their new used amounts. Raises ApiError 403."""
    plan: list[tuple[Json, Amounts]] = []
    quotas = sorted(
        review.server.live.of("resourcequotas").items(review.namespace), key=lambda q: str(q["metadata"]["name"])
    )
    for quota in quotas:
        used = _charge(review, quota, delta)
        if used is not None:
            plan.append((quota, used))
    return plan


def _charge(review: Review, quota: Json, delta: Amounts) -> Amounts | None:
    """The quota's new used amounts, None when the object does not touch it."""
    plural, group = review.attributes.resource, review.attributes.group
    name = quota["metadata"]["name"]
    hard = (quota.get("status") or {}).get("hard") or {}
    spec_hard = (quota.get("spec") or {}).get("hard") or {}
    if not scopes_match(quota, plural, group, review.obj):
        return None
    if _enters(review, quota):
        delta = usage(plural, group, review.obj)
    mine = {key: amount for key, amount in delta.items() if key in (hard or spec_hard)}
    if (
        plural == "pods"
        and not group
        and review.operation == "CREATE"
        and (lacking := missing_for(sorted(hard or spec_hard), review.obj))
    ):
        listed = "; ".join(f"{key} for: {','.join(sorted(names))}" for key, names in sorted(lacking.items()))
        raise review.refuse(f"failed quota: {name}: must specify {listed}")
    if not mine:
        return None
    used = (quota.get("status") or {}).get("used") or {}
    if unknown := sorted(key for key in mine if key not in used):
        raise review.refuse(f"status unknown for quota: {name}, resources: {','.join(unknown)}")
    raised = {key: amount for key, amount in mine.items() if compare(amount, "0") > 0}
    after = add(used, mine)
    if over := sorted(key for key in raised if compare(after[key], hard[key]) > 0):
        raise _exceeded(review, name, over, raised, used, hard)
    if all(parse(amount) == 0 for amount in mine.values()):
        return None
    return after


def _exceeded(review: Review, name: str, over: list[str], asked: Json, used: Json, hard: Json) -> ApiError:
    def listed(amounts: Json) -> str:
        return ",".join(f"{key}={amounts[key]}" for key in over)

    return review.refuse(
        f"exceeded quota: {name}, requested: {listed(asked)}, used: {listed(used)}, limited: {listed(hard)}"
    )
