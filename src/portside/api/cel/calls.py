"""Closures of calls: the one overload known statically, or the one the values ask for; and what the call costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.cel import costs, patterns, type_values
from portside.api.cel.comparison import appended
from portside.api.cel.functions import Overload, library
from portside.api.cel.syntax import Call
from portside.api.cel.types import Type
from portside.api.cel.values import (
    INT_MAX,
    INT_MIN,
    CelRuntimeError,
    CostExceeded,
    Duration,
    Optional,
    Timestamp,
    Typed,
    Uint,
)

Frame = list[Any]
Closure = Callable[[Frame], Any]
_CLASSES: dict[str, type] = {
    "bool": bool,
    "int": int,
    "uint": Uint,
    "double": float,
    "string": str,
    "bytes": bytes,
    "timestamp": Timestamp,
    "duration": Duration,
    "null_type": type(None),
}
_PATTERNS = frozenset(("matches", "find", "findAll"))
CONVERSIONS = frozenset(("bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"))


def is_of(type_: Type, value: Any) -> bool:
    """Whether a value may be an argument of the type."""
    kind = type_.kind
    if kind in ("dyn", "any", "param"):
        return True
    if kind == "list":
        return value.__class__ is list and (not value or is_of(type_.params[0], value[0]))
    if kind == "opaque":
        if type_.is_optional:
            if value.__class__ is not Optional:
                return False
            return not value.present or is_of(type_.params[0], value.value)
        return getattr(value, "TYPE_NAME", "") == type_.name
    if kind == "struct":
        return isinstance(value, dict | Typed)
    if kind == "map":
        return isinstance(value, dict)
    return value.__class__ is _CLASSES.get(kind)


def dispatch(overloads: tuple[Overload, ...], function: str) -> Callable[..., Any]:
    """The overload that takes the values at hand."""

    def run(*values: Any) -> Any:
        for overload in overloads:
            if len(overload.args) == len(values) and all(map(is_of, overload.args, values)):
                assert overload.run is not None
                return overload.run(*values)
        raise CelRuntimeError(_no_overload(function, values))

    return run


_NUMBERS = frozenset(("int", "uint", "double"))
_TIMES = frozenset(("google.protobuf.Timestamp", "google.protobuf.Duration"))
# Types whose values have the operator at all; others are told which operator they lack.
_ABLE = {
    "_+_": _NUMBERS | _TIMES | {"string", "bytes", "list"},
    **dict.fromkeys(("_-_", "_*_", "_/_"), _NUMBERS | _TIMES | {"string"}),
    "_%_": _TIMES | {"int", "uint", "string"},
    "-_": frozenset(("int", "double", "string", "bool")),
    "size": frozenset(("string", "bytes", "list", "map")),
    **dict.fromkeys(("_<_", "_<=_", "_>_", "_>=_"), _NUMBERS | _TIMES | {"bool", "string", "bytes"}),
}
_UNNAMED = frozenset(("contains", "startsWith", "endsWith", "matches", "@in", "!_", "_[_]", "_[?_]"))


def _no_overload(function: str, values: tuple[Any, ...]) -> str:
    """What is said when no overload takes the values."""
    if function in _UNNAMED:
        return "no such overload"
    names = [type_values.type_name(v) for v in values]
    if function in _ABLE:
        return "no such overload" if names[0] in _ABLE[function] else f"no such overload: {function}"
    return f"no such overload: {function}({', '.join(names)})"


def _static(node: Call, overload: Overload) -> bool:
    """Whether the types alone make sure that this overload is meant and takes the values."""
    nodes = [node.target, *node.args] if node.target is not None else node.args
    return all(n is not None and _known(n.type, a) for n, a in zip(nodes, overload.args, strict=True))


def _known(actual: Type, formal: Type) -> bool:
    if formal.kind in ("param", "dyn"):
        return True
    if actual.kind != formal.kind or actual.name != formal.name:
        return False
    return all(_known(a, f) for a, f in zip(actual.params, formal.params, strict=True))


_NULLABLE = frozenset(("opaque", "timestamp", "duration", "struct"))


def make(node: Call, args: list[Closure]) -> Closure:
    """The closure of a call of these arguments."""
    from portside.api.cel.evaluator import Constant

    function, overloads = node.function, node.overloads
    if len(overloads) == 1 and overloads[0].run is not None and _static(node, overloads[0]):
        run = overloads[0].run
        if overloads[0].id == "add_list" and node.args[0].type.list_type:
            run = appended(node.args[0].type)
        if function in _OPERATORS and len(args) == 2:
            quick = _quick(overloads[0].id, args[0], args[1])
            if quick is not None:
                return quick
    else:
        run = dispatch(_candidates(function, node.target is not None), function)
    if function in CONVERSIONS and type(args[0]) is Constant:
        return Constant(run(args[0].value))
    if function in _PATTERNS and isinstance(pattern := args[1], Constant) and isinstance(pattern.value, str):
        patterns.compiled(pattern.value)  # a bad one is told before it is used
    cost = costs.of_call(function, overloads[0].id if len(overloads) == 1 else "")
    if function == "@in" and type(args[1]) is Constant and args[1].value.__class__ is list:
        cost = costs.nothing
    if cost is None:
        return _unit_cost(run, args)

    def call(frame: Frame) -> Any:
        values = [a(frame) for a in args]
        try:
            result = run(*values)
        except CelRuntimeError:
            frame[0] += cost(values, None)
            raise
        frame[0] += cost(values, result)
        if frame[0] > frame[1]:
            raise CostExceeded
        return result

    return call


def _candidates(function: str, member: bool) -> tuple[Overload, ...]:
    return tuple(o for o in library()[function] if o.member is member)


def _unit_cost(run: Callable[..., Any], args: list[Closure]) -> Closure:
    """Calls that cost one, by number of arguments."""
    if len(args) == 1:
        (only,) = args

        def one(frame: Frame) -> Any:
            value = only(frame)
            frame[0] += 1
            return run(value)

        return one
    if len(args) == 2:
        first, second = args

        def two(frame: Frame) -> Any:
            a, b = first(frame), second(frame)
            frame[0] += 1
            return run(a, b)

        return two

    def many(frame: Frame) -> Any:
        values = [a(frame) for a in args]
        frame[0] += 1
        return run(*values)

    return many


_LESS: dict[str, Callable[[Any, Any], bool]] = {
    "less_int64": lambda a, b: a < b,
    "less_equals_int64": lambda a, b: a <= b,
    "greater_int64": lambda a, b: a > b,
    "greater_equals_int64": lambda a, b: a >= b,
}
_OPERATORS = frozenset(("_<_", "_<=_", "_>_", "_>=_", "_+_", "_-_"))


def _quick(id_: str, left: Closure, right: Closure) -> Closure | None:
    """Closures of the commonest operations on whole numbers, with nothing in between."""
    maximum, minimum = INT_MAX, INT_MIN
    compare = _LESS.get(id_)
    if compare is not None:

        def order(frame: Frame) -> Any:
            a, b = left(frame), right(frame)
            frame[0] += 1
            return compare(a, b)

        return order
    if id_ in ("add_int64", "subtract_int64"):
        sign = 1 if id_ == "add_int64" else -1

        def add(frame: Frame) -> Any:
            a, b = left(frame), right(frame)
            frame[0] += 1
            result = a + b if sign == 1 else a - b
            if minimum <= result <= maximum:
                return result
            raise CelRuntimeError("integer overflow")

        return add
    return None


def comparison(left: Closure, right: Closure, same: Callable[[Any, Any], bool], *, negate: bool) -> Closure:
    """== and !=: a tenth of the smaller size is the cost, at least one of what has no size."""
    cost = costs.compared

    def compare(frame: Frame) -> Any:
        a, b = left(frame), right(frame)
        frame[0] += cost(a, b)
        return same(a, b) is not negate

    return compare
