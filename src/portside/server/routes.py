"""From method and path to what is asked: the request's attributes as upstream's RequestInfo reads them, and its route.

Authorization looks at the attributes before anybody asks whether the resource exists; ``resolve`` then finds the kind
or answers 404 and 405 as upstream words them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from portside.api.kinds import Kind, Sub
from portside.api.status import ApiError
from portside.server.attributes import Attributes
from portside.server.request import Request

VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
PROXIED = (*VERBS, "OPTIONS")
NO_DETAILS: dict[str, object] = {}
NAMESPACE_SUBS = ("status", "finalize")
CONNECT = ("exec", "attach", "portforward", "proxy")
# Kinds that answer to nothing but POST, and so have no path with a name.
FALSE_WORDS = ("0", "f", "F", "false", "FALSE", "False")


def not_found() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource", details={})


def not_allowed() -> ApiError:
    return ApiError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource", details={}
    )


@dataclass(frozen=True, slots=True)
class Route:
    """A served resource path: its kind, the subresource's row when one is named, the path behind a proxy's name."""

    attributes: Attributes
    kind: Kind
    sub: Sub | None
    rest: str = ""


def truth(text: str | None) -> bool:
    """A query parameter's boolean: anything that is not a word for false is true; absent and empty differ as upstream's
    conversion has it (empty is true)."""
    return text is not None and text not in FALSE_WORDS


def attributes_of(request: Request) -> Attributes:
    """What authorization decides on."""
    parts = request.path.strip("/").split("/")
    user, method, path = request.user, request.method, request.path
    if parts[0] == "api" and len(parts) >= 3:
        group, version, tail = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, tail = parts[1], parts[2], parts[3:]
    else:
        return Attributes(user, method.lower(), path=path, is_resource=False)
    verb = VERBS.get(method, "")
    if tail[0] in ("watch", "proxy") and len(tail) > 1:
        verb, tail = tail[0], tail[1:]
    namespace = name = sub = ""
    if tail[0] == "namespaces" and len(tail) > 1:
        namespace = tail[1]
        if len(tail) > 2 and tail[2] not in NAMESPACE_SUBS:
            tail = tail[2:]
    resource = tail[0]
    if len(tail) > 1:
        name = tail[1]
    if len(tail) > 2:
        sub = tail[2]
    if not name:
        if verb == "get":
            verb = "watch" if truth(_first(request, "watch")) else "list"
        elif verb == "delete":
            verb = "deletecollection"
        if verb in ("list", "watch", "deletecollection") and "fieldSelector" in request.query:
            name = _selected_name(request)
    if not request.query or "Selector" not in request.query:
        return Attributes(user, verb, group, version, resource, sub, namespace, name, path)
    fields, labels = request.param("fieldSelector"), request.param("labelSelector")
    return Attributes(
        user, verb, group, version, resource, sub, namespace, name, path, field_selector=fields, label_selector=labels
    )


def _first(request: Request, name: str) -> str | None:
    values = request.params.get(name) if request.query else None
    return values[0] if values else None


def _selected_name(request: Request) -> str:
    """A list limited to one object by its field selector is authorized for that name."""
    for term in request.param("fieldSelector").split(","):
        field, _, value = term.replace("==", "=").partition("=")
        if field == "metadata.name" and "!" not in term and value.replace("-", "").replace(".", "").isalnum():
            return value
    return ""


def resolve(request: Request, attributes: Attributes, table: Mapping[tuple[str, str, str], Kind]) -> Route:
    """The route of a resource path. Raises 404 for what is not served and 405 for a method that is not."""
    path = request.path
    if "//" in path or ".." in path.split("/"):
        raise not_found()
    parts = path.strip("/").split("/")
    tail = parts[2:] if parts[0] == "api" else parts[3:]
    watching = tail[0] == "watch" and len(tail) > 1
    if watching:
        tail = tail[1:]
    scoped = False
    if tail[0] == "namespaces" and len(tail) > 2 and not (len(tail) == 3 and tail[2] in NAMESPACE_SUBS):
        scoped, tail = True, tail[2:]
    kind = table.get((attributes.group, attributes.version, tail[0]))
    if kind is None or (scoped and not kind.namespaced):
        raise not_found()
    if len(tail) == 1:
        return Route(_collection(request, attributes, kind, scoped), kind, None)
    if kind.namespaced and not scoped:
        raise not_found()
    if len(tail) == 2:
        return Route(_object(request, attributes, kind), kind, None)
    sub = kind.sub(tail[2])
    if sub is None or (len(tail) > 3 and sub.name != "proxy"):
        raise not_found()
    verb = attributes.verb
    if sub.name == "proxy":
        if request.method not in PROXIED:
            raise not_allowed()
        return Route(attributes, kind, sub, "/".join(tail[3:]))
    if request.method == "HEAD" or verb not in sub.verbs:
        raise not_allowed()
    return Route(attributes, kind, sub, "/".join(tail[3:]))


def _collection(request: Request, attributes: Attributes, kind: Kind, scoped: bool) -> Attributes:
    method, verb = request.method, attributes.verb
    if method == "HEAD" or method not in VERBS:
        raise not_allowed()
    if kind.namespaced and not scoped and method != "GET":
        # Without a namespace there is only the list across all of them; a kind that can't be listed has no such path.
        raise not_allowed() if "list" in kind.verbs or kind.verbs == ("create",) else not_found()
    if verb == "watch" and verb not in kind.verbs and "list" in kind.verbs:
        text = f'watch is not supported on resources of kind "{kind.plural}"'
        raise ApiError(405, "MethodNotAllowed", text, details={"kind": kind.plural})
    if verb in ("update", "patch") or verb not in kind.verbs:
        raise not_allowed()
    return attributes


def _object(request: Request, attributes: Attributes, kind: Kind) -> Attributes:
    if kind.verbs == ("create",):
        raise not_found()
    if request.method == "HEAD" or request.method not in VERBS:
        raise not_allowed()
    verb = attributes.verb
    if verb == "create" or verb not in kind.verbs:
        raise not_allowed()
    return attributes
