"""Routes of custom resources: what upstream's handler of custom resources answers instead of the router.

Paths that are no served resource are plain text 404; verbs that a path does not have are refused by the verb's name, and a
subresource that the definition does not have is a name that is not found.
"""

from __future__ import annotations

from collections.abc import Mapping

from portside.api.kinds import Kind
from portside.api.status import ApiError, not_found, qualified
from portside.server.attributes import Attributes
from portside.server.routes import Route

EVERYWHERE = ("list", "watch")
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
SUB_VERBS = ("get", "update", "patch")


class NoSuchPath(Exception):
    """The path is not served: plain text 404."""


def not_supported(kind: Kind, verb: str, text: str = "") -> ApiError:
    name = qualified(kind.plural, kind.group)
    message = text or f'{verb} is not supported on resources of kind "{name}"'
    return ApiError(405, "MethodNotAllowed", message, details={"group": kind.group, "kind": kind.plural})


def resolve(attributes: Attributes, table: Mapping[tuple[str, str, str], Kind]) -> Route:
    """The route of a path in a group of custom resources. Raises NoSuchPath and ApiError 404, 405."""
    kind = table.get((attributes.group, attributes.version, attributes.resource))
    if kind is None:
        raise NoSuchPath
    verb = attributes.verb
    if bool(attributes.namespace) != kind.namespaced and not (kind.namespaced and verb in EVERYWHERE):
        raise NoSuchPath
    wanted = attributes.subresource
    if not wanted:
        if verb not in VERBS:
            raise not_supported(kind, verb)
        if verb == "create" and verb not in kind.verbs:
            text = f"{verb} not allowed while custom resource definition is terminating"
            raise not_supported(kind, verb, text)
        return Route(attributes, kind, None)
    sub = kind.sub(wanted)
    if sub is None:
        raise not_found(kind.plural, attributes.name, kind.group)
    if verb not in SUB_VERBS:
        raise not_supported(kind, verb)
    return Route(attributes, kind, sub)
