"""Subresources with a shape of their own, and kinds that are answered without being stored.

Each entry of ``SUBRESOURCES`` takes over the whole request; ``*`` stands for every resource that has the subresource.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from portside.api import managed, names
from portside.api.jsonpath import at_path
from portside.api.kinds import BY_KIND, Kind
from portside.api.managed_scale import after_scale, after_scale_applied, check_applied_scale
from portside.api.schema import definition
from portside.api.selector import parse_fields, parse_labels
from portside.api.status import ApiError, bad_request, conflict, invalid, not_found
from portside.server import body, forms, patches
from portside.server.binding import bind
from portside.server.eviction import evict
from portside.server.negotiate import Wanted, encode, negotiate
from portside.server.nodeproxy import NODE_SUBRESOURCES
from portside.server.options import list_options, write_options
from portside.server.proxying import PROXY_SUBRESOURCES
from portside.server.request import Request, Response
from portside.server.routes import Route, not_allowed
from portside.server.scale import count_path, paths_of, scale_of, scale_to
from portside.server.writes import update_object

if TYPE_CHECKING:
    from portside.server.app import ApiServer
    from portside.server.resource import Resource

Json = dict[str, Any]
Sub = Callable[["ApiServer", Request, "Resource", Route], Awaitable[Response]]
SCALE = Kind("autoscaling", "v1", "Scale", "scales", True)
BINDING = BY_KIND[("", "v1", "Binding")]
EVICTION = Kind("policy", "v1", "Eviction", "evictions", True)
AUTH_KINDS = (
    ("authentication.k8s.io", "tokenreviews"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
)


def _success(request: Request, code: int = 201) -> Response:
    wanted = negotiate(request.header("accept"), forms=True)
    made = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}
    if request.direct:
        return Response(code, obj=made)
    return Response(code, encode(made, wanted.media), wanted.media)


async def scale(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """The Scale of a workload: read, replaced or patched."""
    attributes = route.attributes
    kind = resource.kind
    if attributes.verb == "patch":
        media = patches.patch_media(request, kind)
    wanted = negotiate(request.header("accept"), forms=True)
    paths = paths_of(kind)
    if attributes.verb == "get":
        found = resource.cache.get(attributes.namespace, attributes.name)
        if found is None:
            raise not_found(kind.plural, attributes.name, kind.group)
        return _scaled(scale_of(await resource.load(found), paths, strict=True), wanted, request)
    schema = definition("io.k8s.api.autoscaling.v1.Scale")
    if attributes.verb == "update":
        raw, given = body.read(request)
        options = write_options(request, "UpdateOptions")
        said = body.decode(raw, given, SCALE, schema, options.validation, request.warnings)
        _check_scale_name(said, attributes.name)

        async def change(existing: Json) -> Json:
            _check_count(said, attributes.name)
            return _rescaled(existing, said, kind, options)

    else:
        body.check_size(request)
        apply = media == patches.APPLY
        options = write_options(request, "PatchOptions", apply=apply)
        document = None if apply else patches._parse(request.body, media, options.validation, request.warnings)

        async def change(existing: Json) -> Json:
            if apply:
                return _applied_scale(existing, body.parse(request.body, "application/yaml")[0], kind, options)
            view: Any = _ScaleResource(schema)
            current = scale_of(existing, paths)
            wanted_scale = patches.apply_change(view, current, document, media, options, request.warnings)
            _check_count(wanted_scale, attributes.name)
            return _rescaled(existing, wanted_scale, kind, options)

    done = await update_object(server, request, resource, attributes, change, options, tracked=True, create_ok=False)
    return _scaled(scale_of(done.obj, paths), wanted, request)


def _rescaled(existing: Json, said: Json, kind: Kind, options: Any) -> Json:
    """The object with the count of a Scale, and its managers. Raises 400 when a custom resource gets none."""
    paths = paths_of(kind)
    if paths is not None and (said.get("spec") or {}).get("replicas") is None and at_path(existing, paths[0]) is None:
        raise bad_request(f'the spec replicas field "{paths[0]}" cannot be empty')
    new = scale_to(existing, said, paths)
    after_scale(existing, new, manager=options.manager, api_version=kind.api_version, path=count_path(paths))
    return new


class _ScaleResource:
    """Enough of a Resource for patching a Scale."""

    kind = SCALE

    def __init__(self, schema: Any) -> None:
        self.schema = schema
        self.rules = self

    def default(self, obj: Json) -> None:
        obj.setdefault("spec", {})


def _applied_scale(existing: Json, value: Any, kind: Kind, options: Any) -> Json:
    """The object with an applied Scale's count, and its managers."""
    said = check_applied_scale(value)
    count = (said.get("spec") or {}).get("replicas")
    paths = paths_of(kind)
    if count is None:
        said = {**said, "spec": {"replicas": (scale_of(existing, paths).get("spec") or {}).get("replicas", 0)}}
    said.setdefault("metadata", {})
    new = scale_to(existing, said, paths)
    after_scale_applied(
        existing,
        new,
        value,
        manager=options.manager,
        api_version=kind.api_version,
        force=bool(options.force),
        path=count_path(paths),
    )
    return new


