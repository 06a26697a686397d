"""The Forbidden answer, worded as upstream words it."""

from __future__ import annotations

import json

from portside.api.status import ApiError, forbidden
from portside.server.attributes import Attributes


def explain(attributes: Attributes, reason: str = "") -> str:
    """``User "u" cannot get resource "pods/log" in API group "" in the namespace "ns"`` with the authorizer's reason."""
    user = json.dumps(attributes.user.name, ensure_ascii=False)
    if not attributes.is_resource:
        text = f"User {user} cannot {attributes.verb} path {json.dumps(attributes.path, ensure_ascii=False)}"
    else:
        resource = attributes.resource + (f"/{attributes.subresource}" if attributes.subresource else "")
        where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
        text = f'User {user} cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {where}'
    return f"{text}: {reason}" if reason else text


def refuse(attributes: Attributes, reason: str = "") -> ApiError:
    """403 for a request that authorization denied."""
    if not attributes.is_resource:
        return ApiError(403, "Forbidden", f"forbidden: {explain(attributes, reason)}", details={})
    return forbidden(attributes.resource, attributes.name, explain(attributes, reason), attributes.group)
