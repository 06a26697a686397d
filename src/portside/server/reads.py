"""Get, list and watch: answered from the watch cache, as joined bytes wherever the wanted form allows."""

from __future__ import annotations

import base64
import binascii
import random
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from portside.api.customkind import CustomKind
from portside.api.selector import parse_fields, parse_labels
from portside.api.status import ApiError, bad_request, not_found
from portside.server import forms
from portside.server.listing import formed, response
from portside.server.negotiate import JSON, PROTOBUF, Wanted, encode, reencode
from portside.server.options import ListOptions, list_options, parse_revision
from portside.server.pieces import Pieces
from portside.server.request import Request, Response
from portside.server.resource import Resource
from portside.server.routes import Route
from portside.server.watchcache import Filter, JsonForm, Listing, expired, too_large
from portside.server.watchcache_form import Form
from portside.server.watchstream import Start, WatchStream
from portside.store.backend import Compacted

Json = dict[str, Any]
TOKEN_VERSION = "meta.k8s.io/v1"
CONTINUE_SECONDS = 300.0
"""How long the later pages of a list show the state of its first. However long history is kept, clients are told 410 then, as
by upstream, whose store is compacted every five minutes."""
# What upstream's empty object of a kind shows behind its metadata (the closing bookmark of initial events).
ZERO_FIELDS: dict[tuple[str, str], str] = {
    ("", "Pod"): '"spec":{"containers":null},"status":{}',
    ("", "Node"): '"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}',
    ("", "Namespace"): '"spec":{},"status":{}',
    ("", "Service"): '"spec":{},"status":{"loadBalancer":{}}',
    ("", "PersistentVolume"): '"spec":{},"status":{}',
    ("", "PersistentVolumeClaim"): '"spec":{"resources":{}},"status":{}',
    ("", "ResourceQuota"): '"spec":{},"status":{}',
    ("", "LimitRange"): '"spec":{"limits":null}',
    ("", "ReplicationController"): '"spec":{},"status":{"replicas":0}',
    ("", "Event"): '"involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":null,"reportingComponent":"","reportingInstance":""',
    ("apps", "Deployment"): '"spec":{"replicas":0,"selector":null,"strategy":{},"template":{"metadata":{},"spec":{"containers":null}}},"status":{}',
    ("apps", "ReplicaSet"): '"spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":null}}},"status":{"replicas":0}',
    ("apps", "StatefulSet"): '"spec":{"replicas":0,"selector":null,"serviceName":"","template":{"metadata":{},"spec":{"containers":null}},"updateStrategy":{}},"status":{"availableReplicas":0,"replicas":0}',
    ("apps", "DaemonSet"): '"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"updateStrategy":{}},"status":{"currentNumberScheduled":0,"desiredNumberScheduled":0,"numberMisscheduled":0,"numberReady":0}',
    ("batch", "Job"): '"spec":{"template":{"metadata":{},"spec":{"containers":null}}},"status":{}',
    ("batch", "CronJob"): '"spec":{"jobTemplate":{"metadata":{},"spec":{"template":{"metadata":{},"spec":{"containers":null}}}},"schedule":""},"status":{}',
    ("coordination.k8s.io", "Lease"): '"spec":{}',
    ("discovery.k8s.io", "EndpointSlice"): '"addressType":"","endpoints":null,"ports":null',
    ("networking.k8s.io", "Ingress"): '"spec":{},"status":{"loadBalancer":{}}',
    ("networking.k8s.io", "NetworkPolicy"): '"spec":{"podSelector":{}}',
    ("policy", "PodDisruptionBudget"): '"spec":{},"status":{"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}',
    ("rbac.authorization.k8s.io", "Role"): '"rules":null',
    ("rbac.authorization.k8s.io", "ClusterRole"): '"rules":null',
    ("rbac.authorization.k8s.io", "RoleBinding"): '"roleRef":{"apiGroup":"","kind":"","name":""}',
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): '"roleRef":{"apiGroup":"","kind":"","name":""}',
}  # fmt: skip


async def get(request: Request, resource: Resource, route: Route, wanted: Wanted) -> Response:
    """One object, as of now or at least as new as resourceVersion says."""
    attributes, kind = route.attributes, route.kind
    if request.query and "resourceVersion" in request.query:
        revision = parse_revision(request.param("resourceVersion"), 500)
        if revision > resource.cache.revision:
            raise too_large(revision, resource.cache.revision)
    found = resource.cache.get(attributes.namespace if kind.namespaced else "", attributes.name)
    if found is None:
        raise not_found(kind.plural, attributes.name, kind.group)
    if wanted.form:
        made = forms.object_form(kind, await resource.load(found), wanted, request)
        return Response(200, encode(made, wanted.media), wanted.media)
    return Response(200, reencode(await resource.full(found), wanted.media), wanted.media)


