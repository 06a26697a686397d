"""DELETE: preconditions, grace of pods, finalizers and propagation, collections; and what each answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from portside.api.status import ApiError, conflict, not_found
from portside.server import body
from portside.server.attributes import Attributes
from portside.server.auth.forbidden import refuse
from portside.server.options import DeleteOptions, delete_options, list_options
from portside.server.reads import filter_of, select
from portside.server.request import Request
from portside.server.resource import Resource, encode
from portside.server.routes import Route
from portside.server.watchcache_object import CachedObject
from portside.server.writes import MODIFIED, store
from portside.store.backend import Committed, Record, Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
ORPHAN, FOREGROUND = "orphan", "foregroundDeletion"
# Kinds whose dependents stay when nobody says otherwise, and kinds the collector never looks at.
ORPHANED_BY_DEFAULT = {("batch", "Job"), ("", "ReplicationController")}
NOT_COLLECTED = {"Event"}
AT_ONCE = 16
"""Deletions of a collection that are under way together."""
JOB_WARNING = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)


@dataclass(slots=True)
class Deletion:
    """``obj`` is the last state; ``gone`` says that the object is no longer stored."""

    obj: Json
    gone: bool


def read_options(request: Request) -> DeleteOptions:
    """The options of a deletion. Raises 400, 413, 415, 422."""
    if not request.body and not request.too_large:
        return delete_options(request, None)
    raw, media = body.read(request)
    value, _ = body.parse(raw, media)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ApiError(400, "BadRequest", "json: cannot unmarshal into Go value of type v1.DeleteOptions")
    name = value.get("kind")
    if name not in (None, "", "DeleteOptions"):
        raise ApiError(
            400,
            "BadRequest",
            f'no kind "{name}" is registered for version "{value.get("apiVersion", "v1")}" in scheme "{body.SCHEME}"',
        )
    from portside.api.schema import definition

    definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions").decode(value)
    return delete_options(request, value)


async def delete(server: ApiServer, request: Request, resource: Resource, route: Route) -> tuple[int, Json]:
    """One object: the answer's code and body."""
    options = read_options(request)
    done = await delete_object(server, request, resource, route.attributes, options)
    code = 202 if not done.gone and options.orphan is False else 200
    return code, answer(resource, done)


def answer(resource: Resource, done: Deletion) -> Json:
    """The object where upstream returns it, else a Status."""
    if not done.gone or resource.rules.returns_object_on_delete or resource.rules.graceful:
        return done.obj
    kind, meta = resource.kind, done.obj["metadata"]
    details: Json = {"name": meta["name"]}
    if kind.group:
        details["group"] = kind.group
    details |= {"kind": kind.plural, "uid": meta.get("uid", "")}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


async def delete_object(
    server: ApiServer, request: Request, resource: Resource, attributes: Attributes, options: DeleteOptions
) -> Deletion:
    """Delete, or mark as being deleted. Raises 404, 409 and what admission refuses."""
    kind = resource.kind
    namespace = attributes.namespace if kind.namespaced else ""
    unreadable = resource.cache.unreadable.get(resource.key(namespace, attributes.name))
    if unreadable is not None and options.ignore_errors:
        return await _delete_unreadable(server, resource, attributes, unreadable, options)
    while True:
        current = resource.cache.get(namespace, attributes.name)
        if current is None:
            raise not_found(kind.plural, attributes.name, kind.group)
        # Who owns which field matters to nobody here but those that users configured to look at deletions.
        closed = request.direct and not (kind.custom or resource.converts or server.dynamic.active)
        old = current.closed() if closed else await resource.load(current)
        check_preconditions(resource, attributes.name, old, options)
        await server.admit_delete(attributes._replace(verb="delete"), old, options, request)
        new = {**old, "metadata": {**old["metadata"]}}
        if kind.kind == "Job" and not options.policy and options.orphan is None:
            _warn_job(request)
        plan = plan_deletion(resource, new, options, server.now())
        if plan == "as-is":
            return Deletion(old, False)
        if plan == "remove":
            if options.dry_run:
                return Deletion(new, True)
            revision = current.revision
            if resource.rules.graceful and new != old:
                # Upstream tells the end of the grace in a write of its own: watches see MODIFIED, then DELETED.
                marked = await store(server, Write(current.key, encode(new), revision, resource.durability))
                if not isinstance(marked, Committed):
                    continue
                revision = marked.revision
            result = await store(server, Write(current.key, None, revision, resource.durability))
            if isinstance(result, Committed):
                server.released(resource, old)
                return Deletion(new, True)
        else:
            if new == old:
                return Deletion(old, False)
            if options.dry_run:
                return Deletion(new, False)
            value = encode(await resource.stored_form(new))
            result = await store(server, Write(current.key, value, current.revision, resource.durability))
            if isinstance(result, Committed):
                new["metadata"]["resourceVersion"] = str(result.revision)
                return Deletion(new, False)


