"""PATCH: JSON, merge and strategic merge patches, and server-side apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from portside.api import managed
from portside.api.field import FieldError, invalid_value
from portside.api.kinds import Kind
from portside.api.patch import json_patch, merge_patch, strategic_merge
from portside.api.patch_strategic import go_map
from portside.api.schema import strict_text
from portside.api.status import ApiError, bad_request, conflict, invalid
from portside.server import body
from portside.server.negotiate import JSON, YAML, body_media, unsupported_patch
from portside.server.options import WriteOptions, write_options
from portside.server.request import Request
from portside.server.resource import Resource
from portside.server.routes import Route
from portside.server.writes import Written, check_namespace, context_of, create_object, update_object

if TYPE_CHECKING:
    from portside.server.app import ApiServer

Json = dict[str, Any]
JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TYPES = (JSON_PATCH, MERGE, STRATEGIC, APPLY)
CUSTOM_TYPES = (JSON_PATCH, MERGE, APPLY)
STATUS_PARTS = frozenset(("metadata", "status"))
"""What a write of a status may change."""
MAX_OPERATIONS = 10_000
IMMUTABLE = "field is immutable"


def patch_media(request: Request, kind: Kind | None = None) -> str:
    """The patch's type. Raises 415 before anything else is looked at."""
    media = body_media(request.header("content-type"))
    if kind is not None and kind.custom and media not in CUSTOM_TYPES:
        raise ApiError(
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(CUSTOM_TYPES),
        )
    if media not in TYPES or "content-type" not in request.headers:
        raise unsupported_patch()
    return media


async def patch(server: ApiServer, request: Request, resource: Resource, route: Route) -> Written:
    """A patch of an object or of a subresource that is the object itself."""
    media = patch_media(request, resource.kind)
    body.check_size(request)
    options = write_options(request, "PatchOptions", apply=media == APPLY)
    if media == APPLY:
        return await _apply(server, request, resource, route, options)
    change = _parse(request.body, media, options.validation, request.warnings)
    first: list[bool] = [True]
    quiet, parts = media == MERGE and not resource.kind.custom, _parts(server, resource, route)

    async def patched(existing: Json) -> Json:
        warnings = request.warnings if first else []
        first.clear()
        new = _merged_quietly(resource, existing, change, parts) if quiet else None
        if new is None:
            new = apply_change(resource, existing, change, media, options, warnings)
        _check_name(new, route.attributes.name)
        check_namespace(resource, new, route.attributes)
        return new

    return await update_object(server, request, resource, route.attributes, patched, options)


def _parts(server: ApiServer, resource: Resource, route: Route) -> frozenset[str] | None:
    """The fields of the object that a write of the route makes anew; None: all of them."""
    # A webhook or policy may change what is shared.
    status = route.attributes.subresource == "status" and not server.dynamic.mutating.active
    return STATUS_PARTS if status else None


def _names_managers(change: Json) -> bool:
    meta = change.get("metadata")
    return "metadata" in change and not (isinstance(meta, dict) and "managedFields" not in meta)


def _merged_quietly(resource: Resource, existing: Json, change: Json, parts: frozenset[str] | None) -> Json | None:
    """A merge patch of a built-in kind: what is not among ``parts`` is ``existing``'s own and was decoded before, and so are
    managedFields. None when there is anything to be told about it: then the whole object is patched, which finds the words."""
    if _names_managers(change) or (parts is not None and not change.keys() <= parts):
        return None
    touched = {name: value for name, value in existing.items() if parts is None or name in parts}
    managers = existing["metadata"].get("managedFields")
    touched["metadata"] = {name: value for name, value in existing["metadata"].items() if name != "managedFields"}
    made = merge_patch(touched, change)
    try:
        if resource.schema.decode(made):
            return None
    except ApiError:
        return None
    if not isinstance(made.get("metadata"), dict):
        return None
    if managers is not None:
        made["metadata"]["managedFields"] = managers
    if parts is None:
        new = made
    else:
        new = {name: value for name, value in existing.items() if name not in parts}
        new |= {name: value for name, value in made.items() if name in parts}
    if new.get("kind") != resource.kind.kind or new.get("apiVersion") != resource.kind.api_version:
        return None
    resource.rules.default(new)
    return new


def _parse(raw: bytes, media: str, validation: str, warnings: list[str]) -> Any:
    """The patch document. Raises 400; duplicate fields are 422 when strict."""
    if media == MERGE and raw.strip() in (b"", b"null"):
        raise bad_request("Invalid JSON Patch" if raw.strip() else "invalid JSON patch")
    change, problems = body.parse(raw, JSON)
    if problems and validation == "Strict":
        raise _invalid_patch(raw.decode("utf-8", "replace"), strict_text(problems, []))
    if validation == "Warn":
        warnings.extend(problems)
    if media == JSON_PATCH:
        if not isinstance(change, list):
            raise bad_request(
                "error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch"
            )
        if len(change) > MAX_OPERATIONS:
            raise ApiError(
                413,
                "RequestEntityTooLarge",
                f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(change)}",
            )
        known = ("op", "path", "from", "value")
        strange = [
            f'json patch unknown field "[{i}].{key}"'
            for i, op in enumerate(change)
            if isinstance(op, dict)
            for key in op
            if key not in known
        ]
        if strange and validation == "Strict":
            raise _invalid_patch(raw.decode("utf-8", "replace"), "strict decoding error: " + ", ".join(strange))
        if validation == "Warn":
            warnings.extend(strange)
    elif not isinstance(change, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}")
    return change


