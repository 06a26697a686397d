"""Writes every object of a resource anew, so that all are stored in the present version: StorageVersionMigration."""

from __future__ import annotations

from portside.api.status import ApiError
from portside.client.cache import split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Context, Controller
from portside.controllers.pods import condition, is_terminating
from portside.controllers.served import CRDS, Served, all_served

MIGRATIONS: Resource = ("storagemigration.k8s.io", "v1", "storageversionmigrations")
PAGE = 500  # objects listed at a time
MOVED_ON = (404, 409)  # gone, or written by somebody else meanwhile: stored in the present version either way


def is_over(migration: Json) -> bool:
    return any((condition(migration, name) or {}).get("status") == "True" for name in ("Succeeded", "Failed"))


async def reconcile(context: Context, key: str) -> float | None:
    """One migration, from beginning to end; begun again after a restart, as a second write does no harm."""
    migration = context.view.get(MIGRATIONS, *split_key(key))
    if migration is None or is_terminating(migration) or is_over(migration):
        return None
    wanted = migration["spec"]["resource"]
    place = (wanted.get("group") or "", wanted.get("resource"))
    served = next((s for s in all_served(context.view) if (s.resource[0], s.resource[2]) == place), None)
    if served is None or "update" not in served.verbs:
        name = ".".join(filter(None, (place[1], place[0])))
        await _say(context, migration, "Failed", f"resource {name} is not served, or can't be updated")
        return None
    listed = await context.client.list(served.resource, limit=PAGE, metadata_only=True)
    migration = await _say(context, migration, "Running", "", revision=listed.resource_version)
    while True:
        for item in listed.items:
            await _rewrite(context, served, item)
        if not listed.continue_token:
            break
        listed = await context.client.list(
            served.resource, limit=PAGE, continue_token=listed.continue_token, metadata_only=True
        )
    await _say(context, migration, "Succeeded", "")
    return None


async def _rewrite(context: Context, served: Served, item: Json) -> None:
    """A change that changes nothing: the server writes it when the stored form is not the present one."""
    meta = item["metadata"]
    body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    try:
        await context.client.patch(served.resource, meta["name"], body, namespace=meta.get("namespace", ""))
    except ApiError as error:
        if error.code not in MOVED_ON:
            raise


async def _say(context: Context, migration: Json, name: str, message: str, *, revision: str = "") -> Json:
    now = context.clock.now()
    status = dict(migration.get("status") or {})
    held = list(status.get("conditions") or ())
    reasons = {"Running": "InProgress", "Succeeded": "Succeeded", "Failed": "Failed"}
    if name != "Running":
        held = [{**c, "status": "False"} if c["type"] == "Running" else c for c in held]
    new = cond.make(name, "True", f"StorageVersionMigration{reasons[name]}", message, now)
    status["conditions"] = [*cond.without(held, name), new]
    if revision and not status.get("resourceVersion"):  # of the first look
        status["resourceVersion"] = revision
    answer = await context.client.update(MIGRATIONS, {**migration, "status": status}, subresource="status")
    context.informers.informer(MIGRATIONS).observe(answer)
    return answer


CONTROLLER = Controller(
    "storage-version-migrator-controller", MIGRATIONS, reconcile=reconcile, reads=(CRDS,), workers=1
)
