"""Checks of constants after type checking: durations, timestamps, patterns, format strings, members of one type."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from portside.api.cel import formatting, patterns, stdlib_time
from portside.api.cel.source import Issue
from portside.api.cel.syntax import Call, Fold, ListNode, Literal, MapNode, Node, Select, Struct
from portside.api.cel.types import Type, optional_of, show, unwrap_optional
from portside.api.cel.values import CelRuntimeError


def children(node: Node) -> list[Node]:
    """The nodes directly below."""
    if isinstance(node, Select):
        return [node.operand]
    if isinstance(node, Call):
        return [node.target, *node.args] if node.target is not None else list(node.args)
    if isinstance(node, ListNode):
        return list(node.items)
    if isinstance(node, MapNode):
        return [n for e in node.entries for n in (e.key, e.value)]
    if isinstance(node, Struct):
        return [e.value for e in node.fields]
    if isinstance(node, Fold):
        return [node.range, node.init, node.cond, node.step, node.result]
    return []


def _walk(node: Node, exempt: bool, seen: set[int]) -> Iterator[tuple[Node, bool]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    yield node, exempt
    inside = exempt or (isinstance(node, Call) and node.function == "format")
    for child in children(node):
        yield from _walk(child, inside, seen)


def check(node: Node) -> list[Issue]:
    """Every constant that can only fail, and every list or map whose members differ."""
    issues: list[Issue] = []
    for found, exempt in _walk(node, False, set()):
        if isinstance(found, Call):
            rule = _CALLS.get(found.function)
            if rule is not None:
                issues += rule(found)
        elif isinstance(found, ListNode) and not exempt:
            issues += _same_types([(n, i in found.optional) for i, n in enumerate(found.items)])
        elif isinstance(found, MapNode) and not exempt:
            issues += _same_types([(e.key, False) for e in found.entries])
            issues += _same_types([(e.value, e.optional) for e in found.entries])
    return issues


def _same_types(members: list[tuple[Node, bool]]) -> list[Issue]:
    expected: Type | None = None
    for node, optional in members:
        found = unwrap_optional(node.type)[0] if optional else node.type
        if expected is None:
            expected = found
        elif not expected.same(found):
            wanted = optional_of(expected) if optional else expected
            return [Issue(node.pos, f"expected type '{show(wanted)}' but found '{show(node.type)}'")]
    return []


def _text_argument(valid: Callable[[str], bool], message: str, at: int) -> Callable[[Call], list[Issue]]:
    def rule(call: Call) -> list[Issue]:
        if len(call.args) <= at:
            return []
        argument = call.args[at]
        if isinstance(argument, Literal) and isinstance(argument.value, str) and not valid(argument.value):
            return [Issue(argument.pos, message)]
        return []

    return rule


def _pattern_ok(text: str) -> bool:
    try:
        patterns.compiled(text)
    except CelRuntimeError:
        return False
    return True


def _matches(call: Call) -> list[Issue]:
    at = 0 if call.target is not None else 1
    return _text_argument(_pattern_ok, "invalid matches argument", at)(call)


_FORMAT_TYPES = {
    "d": ("int", "uint"),
    "f": ("double",),
    "e": ("double",),
    "x": ("int", "uint", "string", "bytes"),
    "X": ("int", "uint", "string", "bytes"),
    "o": ("int", "uint"),
    "b": ("int", "uint", "bool"),
}


def _unformattable(verb: str, node: Node) -> Node | None:
    """The node whose type the clause does not take: itself, or for %s something within a list or map."""
    if verb != "s":
        return None if node.type.kind in (*_FORMAT_TYPES[verb], "dyn", "any", "param") else node
    if node.type.kind in ("opaque", "struct"):
        return node
    inner = children(node) if isinstance(node, ListNode | MapNode) else []
    return next((found for child in inner if (found := _unformattable(verb, child)) is not None), None)


def _format(call: Call) -> list[Issue]:
    if call.target is None or not isinstance(call.target, Literal) or not isinstance(call.target.value, str):
        return []
    arguments = call.args[0]
    if not isinstance(arguments, ListNode):
        return []
    try:
        verbs = [verb for _, verb, _ in formatting.clauses(call.target.value) if verb]
    except formatting.ClauseError as problem:
        return [Issue(call.pos, str(problem))]
    for index, verb in enumerate(verbs):
        if index >= len(arguments.items):
            return [Issue(call.pos, f"index {index} out of range")]
        wrong = _unformattable(verb, arguments.items[index])
        if wrong is not None:
            return [Issue(wrong.pos, formatting.wrong(verb, wrong.type.name))]
    if len(arguments.items) > len(verbs):
        text = f"too many arguments supplied to string.format (expected {len(verbs)}, got {len(arguments.items)})"
        return [Issue(call.pos, text)]
    return []


_CALLS: dict[str, Callable[[Call], list[Issue]]] = {
    "duration": _text_argument(lambda t: stdlib_time.parse_duration(t) is not None, "invalid duration argument", 0),
    "timestamp": _text_argument(lambda t: stdlib_time.parse_timestamp(t) is not None, "invalid timestamp argument", 0),
    "matches": _matches,
    "format": _format,
}
