"""Create, update and patch: from a decoded body to a committed object, in upstream's order of checks.

Order of a creation: decoding and defaults, field managers, mutating admission, name, preparation and validation,
validating admission, allocation, commit. An update repeats from reading the current object when somebody else was faster.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from portside.api import managed
from portside.api.field import FieldError, invalid_value
from portside.api.managed_empty import with_empty
from portside.api.rules.registry import Context, unstamped
from portside.api.status import ApiError, already_exists, bad_request, conflict, internal, invalid, not_found
from portside.base.uid import new_uid
from portside.server import body
from portside.server.attributes import Attributes, User
from portside.server.auth.forbidden import refuse
from portside.server.history import AUTHOR
from portside.server.options import WriteOptions, write_options
from portside.server.request import Request
from portside.server.resource import Resource, encode, refused
from portside.server.routes import Route
from portside.server.watchcache import splice
from portside.server.watchcache_object import CachedObject
from portside.store.backend import Committed, Durability, StoreError, Write

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
NAME_CHARS = "bcdfghjklmnpqrstvwxz2456789"
NAME_TRIES = 8
UPDATE_TRIES = 100
Transform = Callable[[Json], Awaitable[Json]]
_random = random.Random()


@dataclass(slots=True)
class Written:
    """What a write left behind. ``raw`` is the object as sent (stored version), None for a dry run: use ``obj`` then."""

    obj: Json
    raw: bytes | None
    created: bool = False
    deleted: bool = False


def copy_of(obj: Json) -> Json:
    """A private copy."""
    copied: Json = orjson.loads(orjson.dumps(obj))
    return copied


def context_of(server: ApiServer, attributes: Attributes, dry_run: bool) -> Context:
    return Context(
        now=server.now(),
        user=attributes.user.name,
        dry_run=dry_run,
        namespace=attributes.namespace,
        subresource=attributes.subresource,
        space=lambda: server.live.of("namespaces").get(attributes.namespace),
        verb=attributes.verb,
        node=_node_of(attributes.user),
        refused=lambda *asked: _refused(server, attributes, *asked),
    )


def _node_of(user: User) -> str:
    """The node of the pod that a service account's token was made for."""
    named = user.extra.get("authentication.kubernetes.io/node-name", ())
    return named[0] if user.name.startswith("system:serviceaccount:") and len(named) == 1 else ""


def _refused(server: ApiServer, attributes: Attributes, verb: str, sub: str, namespace: str, name: str) -> str:
    asked = attributes._replace(verb=verb, subresource=sub, namespace=namespace, name=name)
    decision = server.authorizer.authorize(asked)
    return "" if decision.allowed else str(refuse(asked, decision.reason))


def generate_name(prefix: str) -> str:
    return prefix[:58] + "".join(_random.choices(NAME_CHARS, k=5))


def check_namespace(resource: Resource, obj: Json, attributes: Attributes) -> None:
    """The object's namespace is the path's; a cluster-scoped object has none. Raises 400."""
    meta = obj["metadata"]
    if not resource.kind.namespaced:
        meta.pop("namespace", None)
        return
    said = meta.get("namespace")
    if not said:
        meta["namespace"] = attributes.namespace
    elif said != attributes.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")


def dedupe_owners(obj: Json, warnings: list[str]) -> None:
    """The same owner twice is kept once, with a warning."""
    owners = obj["metadata"].get("ownerReferences")
    if not owners or len(owners) < 2:
        return
    seen: dict[str, Json] = {}
    twice: dict[str, None] = {}
    kept: list[Json] = []
    for owner in owners:
        uid = str(owner.get("uid", ""))
        if uid in seen and seen[uid] == owner:
            twice[uid] = None
            continue
        seen.setdefault(uid, owner)
        kept.append(owner)
    if twice:
        obj["metadata"]["ownerReferences"] = kept
        warnings.append(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may "
            f"reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {', '.join(twice)}"
        )


def fill_system_fields(obj: Json, now: str) -> None:
    """What only the server says of a new object."""
    meta = obj["metadata"]
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"):
        meta.pop(key, None)
    meta["creationTimestamp"] = now
    meta["uid"] = new_uid()


async def create(server: ApiServer, request: Request, resource: Resource, route: Route) -> Written:
    """POST of an object."""
    raw, media = body.read(request, resource.kind)
    options = write_options(request, "CreateOptions")
    obj = await _owned(server, request, resource, route.attributes, raw, media, options)
    return await create_object(server, request, resource, route.attributes, obj, options, tracked=True)


