"""The namespace controller: empties a namespace that is being deleted, pods first, and says what still holds it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from portside.api.status import ApiError
from portside.base.clock import parse_time
from portside.client.protocol import Client, Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Context, Controller
from portside.controllers.namespaces import NAMESPACES
from portside.controllers.pods import PODS, is_terminating
from portside.controllers.served import CRDS, Served, all_served

FINALIZER = "kubernetes"
FIRST_LOOK, LATER_LOOK = 0.25, 2.0  # seconds between looks at what remains, young and old deletions
PAGE = 250  # objects that are listed at a time
ORDER = (
    "NamespaceDeletionDiscoveryFailure",
    "NamespaceDeletionGroupVersionParsingFailure",
    "NamespaceDeletionContentFailure",
    "NamespaceContentRemaining",
    "NamespaceFinalizersRemaining",
)
FINE = {
    "NamespaceDeletionDiscoveryFailure": ("ResourcesDiscovered", "All resources successfully discovered"),
    "NamespaceDeletionGroupVersionParsingFailure": (
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    "NamespaceDeletionContentFailure": (
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    "NamespaceContentRemaining": ("ContentRemoved", "All content successfully removed"),
    "NamespaceFinalizersRemaining": ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
}


@dataclass(slots=True)
class Remains:
    """What is left after a round of deletions."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    @property
    def any(self) -> bool:
        return bool(self.counts or self.errors)

    def problems(self) -> dict[str, tuple[str, str]]:
        """Reason and message of the conditions that are true."""
        found: dict[str, tuple[str, str]] = {}
        if self.errors:
            text = "Failed to delete all resource types, "
            text += f"{len(self.errors)} remaining: {', '.join(sorted(self.errors))}"
            found["NamespaceDeletionContentFailure"] = ("ContentDeletionFailed", text)
        if self.counts:
            parts = sorted(f"{plural}.{group} has {n} resource instances" for (plural, group), n in self.counts.items())
            found["NamespaceContentRemaining"] = (
                "SomeResourcesRemain",
                "Some resources are remaining: " + ", ".join(parts),
            )
        if self.finalizers:
            parts = sorted(f"{name} in {n} resource instances" for name, n in self.finalizers.items())
            found["NamespaceFinalizersRemaining"] = (
                "SomeFinalizersRemain",
                "Some content in the namespace has finalizers remaining: " + ", ".join(parts),
            )
        return found


def conditions_after(old: list[Json], remains: Remains, now: float) -> list[Json]:
    """The namespace's conditions; unchanged ones keep their times."""
    problems = remains.problems()
    found = old
    for name in ORDER:
        reason, message = problems.get(name, FINE[name])
        new = cond.make(name, "True" if name in problems else "False", reason, message, now)
        held = cond.find(found, name)
        if held is None:
            found = [*found, new]
        elif any(held.get(f) != new[f] for f in ("status", "reason", "message")):
            found = [new if c is held else c for c in found]
    return found


async def _items(client: Client, resource: Resource, namespace: str) -> AsyncIterator[Json]:
    """The metadata of all objects, page by page: to take a list of very many apart holds up everybody else."""
    token = ""
    while True:
        page = await client.list(resource, namespace=namespace, limit=PAGE, continue_token=token, metadata_only=True)
        for item in page.items:
            yield item
        token = page.continue_token
        if not token:
            return


async def _empty(context: Context, namespace: str, served: Served, remains: Remains) -> None:
    """Deletes all objects of one resource and counts what stays."""
    client = context.client
    options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
    try:
        if not (await client.list(served.resource, namespace=namespace, limit=1, metadata_only=True)).items:
            return
        if "deletecollection" in served.verbs:
            await client.delete_collection(served.resource, namespace=namespace, options=options)
        else:
            async for item in _items(client, served.resource, namespace):
                await client.delete(served.resource, item["metadata"]["name"], namespace=namespace, options=options)
        left = [item async for item in _items(client, served.resource, namespace)]
    except ApiError as error:
        if error.code not in (404, 405):
            remains.errors.append(error.message)
        return
    if left:
        remains.counts[(served.resource[2], served.group)] = len(left)
        for item in left:
            remains.finalizers.update(item["metadata"].get("finalizers") or ())


async def reconcile(context: Context, key: str) -> float | None:
    """One round for one namespace."""
    namespace = context.view.get(NAMESPACES, "", key)
    if namespace is None or not is_terminating(namespace):
        return None
    if FINALIZER not in (namespace.get("spec") or {}).get("finalizers", ()):
        return None
    kinds = [s for s in all_served(context.view) if s.namespaced and {"list", "delete"} <= s.verbs]
    remains = Remains()
    await _empty(context, key, next(s for s in kinds if s.resource == PODS), remains)
    if not remains.any:  # pods first: nothing they may need goes before they are gone
        await asyncio.gather(*(_empty(context, key, s, remains) for s in kinds if s.resource != PODS))
    now = context.clock.now()
    if remains.any:
        await _say(context, namespace, remains, now)
        age = now - (parse_time(namespace["metadata"]["deletionTimestamp"]) or now)
        return FIRST_LOOK if age < 5 else LATER_LOOK
    await _finalize(context, key)
    return None


async def _say(context: Context, namespace: Json, remains: Remains, now: float) -> None:
    status = dict(namespace.get("status") or {})
    status["conditions"] = conditions_after(list(status.get("conditions") or ()), remains, now)
    status["phase"] = "Terminating"
    if status != namespace.get("status"):
        answer = await context.client.update(NAMESPACES, {**namespace, "status": status}, subresource="status")
        context.informers.informer(NAMESPACES).observe(answer)


async def _finalize(context: Context, name: str) -> None:
    """Takes our finalizer away; the server removes a namespace without any."""
    try:
        live = await context.client.get(NAMESPACES, name)
        spec = dict(live.get("spec") or {})
        spec["finalizers"] = [f for f in spec.get("finalizers") or () if f != FINALIZER]
        await context.client.update(NAMESPACES, {**live, "spec": spec}, subresource="finalize")
    except ApiError as error:
        if error.code != 404:
            raise


CONTROLLER = Controller("namespace-controller", NAMESPACES, reconcile=reconcile, reads=(CRDS,))
