"""What expressions of webhooks and admission policies are compiled against: variables with their types, and result types.

``compile_admission`` compiles one expression; where it stands decides its result. The texts are those of upstream's validation.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from portside.api.cel import CompileFailure, InstantiationFailure, compile_expression
from portside.api.cel import types as t
from portside.api.cel.functions import jsonpatch_library
from portside.api.cel.parser import WORDS
from portside.api.cel.types import Field, Type, declared_name, list_of, map_of, opaque, struct

if TYPE_CHECKING:
    from portside.api.cel import Program

AUTHORIZER = opaque("kubernetes.authorization.Authorizer")
RESOURCE_CHECK = opaque("kubernetes.authorization.ResourceCheck")
REQUEST_RESOURCE = "authorizer.requestResource"
IDENTIFIER = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


class NotCompiled(Exception):
    """Why an expression can't stand where it does. ``internal``: not the expression's fault."""

    def __init__(self, text: str, *, internal: bool = False) -> None:
        super().__init__(text)
        self.internal = internal


def _struct(name: str, /, **fields: Type) -> Type:
    return struct(f"kubernetes.{name}", {key: Field(type_, key) for key, type_ in fields.items()})


@lru_cache(maxsize=1)
def request_type() -> Type:
    """The AdmissionRequest without its objects."""
    text, words = t.STRING, list_of(t.STRING)
    kind = _struct("GroupVersionKind", group=text, version=text, kind=text)
    resource = _struct("GroupVersionResource", group=text, version=text, resource=text)
    user = _struct("UserInfo", username=text, uid=text, groups=words, extra=map_of(text, words))
    return _struct(
        "AdmissionRequest", kind=kind, resource=resource, subResource=text, requestKind=kind, requestResource=resource,
        requestSubResource=text, name=text, namespace=text, operation=text, userInfo=user, dryRun=t.BOOL, options=t.DYN,
    )  # fmt: skip


@lru_cache(maxsize=1)
def namespace_type() -> Type:
    """What expressions see of the object's namespace."""
    text, words, pairs = t.STRING, list_of(t.STRING), map_of(t.STRING, t.STRING)
    meta = _struct(
        "NamespaceMetadata", name=text, generateName=text, namespace=text, labels=pairs, annotations=pairs, UID=text,
        creationTimestamp=t.TIMESTAMP, deletionGracePeriodSeconds=t.INT, deletionTimestamp=t.TIMESTAMP, generation=t.INT,
        resourceVersion=text, finalizers=words,
    )  # fmt: skip
    spec, status = _struct("NamespaceSpec", finalizers=words), _struct("NamespaceStatus", phase=text)
    return _struct("Namespace", metadata=meta, spec=spec, status=status)


class _AnyFields(dict[str, Field]):
    """The fields of an ``Object``: every name, of any type."""

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]

    def __missing__(self, key: str) -> Field:
        return Field(t.DYN, key)


class _PatchFields(dict[str, Field]):
    """The fields of a ``JSONPatch``; another name has a type without a name, which nothing fits."""

    def get(self, key: str, default: Any = None) -> Any:
        return self[key]

    def __missing__(self, key: str) -> Field:
        return Field(opaque(""), key)


JSON_PATCH = struct("JSONPatch", {})
JSON_PATCH.fields = _PatchFields(
    {
        "op": Field(t.STRING, "op"),
        "path": Field(t.STRING, "path"),
        "from": Field(t.STRING, "from"),
        "value": Field(t.DYN, "value"),
    }
)


class _MutationTypes(Mapping[str, Type]):
    """The types that mutations may build: JSONPatch, Object, and Object.a.b for whatever is below it."""

    def __contains__(self, name: object) -> bool:
        return name in ("JSONPatch", "Object") or (isinstance(name, str) and name.startswith("Object."))

    def __getitem__(self, name: str) -> Type:
        if name not in self:
            raise KeyError(name)
        if name == "JSONPatch":
            return JSON_PATCH
        made = struct(name, {})
        made.fields = _AnyFields()
        return made

    def __iter__(self) -> Iterator[str]:
        return iter(("JSONPatch", "Object"))

    def __len__(self) -> int:
        return 2


MUTATION_TYPES = _MutationTypes()
OBJECT = MUTATION_TYPES["Object"]
# Where an expression stands -> what it may yield; None is anything.
RESULTS: dict[str, tuple[Type, ...] | None] = {
    "bool": (t.BOOL,),
    "string": (t.STRING,),
    "annotation": (t.STRING, t.NULL),
    "ApplyConfiguration": (OBJECT,),
    "JSONPatch": (list_of(JSON_PATCH),),
    "": None,
}


def variables_for(*, params: bool, authorizer: bool, composed: Mapping[str, Type] | None) -> dict[str, Type]:
    """The variables of an expression. ``composed`` are the policy's own, by name; None where there can't be any."""
    found = {
        "object": t.DYN,
        "oldObject": t.DYN,
        "request": request_type(),
        "namespaceObject": namespace_type(),
    }
    if params:
        found["params"] = t.DYN
    if authorizer:
        found["authorizer"] = AUTHORIZER
        found[REQUEST_RESOURCE] = RESOURCE_CHECK
    if composed is not None:
        found["variables"] = struct("kubernetes.variables", {k: Field(v, k) for k, v in composed.items()})
    return found


def compile_admission(text: str, variables: Mapping[str, Type], result: str) -> Program:
    """Raises NotCompiled."""
    mutating = result in ("ApplyConfiguration", "JSONPatch")
    types, functions = (MUTATION_TYPES, jsonpatch_library()) if mutating else (None, None)
    try:
        program = compile_expression(text, variables=variables, types=types, functions=functions)
    except InstantiationFailure as problem:
        raise NotCompiled(f"program instantiation failed: {problem}", internal=True) from None
    except CompileFailure as problem:
        raise NotCompiled(f"compilation failed: {problem}") from None
    wanted = RESULTS[result]
    if wanted is not None and not any(w.same(program.type) for w in wanted):
        found = declared_name(program.type)
        if len(wanted) == 1:
            raise NotCompiled(f"must evaluate to {declared_name(wanted[0])} but got {found}")
        raise NotCompiled(f"must evaluate to one of [{' '.join(map(declared_name, wanted))}] but got {found}")
    return program


def is_identifier(name: str) -> bool:
    return IDENTIFIER.fullmatch(name) is not None and name not in WORDS