async def _owned(
    server: ApiServer,
    request: Request,
    resource: Resource,
    attributes: Attributes,
    raw: bytes,
    media: str,
    options: WriteOptions,
) -> Json:
    """The object of a body, decoded, with its defaults and its first manager. Raises 400."""
    # nobody was spared a problem, the schema stays, and nothing but the manager tells the time
    lasting = options.validation != "Ignore" and not resource.kind.custom and resource.rules.stamp is unstamped
    key = resource.met.key(raw, media, attributes.namespace, options.manager) if lasting else None
    met = resource.met.owned(key, server.now())
    if met is not None:
        return met
    told = len(request.warnings)
    how = (resource.kind, resource.schema, options.validation, request.warnings)
    obj = await body.beside(raw, media, body.decode, raw, media, *how)
    check_namespace(resource, obj, attributes)
    resource.rules.default(obj)
    fill_system_fields(obj, server.now())
    dedupe_owners(obj, request.warnings)
    empty = await body.beside(raw, media, body.empty_lists, raw, media, resource.schema)
    with with_empty(obj, empty):
        _first_manager(resource, obj, options, server.now())
    if len(request.warnings) == told:
        resource.met.put(key, obj)
    return obj


def _first_manager(resource: Resource, obj: Json, options: WriteOptions, now: str) -> None:
    api_version, schema = resource.kind.api_version, resource.schema
    resource.rules.stamp(obj, now)
    managed.after_update(
        None, obj, manager=options.manager, api_version=api_version, subresource="", now=now, schema=schema
    )


async def create_object(
    server: ApiServer,
    request: Request,
    resource: Resource,
    attributes: Attributes,
    obj: Json,
    options: WriteOptions,
    *,
    tracked: bool = False,
) -> Written:
    """Store a new, decoded and defaulted object. ``tracked``: managedFields are already set."""
    context = context_of(server, attributes, options.dry_run)
    meta = obj["metadata"]
    revision = str(meta.get("resourceVersion") or "")
    fill_system_fields(obj, context.now)
    dedupe_owners(obj, request.warnings)
    if not tracked:
        _first_manager(resource, obj, options, context.now)
    named = attributes._replace(name=str(meta.get("name") or ""), verb="create")
    obj = await server.mutate(named, obj, None, "CREATE", options.dry_run, request)
    meta = obj["metadata"]
    generated = bool(meta.get("generateName"))
    wants_name = generated and not meta.get("name")
    for attempt in range(NAME_TRIES):
        if wants_name:
            meta["name"] = generate_name(meta["generateName"])
        try:
            return await _create_named(server, request, resource, named, obj, options, context, revision)
        except ApiError as error:
            if error.reason != "AlreadyExists" or not generated or (wants_name and attempt + 1 < NAME_TRIES):
                if error.reason == "AlreadyExists" and wants_name:
                    continue
                raise
            message = f"{error.message}, the server was not able to generate a unique name for the object"
            details = (error.details or {}) | {"retryAfterSeconds": 1}
            raise ApiError(409, "AlreadyExists", message, details=details, headers={"Retry-After": "1"}) from None
    raise internal("no free name was found")


async def _create_named(
    server: ApiServer,
    request: Request,
    resource: Resource,
    attributes: Attributes,
    obj: Json,
    options: WriteOptions,
    context: Context,
    revision: str,
) -> Written:
    kind, rules = resource.kind, resource.rules
    meta = obj["metadata"]
    errors = rules.before_create(obj, context)
    request.warnings.extend(context.warnings)
    if errors:
        raise refused(kind, str(meta.get("name") or ""), errors)
    undo, _ = server.allocate(resource, obj, None)
    try:
        request.warnings.extend(rules.warnings(obj, None, context))
        if attributes.name != meta["name"]:
            attributes = attributes._replace(name=meta["name"])
        await server.validate(attributes, obj, None, "CREATE", options.dry_run, request)
        if revision and revision != "0" and not options.dry_run:
            if not revision.isdigit():
                raise ApiError(500, "", f'strconv.ParseUint: parsing "{revision}": invalid syntax')
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        namespace = attributes.namespace if kind.namespaced else ""
        if options.dry_run:
            standing = resource.cache.get(namespace, meta["name"])
            if standing is not None:
                raise _exists(resource, meta["name"], standing.full)
            undo()
            if resource.kind.custom:
                obj = await resource.answer(obj, await resource.stored_form(obj))
            return Written(obj, None, created=True)
        meta.pop("resourceVersion", None)
        return await _commit_new(server, resource, namespace, obj)
    except BaseException:
        undo()
        raise


