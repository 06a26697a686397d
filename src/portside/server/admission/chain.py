"""The admission chain: which plugins run for which resource and operation, in upstream's order.

``mutate`` runs before a kind's preparation and validation, ``validate`` after it. Webhooks and CEL policies have their
places marked in the table: mutating ones last in the first half, validating ones before the quota in the second.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from portside.server.admission import (
    certificates,
    default_classes,
    default_toleration_seconds,
    limit_ranger,
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
    volume_claim_resize,
)
from portside.server.admission.review import Review
from portside.server.attributes import Attributes
from portside.server.host import Host

Json = dict[str, Any]
Plugin = Callable[[Review], Awaitable[None] | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """One plugin's half. ``where``: group/resource[/subresource] words, ``*`` for everything that is stored."""

    plugin: Plugin
    where: tuple[str, ...]
    operations: tuple[str, ...]


_CERTS, _RBAC = "certificates.k8s.io", "rbac.authorization.k8s.io"
_WRITE = ("CREATE", "UPDATE")
_ANY = ("CREATE", "UPDATE", "DELETE")
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
    Entry(default_toleration_seconds.mutate, _PODS, _WRITE),
    Entry(
        storage_protection.mutate,
        ("/persistentvolumeclaims", "/persistentvolumes", "storage.k8s.io/volumeattributesclasses"),
        ("CREATE",),
    ),
    Entry(runtime_class.mutate, _PODS, ("CREATE",)),
    Entry(default_classes.ingress_class, ("networking.k8s.io/ingresses",), ("CREATE",)),
    Entry(default_classes.storage_class, ("/persistentvolumeclaims",), ("CREATE",)),
    # Mutating admission policies and webhooks come here (a later issue).
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
    # Validating admission policies and webhooks come here (a later issue).
    Entry(resource_quota.validate, ("*",), ("CREATE",)),
    Entry(resource_quota.validate, ("/pods/resize", "/services", "/persistentvolumeclaims"), ("UPDATE",)),
)

# Reviews are questions, not objects: no namespace, quota or other plugin looks at them.
_QUESTIONS = frozenset(("authentication.k8s.io", "authorization.k8s.io"))
_Key = tuple[str, str, str, str]
_Plan = tuple[tuple[Plugin, bool], ...]
# Remembered per half and kind. Bounded: custom resources come and go.
_MUTATING_PLANS: dict[_Key, _Plan] = {}
_VALIDATING_PLANS: dict[_Key, _Plan] = {}
MOST_PLANS = 8192


def _plan(half: tuple[Entry, ...], key: _Key) -> _Plan:
    group, resource, subresource, operation = key
    word = f"{group}/{resource}" + (f"/{subresource}" if subresource else "")
    found = []
    for entry in half:
        if operation not in entry.operations:
            continue
        everything = "*" in entry.where and not (subresource and entry.plugin is resource_quota.validate)
        if word in entry.where or (everything and group not in _QUESTIONS):
            found.append((entry.plugin, inspect.iscoroutinefunction(entry.plugin)))
    return tuple(found)


def plan(mutating: bool, key: _Key) -> _Plan:
    """The plugins of one half for (group, resource, subresource, operation), each with whether it is asynchronous."""
    plans = _MUTATING_PLANS if mutating else _VALIDATING_PLANS
    found = plans.get(key)
    if found is None:
        if len(plans) >= MOST_PLANS:
            plans.clear()
        found = plans[key] = _plan(MUTATING if mutating else VALIDATING, key)
    return found


async def mutate(
    attributes: Attributes,
    obj: Json,
    old: Json | None,
    *,
    operation: str,
    dry_run: bool,
    server: Host,
    warnings: list[str] | None = None,
) -> Json:
    """The mutating half, for CREATE, UPDATE (also DELETE, with ``obj`` empty: the namespace's guard). Returns the object to
    go on with. Raises ApiError."""
    return await _run(True, attributes, obj, old, operation, dry_run, server, warnings)


async def validate(
    attributes: Attributes,
    obj: Json,
    old: Json | None,
    *,
    operation: str,
    dry_run: bool,
    server: Host,
    warnings: list[str] | None = None,
) -> None:
    """The validating half; call it last before the commit: it reserves quota. Raises ApiError."""
    await _run(False, attributes, obj, old, operation, dry_run, server, warnings)


async def admit(
    attributes: Attributes,
    obj: Json,
    old: Json | None,
    *,
    operation: str,
    dry_run: bool,
    server: Host,
    warnings: list[str] | None = None,
) -> Json:
    """Both halves, for what has no validation between them (deletions, connections, subresources without storage)."""
    made = await _run(True, attributes, obj, old, operation, dry_run, server, warnings)
    await _run(False, attributes, made, old, operation, dry_run, server, warnings)
    return made


async def _run(
    mutating: bool,
    attributes: Attributes,
    obj: Json,
    old: Json | None,
    operation: str,
    dry_run: bool,
    server: Host,
    warnings: list[str] | None,
) -> Json:
    plugins = plan(mutating, (attributes.group, attributes.resource, attributes.subresource, operation))
    if not plugins:
        return obj
    review = Review(attributes, obj, old, operation, dry_run, server, [] if warnings is None else warnings)
    for plugin, waits in plugins:
        if plugin is resource_quota.validate and not resource_quota.concerns(review):
            continue  # the usual case, without the cost of a coroutine
        done = plugin(review)
        if waits:
            assert done is not None
            await done
    return review.obj
