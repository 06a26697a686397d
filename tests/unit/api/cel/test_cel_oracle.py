"""Closures against a slow walk over the tree that knows nothing of types: same value or both fail."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from portside.api import cel
from portside.api.cel import types
from portside.api.cel.parser import parse
from portside.api.cel.syntax import Call, Fold, Ident, ListNode, Literal, Node

NUMBERS = st.integers(-3, 3).map(lambda n: str(n) if n >= 0 else f"({n})")
LISTS = st.lists(NUMBERS, max_size=4).map(lambda items: f"[{', '.join(items)}]")


def _numbers(depth: int) -> st.SearchStrategy[str]:
    if not depth:
        return NUMBERS | st.just("self")
    inner = _numbers(depth - 1)
    operation = st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda p: f"({p[0]} {p[1]} {p[2]})")
    return NUMBERS | operation | st.tuples(_tests(depth - 1), inner, inner).map(lambda p: f"({p[0]} ? {p[1]} : {p[2]})")


def _tests(depth: int) -> st.SearchStrategy[str]:
    if not depth:
        return st.sampled_from(["true", "false"])
    numbers, inner = _numbers(depth - 1), _tests(depth - 1)
    order = st.tuples(numbers, st.sampled_from(["<", "<=", "==", "!="]), numbers).map(" ".join).map(lambda t: f"({t})")
    both = st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(" ".join).map(lambda t: f"({t})")
    loop = st.tuples(LISTS, st.sampled_from(["all", "exists", "exists_one"]), st.sampled_from(["x > 0", "6 / x > 1"]))
    return order | both | inner.map(lambda t: f"!{t}") | loop.map(lambda p: f"{p[0]}.{p[1]}(x, {p[2]})")


class _Failed(Exception):
    pass


def _whole(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise _Failed
    return value


def _divide(a: int, b: int) -> tuple[int, int]:
    if not b:
        raise _Failed
    whole = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return whole, a - whole * b


def _walk(node: Node, names: dict[str, Any]) -> Any:
    """The value by the language's definition, one node at a time."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Ident):
        if isinstance(names[node.name], _Failed):
            raise names[node.name]
        return names[node.name]
    if isinstance(node, ListNode):
        return [_walk(n, names) for n in node.items]
    if isinstance(node, Fold):
        return _fold(node, names)
    assert isinstance(node, Call)
    return _call(node, names)


def _fold(node: Fold, names: dict[str, Any]) -> Any:
    held = {**names, node.accu: _walk(node.init, names)}
    for member in _walk(node.range, names):
        held[node.var] = member
        if not _walk(node.cond, held):
            break
        try:
            held[node.accu] = _walk(node.step, held)
        except _Failed as failure:
            held[node.accu] = failure
    return _walk(node.result, held)


def _attempt(node: Node, names: dict[str, Any]) -> Any:
    try:
        return _walk(node, names)
    except _Failed as failure:
        return failure


def _call(node: Call, names: dict[str, Any]) -> Any:
    name, args = node.function, node.args
    if name in ("_&&_", "_||_"):
        found = [_attempt(a, names) for a in args]
        decides = name == "_||_"
        if decides in [f for f in found if isinstance(f, bool)]:
            return decides
        failure = next((f for f in found if isinstance(f, _Failed)), None)
        if failure is not None:
            raise failure
        return not decides
    if name == "@not_strictly_false":
        return _attempt(args[0], names) is not False
    if name == "_?_:_":
        return _walk(args[1] if _walk(args[0], names) else args[2], names)
    values = [_walk(a, names) for a in args]
    if name == "!_":
        return not values[0]
    if name == "-_":
        return _whole(-values[0])
    a, b = values
    if name in ("_/_", "_%_"):
        return _divide(a, b)[name == "_%_"]
    results = {"_<_": a < b, "_<=_": a <= b, "_>_": a > b, "_==_": a == b, "_!=_": a != b}
    return results[name] if name in results else _whole({"_+_": a + b, "_-_": a - b, "_*_": a * b}[name])


@settings(max_examples=300, deadline=None)
@given(_tests(3) | _numbers(3), st.sampled_from([0, 1, -2, 2**63 - 1]))
def test_closures_yield_what_the_definition_says(text: str, value: int) -> None:
    program = cel.compile_expression(text, variables={"self": types.INT})
    try:
        found: Any = program.evaluate({"self": value})
    except cel.CelRuntimeError:
        found = "failed"
    try:
        expected = _walk(parse(text), {"self": value})
    except _Failed:
        expected = "failed"
    assert found == expected and type(found) is type(expected)
