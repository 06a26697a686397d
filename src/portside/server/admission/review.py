"""One admission decision: what plugins look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from portside.api.status import ApiError, forbidden
from portside.server.attributes import Attributes, User

if TYPE_CHECKING:
    from portside.server.admission.reinvocation import Rounds
    from portside.server.host import Host
    from portside.server.options import DeleteOptions
    from portside.server.request import Request

Json = dict[str, Any]


@dataclass(slots=True)
class Review:
    """``operation`` is CREATE, UPDATE, DELETE or CONNECT. Mutating plugins change ``obj`` in place or replace it; ``old``
    is read-only. A deletion has an empty ``obj``. ``warnings`` go to the client. ``request`` and ``deletion`` (its options)
    are there for those who show the request's options to others; ``rounds`` says which of them run again."""

    attributes: Attributes
    obj: Json
    old: Json | None
    operation: str
    dry_run: bool
    server: Host
    warnings: list[str] = field(default_factory=list)
    request: Request | None = None
    deletion: DeleteOptions | None = None
    rounds: Rounds | None = None

    @property
    def user(self) -> User:
        return self.attributes.user

    @property
    def namespace(self) -> str:
        return self.attributes.namespace

    @property
    def name(self) -> str:
        if self.attributes.name:
            return self.attributes.name
        return str((self.obj or {}).get("metadata", {}).get("name") or "")

    def note(self, key: str, value: str) -> None:
        """An annotation of the request's audit events; the first of a key stays, as upstream's."""
        if self.request is not None:
            self.request.notes.setdefault(key, value)

    def refuse(self, why: str) -> ApiError:
        """403, worded as upstream's admission errors: an object without a name is told by what its name starts with."""
        name = self.name or str((self.obj or {}).get("metadata", {}).get("generateName") or "")
        return forbidden(self.attributes.resource, name, why, self.attributes.group)
