"""OpenAPI of custom resources: per served version its schema and its operations, as pieces that are joined into the
documents. Pieces are kept until their definition changes, so that a change costs what changed.

Version 2 knows less than version 3: what kubectl would misread in it (junctors, nullable fields, parts that keep unknown
fields) is left out there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import orjson

from portside.api.customkind import CustomKind
from portside.server.openapi import parameters, plain_definitions, without_empty

Json = dict[str, Any]
Published = Callable[[CustomKind], Json]
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
SCALE = "io.k8s.api.autoscaling.v1.Scale"
CONVENTIONS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
VERSION_TEXT = (
    "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: " + CONVENTIONS + "#resources"
)
KIND_TEXT = (
    "Kind is a string value representing the REST resource this object represents. Servers may infer this from the "
    "endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: "
    + CONVENTIONS
    + "#types-kinds"
)
META_TEXT = "Standard object's metadata. More info: " + CONVENTIONS + "#metadata"
TYPES = ("application/json", "application/yaml")
PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")
# verb of the API: HTTP method, word of the operation, action, what it sends and what it answers.
OPERATIONS = {
    "list": ("get", "list", "list", "", "list"),
    "create": ("post", "create", "post", "own", "own"),
    "deletecollection": ("delete", "deletecollection", "deletecollection", "", "status"),
    "get": ("get", "read", "get", "", "own"),
    "update": ("put", "replace", "put", "own", "own"),
    "delete": ("delete", "delete", "delete", "options", "status"),
    "patch": ("patch", "patch", "patch", "patch", "own"),
}


def friendly(kind: CustomKind, name: str) -> str:
    """``com.example.stable.v1.CronTab``."""
    return ".".join([*reversed(kind.group.split(".")), kind.version, name])


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", text) if part)


def _ref(name: str, v2: bool) -> Json:
    return {"$ref": ("#/definitions/" if v2 else "#/components/schemas/") + name}


def _described(name: str, v2: bool, text: str) -> Json:
    return {"description": text} | (_ref(name, v2) if v2 else {"allOf": [_ref(name, v2)]})


# --- schemas -----------------------------------------------------------------------------------------------------------


def published(kind: CustomKind, schema: Json, *, v2: bool) -> Json:
    """The schema of a kind as clients read it."""
    if v2 and schema.get("x-kubernetes-preserve-unknown-fields"):
        # Anything more would make kubectl refuse unknown fields.
        made: Json = {"type": "object"}
    else:
        made = _shown(schema, v2)
        made["properties"] = {
            **(made.get("properties") or {}),
            "apiVersion": {"type": "string", "description": VERSION_TEXT},
            "kind": {"type": "string", "description": KIND_TEXT},
            "metadata": _described(META + "ObjectMeta", v2, META_TEXT),
        }
    made["x-kubernetes-group-version-kind"] = [{"group": kind.group, "kind": kind.kind, "version": kind.version}]
    if kind.selectable:
        made["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in kind.selectable]
    return made


def _shown(schema: Json, v2: bool) -> Json:
    made = {k: v for k, v in schema.items() if k not in ("properties", "items", "additionalProperties")}
    if v2:
        _for_v2(schema, made)
        if schema.get("nullable") or schema.get("x-kubernetes-preserve-unknown-fields"):
            return made
    elif schema.get("x-kubernetes-int-or-string") and not schema.get("anyOf") and not _said(schema.get("allOf")):
        made["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get("properties"):
        made["properties"] = {k: _shown(v, v2) for k, v in schema["properties"].items()}
    for field in ("items", "additionalProperties"):
        value = schema.get(field)
        if value is not None:
            made[field] = _shown(value, v2) if isinstance(value, dict) else value
    if schema.get("x-kubernetes-embedded-resource"):
        _embedded(made, v2)
    return made


def _said(every: Any) -> bool:
    """Whether allOf begins with the choice of integer and string."""
    return bool(every) and every[0].get("anyOf") == [{"type": "integer"}, {"type": "string"}]


def _for_v2(schema: Json, made: Json) -> None:
    for field in ("allOf", "anyOf", "oneOf", "not"):
        made.pop(field, None)
    if schema.get("nullable"):
        made.pop("type", None)
        del made["nullable"]
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
    optional = {k for k, v in (schema.get("properties") or {}).items() if v.get("nullable")}
    if optional and made.get("required"):
        made["required"] = [k for k in made["required"] if k not in optional]
        if not made["required"]:
            del made["required"]


def _embedded(made: Json, v2: bool) -> None:
    made["properties"] = {
        **(made.get("properties") or {}),
        "apiVersion": {"type": "string", "description": VERSION_TEXT.replace("APIVersion", "apiVersion", 1)},
        "kind": {"type": "string", "description": KIND_TEXT.replace("Kind", "kind", 1)},
        "metadata": _described(META + "ObjectMeta", v2, META_TEXT),
    }
    needed = list(made.get("required") or ())
    made["required"] = needed + [f for f in ("kind", "apiVersion") if f not in needed]


def _list_schema(kind: CustomKind, v2: bool) -> Json:
    items = {"type": "array", "items": _ref(friendly(kind, kind.kind), v2)}
    items["description"] = f"List of {kind.plural}. More info: {CONVENTIONS}"
    text = "Standard list metadata. More info: " + CONVENTIONS + "#types-kinds"
    return {
        "description": f"{kind.list_kind} is a list of {kind.kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": VERSION_TEXT},
            "items": items,
            "kind": {"type": "string", "description": KIND_TEXT},
            "metadata": _described(META + "ListMeta", v2, text),
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "kind": kind.list_kind, "version": kind.version}],
    }


def schemas_of(kind: CustomKind, schema: Json, *, v2: bool) -> Json:
    return {
        friendly(kind, kind.kind): published(kind, schema, v2=v2),
        friendly(kind, kind.list_kind): _list_schema(kind, v2),
    }


# --- paths -------------------------------------------------------------------------------------------------------------


def paths_of(kind: CustomKind, *, v2: bool) -> Json:
    """The operations of a kind, by path."""
    base = f"/apis/{kind.group}/{kind.version}"
    root = f"{base}/namespaces/{{namespace}}/{kind.plural}" if kind.namespaced else f"{base}/{kind.plural}"
    places = ["namespace"] if kind.namespaced else []
    paths: Json = {}
    if kind.namespaced:
        paths[f"{base}/{kind.plural}"] = _item(kind, ("list",), [], "", "ForAllNamespaces", v2)
    paths[root] = _item(kind, ("list", "create", "deletecollection"), places, "", "", v2)
    named = [*places, "name"]
    paths[f"{root}/{{name}}"] = _item(kind, ("get", "update", "patch", "delete"), named, "", "", v2)
    for sub in kind.subs:
        paths[f"{root}/{{name}}/{sub.name}"] = _item(kind, ("get", "update", "patch"), named, sub.name, "", v2)
    return paths


def _item(kind: CustomKind, verbs: tuple[str, ...], places: list[str], sub: str, tail: str, v2: bool) -> Json:
    made: Json = {OPERATIONS[verb][0]: _operation(kind, verb, sub, tail, v2) for verb in verbs}
    return made | without_empty([_place(p, v2) for p in places])


def _place(name: str, v2: bool) -> Json:
    made: Json = {"name": name, "in": "path", "required": True, "uniqueItems": True}
    return made | ({"type": "string"} if v2 else {"schema": {"type": "string", "uniqueItems": True}})


def _operation(kind: CustomKind, verb: str, sub: str, tail: str, v2: bool) -> Json:
    _, word, action, sent, answered = OPERATIONS[verb]
    spaced = "Namespaced" if kind.namespaced and not tail else ""
    mid = f"{_camel(kind.group)}{_camel(kind.version)}"
    start, rest = ("delete", "Collection") if word == "deletecollection" else (word, "")
    bodies = {
        "own": _ref(SCALE if sub == "scale" else friendly(kind, kind.kind), v2),
        "list": _ref(friendly(kind, kind.list_kind), v2),
        "status": _ref(META + "Status", v2),
        "patch": _ref(META + "Patch", v2),
        "options": _ref(META + "DeleteOptions", v2),
    }
    answer: Json = {"description": "OK"}
    answer |= {"schema": bodies[answered]} if v2 else {"content": {m: {"schema": bodies[answered]} for m in TYPES}}
    made: Json = {
        "description": f"{word} {sub + ' of ' if sub else ''}{kind.kind}",
        "operationId": f"{start}{mid}{rest}{spaced}{kind.kind}{_camel(sub)}{tail}",
        **without_empty(list(_parameters(verb, v2))),
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        "tags": [f"{_camel(kind.group)[:1].lower()}{_camel(kind.group)[1:]}_{kind.version}"],
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
    }
    if v2:
        made["produces"] = list(TYPES)
    if sent:
        types = PATCHES if verb == "patch" else TYPES
        if v2:
            made["consumes"] = list(types)
            body = {"name": "body", "in": "body", "required": verb != "delete", "schema": bodies[sent]}
            made.setdefault("parameters", []).append(body)
        else:
            content = {m: {"schema": bodies[sent]} for m in types}
            made["requestBody"] = {"content": content} | ({"required": True} if verb != "delete" else {})
    return made


@lru_cache(maxsize=32)
def _parameters(verb: str, v2: bool) -> tuple[Json, ...]:
    return tuple(parameters(verb, v2))


# --- documents ---------------------------------------------------------------------------------------------------------


class CustomDocuments:
    """The documents of one state of the table. ``pieces`` outlives it: what has not changed is not made again."""

    def __init__(self, kinds: Iterable[CustomKind], schema: Published, pieces: dict[Any, bytes]) -> None:
        self._schema = schema
        self._places: dict[str, list[CustomKind]] = {}
        for kind in kinds:
            self._places.setdefault(f"apis/{kind.group}/{kind.version}", []).append(kind)
        alive = {k for kinds in self._places.values() for k in kinds}
        for key in [key for key in list(pieces) if key[0] not in alive]:
            pieces.pop(key, None)
        self._pieces = pieces

    def places(self) -> dict[str, str]:
        """Paths of documents with their stamps."""
        return {
            place: hashlib.sha512(repr(kinds).encode()).hexdigest().upper() for place, kinds in self._places.items()
        }

    def document(self, place: str) -> bytes | None:
        """One v3 document."""
        kinds = self._places.get(place)
        if kinds is None:
            return None
        schemas: Json = {}
        paths: Json = {}
        for kind in kinds:
            schemas |= schemas_of(kind, self._schema(kind), v2=False)
            paths |= paths_of(kind, v2=False)
        names = [META + n for n in ("ObjectMeta", "ListMeta", "DeleteOptions", "Status", "Patch")]
        if any(k.scale is not None for k in kinds):
            names.append(SCALE)
        schemas |= plain_definitions(names, "#/components/schemas/")
        return orjson.dumps(
            {
                "openapi": "3.0.0",
                "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
                "paths": dict(sorted(paths.items())),
                "components": {"schemas": dict(sorted(schemas.items()))},
            }
        )

    def v2(self) -> tuple[bytes, bytes]:
        """Members of ``paths`` and of ``definitions``, without braces."""
        paths, definitions = [], []
        for kinds in self._places.values():
            for kind in kinds:
                paths.append(self._piece(kind, "paths", lambda k: paths_of(k, v2=True)))
                definitions.append(self._piece(kind, "definitions", lambda k: schemas_of(k, self._schema(k), v2=True)))
        return b",".join(paths), b",".join(definitions)

    def _piece(self, kind: CustomKind, part: str, make: Callable[[CustomKind], Json]) -> bytes:
        found = self._pieces.get((kind, part))
        if found is None:
            found = self._pieces[kind, part] = orjson.dumps(make(kind))[1:-1]
        return found