def _check_count(said: Json, name: str) -> None:
    from portside.api.field import invalid_value

    count = (said.get("spec") or {}).get("replicas", 0)
    if isinstance(count, int) and count < 0:
        wrong = invalid_value("spec.replicas", count, "must be greater than or equal to 0")
        raise invalid("Scale", name, [wrong], "autoscaling")


def _check_scale_name(said: Json, name: str) -> None:
    if said["metadata"].get("name") != name:
        given = said["metadata"].get("name")
        if not given:
            raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")
        raise bad_request(f"the name of the object ({given}) does not match the name on the URL ({name})")


def _scaled(made: Json, wanted: Wanted, request: Request) -> Response:
    if wanted.form:
        made = forms.object_form(SCALE, made, wanted, request)
    return Response(200, encode(made, wanted.media), wanted.media)


async def binding(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """POST of a Binding, at pods/NAME/binding or at bindings."""
    raw, media = body.read(request)
    options = write_options(request, "CreateOptions")
    said = body.decode(
        raw, media, BINDING, definition("io.k8s.api.core.v1.Binding"), options.validation, request.warnings
    )
    attributes = route.attributes
    name = attributes.name or said["metadata"].get("name", "")
    meta = said["metadata"]
    if meta.get("namespace") and meta["namespace"] != attributes.namespace:
        raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
    meta.setdefault("namespace", attributes.namespace)
    pods = server.resource(BY_KIND[("", "v1", "Pod")])
    attributes = attributes._replace(resource="pods", subresource="binding", name=name)
    said = await server.mutate(attributes._replace(verb="create"), said, None, "CREATE", options.dry_run, request)
    errors = bind_errors(said)
    if errors:
        texts = [str(e) for e in errors]
        raise ApiError(500, "", texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
    if attributes.name and said["metadata"].get("name") and said["metadata"]["name"] != attributes.name:
        raise bad_request(
            f"the name in the binding ({said['metadata']['name']}) does not match the name of the pod ({name})"
        )
    await server.validate(attributes._replace(verb="create"), said, None, "CREATE", options.dry_run, request)
    if not name:
        raise bad_request("Name parameter required.")
    await _bind(server, request, pods, attributes, said, options)
    return _success(request)


def bind_errors(said: Json) -> list[Any]:
    from portside.api.field import invalid_value, not_supported, required

    target = said.get("target") or {}
    errors = []
    if target.get("kind", "") not in ("", "Node"):
        errors.append(not_supported("target.kind", target["kind"], ("Node", "<empty>")))
    name = target.get("name") or ""
    if not name:
        errors.append(required("target.name"))
    elif not errors:
        errors += [invalid_value("target.name", name, p) for p in names.dns_subdomain(name)]
    return errors


async def _bind(server: ApiServer, request: Request, pods: Resource, attributes: Any, said: Json, options: Any) -> None:
    from portside.server.resource import encode as stored
    from portside.server.writes import store
    from portside.store.backend import Committed, Write

    uid, revision = said["metadata"].get("uid"), said["metadata"].get("resourceVersion")
    while True:
        current = pods.cache.get(attributes.namespace, attributes.name)
        if current is None:
            raise not_found("pods", attributes.name)
        pod = current.closed()
        if uid and uid != pod["metadata"]["uid"]:
            raise conflict(
                "pods",
                attributes.name,
                f"Precondition failed: UID in precondition: {uid}, UID in object meta: {pod['metadata']['uid']}",
            )
        if revision and revision != pod["metadata"]["resourceVersion"]:
            raise conflict(
                "pods",
                attributes.name,
                f"Precondition failed: ResourceVersion in precondition: {revision}, ResourceVersion in object meta: {pod['metadata']['resourceVersion']}",
            )
        problem = bind(pod, said, server.live.of("nodes").labels(said["target"]["name"]), server.now())
        if problem:
            raise conflict("pods/binding", attributes.name, problem)
        if options.dry_run:
            return
        result = await store(server, Write(current.key, stored(pod), current.revision, pods.durability))
        if isinstance(result, Committed):
            return


async def eviction(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """POST of an Eviction."""
    raw, media = body.read(request)
    options = write_options(request, "CreateOptions")
    if b"policy/v1beta1" in raw:
        _refuse_old_eviction(raw, media)
    said = body.decode(
        raw, media, EVICTION, definition("io.k8s.api.policy.v1.Eviction"), options.validation, request.warnings
    )
    name = said["metadata"].get("name")
    if name != route.attributes.name:
        raise bad_request("name in URL does not match name in Eviction object")
    said = await server.admit(route.attributes, said, "CREATE", bool(options.dry_run), request)
    await evict(server, request, resource, route.attributes, said, options)
    return _success(request)


def _refuse_old_eviction(raw: bytes, media: str) -> None:
    """Upstream accepts the old version of an Eviction by name, and then fails to bring it into the new one."""
    said, _ = body.parse(raw, media)
    if isinstance(said, dict) and (said.get("apiVersion"), said.get("kind")) == ("policy/v1beta1", "Eviction"):
        raise ApiError(500, "", "converting (v1beta1.Eviction) to (policy.Eviction): unknown conversion")


async def review(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """Token requests and reviews: decoded here, answered by auth's table."""
    from portside.server.auth.handlers import HANDLERS

    attributes = route.attributes
    if attributes.verb != "create":
        raise not_allowed()
    wanted = negotiate(request.header("accept"))
    raw, media = body.read(request)
    options = write_options(request, "CreateOptions")
    kind = resource.kind
    sub = route.sub.name if route.sub else ""
    if route.sub is not None:
        kind = Kind(route.sub.group, route.sub.version, route.sub.kind, route.sub.name, True)
    said = body.decode(raw, media, kind, _review_schema(kind), options.validation, request.warnings)
    if sub == "token":
        from portside.server.auth.token_admission import prepare_token

        said = await prepare_token(
            attributes,
            said,
            server,
            manager=options.manager,
            dry_run=bool(options.dry_run),
            request=request,
        )
    else:
        if kind.plural in ANSWERED_WITH_THEMSELVES:
            now, schema = server.now(), _review_schema(kind)
            how = {"manager": options.manager, "api_version": kind.api_version, "subresource": ""}
            managed.after_update(None, said, now=now, schema=schema, **how)
        said = await server.admit(attributes, said, "CREATE", bool(options.dry_run), request)
    handle = HANDLERS[(resource.kind.group, resource.kind.plural, sub)]
    made = await handle(attributes, said, server)
    return Response(201, encode(made, wanted.media), wanted.media)


def _review_schema(kind: Kind) -> Any:
    folder = kind.group.partition(".")[0]
    return definition(f"io.k8s.api.{folder}.{kind.version}.{kind.kind}")


async def component_statuses(server: ApiServer, request: Request, resource: Resource, route: Route) -> Response:
    """What is left of componentstatuses: three names, always healthy."""
    if request.method != "GET":
        raise not_allowed()
    wanted = negotiate(request.header("accept"), forms=True)
    made = [_component(name) for name in ("controller-manager", "scheduler", "etcd-0")]
    name = route.attributes.name
    if name:
        found = next((c for c in made if c["metadata"]["name"] == name), None)
        if found is None:
            raise not_found("componentstatus", name)
        if wanted.form:
            found = forms.object_form(resource.kind, found, wanted, request)
        return Response(200, encode(found, wanted.media), wanted.media)
    options = list_options(request, watch=False)
    by_label, by_field = parse_labels(options.labels), parse_fields(options.fields, "", "ComponentStatus")
    made = [c for c in made if by_label.matches({}) and by_field.matches(c)]
    if wanted.form == "Table":
        table = forms.table(resource.kind, made, {"resourceVersion": ""}, wanted.version, forms.include_object(request))
        return Response(200, encode(table, wanted.media), wanted.media)
    bare = [{k: v for k, v in item.items() if k not in ("apiVersion", "kind")} for item in made]
    listed = {"kind": "ComponentStatusList", "apiVersion": "v1", "metadata": {}, "items": bare}
    return Response(200, encode(listed, wanted.media), wanted.media)


def _component(name: str) -> Json:
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    return {"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]}


ANSWERED_WITH_THEMSELVES = (
    "tokenreviews",
    "subjectaccessreviews",
    "localsubjectaccessreviews",
    "selfsubjectaccessreviews",
)
"""Reviews whose answer is the object that was sent, so it says who sent which fields; the others are answered with a new one."""


SUBRESOURCES: dict[tuple[str, str, str], Sub] = {
    ("*", "*", "scale"): scale,
    ("", "pods", "binding"): binding,
    ("", "bindings", ""): binding,
    ("", "pods", "eviction"): eviction,
    ("", "serviceaccounts", "token"): review,
    ("", "componentstatuses", ""): component_statuses,
    **{(group, plural, ""): review for group, plural in AUTH_KINDS},
    **NODE_SUBRESOURCES,
    **PROXY_SUBRESOURCES,
}
