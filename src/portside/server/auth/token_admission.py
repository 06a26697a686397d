"""What happens to a TokenRequest before it is answered: its default, its field manager, admission."""

from __future__ import annotations

from typing import Any

from portside.api import managed
from portside.api.schema import definition
from portside.base.clock import rfc3339
from portside.server.admission import chain
from portside.server.admission.review import Review
from portside.server.attributes import Attributes
from portside.server.auth.token_handlers import DEFAULT_SECONDS
from portside.server.host import Host
from portside.server.request import Request

Json = dict[str, Any]


async def prepare_token(
    attributes: Attributes, body: Json, server: Host, *, manager: str, dry_run: bool, request: Request
) -> Json:
    """The request to go on with. Raises ApiError 403: nodes may ask for their own pods' tokens only."""
    body.setdefault("metadata", {})
    spec = body.setdefault("spec", {})
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = DEFAULT_SECONDS
    managed.after_update(
        None,
        body,
        manager=manager,
        api_version="authentication.k8s.io/v1",
        subresource="token",
        now=rfc3339(server.clock.now()),
        schema=definition("io.k8s.api.authentication.v1.TokenRequest"),
    )
    # Upstream's empty request already has both structs, so neither counts as set by the manager.
    for entry in body["metadata"].get("managedFields") or ():
        fields = entry["fieldsV1"].get("f:spec", {})
        fields.pop(".", None)
        fields.get("f:boundObjectRef", {}).pop(".", None)
    return await chain.admit(
        Review(attributes, body, None, "CREATE", dry_run, server, request.warnings, request=request)
    )