def _exists(resource: Resource, name: str, standing: bytes | None) -> ApiError:
    error = already_exists(resource.kind.plural, name, resource.kind.group)
    if standing is not None and b'"deletionTimestamp":"' in standing:
        return ApiError(409, error.reason, f"object is being deleted: {error.message}", details=error.details)
    return error


async def _commit_new(server: ApiServer, resource: Resource, namespace: str, obj: Json) -> Written:
    name = obj["metadata"]["name"]
    stored = await resource.stored_form(obj)
    value = encode(stored)
    result = await store(server, Write(resource.key(namespace, name), value, 0, resource.durability))
    if not isinstance(result, Committed):
        raise _exists(resource, name, result.current.value if result.current else None)
    obj["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"] = str(result.revision)
    if resource.converts:
        return Written(await resource.answer(obj, stored), None, created=True)
    return Written(obj, splice(value, result.revision), created=True)


async def store(server: ApiServer, write: Write) -> Any:
    """One write, signed by the request at hand; a store that can't is 500 with its reason."""
    if write.durability is Durability.HISTORY:
        write = write._replace(note=AUTHOR.get())
    try:
        return await server.backend.write(write)
    except StoreError as error:
        raise internal(str(error)) from error


async def update(server: ApiServer, request: Request, resource: Resource, route: Route) -> Written:
    """PUT of an object or of a subresource that is the object itself."""
    raw, media = body.read(request, resource.kind)
    options = write_options(request, "UpdateOptions")
    attributes = route.attributes
    how = (resource.kind, resource.schema, options.validation, request.warnings)
    decoded: list[Json] = [await body.beside(raw, media, body.decode, raw, media, *how)]
    check_name(resource, decoded[0], attributes)
    resource.rules.default(decoded[0])

    async def replaced(existing: Json) -> Json:
        if decoded:
            return decoded.pop()
        again = body.decode(raw, media, resource.kind, resource.schema, "Ignore", [])
        check_name(resource, again, attributes)
        resource.rules.default(again)
        return again

    return await update_object(server, request, resource, attributes, replaced, options, put=True)


def check_name(resource: Resource, obj: Json, attributes: Attributes) -> None:
    """The body's name and namespace are the path's. Raises 400."""
    check_namespace(resource, obj, attributes)
    name = obj["metadata"].get("name")
    if not name:
        raise bad_request(
            f"the name of the object ({attributes.name} based on URL) was undeterminable: name must be provided"
        )
    if name != attributes.name:
        raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({attributes.name})")


async def update_object(
    server: ApiServer,
    request: Request,
    resource: Resource,
    attributes: Attributes,
    transform: Transform,
    options: WriteOptions,
    *,
    put: bool = False,
    tracked: bool = False,
    create_ok: bool = True,
) -> Written:
    """Replace the object by ``transform`` of it, again and again until nobody else was faster.

    The transform leaves what it is given as it is. ``tracked``: it does not, and sets managedFields itself. Raises 404, 409, 422
    and whatever the transform raises.
    """
    kind = resource.kind
    namespace = attributes.namespace if kind.namespaced else ""
    for _ in range(UPDATE_TRIES):
        current = resource.cache.get(namespace, attributes.name)
        if current is None:
            new = await transform({}) if put else None
            uid = new["metadata"].get("uid") if new else None
            if uid:
                raise _wrong_uid(resource, namespace, attributes.name, uid, "")
            if new is None or not create_ok or attributes.subresource or not resource.rules.create_on_update:
                raise not_found(kind.plural, attributes.name, kind.group)
            new["metadata"].pop("resourceVersion", None)
            return await create_object(server, request, resource, attributes, new, options)
        done = await _update_once(server, request, resource, attributes, current, transform, options, put, tracked)
        if done is not None:
            return done
    raise conflict(kind.plural, attributes.name, MODIFIED, kind.group)


def _wrong_uid(resource: Resource, namespace: str, name: str, said: str, have: str) -> ApiError:
    kind = resource.kind
    place = f"{namespace}/{name}" if namespace else name
    text = (
        f"StorageError: invalid object, Code: 4, Key: /registry/{storage_path(kind.group, kind.plural)}/{place}, "
        f"ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {said}, "
        f"UID in object meta: {have}"
    )
    return conflict(kind.plural, name, text, kind.group)


def storage_path(group: str, plural: str) -> str:
    """The folder of upstream's store that its messages name."""
    special = {"nodes": "minions", "services": "services/specs", "endpoints": "services/endpoints"}
    if not group and plural in special:
        return special[plural]
    if group.endswith((".example.com", "apiregistration.k8s.io", "apiextensions.k8s.io")):
        return f"{group}/{plural}"
    return {"replicationcontrollers": "controllers", "ingresses": "ingress"}.get(plural, plural)