def _invalid_patch(shown: str, why: str) -> ApiError:
    return invalid(
        "", "", [FieldError("patch", "FieldValueInvalid", f"Invalid value: {orjson.dumps(shown).decode()}: {why}")]
    )


def apply_change(
    resource: Resource, existing: Json, change: Any, media: str, options: WriteOptions, warnings: list[str]
) -> Json:
    """The patched object, decoded and defaulted. Raises 422 when it does not have the kind's form."""
    kind, schema = resource.kind, resource.schema
    if media == JSON_PATCH:
        new = json_patch(existing, change)
    elif media == MERGE:
        new = merge_patch(existing, change)
    else:
        new = strategic_merge(existing, change, schema)
    if not isinstance(new, dict):
        raise _invalid_patch(orjson.dumps(new).decode(), "json: cannot unmarshal into Go value")
    if kind.custom:
        new["kind"], new["apiVersion"] = new.get("kind") or kind.kind, new.get("apiVersion") or kind.api_version
    elif new.get("kind") != kind.kind or new.get("apiVersion") != kind.api_version:
        if media == JSON_PATCH or new.get("kind") is None or new.get("apiVersion") is None:
            new["kind"], new["apiVersion"] = new.get("kind") or kind.kind, new.get("apiVersion") or kind.api_version
        try:
            body.check_type(new, kind, b"")
        except ApiError as error:
            raise _invalid_patch(orjson.dumps(new).decode(), error.message) from None

    def shown() -> str:
        return go_map(change) if media == STRATEGIC else orjson.dumps(new).decode()

    try:
        unknown = schema.decode(new)
    except ApiError as error:
        if error.code != 400:
            raise
        raise _invalid_patch(shown(), error.message) from None
    if not isinstance(new.get("metadata"), dict):
        new["metadata"] = {}
    if unknown:
        if options.validation == "Strict":
            raise _invalid_patch(shown(), "strict decoding error: " + ", ".join(unknown))
        if options.validation == "Warn":
            warnings.extend(unknown)
    resource.rules.default(new)
    return new


async def _apply(
    server: ApiServer, request: Request, resource: Resource, route: Route, options: WriteOptions
) -> Written:
    """Server-side apply; creates the object when it is missing."""
    kind, attributes = resource.kind, route.attributes
    value, problems = await body.beside(request.body, YAML, body.parse, request.body, YAML)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise bad_request("error decoding YAML: the document is not an object")
    _check_applied(resource, value)
    if problems:
        if options.validation == "Strict":
            raise bad_request("error strict decoding YAML: " + ", ".join(problems))
        if options.validation == "Warn":
            request.warnings.extend(problems)

    async def applied(existing: Json) -> Json:
        if existing:
            resource.check_managers(existing)
        merged = _merged(server, resource, existing or None, value, attributes.subresource, options)
        _check_name(merged, attributes.name)
        check_namespace(resource, merged, attributes)
        unknown = resource.schema.decode(merged)
        if unknown and options.validation == "Warn":
            request.warnings.extend(u for u in unknown if u not in request.warnings)
        resource.rules.default(merged)
        return merged

    namespace = attributes.namespace if kind.namespaced else ""
    for _ in range(3):
        if resource.cache.get(namespace, attributes.name) is not None or attributes.subresource:
            return await update_object(
                server, request, resource, attributes, applied, options, tracked=True, create_ok=False
            )
        new = await applied({})
        if uid := new["metadata"].get("uid"):
            raise invalid(kind.kind, attributes.name, [invalid_value("metadata.uid", uid, IMMUTABLE)], kind.group)
        new["metadata"].pop("resourceVersion", None)
        try:
            made = attributes._replace(verb="patch")
            return await create_object(server, request, resource, made, new, options, tracked=True)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
    raise conflict(kind.plural, attributes.name, "the object was created and deleted meanwhile", kind.group)


def _check_applied(resource: Resource, value: Json) -> None:
    """What is applied has to say that it is of the path's kind. Raises 400."""
    kind = resource.kind
    version, name = str(value.get("apiVersion") or ""), str(value.get("kind") or "")
    group, _, short = version.rpartition("/")
    if name != kind.kind or group != kind.group or not short:
        raise bad_request(f"invalid object type: {group}/{short}, Kind={name}")


def _check_name(merged: Json, name: str) -> None:
    said = merged["metadata"].get("name")
    if not said:
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
    if said != name:
        raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({name})")


def _merged(
    server: ApiServer, resource: Resource, existing: Json | None, value: Json, sub: str, options: WriteOptions
) -> Json:
    return managed.apply(
        existing,
        orjson.loads(orjson.dumps(value)),
        manager=options.manager,
        force=bool(options.force),
        api_version=resource.kind.api_version,
        subresource=sub,
        now=server.now(),
        schema=resource.schema,
    )


__all__ = ["apply_change", "context_of", "patch", "patch_media"]
