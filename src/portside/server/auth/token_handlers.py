"""TokenRequest (serviceaccounts/token) and TokenReview."""

from __future__ import annotations

import uuid
from typing import Any

from portside.api.field import FieldError, invalid_value
from portside.api.status import bad_request, conflict, invalid, not_found
from portside.base.clock import rfc3339
from portside.server.attributes import Attributes
from portside.server.auth.authenticate import BOUND
from portside.server.auth.issuer_keys import KeysWanted
from portside.server.auth.reviews import user_info
from portside.server.auth.tokens import EXTENDABLE_SECONDS, EXTENDED_SECONDS, Binding, TokenError
from portside.server.host import Host

Json = dict[str, Any]
GROUP = "authentication.k8s.io"
DEFAULT_SECONDS, LEAST_SECONDS, MOST_SECONDS = 3600, 600, 1 << 32


async def token_request(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST serviceaccounts/NAME/token. Raises ApiError 404 without the account or bound object, 422, 400, 409."""
    account = server.live.of("serviceaccounts").get(attributes.name, attributes.namespace)
    if account is None:
        raise not_found("serviceaccounts", attributes.name)
    spec = body.setdefault("spec", {})
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        seconds = spec["expirationSeconds"] = DEFAULT_SECONDS
    if errors := _lifetime_errors(seconds):
        raise invalid("TokenRequest", "", errors, GROUP)
    if not spec.get("audiences"):
        spec["audiences"] = list(server.authenticator.audiences)
    spec.setdefault("boundObjectRef", None)
    binding, node = _bindings(attributes, spec["boundObjectRef"], server)
    now = server.clock.now()
    lifetime, warn_after = seconds, 0
    ours = all(a in server.authenticator.audiences for a in spec["audiences"])
    if seconds == EXTENDABLE_SECONDS and ours and binding is not None and binding.kind == "Pod":
        lifetime, warn_after = EXTENDED_SECONDS, seconds
    token = server.authenticator.signer.sign(
        namespace=attributes.namespace,
        account=attributes.name,
        account_uid=account["metadata"]["uid"],
        audiences=spec["audiences"],
        now=now,
        seconds=lifetime,
        binding=binding,
        node=node,
        warn_after=warn_after,
    )
    meta = (body.get("metadata") or {}) | {
        "name": attributes.name,
        "namespace": attributes.namespace,
        "uid": str(uuid.uuid4()),
        "creationTimestamp": rfc3339(now),
    }
    status = {"token": token, "expirationTimestamp": rfc3339(int(now) + seconds)}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": meta, "spec": spec, "status": status}


def _lifetime_errors(seconds: int) -> list[FieldError]:
    if seconds < LEAST_SECONDS:
        text = "may not specify a duration less than 10 minutes"
    elif seconds > MOST_SECONDS:
        text = "may not specify a duration larger than 2^32 seconds"
    else:
        return []
    return [invalid_value("spec.expirationSeconds", seconds, text)]


def _bindings(attributes: Attributes, ref: Json | None, server: Host) -> tuple[Binding | None, Binding | None]:
    """What the token dies with, and the node of a pod (None while it has none)."""
    if ref is None:
        return None, None
    api, kind, name = ref.get("apiVersion", ""), ref.get("kind", ""), ref.get("name", "")
    if api != "v1" or kind not in BOUND:
        group, _, version = api.rpartition("/")
        raise bad_request(f"cannot bind token to object of type {group}/{version}, Kind={kind}")
    plural = BOUND[kind]
    space = "" if kind == "Node" else attributes.namespace
    found = server.live.of(plural).get(name, space)
    if found is None:
        raise not_found(plural, name)
    if kind == "Pod" and attributes.name != found["spec"].get("serviceAccountName"):
        raise bad_request(
            f'cannot bind token for serviceaccount "{attributes.name}" to pod running with different serviceaccount name.'
        )
    uid = found["metadata"]["uid"]
    if ref.get("uid") and ref["uid"] != uid:
        why = (
            f"the UID in the bound object reference ({ref['uid']}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise conflict(kind, name, why)
    node = None
    if kind == "Pod" and (node_name := found["spec"].get("nodeName")):
        held = server.live.of("nodes").get(node_name)
        node = Binding("Node", node_name, held["metadata"]["uid"] if held else "")
    return Binding(kind, name, uid), node


async def token_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST tokenreviews. A token that does not hold is an answer, not a refusal; no token at all is 400."""
    spec = body.get("spec") or {}
    if not spec.get("token"):
        raise bad_request("token is required for TokenReview in authentication")
    status: Json = {"user": {}}
    asked = spec["token"], tuple(spec.get("audiences") or ())
    try:
        try:
            user, audiences = server.authenticator.review(*asked)
        except KeysWanted as wanted:
            await wanted.keys.fetch()
            user, audiences = server.authenticator.review(*asked)
        status = {"authenticated": True, "user": user_info(user)}
        status["audiences"] = list(audiences)
    except (TokenError, KeysWanted):
        status["error"] = "invalid bearer token"
    meta = body.get("metadata") or {}
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": meta, "spec": spec, "status": status}
