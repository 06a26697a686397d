"""Comprehensions as loops. Costs are those of the expanded form: what the loop itself does is accounted as its parts would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from portside.api.cel import type_values
from portside.api.cel.macros import RESULT
from portside.api.cel.syntax import Call, Fold, Ident, ListNode, Literal
from portside.api.cel.values import CelRuntimeError, CostExceeded

if TYPE_CHECKING:
    from portside.api.cel.evaluator import Compiler

Frame = list[Any]
Closure = Callable[[Frame], Any]
_TEST_COST = {"_&&_": 3, "_||_": 4}  # reading the result and testing whether to go on; || also negates
LIST_COST = 10
_MAP_STEP = 2 + LIST_COST  # reading the result, a list of one (none when it is constant), appending it


class Failed:
    """An accumulator that failed: a later member may still decide && and ||, anything else fails when it is read."""

    __slots__ = ("problem",)

    def __init__(self, problem: CelRuntimeError) -> None:
        self.problem = problem


def read(slot: int) -> Closure:
    """The accumulator's value."""

    def value(frame: Frame) -> Any:
        frame[0] += 1
        held = frame[slot]
        if held.__class__ is Failed:
            raise held.problem
        return held

    return value


def make(compiler: Compiler, node: Fold) -> Closure:
    """The closure of a comprehension."""
    over, init = compiler.compile(node.range), compiler.compile(node.init)
    outer = dict(compiler.slots)
    if node.bind:
        slot = compiler.new_slot(node.accu)
        result = compiler.compile(node.result)
        compiler.slots = outer
        return _bind(init, slot, result)
    accu = compiler.new_slot(node.accu)
    first = compiler.new_slot(node.var)
    second = compiler.new_slot(node.var2) if node.var2 else 0
    try:
        return _known(compiler, node, over, first, second) or _loop(compiler, node, over, init, (accu, first, second))
    finally:
        compiler.slots = outer


def _bind(init: Closure, slot: int, result: Closure) -> Closure:
    def bind(frame: Frame) -> Any:
        if frame[0] > frame[1]:  # macros may evaluate a value twice, and so on within it
            raise CostExceeded
        frame[slot] = init(frame)
        return result(frame)

    return bind


def entries(value: Any, two: bool) -> Any:
    """What a comprehension walks over: members or keys; with two variables indices and members, or keys and values."""
    if value.__class__ is list:
        return enumerate(value) if two else value
    if isinstance(value, dict):
        return value.items() if two else list(value)
    if two:
        raise CelRuntimeError(f"unsupported comprehension range type: {type_values.go_type(value)}")
    raise CelRuntimeError(f"got '{type_values.go_type(value)}', expected iterable type")


def _known(compiler: Compiler, node: Fold, over: Closure, first: int, second: int) -> Closure | None:
    """A loop of its own for the commonest shapes: all, exists, map and filter."""
    step = node.step
    if node.accu != RESULT or not isinstance(step, Call):
        return None
    if step.function in _TEST_COST and isinstance(node.result, Ident):
        predicate = compiler.compile(step.args[1])
        return _decided(over, predicate, first, second, step.function == "_||_", _TEST_COST[step.function])
    if isinstance(node.init, ListNode) and isinstance(node.cond, Literal):
        condition = None
        if step.function == "_?_:_":
            condition, step = compiler.compile(step.args[0]), step.args[1]  # type: ignore[assignment]
        if isinstance(step, Call) and step.function == "_+_" and isinstance(step.args[1], ListNode):
            item = compiler.compile(step.args[1].items[0])
            cost = _MAP_STEP if compiler.constant(item) is None else _MAP_STEP - LIST_COST
            return _collected(over, condition, item, first, second, cost)
    return None


def _decided(over: Closure, predicate: Closure, first: int, second: int, decides: bool, cost: int) -> Closure:
    """all and exists: the first deciding member ends the loop; a failure counts when none decides."""

    def loop(frame: Frame) -> Any:
        failed: CelRuntimeError | None = None
        decided = False
        for member in entries(over(frame), second > 0):
            if second:
                frame[first], frame[second] = member
            else:
                frame[first] = member
            if decided:
                frame[0] += cost - 1
                break
            frame[0] += cost
            try:
                value = predicate(frame)
            except CelRuntimeError as problem:
                failed = failed or problem
                continue
            if frame[0] > frame[1]:
                raise CostExceeded
            if value is decides:
                decided = True
            elif value.__class__ is not bool:
                failed = failed or CelRuntimeError("no such overload")
        frame[0] += 1
        if decided:
            return decides
        if failed is not None:
            raise failed
        return not decides

    return loop


def _collected(over: Closure, condition: Closure | None, item: Closure, first: int, second: int, cost: int) -> Closure:
    """map, filter and transformList."""

    def loop(frame: Frame) -> Any:
        made: list[Any] = []
        for member in entries(over(frame), second > 0):
            if second:
                frame[first], frame[second] = member
            else:
                frame[first] = member
            if condition is not None:
                wanted = condition(frame)
                if wanted is False:
                    continue
                if wanted is not True:
                    type_values.no_overload()
            made.append(item(frame))
            frame[0] += cost
            if frame[0] > frame[1]:
                raise CostExceeded
        frame[0] += 1
        return made

    return loop


def _loop(compiler: Compiler, node: Fold, over: Closure, init: Closure, slots: tuple[int, int, int]) -> Closure:
    """Any other comprehension, step by step."""
    accu, first, second = slots
    cond, step, result = (compiler.compile(n) for n in (node.cond, node.step, node.result))

    def loop(frame: Frame) -> Any:
        members = entries(over(frame), second > 0)
        frame[accu] = init(frame)
        for member in members:
            if second:
                frame[first], frame[second] = member
            else:
                frame[first] = member
            if frame[0] > frame[1]:
                raise CostExceeded
            if not cond(frame):
                break
            try:
                frame[accu] = step(frame)
            except CelRuntimeError as problem:
                frame[accu] = Failed(problem)
        return result(frame)

    return loop
