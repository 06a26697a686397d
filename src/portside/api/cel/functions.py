"""Functions and operators as tables of overloads: how each is written, and the Python function that does it.

A declaration is one line, ``id: name(types) -> type`` or, with a receiver, ``id: type :: name(types) -> type``. Capital letters
are type parameters. Libraries are modules with DECLARATIONS and IMPLEMENTATIONS; they are read when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from portside.api.cel import types as t
from portside.api.cel.types import Type

AUTHORIZATION = "kubernetes.authorization."
OPAQUE = {
    "Quantity": "kubernetes.Quantity",
    "URL": "kubernetes.URL",
    "Semver": "kubernetes.Semver",
    "NamedFormat": "kubernetes.NamedFormat",
    "IP": "net.IP",
    "CIDR": "net.CIDR",
    **{n: AUTHORIZATION + n for n in ("Authorizer", "Decision", "GroupCheck", "PathCheck", "ResourceCheck")},
}
_PLAIN: dict[str, Type] = {
    "bool": t.BOOL,
    "int": t.INT,
    "uint": t.UINT,
    "double": t.DOUBLE,
    "string": t.STRING,
    "bytes": t.BYTES,
    "dyn": t.DYN,
    "timestamp": t.TIMESTAMP,
    "duration": t.DURATION,
}


@dataclass(frozen=True, slots=True)
class Overload:
    """One signature of a function. The receiver of a member is the first of ``args``. ``run`` takes the values of all."""

    id: str
    function: str
    member: bool
    args: tuple[Type, ...]
    result: Type
    params: frozenset[str]
    run: Callable[..., Any] | None


def _parameters(type_: Type) -> set[str]:
    if type_.kind == "param":
        return {type_.name}
    return set().union(*(_parameters(p) for p in type_.params)) if type_.params else set()


@cache
def parse_type(text: str) -> Type:
    """A type as declarations write it: ``map(string, list(A))``, ``optional(V)``, ``Quantity``."""
    text = text.strip()
    name, opened, rest = text.partition("(")
    if not opened:
        if len(name) == 1 and name.isupper():
            return t.param(name)
        return _PLAIN.get(name) or t.opaque(OPAQUE[name])
    inner = [parse_type(part) for part in _split(rest[:-1])]
    if name == "list":
        return t.list_of(inner[0])
    if name == "map":
        return t.map_of(inner[0], inner[1])
    return t.type_of(inner[0]) if name == "type" else t.optional_of(inner[0])


def _split(text: str) -> list[str]:
    """The parts between commas that are in no parentheses."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if char == "," and not depth:
            parts.append(text[start:index])
            start = index + 1
    return [p for p in [*parts, text[start:]] if p.strip()]


def declare(text: str, implementations: Mapping[str, Callable[..., Any]]) -> list[Overload]:
    """The overloads of a library's declarations."""
    made = []
    for line in text.strip().splitlines():
        id_, _, signature = line.strip().partition(": ")
        left, _, result = signature.rpartition(" -> ")
        receiver, dots, call = left.rpartition(" :: ")
        name, _, args = (call if dots else left).partition("(")
        types = [parse_type(a) for a in _split(args[:-1])]
        if dots:
            types.insert(0, parse_type(receiver))
        yields = parse_type(result)
        params = frozenset(set().union(*map(_parameters, [*types, yields])))
        made.append(Overload(id_, name, bool(dots), tuple(types), yields, params, implementations.get(id_)))
    return made


@cache
def library() -> dict[str, tuple[Overload, ...]]:
    """All functions that new expressions may use in Kubernetes 1.37 (those of 1.36; ``includes`` comes a release later)."""
    from portside.api.cel import (
        lib_addresses,
        lib_authorizer,
        lib_format,
        lib_lists,
        lib_optional,
        lib_quantity,
        lib_semver,
        lib_strings,
        lib_url,
        stdlib,
        stdlib_time,
    )

    modules = (
        stdlib,
        stdlib_time,
        lib_optional,
        lib_strings,
        lib_lists,
        lib_quantity,
        lib_url,
        lib_addresses,
        lib_semver,
        lib_format,
        lib_authorizer,
    )
    found: dict[str, list[Overload]] = {}
    for module in modules:
        for overload in declare(module.DECLARATIONS, module.IMPLEMENTATIONS):
            found.setdefault(overload.function, []).append(overload)
    return {name: tuple(overloads) for name, overloads in found.items()}


@cache
def jsonpatch_library() -> dict[str, tuple[Overload, ...]]:
    """What only JSON patches of mutating policies may use."""
    from portside.api.cel import lib_strings

    made = declare(
        "jsonpatch_escapekey: jsonpatch.escapeKey(string) -> string", {"jsonpatch_escapekey": lib_strings.escape_key}
    )
    return {"jsonpatch.escapeKey": tuple(made)}
