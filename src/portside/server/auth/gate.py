"""The gate every request passes after authentication: impersonation, then authorization."""

from __future__ import annotations

from collections.abc import Mapping

from portside.server.attributes import Attributes
from portside.server.auth.authorize import Authorizer
from portside.server.auth.forbidden import refuse
from portside.server.auth.impersonate import Impersonation


class Gate:
    """Belongs to one server; keeps the memory of impersonation modes."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer
        self._impersonation = Impersonation(authorizer.allowed)

    def pass_gate(self, attributes: Attributes, headers: Mapping[str, str]) -> Attributes:
        """The request with its effective identity. ``attributes.user`` is ANONYMOUS when there were no
        credentials; the default roles let it see health and version only. Raises ApiError 400, 403."""
        for name in headers:
            if name.startswith("impersonate-"):
                attributes = self._impersonation.apply(attributes, headers)
                break
        decision = self._authorizer.authorize(attributes)
        if not decision.allowed:
            raise refuse(attributes, decision.reason)
        return attributes
