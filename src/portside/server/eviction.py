"""Eviction: a deletion that a PodDisruptionBudget may refuse for now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from portside.api.kinds import BY_KIND
from portside.api.selector import from_object
from portside.api.status import ApiError, forbidden, not_found
from portside.server.attributes import Attributes
from portside.server.deletes import check_preconditions, delete_object
from portside.server.options import DeleteOptions, WriteOptions, delete_options
from portside.server.request import Request
from portside.server.resource import Resource, encode
from portside.server.writes import store
from portside.store.backend import Committed, Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
LIMIT = 2000  # evictions that a budget's controller has not seen yet
ATTEMPTS = 20  # at a pod or budget that others write as well
ALLOWED = "DisruptionAllowed"
SEVERAL = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


async def evict(
    server: ApiServer, request: Request, pods: Resource, attributes: Attributes, said: Json, options: WriteOptions
) -> None:
    """Delete the pod if its budget allows. Raises 404, 409, 429, 403 (a budget that can't be spent), 500 (two budgets) and
    504 (a budget that is never left alone)."""
    wanted = delete_options(request, said.get("deleteOptions") or {})
    wanted.dry_run = options.dry_run or wanted.dry_run
    for left in reversed(range(ATTEMPTS)):
        pod = _live(pods, attributes)
        if _needs_budget(pod):
            break
        try:
            await _remove(server, request, pods, attributes, wanted, _state(pod) if not _ended(pod) else None)
            return
        except ApiError as error:
            if error.code != 409 or wanted.revision is not None or not left:
                raise
    unguarded = await _spend(server, pod, wanted.dry_run)
    try:
        await _remove(server, request, pods, attributes, wanted, _state(pod) if unguarded else None)
    except ApiError as error:
        if error.code == 409 and unguarded and wanted.revision is None:
            raise _busy(unguarded) from error  # it may have become healthy, so it is judged again
        raise


def _live(pods: Resource, attributes: Attributes) -> Json:
    current = pods.cache.get(attributes.namespace, attributes.name)
    if current is None:
        raise not_found("pods", attributes.name)
    return pods.served(current)


def _state(pod: Json) -> str:
    return str(pod["metadata"]["resourceVersion"])


async def _remove(
    server: ApiServer,
    request: Request,
    pods: Resource,
    attributes: Attributes,
    wanted: DeleteOptions,
    state: str | None,
) -> None:
    """Says in the pod why it goes, and deletes it; with a ``state`` only if it is still in that. Raises 404, 409."""
    options = replace(wanted, revision=wanted.revision if wanted.revision is not None else state)
    while not wanted.dry_run:
        current = pods.cache.get(attributes.namespace, attributes.name)
        if current is None:
            raise not_found("pods", attributes.name)
        pod = pods.served(current)
        check_preconditions(pods, attributes.name, pod, options)
        if not _mark(pod, server.now()):
            break
        written = await store(server, Write(current.key, encode(pod), current.revision, pods.durability))
        if isinstance(written, Committed):
            if options.revision is not None:
                options.revision = str(written.revision)
            break
    await delete_object(server, request, pods, attributes._replace(subresource="", verb="delete"), options)


def _ended(pod: Json) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return phase in ("Succeeded", "Failed") or bool(pod["metadata"].get("deletionTimestamp"))


def _needs_budget(pod: Json) -> bool:
    """Finished, pending and dying pods may always be evicted."""
    return not _ended(pod) and (pod.get("status") or {}).get("phase") != "Pending"


def _ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


async def _spend(server: ApiServer, pod: Json, dry_run: bool) -> str:
    """Takes one disruption from the pod's budget; answers the budget's name when the pod is unhealthy and may go without
    that, else "". Raises 403, 429, 504; 500 with two budgets."""
    budgets = server.resource(BY_KIND[("policy", "v1", "PodDisruptionBudget")])
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    labels = pod["metadata"].get("labels") or {}
    from portside.server.watchcache import Filter

    chosen = ""
    for _ in range(ATTEMPTS):
        matching = [
            o
            for o in budgets.cache.list(Filter(namespace)).objects
            if from_object(o.view.get("spec", {}).get("selector")).matches(labels)
        ]
        if len(matching) > 1:
            raise ApiError(500, "", SEVERAL)
        if not matching:
            return ""
        budget = budgets.served(matching[0])
        chosen = str(budget["metadata"]["name"])
        status = budget.setdefault("status", {})
        policy = budget["spec"].get("unhealthyPodEvictionPolicy")
        if not _ready(pod) and (
            policy == "AlwaysAllow" or status.get("currentHealthy", 0) >= status.get("desiredHealthy", 0) > 0
        ):
            return chosen
        _check(budget, status)
        if dry_run:
            return ""
        _take(status, name, server.now())
        write = Write(matching[0].key, encode(budget), matching[0].revision, budgets.durability)
        if isinstance(await store(server, write), Committed):
            return ""
    text = f'Timeout: couldn\'t update PodDisruptionBudget "{chosen}" due to conflicts'
    raise ApiError(504, "Timeout", text, details={"retryAfterSeconds": 10})


def _take(status: Json, name: str, now: str) -> None:
    """One disruption less, and the pod noted as one that is about to go."""
    status["disruptionsAllowed"] -= 1
    status["disruptedPods"] = {**(status.get("disruptedPods") or {}), name: now}
    if status["disruptionsAllowed"]:
        return
    conditions = list(status.get("conditions") or ())
    held: Json = next((c for c in conditions if c.get("type") == ALLOWED), {})
    new = {"type": ALLOWED, "status": "False", "reason": "InsufficientPods", "message": ""}
    new["observedGeneration"] = status.get("observedGeneration", 0)
    same = held.get("status") == "False"
    new["lastTransitionTime"] = held.get("lastTransitionTime", now) if same else now
    status["conditions"] = [new if c is held else c for c in conditions] if held else [*conditions, new]


def _check(budget: Json, status: Json) -> None:
    name = budget["metadata"]["name"]
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        raise _busy(name)
    allowed = int(status.get("disruptionsAllowed") or 0)
    if allowed < 0:
        why = "pdb disruptions allowed is negative"
        raise _closed(name, why, why)
    if len(status.get("disruptedPods") or {}) > LIMIT:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise _closed(name, why, "too many pending evictions not confirmed by PDB controller")
    if allowed == 0:
        raise too_many(_why(name, status), {}, REFUSED)


def _busy(name: str) -> ApiError:
    """The budget's controller has not seen its newest state."""
    why = f"The disruption budget {name} is still being processed by the server."
    return too_many(why, {"retryAfterSeconds": 10}, REFUSED)


def _closed(name: str, why: str, cause: str) -> ApiError:
    error = forbidden("poddisruptionbudget", name, why, "policy")
    text = f"The disruption budget {name} does not allow evicting pods currently: {cause}"
    causes = [{"reason": "DisruptionBudget", "message": text}]
    return ApiError(error.code, error.reason, error.message, details={**(error.details or {}), "causes": causes})


def _why(name: str, status: Json) -> str:
    """A budget may allow nothing because its controller can't count, or for want of healthy pods."""
    conditions = status.get("conditions") or ()
    held: Json = next((c for c in conditions if c.get("type") == ALLOWED and c.get("status") == "False"), {})
    wanted, have = int(status.get("desiredHealthy") or 0), int(status.get("currentHealthy") or 0)
    closed = f"The disruption budget {name} does not allow evicting pods currently"
    if held.get("reason") == "SyncFailed" and held.get("message"):
        return f"{closed} because it failed sync: {held['message']}"
    if have <= wanted:
        return f"The disruption budget {name} needs {wanted} healthy pods and has {have} currently"
    if held.get("message"):
        return f"{closed} ({held.get('reason', '')}): {held['message']}"
    return closed


def too_many(why: str, more: Json, message: str) -> ApiError:
    """429 with the cause that clients of evictions look for."""
    details: Json = {"causes": [{"reason": "DisruptionBudget", "message": why}]} | more
    return ApiError(429, "TooManyRequests", message, details=details)


def _mark(pod: Json, now: str) -> bool:
    """The condition that tells why the pod goes; False when it is there already."""
    status = pod.setdefault("status", {})
    conditions = list(status.get("conditions") or ())
    held: Json = next((c for c in conditions if c.get("type") == "DisruptionTarget"), {})
    new = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": held.get("lastTransitionTime", now) if held.get("status") == "True" else now,
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    if held and all(held.get(field) == new[field] for field in ("status", "reason", "message")):
        return False
    status["conditions"] = [new if c is held else c for c in conditions] if held else [*conditions, new]
    return True
