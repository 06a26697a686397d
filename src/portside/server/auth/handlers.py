"""The table of auth's resources without storage, for the engine to register."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from portside.server.attributes import Attributes
from portside.server.auth import reviews, token_handlers
from portside.server.host import Host

Handler = Callable[[Attributes, dict[str, Any], Host], Awaitable[dict[str, Any]]]
_AUTHN, _AUTHZ = "authentication.k8s.io", "authorization.k8s.io"

# (group, resource, subresource) -> handler of POST; the answer is 201. Bodies come decoded, with apiVersion and kind.
HANDLERS: dict[tuple[str, str, str], Handler] = {
    ("", "serviceaccounts", "token"): token_handlers.token_request,
    (_AUTHN, "tokenreviews", ""): token_handlers.token_review,
    (_AUTHN, "selfsubjectreviews", ""): reviews.self_subject_review,
    (_AUTHZ, "subjectaccessreviews", ""): reviews.subject_access_review,
    (_AUTHZ, "localsubjectaccessreviews", ""): reviews.local_subject_access_review,
    (_AUTHZ, "selfsubjectaccessreviews", ""): reviews.self_subject_access_review,
    (_AUTHZ, "selfsubjectrulesreviews", ""): reviews.self_subject_rules_review,
}
