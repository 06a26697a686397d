"""Eviction: a deletion that a PodDisruptionBudget may refuse for now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portside.api.kinds import BY_KIND
from portside.api.selector import from_object
from portside.api.status import ApiError, not_found
from portside.server.attributes import Attributes
from portside.server.deletes import delete_object
from portside.server.options import WriteOptions, delete_options
from portside.server.request import Request
from portside.server.resource import Resource, encode
from portside.server.writes import store
from portside.store.backend import Committed, Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
LIMIT = 2000
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(
    server: ApiServer, request: Request, pods: Resource, attributes: Attributes, said: Json, options: WriteOptions
) -> None:
    """Delete the pod if its budget allows. Raises 404, 429 and 500 (two budgets)."""
    current = pods.cache.get(attributes.namespace, attributes.name)
    if current is None:
        raise not_found("pods", attributes.name)
    pod = pods.served(current)
    wanted = delete_options(request, said.get("deleteOptions") or {})
    dry_run = options.dry_run or wanted.dry_run
    if _needs_budget(pod):
        await _spend(server, pod, dry_run)
    _mark(pod, server.now())
    if not dry_run:
        await store(server, Write(current.key, encode(pod), current.revision, pods.durability))
    wanted.dry_run = dry_run
    target = replace(attributes, subresource="", verb="delete")
    await delete_object(server, request, pods, target, wanted)


def _needs_budget(pod: Json) -> bool:
    """Finished, pending and dying pods may always be evicted."""
    phase = (pod.get("status") or {}).get("phase")
    return phase not in ("Succeeded", "Failed", "Pending") and not pod["metadata"].get("deletionTimestamp")


def _ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


async def _spend(server: ApiServer, pod: Json, dry_run: bool) -> None:
    """Take one disruption from the pod's budget. Raises 429 when there is none, 500 with two budgets."""
    budgets = server.resource(BY_KIND[("policy", "v1", "PodDisruptionBudget")])
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    labels = pod["metadata"].get("labels") or {}
    from portside.server.watchcache import Filter

    for _ in range(20):
        matching = [
            o
            for o in budgets.cache.list(Filter(namespace)).objects
            if from_object(o.view.get("spec", {}).get("selector")).matches(labels)
        ]
        if len(matching) > 1:
            raise ApiError(
                500,
                "",
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            )
        if not matching:
            return
        budget = budgets.served(matching[0])
        status = budget.setdefault("status", {})
        policy = budget["spec"].get("unhealthyPodEvictionPolicy")
        if not _ready(pod) and (
            policy == "AlwaysAllow" or status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0
        ):
            return
        _check(budget, status)
        if dry_run:
            return
        status["disruptionsAllowed"] -= 1
        disrupted = dict(status.get("disruptedPods") or {})
        disrupted[name] = server.now()
        status["disruptedPods"] = disrupted
        write = Write(matching[0].key, encode(budget), matching[0].revision, budgets.durability)
        if isinstance(await store(server, write), Committed):
            return
    raise too_many("couldn't update PodDisruptionBudget", {}, "Cannot evict pod right now.")


def _check(budget: Json, status: Json) -> None:
    name = budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise too_many(
            f"The disruption budget {name} is still being processed by the server.",
            {"retryAfterSeconds": 10},
            REFUSED,
        )
    allowed = int(status.get("disruptionsAllowed") or 0)
    if allowed <= 0:
        raise too_many(_why(name, status), {}, REFUSED)


def _why(name: str, status: Json) -> str:
    """A budget may allow nothing for want of healthy pods, or because its controller can't count them."""
    conditions = status.get("conditions") or ()
    held: Json = next((c for c in conditions if c.get("type") == "DisruptionAllowed"), {})
    wanted, have = int(status.get("desiredHealthy") or 0), int(status.get("currentHealthy") or 0)
    if have <= wanted:
        return f"The disruption budget {name} needs {wanted} healthy pods and has {have} currently"
    if held.get("reason") == "SyncFailed" and held.get("message"):
        return f"The disruption budget {name} does not allow evicting pods because it failed sync: {held['message']}"
    return f"The disruption budget {name} does not allow evicting pods currently"


def too_many(why: str, more: Json, message: str) -> ApiError:
    details: Json = {"causes": [{"reason": "DisruptionBudget", "message": why}]} | more
    return ApiError(429, "TooManyRequests", message, details=details)


def _mark(pod: Json, now: str) -> None:
    """The condition that tells why the pod goes."""
    status = pod.setdefault("status", {})
    conditions = [c for c in status.get("conditions") or [] if c.get("type") != "DisruptionTarget"]
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status["conditions"] = [*conditions, condition]