async def _delete_unreadable(
    server: ApiServer, resource: Resource, attributes: Attributes, record: Record, options: DeleteOptions
) -> Deletion:
    """Give up an object that can't be decrypted: finalizers and owners are unknown. Takes a right of its own, as upstream.
    Raises 403, 409."""
    asked = attributes._replace(verb="unsafe-delete-ignore-read-errors")
    decision = server.authorizer.authorize(asked)
    if not decision.allowed:
        raise refuse(asked, decision.reason)
    meta = {"name": attributes.name} | ({"namespace": attributes.namespace} if resource.kind.namespaced else {})
    done = Deletion({"apiVersion": resource.kind.api_version, "kind": resource.kind.kind, "metadata": meta}, True)
    if options.dry_run:
        return done
    result = await store(server, Write(record.key, None, record.revision, resource.durability))
    if not isinstance(result, Committed):
        raise conflict(resource.kind.plural, attributes.name, MODIFIED, resource.kind.group)
    return done


def _warn_job(request: Request) -> None:
    if JOB_WARNING not in request.warnings:
        request.warnings.append(JOB_WARNING)


def check_preconditions(resource: Resource, name: str, old: Json, options: DeleteOptions) -> None:
    """Whether the object is the one that was meant. Raises 409."""
    kind, meta = resource.kind, old["metadata"]
    if options.uid is not None and options.uid != meta.get("uid"):
        text = (
            f"the UID in the precondition ({options.uid}) does not match the UID in record ({meta.get('uid')}). "
            "The object might have been deleted and then recreated"
        )
        raise conflict(kind.kind, name, text, kind.group)
    if options.revision is not None and options.revision != meta.get("resourceVersion"):
        text = (
            f"the ResourceVersion in the precondition ({options.revision}) does not match the ResourceVersion in record "
            f"({meta.get('resourceVersion')}). The object might have been modified"
        )
        raise conflict(kind.kind, name, text, kind.group)


def plan_deletion(resource: Resource, obj: Json, options: DeleteOptions, now: str) -> str:
    """Marks ``obj`` as the deletion leaves it and says what to do: "remove", "store" or "as-is". Below the fields of ``obj`` and
    its metadata nothing is changed in place."""
    meta = obj["metadata"]
    if resource.kind.kind == "Namespace" and not resource.kind.group and (obj.get("spec") or {}).get("finalizers"):
        return _begin_namespace(resource, obj, options, now)
    if resource.kind.kind == "CustomResourceDefinition" and not meta.get("deletionTimestamp"):
        return _begin_definition(obj, now)
    graceful = False
    if resource.rules.graceful:
        if "deletionTimestamp" in meta and "deletionGracePeriodSeconds" in meta:
            step = _shorten(meta, options)
            if step == "pending":
                return "as-is"
            graceful = True
        elif "deletionTimestamp" not in meta:
            _begin_grace(obj, options, now)
            graceful = True
    finalizers = _collector_finalizers(resource, meta, options)
    changed = finalizers != (meta.get("finalizers") or [])
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    if not graceful:
        if not finalizers:
            return "remove"
        if not meta.get("deletionTimestamp"):
            meta["deletionTimestamp"] = now
            if meta.get("generation"):
                meta["generation"] += 1
        meta["deletionGracePeriodSeconds"] = 0
        return "store"
    if finalizers or changed:
        return "store" if finalizers or meta["deletionGracePeriodSeconds"] else "remove"
    return "store" if meta["deletionGracePeriodSeconds"] else "remove"


