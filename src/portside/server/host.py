"""What auth, admission and bootstrap need of the server around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from portside.api.kinds import Kind
    from portside.base.clock import Clock
    from portside.server.admission.dynamic import Dynamic
    from portside.server.admission.subject import Gvr
    from portside.server.auth.authenticate import Authenticator
    from portside.server.auth.authorize import Authorizer
    from portside.server.live import Live
    from portside.server.resource import Resource
    from portside.server.webhooks.client import WebhookClient

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

    @property
    def dynamic(self) -> Dynamic: ...

    @property
    def webhooks(self) -> WebhookClient: ...

    @property
    def needs_accounts(self) -> bool:
        """Whether pods run as service accounts."""
        ...

    def kind_of(self, group: str, version: str, plural: str) -> Kind | None:
        """The served kind of a resource, custom ones included."""
        ...

    def equivalents(self, group: str, version: str, plural: str) -> list[Kind]:
        """The other kinds, as which the objects of a resource are served too."""
        ...

    def named(self, api_version: str, kind: str) -> Kind | None:
        """The served kind with this apiVersion and kind."""
        ...

    def resource(self, kind: Kind) -> Resource: ...

    async def converted(self, obj: Json, source: Gvr, target: Gvr) -> Json:
        """A copy of an object of one served version in another."""
        ...

    async def read(self, group: str, plural: str, namespace: str, name: str) -> Json | None:
        """The stored object, None when absent. No authorization."""
        ...

    async def put(self, group: str, plural: str, obj: Json, *, expected: int | None) -> bool:
        """Store the object as it is (no admission, no validation; uid and creationTimestamp filled in for new ones) if
        its revision is ``expected`` (0: absent, None: any); False when that did not hold."""
        ...