@lru_cache(1024)
def _filter(resource: Resource, namespace: str, name: str, labels: str, fields: str) -> Filter:
    """The cache's filter for the two selectors. Raises 400."""
    kind = resource.kind
    by_label = parse_labels(labels) if labels else None
    custom = kind.selectable if isinstance(kind, CustomKind) else None
    by_field = (
        parse_fields(fields, kind.group, kind.kind, custom=custom, namespaced=kind.namespaced) if fields else None
    )
    node: str | None = None
    rest = []
    for term in by_field.requirements if by_field else ():
        if not term.negated and term.field == "metadata.name" and not name and term.value:
            name = term.value
        elif not term.negated and term.field == "metadata.namespace" and not namespace and term.value:
            namespace = term.value
        elif not term.negated and term.field == "spec.nodeName" and kind.plural == "pods" and node is None:
            node = term.value
        else:
            rest.append(term)
    check = None
    if rest:
        if resource.converts and not resource.asks:
            check = lambda obj: all(t.matches(resource.shown(obj)) for t in rest)  # noqa: E731
        else:
            check = lambda obj: all(t.matches(obj) for t in rest)  # noqa: E731
    match = by_label.matches if by_label and not by_label.everything else None
    equal: tuple[tuple[str, str], ...] = ()
    if by_label is not None:
        equal = tuple((r.key, r.values[0]) for r in by_label.requirements if r.op in ("=", "==") and r.values)
    return Filter(namespace, name, node, equal, match, check, (labels, fields) if labels or fields else None)


def filter_of(resource: Resource, route: Route, options: ListOptions) -> Filter:
    attributes = route.attributes
    namespace = attributes.namespace if resource.kind.namespaced else ""
    name = attributes.name if attributes.verb == "watch" and "/watch/" in attributes.path else ""
    return _filter(resource, namespace, name, options.labels, options.fields)


class ExpiredContinue(ApiError):
    """410 whose Status carries a token that goes on without consistency."""

    def __init__(self, token: str) -> None:
        super().__init__(
            410,
            "Expired",
            "The provided continue parameter is too old to display a consistent list result. You can start a new list "
            "without the continue parameter, or use the continue token in this response to retrieve the remainder of "
            "the results. Continuing with the provided token results in an inconsistent list - objects that were "
            "created, modified, or deleted between the time the first chunk was returned and now may show up in the "
            "list.",
        )
        self._token = token

    @property
    def status(self) -> Json:
        return super().status | {"metadata": {"continue": self._token}}


