"""Static types of CEL: what an expression is known to yield, how types are written, and which may stand for which.

A declared type carries more than its name: the fields of an object, the largest size a value may have (for cost estimates) and
how values read from JSON are converted. Equality and assignment look only at kind, name and parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_DISPLAY = {
    "google.protobuf.Timestamp": "timestamp",
    "google.protobuf.Duration": "duration",
    "null_type": "null",
}
_NULLABLE = frozenset(("null_type", "timestamp", "duration", "any", "opaque", "struct"))
_SCALARS = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))


class Type:
    """One type. ``kind`` is bool, int, …, list, map, type, opaque, struct, param, dyn or error."""

    __slots__ = ("by_name", "convert", "fields", "keys", "kind", "limit", "list_type", "name", "params", "wrapped")

    def __init__(
        self,
        kind: str,
        name: str,
        params: Sequence[Type] = (),
        *,
        limit: int | None = None,
        fields: Mapping[str, Field] | None = None,
        wrapped: bool = False,
    ) -> None:
        self.kind = kind
        self.name = name
        self.params = tuple(params)
        self.limit = limit  # the largest size: code points, bytes, entries; None: not declared
        self.fields = fields if fields is not None else {}
        self.wrapped = wrapped  # may also be null
        self.convert: Callable[[Any], Any] | None = None  # from JSON to the value
        self.list_type = ""  # set or map: equality does not look at the order
        self.keys: tuple[str, ...] = ()
        self.by_name = False  # a map whose ``m.name`` has the declared size of its values too

    def __repr__(self) -> str:
        return show(self)

    def same(self, other: Type) -> bool:
        """Equality of kind, name and parameters."""
        return self is other or (
            self.kind == other.kind
            and self.name == other.name
            and self.wrapped == other.wrapped
            and len(self.params) == len(other.params)
            and all(a.same(b) for a, b in zip(self.params, other.params, strict=True))
        )

    @property
    def is_dyn(self) -> bool:
        return self.kind in ("dyn", "any", "error")

    @property
    def is_optional(self) -> bool:
        return self.kind == "opaque" and self.name == "optional_type"

    @property
    def is_scalar(self) -> bool:
        return self.kind in _SCALARS or (self.is_optional and self.params[0].is_scalar)


class Field:
    """One field of an object type. ``source`` is its name in JSON, before escaping."""

    __slots__ = ("required", "source", "type")

    def __init__(self, type_: Type, source: str, required: bool = False) -> None:
        self.type = type_
        self.source = source
        self.required = required


BOOL = Type("bool", "bool")
INT = Type("int", "int")
UINT = Type("uint", "uint")
DOUBLE = Type("double", "double")
STRING = Type("string", "string")
BYTES = Type("bytes", "bytes")
NULL = Type("null_type", "null_type")
TIMESTAMP = Type("timestamp", "google.protobuf.Timestamp")
DURATION = Type("duration", "google.protobuf.Duration")
DYN = Type("dyn", "dyn")
ANY = Type("any", "google.protobuf.Any")
ERROR = Type("error", "!error!")
TYPE = Type("type", "type")


def list_of(item: Type, *, limit: int | None = None) -> Type:
    return Type("list", "list", (item,), limit=limit)


def map_of(key: Type, value: Type, *, limit: int | None = None) -> Type:
    return Type("map", "map", (key, value), limit=limit)


def optional_of(inner: Type) -> Type:
    return Type("opaque", "optional_type", (inner,))


def type_of(inner: Type) -> Type:
    return Type("type", "type", (inner,))


def param(name: str) -> Type:
    return Type("param", name)


def opaque(name: str) -> Type:
    return Type("opaque", name)


def struct(name: str, fields: Mapping[str, Field]) -> Type:
    return Type("struct", name, fields=fields)


def unwrap_optional(type_: Type) -> tuple[Type, bool]:
    """The inner type of an optional, and whether it was one."""
    return (type_.params[0], True) if type_.is_optional else (type_, False)


def show(type_: Type) -> str:
    """A type as compile errors write it."""
    if type_.wrapped:
        return f"wrapper({type_.kind})"
    name = _DISPLAY.get(type_.name, type_.name)
    if type_.kind == "any":
        name = "any"
    return f"{name}({', '.join(show(p) for p in type_.params)})" if type_.params else name


def declared_name(type_: Type) -> str:
    """A type as messages about result types write it: null as ``null_type``, times by their full names."""
    if type_.wrapped:
        return f"wrapper({type_.kind})"
    return f"{type_.name}({', '.join(declared_name(p) for p in type_.params)})" if type_.params else type_.name


def show_call(args: Sequence[Type], *, member: bool) -> str:
    """Argument types as in ``(int, string)`` or, with a receiver, ``string.(int)``."""
    names = [show(a) for a in args]
    return f"{names[0]}.({', '.join(names[1:])})" if member else f"({', '.join(names)})"


class Bindings:
    """What type parameters stand for, found while overloads are chosen. A failed attempt leaves no trace."""

    __slots__ = ("found",)

    def __init__(self) -> None:
        self.found: dict[str, Type] = {}

    def assign(self, actual: Sequence[Type], formal: Sequence[Type]) -> bool:
        """Whether each actual type may stand for its formal one; parameters learn from it."""
        if len(actual) != len(formal):
            return False
        before = dict(self.found)
        if all(self._fits(a, f) for a, f in zip(actual, formal, strict=True)):
            return True
        self.found = before
        return False

    def fits(self, actual: Type, formal: Type) -> bool:
        return self.assign((actual,), (formal,))

    def _fits(self, first: Type, second: Type) -> bool:
        if second.kind == "param":
            valid, known = self._substitutes(first, second)
            if valid or known:
                return valid
        if first.kind == "param":
            return self._substitutes(second, first)[0]
        if first.is_dyn or second.is_dyn:
            return True
        if first.kind == "null_type":
            return second.kind in _NULLABLE or second.wrapped
        if second.kind == "null_type":
            return first.kind in _NULLABLE or first.wrapped
        if first.kind != second.kind:
            return False
        if first.kind == "type":
            return True
        if first.kind in ("list", "map", "opaque"):
            return (
                first.name == second.name
                and len(first.params) == len(second.params)
                and all(self._fits(a, b) for a, b in zip(first.params, second.params, strict=True))
            )
        return first.name == second.name

    def _substitutes(self, type_: Type, parameter: Type) -> tuple[bool, bool]:
        """Whether ``parameter`` may be ``type_``, and whether it was bound before."""
        if type_.kind == "param" and type_.name == parameter.name:
            return True, True
        bound = self.found.get(parameter.name)
        if bound is not None:
            if bound.same(type_):
                return True, True
            if self._fits(type_, bound):
                general = most_general(type_, bound)
                if self._free(parameter.name, general):
                    self.found[parameter.name] = general
                return True, True
            return False, True
        if self._free(parameter.name, type_):
            self.found[parameter.name] = type_
            return True, False
        return False, False

    def _free(self, name: str, within: Type) -> bool:
        if within.kind == "param":
            if within.name == name:
                return False
            bound = self.found.get(within.name)
            return bound is None or self._free(name, bound)
        return all(self._free(name, p) for p in within.params)

    def resolve(self, type_: Type, *, dyn: bool = False) -> Type:
        """``type_`` with its parameters replaced; unbound ones become dyn when ``dyn``."""
        if type_.kind == "param":
            bound = self.found.get(type_.name)
            if bound is not None:
                return self.resolve(bound, dyn=dyn)
            return DYN if dyn else type_
        if not type_.params:
            return type_
        params = [self.resolve(p, dyn=dyn) for p in type_.params]
        if all(a is b for a, b in zip(params, type_.params, strict=True)):
            return type_
        made = Type(type_.kind, type_.name, params, limit=type_.limit)
        made.list_type, made.keys = type_.list_type, type_.keys
        return made


def most_general(first: Type, second: Type) -> Type:
    """The one of two assignable types that says less."""
    return first if _says_less(first, second) else second


def _says_less(first: Type, second: Type) -> bool:
    if first.kind in ("dyn", "param"):
        return True
    if second.kind in ("dyn", "param") or first.kind != second.kind:
        return False
    if first.kind == "type":
        return True
    if first.kind in ("list", "map", "opaque"):
        return (
            first.name == second.name
            and len(first.params) == len(second.params)
            and all(_says_less(a, b) for a, b in zip(first.params, second.params, strict=True))
        )
    return first.same(second)
