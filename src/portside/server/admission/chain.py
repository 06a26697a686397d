"""The admission chain: which plugins run for which resource and operation, in upstream's order.

``mutate`` runs before a kind's preparation and validation, ``validate`` after it. What users configure has its place in the
table too: mutating policies and webhooks last in the first half, validating ones before the quota in the second.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson

from portside.api.managed_entries import read
from portside.server.admission import (
    certificates,
    default_classes,
    default_toleration_seconds,
    limit_ranger,
    mutating_policies,
    namespace_lifecycle,
    node_restriction,
    pod_security,
    priority,
    resource_quota,
    role_escalation,
    runtime_class,
    service_account,
    storage_protection,
    taint_nodes_by_condition,
    topology_labels,
    validating_policies,
    volume_claim_resize,
    webhooks,
)
from portside.server.admission.reinvocation import Rounds
from portside.server.admission.review import Review

Json = dict[str, Any]
Plugin = Callable[[Review], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin's half. ``where``: group/resource[/subresource] words, ``*`` for everything that is stored, ``**`` for
    reviews and connections too. ``dynamic``: only where users configured something for it."""

    plugin: Plugin
    where: tuple[str, ...]
    operations: tuple[str, ...]
    dynamic: bool = False


_CERTS, _RBAC = "certificates.k8s.io", "rbac.authorization.k8s.io"
_WRITE = ("CREATE", "UPDATE")
_ANY = ("CREATE", "UPDATE", "DELETE")
_EVERY = (*_ANY, "CONNECT")
_PODS = ("/pods",)
_NODE_OWN = (
    "/pods",
    "/pods/status",
    "/pods/eviction",
    "/nodes",
    "/nodes/status",
    "/persistentvolumeclaims/status",
    "/serviceaccounts/token",
    "coordination.k8s.io/leases",
    "storage.k8s.io/csinodes",
    "resource.k8s.io/resourceslices",
)
_POD_MAKERS = (
    "/pods",
    "/pods/ephemeralcontainers",
    "/podtemplates",
    "/replicationcontrollers",
    "apps/deployments",
    "apps/replicasets",
    "apps/statefulsets",
    "apps/daemonsets",
    "batch/jobs",
    "batch/cronjobs",
)

MUTATING: tuple[Entry, ...] = (
    Entry(namespace_lifecycle.validate, ("*",), _ANY),
    Entry(limit_ranger.mutate, _PODS, ("CREATE",)),
    Entry(service_account.mutate, _PODS, ("CREATE",)),
    Entry(node_restriction.validate, _NODE_OWN, _ANY),
    Entry(taint_nodes_by_condition.mutate, ("/nodes",), ("CREATE",)),
    Entry(priority.mutate, _PODS, ("CREATE",)),
    Entry(priority.mutate_group, ("scheduling.k8s.io/podgroups",), ("CREATE",)),
    Entry(topology_labels.mutate, _PODS, ("CREATE",)),
    Entry(default_toleration_seconds.mutate, _PODS, _WRITE),
    Entry(
        storage_protection.mutate,
        (
            "/persistentvolumeclaims",
            "/persistentvolumes",
            "storage.k8s.io/volumeattributesclasses",
            "scheduling.k8s.io/podgroups",
        ),
        ("CREATE",),
    ),
    Entry(runtime_class.mutate, _PODS, ("CREATE",)),
    Entry(default_classes.ingress_class, ("networking.k8s.io/ingresses",), ("CREATE",)),
    Entry(default_classes.storage_class, ("/persistentvolumeclaims",), ("CREATE",)),
    Entry(mutating_policies.mutate, ("**",), _EVERY, dynamic=True),
    Entry(webhooks.mutate, ("**",), _EVERY, dynamic=True),
    Entry(
        role_escalation.mutate,
        tuple(f"{_RBAC}/{plural}" for plural in ("roles", "clusterroles", "rolebindings", "clusterrolebindings")),
        _WRITE,
    ),
)