async def _update_once(
    server: ApiServer,
    request: Request,
    resource: Resource,
    attributes: Attributes,
    current: CachedObject,
    transform: Transform,
    options: WriteOptions,
    put: bool,
    tracked: bool,
) -> Written | None:
    """One attempt; None when somebody else was faster."""
    kind, rules = resource.kind, resource.rules
    context = context_of(server, attributes, options.dry_run)
    old = await resource.load(current)
    rules.default(old)
    new = await transform(copy_of(old) if tracked else old)
    meta = new["metadata"]
    if put and (uid := meta.get("uid")) and uid != old["metadata"].get("uid"):
        raise _wrong_uid(resource, attributes.namespace, attributes.name, uid, old["metadata"].get("uid", ""))
    said = str(meta.get("resourceVersion") or "")
    dedupe_owners(new, request.warnings)
    if not tracked:
        rules.stamp(new, context.now)
        managed.after_update(
            old,
            new,
            manager=options.manager,
            api_version=kind.api_version,
            subresource=attributes.subresource,
            now=context.now,
            schema=resource.schema,
        )
    verb = "update" if put else "patch"
    named = attributes if attributes.verb == verb else attributes._replace(verb=verb)
    new = await server.mutate(named, new, old, "UPDATE", options.dry_run, request)
    _check_revision(resource, attributes, said, old)
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
    sub = attributes.subresource
    errors = (
        rules.before_sub_update(sub, new, old, context)
        if sub and sub != "scale"
        else rules.before_update(new, old, context)
    )
    request.warnings.extend(context.warnings)
    if errors:
        raise refused(kind, attributes.name, errors)
    if sub == "resize":
        server.check_room(new)
    undo, settle = server.allocate(resource, new, old)
    try:
        warn = rules.warnings if not sub else (rules.subresources[sub].warnings if sub in rules.subresources else None)
        if warn is not None:
            request.warnings.extend(warn(new, old, context))
        await server.validate(named, new, old, "UPDATE", options.dry_run, request)
        done = await _commit_update(server, resource, current, new, old, options)
    except BaseException:
        undo()
        raise
    if done is None or options.dry_run:
        undo()
    else:
        settle()
    return done


def _check_revision(resource: Resource, attributes: Attributes, said: str, old: Json) -> None:
    kind = resource.kind
    if said and not said.isdigit():
        raise ApiError(500, "", f'strconv.ParseUint: parsing "{said}": invalid syntax')
    if said in ("", "0"):
        if not resource.rules.unconditional_update:
            error: FieldError = invalid_value(
                "metadata.resourceVersion", int(said or 0), "must be specified for an update"
            )
            raise invalid(kind.plural, attributes.name, [error], kind.group)
    elif said != old["metadata"]["resourceVersion"]:
        raise conflict(kind.plural, attributes.name, MODIFIED, kind.group)


def _held(resource: Resource, obj: Json) -> bool:
    """Finalizers hold it: those of the metadata, for a namespace those of its specification too."""
    if obj["metadata"].get("finalizers"):
        return True
    kind = resource.kind
    return kind.kind == "Namespace" and not kind.group and bool((obj.get("spec") or {}).get("finalizers"))


async def _commit_update(
    server: ApiServer, resource: Resource, current: CachedObject, new: Json, old: Json, options: WriteOptions
) -> Written | None:
    old_meta, new_meta = old["metadata"], new["metadata"]
    gone = (
        bool(old_meta.get("deletionTimestamp"))
        and not _held(resource, new)
        and not new_meta.get("deletionGracePeriodSeconds")
        and _held(resource, old)
    )
    form = await resource.stored_form(new) if not options.dry_run or resource.kind.custom else new
    if options.dry_run:
        return Written(await resource.answer(new, form), None, deleted=gone)
    if not gone and new == old and resource.stored_alike(current, form):
        return Written(new, await resource.full(current))
    stored = encode(form)
    write = Write(current.key, None if gone else stored, current.revision, resource.durability)
    result = await store(server, write)
    if not isinstance(result, Committed):
        return None
    if gone:
        server.released(resource, old)
    new_meta["resourceVersion"] = form["metadata"]["resourceVersion"] = str(result.revision)
    if resource.converts:
        return Written(await resource.answer(new, form), None, deleted=gone)
    return Written(new, splice(stored, result.revision), deleted=gone)