class Token(NamedTuple):
    """What a continue token says: the revision of the list (-1: any), the key to go on from, and when its first page was
    answered (seconds since the epoch, 0: not said)."""

    revision: int
    start: str
    begun: int = 0

    def __str__(self) -> str:
        said: Json = {"v": TOKEN_VERSION, "rv": self.revision, "start": self.start}
        raw = orjson.dumps(said | ({"begun": self.begun} if self.begun else {}))
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_token(text: str) -> Token:
    """The token in what a client sent. Raises 400 with upstream's words."""
    wrong = "invalid continue token: continue key is not valid: "
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise bad_request(f"{wrong}illegal base64 data at input byte {max(len(text) - 1, 0)}") from None
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        first = raw[:1].decode("latin-1")
        raise bad_request(f"{wrong}invalid character '{first}' looking for beginning of value") from None
    if not isinstance(value, dict) or value.get("v") != TOKEN_VERSION:
        version = value.get("v", "") if isinstance(value, dict) else ""
        raise bad_request(f"{wrong}server does not recognize this encoded version {version}")
    revision, start = value.get("rv", 0), value.get("start", "")
    if revision == 0:
        raise bad_request(f"{wrong}incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    if not start:
        raise bad_request(f"{wrong}encoded start key empty (version meta.k8s.io/v1)")
    if start.startswith("/") or ".." in start.split("/"):
        raise bad_request(f"{wrong}{start}")
    begun = value.get("begun", 0)
    return Token(int(revision), str(start), begun if isinstance(begun, int) else 0)


async def select(resource: Resource, where: Filter, options: ListOptions, now: float) -> Listing:
    """The page a list asks for at the wall clock's ``now``."""
    resource.cache.check_readable(where)
    if resource.asks and where.fields is not None:
        return await _selected(resource, where, options, now)
    cache, limit = resource.cache, max(options.limit, 0)
    if options.token:
        if options.revision and options.revision != "0":
            raise bad_request("specifying resource version is not allowed when using continue")
        revision, start, begun = read_token(options.token)
        if options.revision == "0":
            limit = 0
        if revision < 0:
            return await cache.find(where, limit=limit, start=start)
        if begun and now - begun > CONTINUE_SECONDS:
            raise ExpiredContinue(str(Token(-1, start)))
        try:
            return await cache.list_at(where, revision=revision, limit=limit, start=start)
        except Compacted:
            raise ExpiredContinue(str(Token(-1, start))) from None
    try:
        asked = parse_revision(options.revision, 400)
    except ApiError as error:
        raise bad_request(f"invalid resource version: {error.message}") from None
    if options.revision in ("", "0"):
        return await cache.find(where, limit=0 if options.revision == "0" else limit)
    if options.match == "Exact" or (not options.match and limit):
        try:
            return await cache.list_at(where, revision=asked, limit=limit)
        except Compacted as error:
            raise expired(asked, error.revision) from None
    await cache.wait_for(asked)
    return await cache.find(where, limit=limit)


async def list_(request: Request, resource: Resource, route: Route, wanted: Wanted, now: float) -> Response:
    """The collection: joined bytes, or a Table, or metadata alone. ``now`` is the wall clock's."""
    options = list_options(request, watch=False)
    where = filter_of(resource, route, options)
    include = forms.include_object(request) if wanted.form == "Table" else ""
    if wanted.form == "PartialObjectMetadata":
        raise forms.not_convertible(
            "you requested PartialObjectMetadata, but the requested object is a list "
            f"(*{forms.internal_name(resource.kind)}List)"
        )
    page = await select(resource, where, options, now)
    meta: Json = {"resourceVersion": str(page.revision)}
    if resource.continues:
        meta["continue"] = ""
    if page.next:
        begun = read_token(options.token).begun if options.token else 0
        meta["continue"] = str(Token(page.revision, page.next, begun or int(now)))
        if page.remaining is not None:
            meta["remainingItemCount"] = page.remaining
    if wanted.form:
        meta = {k: v for k, v in meta.items() if v != ""}
    if wanted.form or wanted.media != JSON:
        return await formed(resource.kind, meta, await resource.slices(page.objects), wanted, include)
    return response(await list_pieces(resource, page, meta), JSON)


async def _selected(resource: Resource, where: Filter, options: ListOptions, now: float) -> Listing:
    """A list by fields of objects that somebody else converts: all at once, since pages can't be told before."""
    page = await select(resource, replace(where, fields=None), replace(options, limit=0), now)
    fields = where.fields
    assert fields is not None
    views = await resource.views(page.objects)
    return page._replace(objects=[o for o, view in zip(page.objects, views, strict=True) if fields(view)])


async def list_pieces(resource: Resource, page: Listing, meta: Json) -> Pieces:
    """The list's bytes."""
    return Pieces(resource.list_head + orjson.dumps(meta) + b',"items":', await resource.items(page.objects), b"}")


def _form(resource: Resource, request: Request, wanted: Wanted) -> Form:
    kind = resource.kind
    if kind.custom and (resource.asks or not wanted.form):
        return resource.form()
    if wanted.media == PROTOBUF:
        return forms.ProtobufForm(kind, resource.served, wanted.version if wanted.form else "")
    if wanted.form == "Table":
        return forms.TableForm(kind, wanted.version, forms.include_object(request), resource.served)
    if wanted.form:
        return forms.PartialForm(wanted.version, resource.served)
    if resource.converts:
        return forms.ConvertedForm(kind, resource.served)
    zero = ZERO_FIELDS.get((kind.group, kind.kind), "")
    return JsonForm(kind.api_version, kind.kind, f",{zero}".encode() if zero else b"")


async def watch(request: Request, resource: Resource, route: Route, wanted: Wanted) -> Response:
    """A stream of events; what is wrong with the start is told as an ERROR event, as upstream does."""
    options = list_options(request, watch=True)
    where = filter_of(resource, route, options)
    asks = resource.asks
    matches = where.fields if asks else None
    if asks:
        where = replace(where, fields=None)
    form = _form(resource, request, wanted)
    asked = parse_revision(options.revision, 500)
    cache = resource.cache
    initial = options.initial if options.initial is not None else not asked
    after = None if initial else (asked or cache.revision)
    seconds = float(options.timeout) if options.timeout else random.uniform(1800, 3600)
    late: ApiError | None = None
    if initial and asked > cache.revision:
        try:
            await cache.wait_for(asked)
        except ApiError as error:
            late = error
    # Handed on, not kept: the watch lasts longer than these versions should.
    found = [await cache.find(where)] if initial and late is None else []

    def start(write: Any, end: Any) -> Any:
        if late is not None:
            raise late
        return cache.watch(
            write,
            end,
            form=form,
            where=where,
            after=after,
            listing=found.pop() if found else None,
            initial_end=bool(options.initial) and options.bookmarks,
            bookmarks=options.bookmarks,
        )

    started: Start = start
    if asks:
        from portside.server.custom.watch import Conversion, ConvertedStream, Selected

        include = forms.include_object(request) if wanted.form == "Table" else ""
        held = Selected(resource, where, matches, after) if matches else None  # type: ignore[arg-type]
        conversion = Conversion(resource, wanted, include, held)  # type: ignore[arg-type]
        return Response(200, content_type=JSON, stream=ConvertedStream(started, seconds, conversion))
    if wanted.media == PROTOBUF:
        stream = WatchStream(started, seconds, failed=forms.protobuf_error)
        return Response(200, content_type=f"{PROTOBUF};stream=watch", stream=stream)
    return Response(200, content_type=JSON, stream=WatchStream(started, seconds))
