"""A compiled expression: its type, what it costs at most, and its value for given bindings."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from portside.api.cel import literal_checks
from portside.api.cel.checker import check
from portside.api.cel.evaluator import ALLOWED, FIRST, SPENT, Compiler
from portside.api.cel.functions import Overload, library
from portside.api.cel.parser import parse
from portside.api.cel.source import CompileFailure
from portside.api.cel.syntax import Node
from portside.api.cel.types import Type, declared_name, show
from portside.api.cel.values import CelRuntimeError, CostExceeded

UNLIMITED = 2**64 - 1
PER_CALL_LIMIT = 1_000_000  # what one evaluation may cost unless the caller says otherwise
_FRAMES = 6000  # Python frames that an expression nested as deeply as allowed needs


class ResultTypeFailure(CompileFailure):
    """The expression compiles, but yields another type than its place asks for."""

    def __init__(self, wanted: tuple[Type, ...], found: Type) -> None:
        ValueError.__init__(self, f"must evaluate to {' or '.join(map(show, wanted))}")
        self.issues = []
        self.wanted = wanted
        self.found = found


class InstantiationFailure(CompileFailure):
    """The expression compiles, but a constant part of it fails to evaluate."""

    def __init__(self, problem: CelRuntimeError) -> None:
        ValueError.__init__(self, str(problem))
        self.issues = []


class Program:
    """Made by compile_expression. ``uses`` are the variables it reads; ``spent`` what the last evaluation cost."""

    __slots__ = ("_run", "_size", "_slots", "node", "spent", "text", "type", "uses", "variables")

    def __init__(self, text: str, node: Node, variables: Mapping[str, Type]) -> None:
        self.text = text
        self.node = node
        self.variables = variables
        self.type = node.type
        compiler = Compiler(variables)
        try:
            self._run = compiler.compile(node)
        except CelRuntimeError as problem:
            raise InstantiationFailure(problem) from None
        self.uses = frozenset(n for n in variables if n in compiler.used)
        self._slots = {name: FIRST + index for index, name in enumerate(variables)}
        self._size = compiler.size
        self.spent = 0

    def evaluate(self, bindings: Mapping[str, Any], *, budget: int | None = PER_CALL_LIMIT) -> Any:
        """The value. Raises CelRuntimeError, or CostExceeded when it costs more than ``budget``.

        A binding may be a callable without arguments: it is called when an evaluation that reads it begins.
        """
        frame = [None] * self._size
        frame[SPENT] = 0  # type: ignore[call-overload]
        frame[ALLOWED] = UNLIMITED if budget is None else budget  # type: ignore[call-overload]
        for name in self.uses:
            value = bindings[name]
            frame[self._slots[name]] = value() if callable(value) else value
        try:
            value = self._run(frame)
        except RecursionError:
            raise CelRuntimeError("expression is nested too deeply to evaluate") from None
        except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError):
            # a value that is not what its declared type says, such as an object stored under another schema
            raise CelRuntimeError("no such overload") from None
        finally:
            self.spent = frame[SPENT]  # type: ignore[assignment]
        if self.spent > frame[ALLOWED]:  # type: ignore[operator]
            raise CostExceeded
        return value

    def estimate(self) -> tuple[int, int]:
        """The least and the most an evaluation can cost, by the sizes the variables' types declare."""
        from portside.api.cel.estimate import estimate

        return estimate(self.node, self.variables)


def compile_expression(
    text: str,
    *,
    variables: Mapping[str, Type],
    result: tuple[Type, ...] | Type | None = None,
    types: Mapping[str, Type] | None = None,
    functions: Mapping[str, tuple[Overload, ...]] | None = None,
    bindings: bool = False,
) -> Program:
    """Parses, checks and compiles. ``types`` are object types that may be built by name, ``functions`` more functions;
    ``bindings`` lets cel.bind name values.

    Raises CompileFailure with cel-go's text, ResultTypeFailure when the type is none of ``result`` (dyn is any),
    InstantiationFailure when a constant part fails.
    """
    if sys.getrecursionlimit() < _FRAMES:
        sys.setrecursionlimit(_FRAMES)
    known = library() if functions is None else {**library(), **functions}
    node = parse(text, bindings=bindings)
    issues = check(node, variables, known, types or {}) or literal_checks.check(node)
    if issues:
        raise CompileFailure(text, issues)
    wanted = (result,) if isinstance(result, Type) else result
    found = node.type
    if wanted is not None and found.kind not in ("dyn", "any") and not any(w.same(found) for w in wanted):
        raise ResultTypeFailure(wanted, found)
    return Program(text, node, variables)


def type_text(types: Iterable[Type] | Type) -> str:
    """Types as messages about results name them."""
    listed = (types,) if isinstance(types, Type) else tuple(types)
    return " or ".join(map(declared_name, listed))
