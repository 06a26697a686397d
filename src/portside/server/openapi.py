"""OpenAPI documents: the v3 index and one document per group version, and the v2 document; made when first asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any, Protocol

import orjson

from portside.api.kinds import Kind, Sub
from portside.api.schema import all_definitions
from portside.server.request import Request, Response

Json = dict[str, Any]
PATCHES = (
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
WRITES = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
REF = re.compile(rb'"\$ref":"#/(?:\$defs|definitions|components/schemas)/([^"]+)"')
OPENAPI_V2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


def definition_name(group: str, version: str, kind: str) -> str:
    """The definition of a kind: ``io.k8s.api.apps.v1.Deployment``."""
    special = {
        "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
        "apiregistration.k8s.io": "io.k8s.kube-aggregator.pkg.apis.apiregistration",
    }
    base = special.get(group) or "io.k8s.api." + (group.removesuffix(".k8s.io").partition(".")[0] or "core")
    return f"{base}.{version}.{kind}"


def _plain(node: Any, prefix: str) -> Any:
    """A JSON-Schema definition as OpenAPI writes it: one type, references under ``prefix``."""
    if isinstance(node, dict):
        made = {}
        for key, value in node.items():
            if key == "type" and isinstance(value, list):
                named = [t for t in value if t != "null"]
                if len(named) == 1:
                    made["type"] = named[0]
                continue
            if key == "$ref" and isinstance(value, str):  # JSONSchemaProps has a property of that name
                made["$ref"] = prefix + str(value).rpartition("/")[2]
            elif key in ("anyOf", "oneOf") and "x-kubernetes-int-or-string" in node:
                continue
            else:
                made[key] = _plain(value, prefix)
        return made
    if isinstance(node, list):
        return [_plain(v, prefix) for v in node]
    return node


def parameters(verb: str, v2: bool) -> list[Json]:
    """The query of an operation."""
    names: dict[str, tuple[str, str]] = {}
    if verb in ("create", "update", "patch"):
        names = {
            "dryRun": ("string", "All: nothing is stored."),
            "fieldManager": ("string", "Who makes the change."),
            "fieldValidation": ("string", "Ignore, Warn or Strict: what happens to unknown and duplicate fields."),
        }
        if verb == "patch":
            names["force"] = ("boolean", "Take over fields of other managers when applying.")
    elif verb in ("list", "watch", "deletecollection"):
        names = {
            "labelSelector": ("string", "Only objects with these labels."),
            "fieldSelector": ("string", "Only objects with these fields."),
            "limit": ("integer", "At most so many objects in an answer."),
            "continue": ("string", "Where the next part of a list begins."),
            "resourceVersion": ("string", "The revision asked for."),
            "resourceVersionMatch": ("string", "How the revision is meant."),
            "timeoutSeconds": ("integer", "How long the call may take."),
            "watch": ("boolean", "A stream of changes instead of a list."),
        }
    elif verb == "delete":
        names = {
            "dryRun": ("string", "All: nothing is stored."),
            "gracePeriodSeconds": ("integer", "How long the object may take to end."),
            "propagationPolicy": ("string", "What becomes of dependents."),
        }
    return [
        {"name": n, "in": "query", "description": text, "uniqueItems": True}
        | ({"type": t} if v2 else {"schema": {"type": t, "uniqueItems": True}})
        for n, (t, text) in names.items()
    ]


METHODS = {"get": "get", "list": "get", "create": "post", "update": "put", "patch": "patch", "delete": "delete"}
ACTIONS = {"create": "post", "update": "put", "deletecollection": "deletecollection"}


def plain_definitions(names: list[str], prefix: str) -> Json:
    """Published definitions and all they refer to, with references under ``prefix``; names that are none are left out."""
    queue, found, definitions = list(names), {}, all_definitions()
    while queue:
        name = queue.pop()
        if name in found or name not in definitions:
            continue
        raw = definitions[name]
        found[name] = _plain(raw, prefix)
        queue += [m.decode() for m in REF.findall(orjson.dumps(raw))]
    return dict(sorted(found.items()))


class Custom(Protocol):
    """The part of the documents that comes from custom resources."""

    def places(self) -> dict[str, str]: ...

    def document(self, place: str) -> bytes | None: ...

    def v2(self) -> tuple[bytes, bytes]: ...


class OpenApi:
    """Documents for the built-in kinds, and what ``set_custom`` adds to them."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds = list(kinds)
        self._documents: dict[str, bytes] = {}
        self._parts: tuple[bytes, bytes] | None = None
        self._protobuf: bytes | None = None
        self.stale = True
        """Whether the custom resources are others than those last set."""
        self.set_custom(None)

    def set_custom(self, custom: Custom | None) -> None:
        """From now on these custom resources; what is made of built-in kinds stays."""
        self._custom = custom
        self._custom_documents: dict[str, bytes] = {}
        self._index: bytes | None = None
        self._v2: bytes | None = None
        self._v2_protobuf: bytes | None = None

    def answer(self, request: Request, parts: list[str]) -> Response | None:
        """/openapi/v3, /openapi/v3/… and /openapi/v2; None for any other path."""
        if parts[1:] == ["v3"]:
            return self._with_etag(request, self.index())
        if parts[1:] == ["v2"]:
            return self._v2_in_form(request)
        place = "/".join(parts[2:])
        if len(parts) > 2 and parts[1] == "v3":
            if place in self.places():
                return self._with_etag(request, self.document(place))
            if (made := self._custom_document(place)) is not None:
                return self._with_etag(request, made)
        return None

    def _custom_document(self, place: str) -> bytes | None:
        made = self._custom_documents.get(place)
        if made is None and self._custom is not None and (made := self._custom.document(place)) is not None:
            self._custom_documents[place] = made
        return made

    def _in_protobuf(self) -> bytes:
        """Fields of a message may come in parts: what custom resources add is put behind the rest."""
        from portside.server.openapi_protobuf import encode, more_definitions

        if self._protobuf is None:
            paths, definitions = self._built_in_v2()
            self._protobuf = encode(_v2_document(paths, definitions))
        more = self._custom.v2()[1] if self._custom is not None else b""
        return self._protobuf + more_definitions(b"{" + more + b"}") if more else self._protobuf

    def _v2_in_form(self, request: Request) -> Response:
        """JSON, or the protobuf form that Go clients ask for."""
        if OPENAPI_V2 not in request.header("accept").replace("@", "."):
            return self._with_etag(request, self.v2())
        if self._v2_protobuf is None:
            self._v2_protobuf = self._in_protobuf()
        return self._with_etag(request, self._v2_protobuf, OPENAPI_V2)

    def _with_etag(self, request: Request, raw: bytes, media: str = "application/json") -> Response:
        etag = '"' + hashlib.sha512(raw).hexdigest().upper() + '"'
        headers = [("ETag", etag), ("Vary", "Accept, Accept-Encoding")]
        if request.header("if-none-match") == etag:
            return Response(304, b"", media, headers)
        return Response(200, raw, media, headers)

    def places(self) -> list[str]:
        """The group versions that have a document, as paths: ``api/v1``, ``apis/apps/v1``."""
        found = dict.fromkeys(self._place(k) for k in self._kinds)
        return list(found)

    @staticmethod
    def _place(kind: Kind) -> str:
        return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"

    def index(self) -> bytes:
        if self._index is None:
            paths = {}
            for place in self.places():
                stamp = hashlib.sha256(repr([k for k in self._kinds if self._place(k) == place]).encode()).hexdigest()
                paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={stamp.upper()[:128]}"}
            for place, stamp in (self._custom.places() if self._custom is not None else {}).items():
                paths.setdefault(place, {"serverRelativeURL": f"/openapi/v3/{place}?hash={stamp}"})
            self._index = orjson.dumps({"paths": paths})
        return self._index

    def document(self, place: str) -> bytes:
        """One v3 document."""
        made = self._documents.get(place)
        if made is None:
            kinds = [k for k in self._kinds if self._place(k) == place]
            prefix = "#/components/schemas/"
            body = {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes", "version": "v1.37.2"},
                "paths": self._paths(kinds, v2=False),
                "components": {"schemas": self._schemas(kinds, prefix)},
            }
            made = self._documents[place] = orjson.dumps(body)
        return made

    def v2(self) -> bytes:
        if self._v2 is None:
            paths, definitions = self._built_in_v2()
            if self._custom is not None:
                more_paths, more = self._custom.v2()
                paths, definitions = b",".join(filter(None, (paths, more_paths))), definitions + b"," + more
            self._v2 = _v2_document(paths, definitions)
        return self._v2

    def _built_in_v2(self) -> tuple[bytes, bytes]:
        """Members of paths and definitions, without braces."""
        if self._parts is None:
            schemas = self._schemas(self._kinds, "#/definitions/")
            self._parts = orjson.dumps(self._paths(self._kinds, v2=True))[1:-1], orjson.dumps(schemas)[1:-1]
        return self._parts

    def _schemas(self, kinds: list[Kind], prefix: str) -> Json:
        queue = [definition_name(k.group, k.version, n) for k in kinds for n in (k.kind, k.kind + "List")]
        queue += [definition_name(s.group or k.group, s.version or k.version, s.kind) for k in kinds for s in k.subs]
        queue += [
            "io.k8s.apimachinery.pkg.apis.meta.v1." + n
            for n in ("DeleteOptions", "Status", "Patch", "WatchEvent", "APIResourceList")
        ]
        return plain_definitions(queue, prefix)

    def _paths(self, kinds: list[Kind], *, v2: bool) -> Json:
        paths: Json = {}
        for kind in kinds:
            base = "/" + self._place(kind)
            root = f"{base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
            if kind.namespaced and "list" in kind.verbs:
                paths[f"{base}/{kind.plural}"] = self._item(kind, ("list",), v2, [])
            places = ["namespace"] if kind.namespaced else []
            paths[root] = self._item(kind, ("list", "create", "deletecollection"), v2, places)
            if kind.verbs != ("create",):
                named = [*places, "name"]
                paths[f"{root}/{{name}}"] = self._item(kind, ("get", "update", "patch", "delete"), v2, named)
                for sub in kind.subs:
                    paths[f"{root}/{{name}}/{sub.name}"] = self._sub_item(kind, sub, v2, named)
        return paths

    def _item(self, kind: Kind, verbs: tuple[str, ...], v2: bool, places: list[str]) -> Json:
        made: Json = {}
        for verb in verbs:
            if verb in kind.verbs:
                method = "delete" if verb == "deletecollection" else METHODS[verb]
                made[method] = self._operation(kind, verb, v2, "")
        return made | without_empty([self._place_parameter(p, v2) for p in places])

    def _sub_item(self, kind: Kind, sub: Sub, v2: bool, places: list[str]) -> Json:
        shown = Kind(sub.group or kind.group, sub.version or kind.version, sub.kind, kind.plural, kind.namespaced)
        made = {METHODS[v]: self._operation(shown, v, v2, sub.name) for v in sub.verbs if v in METHODS}
        return made | without_empty([self._place_parameter(p, v2) for p in places])

    @staticmethod
    def _place_parameter(name: str, v2: bool) -> Json:
        made: Json = {"name": name, "in": "path", "required": True, "uniqueItems": True}
        return made | ({"type": "string"} if v2 else {"schema": {"type": "string", "uniqueItems": True}})

    def _operation(self, kind: Kind, verb: str, v2: bool, sub: str) -> Json:
        target = definition_name(kind.group, kind.version, kind.kind + ("List" if verb == "list" else ""))
        prefix = "#/definitions/" if v2 else "#/components/schemas/"
        schema = {"$ref": prefix + target}
        answer: Json = {"description": "OK"}
        answer |= {"schema": schema} if v2 else {"content": {m: {"schema": schema} for m in WRITES}}
        made: Json = {
            "description": f"{verb} {kind.kind}{' ' + sub if sub else ''}",
            "operationId": f"{verb}{kind.group.replace('.', '')}{kind.version}{kind.plural}{sub}",
            **without_empty(parameters(verb, v2)),
            "responses": {"200": answer, "401": {"description": "Unauthorized"}},
            "x-kubernetes-action": ACTIONS.get(verb, verb),
            "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        }
        if verb in ("create", "update", "patch"):
            sent = {"$ref": prefix + "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"} if verb == "patch" else schema
            types = PATCHES if verb == "patch" else WRITES
            if v2:
                made["consumes"] = list(types)
                made["parameters"] = [
                    *made.get("parameters", ()),
                    {"name": "body", "in": "body", "required": True, "schema": sent},
                ]
            else:
                made["requestBody"] = {"required": True, "content": {m: {"schema": sent} for m in types}}
        return made


def without_empty(found: list[Json]) -> Json:
    """The field with parameters, left out where there are none: a client that reads a document and writes it again has
    the same."""
    return {"parameters": found} if found else {}


def _v2_document(paths: bytes, definitions: bytes) -> bytes:
    head = b'{"swagger":"2.0","info":{"title":"Kubernetes","version":"v1.37.2"},"paths":{'
    return head + paths + b'},"definitions":{' + definitions + b"}}"
