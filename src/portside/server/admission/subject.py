"""A request as webhooks and policies see it: its names, its objects in any served version, its options, who asks.

Made from a Review only when something is configured to look at it. A Scale is shown as a Scale, although the write path carries
the object it belongs to; other versions of the object are converted when a rule for them matches.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from portside.api.kinds import Kind
from portside.api.schema import schema_of
from portside.api.status import ApiError, not_found
from portside.server.admission.review import Review
from portside.server.scale import paths_of, scale_of, scale_to

if TYPE_CHECKING:
    from portside.api.schema import Schema
    from portside.server.request import Request

Json = dict[str, Any]
META_V1 = "meta.k8s.io/v1"
OPTIONS = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}


class Gvr(NamedTuple):
    group: str
    version: str
    resource: str

    @property
    def json(self) -> Json:
        return self._asdict()


class Gvk(NamedTuple):
    group: str
    version: str
    kind: str

    @property
    def json(self) -> Json:
        return self._asdict()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


class Subject:
    """One request under admission. ``obj`` follows what mutating plugins make of it."""

    class NamespaceUnknown(ApiError):
        """404 for a request in a namespace that is not there."""

    def __init__(self, review: Review) -> None:
        at = review.attributes
        self.review = review
        self.operation = review.operation
        self.resource = Gvr(at.group, at.version, at.resource)
        self.subresource = at.subresource
        self.is_namespace = not at.group and at.resource == "namespaces"
        self.name = review.name
        self.namespace = at.namespace or (self.name if self.is_namespace else "")
        self._scale = at.subresource == "scale"
        self._paths = paths_of(review.server.kind_of(*self.resource)) if self._scale else None
        self._equivalents: list[Gvr] | None = None

    # --- names ---------------------------------------------------------------------------------------------------------

    @property
    def kind(self) -> Gvk:
        return self.kind_as(self.resource)

    def kind_as(self, gvr: Gvr) -> Gvk:
        """The kind of the object (or of the subresource's object) in the version of ``gvr``."""
        kind = self.review.server.kind_of(*gvr)
        if kind is None:
            raise ApiError(500, "InternalError", f"unable to convert to {gvr.group}/{gvr.version}: unknown kind")
        sub = kind.sub(self.subresource) if self.subresource else None
        if sub is None:
            return Gvk(kind.group, kind.version, kind.kind)
        return Gvk(sub.group or ("" if sub.version else kind.group), sub.version or kind.version, sub.kind)

    def equivalents(self) -> list[Gvr]:
        """The other resources, as which the same stored object is served."""
        if self._equivalents is None:
            found = self.review.server.equivalents(*self.resource)
            self._equivalents = [Gvr(k.group, k.version, k.plural) for k in found]
        return self._equivalents

    # --- objects -------------------------------------------------------------------------------------------------------

    @property
    def obj(self) -> Json | None:
        """The object as asked for; None for a deletion."""
        found = self.review.obj or None
        return scale_of(found, self._paths) if found is not None and self._scale else found

    @property
    def old(self) -> Json | None:
        found = self.review.old
        return scale_of(found, self._paths) if found is not None and self._scale else found

    def labelled(self) -> Iterator[Json]:
        """The objects whose labels count: the new and the old one."""
        for obj in (self.obj, self.old):
            if obj is not None and isinstance(obj.get("metadata"), dict):
                yield obj

    async def shown(self, gvr: Gvr) -> tuple[Json | None, Json | None]:
        """(object, old object) in the version of ``gvr``."""
        obj, old = self.obj, self.old
        if gvr == self.resource or self._scale:
            return obj, old
        convert = self.review.server.converted
        return (
            None if obj is None else await convert(obj, self.resource, gvr),
            None if old is None else await convert(old, self.resource, gvr),
        )

    async def take(self, made: Json, gvr: Gvr) -> bool:
        """Go on with ``made``, an object in the version of ``gvr``: pruned and defaulted. Whether it differs from before."""
        before = self.obj
        if self._scale:
            changed = made != before
            self.review.obj = scale_to(self.review.obj, made, self._paths)
            return changed
        if gvr != self.resource:
            self._settle(made, self.review.server.kind_of(*gvr))
            made = await self.review.server.converted(made, gvr, self.resource)
        self._settle(made, self.review.server.kind_of(*self.resource))
        self.review.obj = made
        return made != before

    def _settle(self, made: Json, kind: Kind | None) -> None:
        if kind is None or (self.subresource and self.kind.kind != kind.kind):
            return
        resource = self.review.server.resource(kind)
        resource.schema.decode(made)
        resource.rules.default(made)

    def schema(self, gvr: Gvr) -> Schema | None:
        """The schema of the object in the version of ``gvr``."""
        own, kind = self.kind_as(gvr), self.review.server.kind_of(*gvr)
        if kind is not None and kind.kind == own.kind and (kind.group, kind.version) == (own.group, own.version):
            return self.review.server.resource(kind).schema
        try:
            return schema_of(own.group, own.version, own.kind)
        except KeyError:
            return None

    # --- around the request --------------------------------------------------------------------------------------------

    def namespace_object(self) -> Json | None:
        """The namespace that the object is in; None for cluster-scoped ones and namespaces."""
        if not self.namespace or self.is_namespace:
            return None
        return self.review.server.live.of("namespaces").get(self.namespace)

    def namespace_labels(self) -> dict[str, str]:
        """Labels for a namespaceSelector: of a namespace that is written, its new ones."""
        if self.is_namespace and not self.subresource and self.operation in ("CREATE", "UPDATE"):
            found: Json | None = self.obj
        else:
            found = self.review.server.live.of("namespaces").get(self.namespace)
        if found is None:
            gone = not_found("namespaces", self.namespace)
            raise Subject.NamespaceUnknown(gone.code, gone.reason, gone.message, details=gone.details)
        return (found.get("metadata") or {}).get("labels") or {}

    def options(self) -> Json | None:
        """The request's options, as they were given."""
        kind = OPTIONS.get(self.operation)
        if kind is None:
            return None
        made: Json = {"kind": kind, "apiVersion": META_V1}
        if kind == "DeleteOptions":
            return made | self._delete_options()
        request = self.review.request
        if request is not None and request.query:
            made |= _write_options(request)
        return made

    def _delete_options(self) -> Json:
        asked = self.review.deletion
        if asked is None:
            return {}
        conditions = {"uid": asked.uid, "resourceVersion": asked.revision}
        given = {k: v for k, v in conditions.items() if v is not None}
        made: Json = {}
        if asked.grace is not None:
            made["gracePeriodSeconds"] = asked.grace
        if given:
            made["preconditions"] = given
        if asked.orphan is not None:
            made["orphanDependents"] = asked.orphan
        if asked.policy:
            made["propagationPolicy"] = asked.policy
        if asked.dry_run:
            made["dryRun"] = ["All"]
        return made

    def user_info(self) -> Json:
        """authentication/v1 UserInfo."""
        user = self.review.user
        made: Json = {"username": user.name}
        if user.uid:
            made["uid"] = user.uid
        if user.groups:
            made["groups"] = list(user.groups)
        if user.extra:
            made["extra"] = {k: list(v) for k, v in user.extra.items()}
        return made

    def request_json(self, gvr: Gvr) -> Json:
        """The AdmissionRequest without uid and objects, as seen by a rule that matched ``gvr``."""
        made: Json = {"kind": self.kind_as(gvr).json, "resource": gvr.json}
        if self.subresource:
            made["subResource"] = self.subresource
        made["requestKind"], made["requestResource"] = self.kind.json, self.resource.json
        if self.subresource:
            made["requestSubResource"] = self.subresource
        if self.name:
            made["name"] = self.name
        if self.namespace:
            made["namespace"] = self.namespace
        return made | {"operation": self.operation, "userInfo": self.user_info()}


def _write_options(request: Request) -> Json:
    made: Json = {}
    if "dryRun" in request.params:
        made["dryRun"] = request.params["dryRun"]
    for name in ("fieldManager", "fieldValidation"):
        if value := request.param(name):
            made[name] = value
    return made
