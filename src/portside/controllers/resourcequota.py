"""Keeps ResourceQuota.status: what is allowed, and what the namespace's objects use.

Creations are charged by admission at once; this recount gives back what deletions free and what failed writes reserved.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from portside.api import quantity
from portside.api.status import ApiError
from portside.api.usage import DEVICE_CLAIMS, Devices, attributes_classes, counted, sources_of
from portside.client.cache import View
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Context, Controller
from portside.controllers.pods import FINISHED
from portside.controllers.served import all_served

QUOTAS: Resource = ("", "v1", "resourcequotas")
PODS: Resource = ("", "v1", "pods")
# Kinds whose coming and going is seen at once. Other controllers watch them anyway, so this costs nothing more.
WATCHED: tuple[Resource, ...] = (
    ("", "v1", "configmaps"),
    ("", "v1", "secrets"),
    ("", "v1", "services"),
    ("", "v1", "replicationcontrollers"),
    ("", "v1", "persistentvolumeclaims"),
    ("apps", "v1", "deployments"),
    ("apps", "v1", "replicasets"),
    ("apps", "v1", "statefulsets"),
    ("batch", "v1", "jobs"),
    ("batch", "v1", "cronjobs"),
    ("resource.k8s.io", "v1", "resourceclaims"),
)
CLASSES: Resource = ("resource.k8s.io", "v1", "deviceclasses")
LOOK_AGAIN = 5.0  # seconds until what is not watched is counted again
QUIET = 1.0  # seconds after a charge in which what it is for may not be there yet
LONGEST_WAIT = 5.0  # seconds after which something is given back also where charges never end


class Recount:
    """Counts quotas again. It remembers when each was last charged, so that nothing is given back that was charged for an object
    which is still being written."""

    def __init__(self) -> None:
        self._charged: dict[str, tuple[str, float]] = {}  # key -> revision of the quota, since when it is seen
        self._waiting: dict[str, float] = {}  # key -> since when there is something to give back

    def _wait(self, key: str, quota: Json, frees: bool, now: float) -> float:
        """Seconds until something may be given back; 0 when it may, or when there is nothing."""
        revision: str = quota["metadata"].get("resourceVersion", "")
        known, since = self._charged.get(key, (revision, 0.0))
        if known != revision:
            since = now
        self._charged[key] = revision, since
        if not frees:
            self._waiting.pop(key, None)
            return 0.0
        patience = self._waiting.setdefault(key, now) + LONGEST_WAIT
        return max(0.0, min(since + QUIET, patience) - now)

    async def reconcile(self, context: Context, key: str) -> float | None:
        """One recount of one quota."""
        namespace, _, name = key.partition("/")
        quota = context.view.get(QUOTAS, namespace, name)
        if quota is None or quota["metadata"].get("deletionTimestamp"):
            self._charged.pop(key, None)
            self._waiting.pop(key, None)
            return None
        hard = (quota.get("spec") or {}).get("hard") or {}
        status: dict[str, Any] = {"hard": hard, "used": await _used(context, namespace, quota, hard)}
        if wait := self._wait(key, quota, _frees(status["used"], quota.get("status") or {}), context.clock.monotonic()):
            return wait
        if status != quota.get("status"):
            try:
                answer = await context.client.update(QUOTAS, {**quota, "status": status}, subresource="status")
            except ApiError as refused:
                if refused.code not in (404, 409):
                    raise
                return 0.2  # admission was faster; count again from what it wrote
            context.informers.informer(QUOTAS).observe(answer)
            self._charged[key] = answer["metadata"].get("resourceVersion", ""), 0.0
        self._waiting.pop(key, None)
        return LOOK_AGAIN


def _frees(used: Json, before: Json) -> bool:
    """Whether less is used than the status says."""
    said = before.get("used") or {}
    return any(quantity.parse(amount) > quantity.parse(used[name]) for name, amount in said.items() if name in used)


async def _used(context: Context, namespace: str, quota: Json, hard: Json) -> Json:
    objects = await _objects(context, namespace, hard)
    classes = context.view.all(CLASSES) if objects.get(DEVICE_CLAIMS) else []

    def devices(claim: Json) -> Devices:
        return Devices.of(claim, classes, lambda name: context.view.get(PODS, namespace, name))

    return counted(quota, objects, devices)


async def _objects(context: Context, namespace: str, hard: Json) -> dict[tuple[str, str], list[Json]]:
    """What a quota counts, by group and plural."""
    served = {(s.resource[0], s.resource[2]): s.resource for s in all_served(context.view) if s.namespaced}
    objects: dict[tuple[str, str], list[Json]] = {}
    for source in {source for resource in hard for source in sources_of(resource)}:
        if source == ("", "pods"):
            objects[source] = context.view.in_namespace(PODS, namespace)
        elif source in served:
            objects[source] = (await context.client.list(served[source], namespace=namespace)).items
    return objects


def _ends(pod: Json) -> bool:
    """Whether its time is limited: there is a scope for such pods."""
    return (pod.get("spec") or {}).get("activeDeadlineSeconds") is not None


def _only_charged(old: Json | None, new: Json | None) -> bool:
    """Admission's charges are no news. A recount at their heels would not see the object that is charged for, since that is
    written afterwards, and would let others take its place."""
    if old is None or new is None:
        return False

    def asked(quota: Json) -> Any:
        deleted = quota["metadata"].get("deletionTimestamp")
        return quota.get("spec"), (quota.get("status") or {}).get("hard"), deleted

    return bool(asked(old) == asked(new))


def _charged(obj: Json) -> Any:
    """What of an object's own counts: the kind of a service, the size and classes of a claim."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "Service":
        return spec.get("type"), len(spec.get("ports") or ())
    if obj.get("kind") != "PersistentVolumeClaim":
        return None
    allocated = (obj.get("status") or {}).get("allocatedResources")
    return spec.get("resources"), allocated, spec.get("storageClassName"), attributes_classes(obj)


def _quotas_of(view: View, obj: Json) -> Iterable[str]:
    namespace = obj["metadata"].get("namespace", "")
    for quota in view.in_namespace(QUOTAS, namespace):
        yield f"{namespace}/{quota['metadata']['name']}"


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "resourcequota-controller",
        QUOTAS,
        reconcile=Recount().reconcile,
        reads=(CLASSES,),
        watches={PODS: _quotas_of, **dict.fromkeys(WATCHED, _quotas_of)},
        relevant={PODS: (FINISHED, Fact(_ends, "spec")), **dict.fromkeys(WATCHED, (Fact(_charged),))},
        ignores=_only_charged,
        workers=2,
        settle=0.2,
    )