def _begin_namespace(resource: Resource, obj: Json, options: DeleteOptions, now: str) -> str:
    """A namespace first becomes Terminating; it goes when the controller took its finalizer from the specification."""
    meta = obj["metadata"]
    if meta.get("deletionTimestamp"):
        return "as-is"
    finalizers = _collector_finalizers(resource, meta, options)
    if finalizers:
        meta["finalizers"] = finalizers
    meta["deletionTimestamp"] = now
    obj["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
    return "store"


def _begin_definition(obj: Json, now: str) -> str:
    """A definition stays until its instances are gone, whatever the options say."""
    from portside.api.customkind import CLEANUP
    from portside.api.rules.crd_status import set_condition

    meta = obj["metadata"]
    meta["deletionTimestamp"] = now
    if CLEANUP not in (meta.get("finalizers") or ()):
        meta["finalizers"] = [*(meta.get("finalizers") or ()), CLEANUP]
    status = obj["status"] = dict(obj.get("status") or {})
    told = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon"
    set_condition(status, "Terminating", "True", "InstanceDeletionPending", told, now)
    return "store"


def _pod_grace(obj: Json, options: DeleteOptions) -> int:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    period = options.grace if options.grace is not None else int(spec.get("terminationGracePeriodSeconds") or 0)
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    return 1 if period < 0 else period


def _begin_grace(obj: Json, options: DeleteOptions, now: str) -> None:
    meta = obj["metadata"]
    period = _pod_grace(obj, options)
    meta["deletionTimestamp"] = _later(now, period)
    meta["deletionGracePeriodSeconds"] = period
    if meta.get("generation"):
        meta["generation"] += 1


def _shorten(meta: Json, options: DeleteOptions) -> str:
    """A second deletion may only shorten the grace."""
    grace = int(meta["deletionGracePeriodSeconds"])
    if options.grace is None:
        return "remove" if grace == 0 and not meta.get("finalizers") else "pending"
    wanted = 1 if options.grace < 0 else options.grace
    if wanted >= grace and not (wanted == 0 and not meta.get("finalizers")):
        return "pending"
    meta["deletionTimestamp"] = _later(meta["deletionTimestamp"], wanted - grace)
    meta["deletionGracePeriodSeconds"] = wanted
    return "shorter"


@lru_cache(maxsize=128)
def _later(stamp: str, seconds: int) -> str:
    moment = datetime.fromisoformat(stamp.replace("Z", "+00:00")) + timedelta(seconds=seconds)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _collector_finalizers(resource: Resource, meta: Json, options: DeleteOptions) -> list[str]:
    """The finalizers with the collector's two as the options, then the object, then the kind's default want them."""
    present = list(meta.get("finalizers") or [])
    kind = resource.kind
    if kind.kind in NOT_COLLECTED:
        return present
    if options.orphan is not None:
        orphan, foreground = options.orphan, False
    elif options.policy:
        orphan, foreground = options.policy == "Orphan", options.policy == "Foreground"
    else:
        foreground = FOREGROUND in present
        orphan = not foreground and (ORPHAN in present or (kind.group, kind.kind) in ORPHANED_BY_DEFAULT)
    kept = [f for f in present if (f != ORPHAN or orphan) and (f != FOREGROUND or foreground)]
    for wanted, name in ((orphan, ORPHAN), (foreground, FOREGROUND)):
        if wanted and name not in kept:
            kept.append(name)
    return kept


async def delete_collection(
    server: ApiServer, request: Request, resource: Resource, route: Route
) -> list[CachedObject]:
    """All objects the query selects, ``AT_ONCE`` at a time, so that they share commits; answers them as they were found, as
    upstream does. The first refusal ends it."""
    options = read_options(request)
    wanted = list_options(request, watch=False)
    where = filter_of(resource, route, wanted)
    await server.admit_collection(route.attributes, options, request)
    page = await select(resource, where, replace(wanted, limit=0), server.clock.now())
    left = iter(page.objects)
    gone: set[str] = set()
    refused: list[ApiError] = []

    async def some() -> None:
        for item in left:
            if refused:
                return
            attributes = route.attributes._replace(name=item.name, namespace=item.namespace)
            try:
                await delete_object(server, request, resource, attributes, options)
                gone.add(item.key)
            except ApiError as error:
                if error.code != 404:
                    refused.append(error)

    await asyncio.gather(*(some() for _ in range(min(AT_ONCE, len(page.objects)))))
    if refused:
        raise refused[0]
    return [item for item in page.objects if item.key in gone]