VALIDATING: tuple[Entry, ...] = (
    Entry(limit_ranger.validate, ("/pods", "/persistentvolumeclaims"), ("CREATE",)),
    Entry(limit_ranger.validate, ("/pods/resize", "/persistentvolumeclaims"), ("UPDATE",)),
    Entry(service_account.validate, _PODS, ("CREATE",)),
    Entry(service_account.validate, ("/pods/ephemeralcontainers",), ("UPDATE",)),
    Entry(pod_security.validate, _POD_MAKERS, _WRITE),
    Entry(pod_security.namespace, ("/namespaces",), _WRITE),
    Entry(priority.validate, ("scheduling.k8s.io/priorityclasses",), _WRITE),
    Entry(volume_claim_resize.validate, ("/persistentvolumeclaims",), ("UPDATE",)),
    Entry(runtime_class.validate, _PODS, ("CREATE",)),
    Entry(certificates.requestor, (f"{_CERTS}/certificatesigningrequests",), ("CREATE",)),
    Entry(certificates.approval, (f"{_CERTS}/certificatesigningrequests/approval",), ("UPDATE",)),
    Entry(certificates.signing, (f"{_CERTS}/certificatesigningrequests/status",), ("UPDATE",)),
    Entry(certificates.attest, (f"{_CERTS}/clustertrustbundles",), _WRITE),
    Entry(certificates.subject, (f"{_CERTS}/certificatesigningrequests",), ("CREATE",)),
    Entry(validating_policies.validate, ("**",), _EVERY, dynamic=True),
    Entry(webhooks.validate, ("**",), _EVERY, dynamic=True),
    Entry(resource_quota.validate, ("*",), ("CREATE",)),
    Entry(resource_quota.validate, ("/pods", "/pods/resize", "/services"), ("UPDATE",)),
    Entry(resource_quota.validate, ("/persistentvolumeclaims", "/persistentvolumeclaims/status"), ("UPDATE",)),
)

# Reviews are questions, not objects: no namespace, quota or other plugin looks at them.
_QUESTIONS = frozenset(("authentication.k8s.io", "authorization.k8s.io"))
_Key = tuple[str, str, str, str, bool]
_Plan = tuple[tuple[Plugin, bool], ...]
# Remembered per half and kind. Bounded: custom resources come and go.
_MUTATING_PLANS: dict[_Key, _Plan] = {}
_VALIDATING_PLANS: dict[_Key, _Plan] = {}
MOST_PLANS = 8192
SPOILT = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission "
    "controller; please fix your requests: metadata.managedFields can't be read"
)


def _plan(half: tuple[Entry, ...], key: _Key) -> _Plan:
    group, resource, subresource, operation, dynamic = key
    word = f"{group}/{resource}" + (f"/{subresource}" if subresource else "")
    found = []
    for entry in half:
        if operation not in entry.operations or (entry.dynamic and not dynamic):
            continue
        everything = "*" in entry.where and not (subresource and entry.plugin is resource_quota.validate)
        if word in entry.where or "**" in entry.where or (everything and group not in _QUESTIONS):
            found.append((entry.plugin, inspect.iscoroutinefunction(entry.plugin)))
    return tuple(found)


def plan(mutating: bool, key: _Key) -> _Plan:
    """The plugins of one half for (group, resource, subresource, operation, with webhooks and policies), each with whether
    it is asynchronous."""
    plans = _MUTATING_PLANS if mutating else _VALIDATING_PLANS
    found = plans.get(key)
    if found is None:
        if len(plans) >= MOST_PLANS:
            plans.clear()
        found = plans[key] = _plan(MUTATING if mutating else VALIDATING, key)
    return found


async def mutate(review: Review) -> Json:
    """The mutating half, for CREATE, UPDATE (also DELETE, with ``obj`` empty: the namespace's guard). Returns the object to
    go on with. Raises ApiError.

    Where webhooks or policies are configured and changed something, everything runs once more: built-in plugins see what
    they did, and those that asked for it run again.
    """
    dynamic = review.server.dynamic.mutating.active
    if not dynamic:
        await _run(True, review, False)
        return review.obj
    rounds = review.rounds = Rounds()
    managers = orjson.dumps((review.obj.get("metadata") or {}).get("managedFields"))
    await _run(True, review, True)
    if rounds.needed:
        rounds.second = True
        await _run(True, review, True)
        _keep_managers(review, managers)
    return review.obj


def _keep_managers(review: Review, before: bytes) -> None:
    """A webhook that spoils managedFields (``before`` as JSON) does not get through with that."""
    meta = review.obj.get("metadata")
    if not isinstance(meta, dict) or read(meta.get("managedFields")) is not None:
        return
    meta.pop("managedFields", None)
    if (managers := orjson.loads(before)) is not None:
        meta["managedFields"] = managers
    review.warnings.append(SPOILT)


async def validate(review: Review) -> None:
    """The validating half; call it last before the commit: it reserves quota. Raises ApiError."""
    await _run(False, review, review.server.dynamic.validating.active)


async def admit(review: Review) -> Json:
    """Both halves, for what has no validation between them (deletions, connections, subresources without storage)."""
    await mutate(review)
    await validate(review)
    return review.obj


async def _run(mutating: bool, review: Review, dynamic: bool) -> None:
    at = review.attributes
    for plugin, waits in plan(mutating, (at.group, at.resource, at.subresource, review.operation, dynamic)):
        if plugin is resource_quota.validate and not resource_quota.concerns(review):
            continue  # the usual case, without the cost of a coroutine
        done = plugin(review)
        if waits:
            assert done is not None
            await done
