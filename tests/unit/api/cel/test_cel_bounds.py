"""What an expression may not do to the server: nest without end, grow without end, or run past its budget."""

from __future__ import annotations

import time

import pytest

from portside.api import cel
from portside.api.cel import types


def compiled(text: str) -> cel.Program:
    return cel.compile_expression(text, variables={"self": types.DYN})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("(" * 251 + "1" + ")" * 251, "ERROR: <input>:-1:0: expression recursion limit exceeded: 250"),
        ("+".join(["1"] * 300), "ERROR: <input>:-1:0: max recursion depth exceeded"),
        ("a" * 100_001, "ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100001, limit 100000"),
    ],
    ids=["nesting", "chain", "size"],
)
def test_an_expression_beyond_a_limit_does_not_compile(text: str, problem: str) -> None:
    with pytest.raises(cel.CompileFailure) as raised:
        compiled(text)
    assert str(raised.value) == problem


def test_an_expression_at_the_limit_of_nesting_compiles_and_runs() -> None:
    assert compiled("(" * 249 + "1" + ")" * 249).evaluate({"self": 1}) == 1
    assert compiled("!" * 300 + "true").evaluate({"self": 1}) is True


def test_a_value_used_twice_by_a_macro_is_compiled_once() -> None:
    began = time.thread_time()
    program = compiled("optional.of(1)" + ".optMap(x, x)" * 60)
    assert program.estimate()[1] > 2**60
    with pytest.raises(cel.CostExceeded):
        program.evaluate({"self": 1})
    assert time.thread_time() - began < 5


def test_an_evaluation_ends_when_its_budget_is_spent() -> None:
    program = compiled("self.all(a, self.all(b, self.all(c, self.all(d, a + b + c + d > 0))))")
    began = time.thread_time()
    with pytest.raises(cel.CostExceeded, match="actual cost limit exceeded"):
        program.evaluate({"self": list(range(1, 500))}, budget=100_000)
    assert 100_000 < program.spent < 110_000
    assert time.thread_time() - began < 2


def test_a_value_that_is_not_what_its_type_says_is_an_error_of_the_expression() -> None:
    program = cel.compile_expression("self + 1 == 2", variables={"self": types.INT})
    with pytest.raises(cel.CelRuntimeError, match="no such overload"):
        program.evaluate({"self": "text"})


@pytest.mark.parametrize(
    "text",
    [
        "[[1]]" + ".map(x, x + x)" * 60 + ".size() == 1",
        "'" + "a" * 40_000 + "'.replace('', '" + "b" * 40_000 + "').size() == 1",
        "[1].map(x, [x])" + ".map(x, [x, x])" * 40 + " == [1].map(x, [x])" + ".map(x, [x, x])" * 40,
        "'%s'.format([1].map(x, [x])" + ".map(x, [x, x])" * 40 + ")",
    ],
    ids=["doubled lists", "replaced letters", "compared shares", "written shares"],
)
def test_a_small_expression_cannot_make_a_huge_value(text: str) -> None:
    began = time.thread_time()
    with pytest.raises((cel.CelRuntimeError, cel.CostExceeded)):
        compiled(text).evaluate({"self": 1})
    assert time.thread_time() - began < 20
