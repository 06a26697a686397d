"""What auth, admission and bootstrap need of the server around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from portside.base.clock import Clock
    from portside.server.auth.authenticate import Authenticator
    from portside.server.auth.authorize import Authorizer
    from portside.server.live import Live

Json = dict[str, Any]


class Host(Protocol):
    """Implemented by the API server. Objects carry metadata.resourceVersion; refusals raise ApiError."""

    @property
    def live(self) -> Live: ...

    @property
    def clock(self) -> Clock: ...

    @property
    def authenticator(self) -> Authenticator: ...

    @property
    def authorizer(self) -> Authorizer: ...

    async def read(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        """The stored object, None when absent. No authorization."""
        ...

    async def put(self, group: str, plural: str, obj: Json, *, expected: int | None) -> bool:
        """Store the object as it is (no admission, no validation; uid and creationTimestamp filled in for new ones) if
        its revision is ``expected`` (0: absent, None: any); False when that did not hold."""
        ...
