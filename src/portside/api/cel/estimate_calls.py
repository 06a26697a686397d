"""What one call can cost at least and at most, and the size of what it makes, by function and overload."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from portside.api.cel.costs import AUTHORIZER_CHECK, LIST_CALL, PATTERN, TRAVERSAL
from portside.api.cel.functions import Overload
from portside.api.cel.ranges import MOST, ZERO, Range, add, fixed, scale, scale_one, times, union
from portside.api.cel.syntax import Call, Literal, Node

if TYPE_CHECKING:
    from portside.api.cel.estimate import Estimator

Found = tuple[Range, Range | None]
Rule = Callable[["Estimator", Call], "Found | None"]
_ONE = fixed(1)
_UINT_SIZES = {"cidr_contains_ip_string", "cidr_contains_cidr_string"}


def cost_of(estimator: Estimator, node: Call, overload: Overload, costs: list[Range]) -> Found:
    """Cost with that of the arguments, and the size of the result when the call determines it."""
    arguments = add(*costs) if costs else ZERO
    rule = _BY_FUNCTION.get(node.function)
    if rule is not None:
        found = rule(estimator, node)
        if found is not None:
            return add(found[0], arguments), found[1]
    if overload.id in (
        "cidr_contains_ip_string",
        "cidr_contains_ip_ip",
        "cidr_contains_cidr_string",
        "cidr_contains_cidr",
    ):
        return add(_network(estimator, node, overload.id), arguments), None
    if overload.id in ("logical_and", "logical_or"):
        return (costs[0][0], arguments[1]), None
    if overload.id == "conditional":
        return _conditional(estimator, node, costs)
    special = _BY_OVERLOAD.get(overload.id)
    if special is not None:
        found = special(estimator, node)
        if found is not None:
            return add(found[0], arguments), found[1]
    return add(_ONE, arguments), None


def _conditional(estimator: Estimator, node: Call, costs: list[Range]) -> Found:
    yes, no = node.args[1], node.args[2]
    first, second = estimator.entry(yes), estimator.entry(no)
    if first is not None and second is not None:
        merged = first._replace(key=union(first.key, second.key), value=union(first.value, second.value))
        estimator.entries[id(node)] = merged
    size = union(estimator.known(yes), estimator.known(no))
    return add(costs[0], union(costs[1], costs[2])), size


def _members(estimator: Estimator, target: Node) -> Range | None:
    """The size of a list's members by its declared type; None when it has no members."""
    if not target.type.params:
        return None
    path = estimator.path(target)
    declared = estimator.declared((*path, "@items")) if path else None
    return declared or (0, MOST)


def _walked(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    size = estimator.known(node.target)
    if not node.target.type.params:
        return scale(size, TRAVERSAL), None
    each = _ONE
    if node.target.type.params[0].kind in ("string", "bytes"):
        each = add(each, scale(_members(estimator, node.target) or ZERO, TRAVERSAL))
    return times(size, each), None


def _parsed(factor: float) -> Rule:
    def rule(estimator: Estimator, node: Call) -> Found | None:
        if not node.args:
            return None
        size = estimator.known(node.args[0])
        return scale(size, factor), size

    return rule


def _parsed_ip(estimator: Estimator, node: Call) -> Found | None:
    return _parsed(TRAVERSAL)(estimator, node) if node.target is None else (_ONE, None)


def _copied(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    size = estimator.known(node.target)
    return scale(size, TRAVERSAL), size


def _replaced(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None or len(node.args) < 2:
        return None
    size, old, new = (estimator.known(n) for n in (node.target, *node.args[:2]))
    most = _replacements(size[1], old[0], new[1] <= old[0])
    least = _replacements(size[0], old[1], old[1] <= new[0])
    made = add(times((least[0], most[0]), new), (least[1], most[1]))
    return scale(size, 2 * TRAVERSAL), made


def _replacements(size: int, old: int, no_change: bool) -> tuple[int, int]:
    """How many replacements, and how much of the original stays, at the extreme."""
    if old == 0:
        return min(size + 1, MOST), size
    if no_change:
        return 0, size
    return math.ceil(float(size) / float(old)), 0


def _split(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    size = estimator.known(node.target)
    most = size[1]
    if len(node.args) > 1 and isinstance(node.args[1], Literal) and isinstance(node.args[1].value, int):
        most = node.args[1].value if node.args[1].value >= 0 else most
    return scale(size, 2 * TRAVERSAL), (0, most)


def _joined(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    count = estimator.known(node.target)
    members = _members(estimator, node.target)
    size = times(count, members) if members else ZERO
    if node.args:
        between = (max(count[0] - 1, 0), max(count[1] - 1, 0))
        size = add(size, times(estimator.known(node.args[0]), between))
    return scale(size, TRAVERSAL), size


def _pattern(estimator: Estimator, node: Call) -> Found | None:
    subject, pattern = _subject(node)
    if subject is None or pattern is None:
        return None
    size = estimator.known(subject)
    text = scale(add(size, _ONE), TRAVERSAL)
    made = (0, size[1]) if node.function != "matches" else None
    return times(text, scale(estimator.known(pattern), PATTERN)), made


def _subject(node: Call) -> tuple[Node | None, Node | None]:
    if node.target is None:
        return None, None
    return node.target, node.args[0] if node.args else None


def _validated(estimator: Estimator, node: Call) -> Found | None:
    text = scale(estimator.known(node.args[0]), TRAVERSAL)
    return times(text, fixed(scale_one(128, PATTERN))), None


def _network(estimator: Estimator, node: Call, overload: str) -> Range:
    base = scale((8, 32), TRAVERSAL)
    if "contains_cidr" in overload:
        base = add(base, scale((4, 16), TRAVERSAL), _ONE)
    if overload in _UINT_SIZES:
        base = add(base, scale(estimator.known(node.args[0]), TRAVERSAL))
    return base


def _sets(factor: int) -> Rule:
    def rule(estimator: Estimator, node: Call) -> Found | None:
        if len(node.args) != 2:
            return None
        pairs = times(estimator.known(node.args[0]), estimator.known(node.args[1]))
        return add(times(pairs, fixed(factor)), _ONE), None

    return rule


def _copied_list(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    size = estimator.known(node.target)
    depth = (_literal_int(node.args[0]) if node.args else 1) or 0
    return add(times(size, fixed(max(depth, 0))), fixed(LIST_CALL)), size


def _sorted(estimator: Estimator, node: Call) -> Found | None:
    """Every pair is compared; strings by what they are long."""
    if node.target is None:
        return None
    size = estimator.known(node.target)
    pairs = times(size, size)
    keys = node.args[0].type if node.args else node.target.type
    text = node.function != "distinct" and bool(keys.params) and keys.params[0].kind in ("string", "bytes")
    return add(scale(pairs, 2 + TRAVERSAL) if text else times(pairs, fixed(2)), fixed(LIST_CALL)), pairs


def _literal_int(node: Node) -> int | None:
    return node.value if isinstance(node, Literal) and isinstance(node.value, int) else None


def _sliced(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None or len(node.args) != 2:
        return None
    start, end = _literal_int(node.args[0]), _literal_int(node.args[1])
    size = estimator.known(node.target)
    if start is not None and end is not None:
        start, end = max(start, 0), max(end, 0)
        size = fixed(end - start if start <= end else MOST)
    return add(scale(size, 1), fixed(LIST_CALL)), size


def _range(estimator: Estimator, node: Call) -> Found | None:
    count = _literal_int(node.args[0])
    size = fixed(MOST if count is None else max(count, 0))
    return add(size, fixed(LIST_CALL)), size


def _nominal(estimator: Estimator, node: Call) -> Found | None:
    return _ONE, None


def _one_string(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    return scale(estimator.known(node.target), TRAVERSAL), None


_NOMINAL = [
    "serviceAccount",
    "path",
    "group",
    "resource",
    "subresource",
    "namespace",
    "name",
    "allowed",
    "reason",
    "error",
    "errored",
    "fieldSelector",
    "labelSelector",
    "masked",
    "prefixLength",
    "family",
    "isUnspecified",
    "isLoopback",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isGlobalUnicast",
    "sign",
    "asInteger",
    "isInteger",
    "asApproximateFloat",
    "isGreaterThan",
    "isLessThan",
    "compareTo",
    "add",
    "sub",
    "major",
    "minor",
    "patch",
]
_BY_FUNCTION: dict[str, Rule] = {
    "check": lambda estimator, node: (fixed(AUTHORIZER_CHECK), None),
    **dict.fromkeys(_NOMINAL, _nominal),
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _walked),
    **dict.fromkeys(
        ("url", "cidr", "isCIDR", "isIP", "quantity", "isQuantity", "semver", "isSemver"), _parsed(TRAVERSAL)
    ),
    **dict.fromkeys(("jsonpatch.escapeKey",), _parsed(TRAVERSAL)),
    "ip": _parsed_ip,
    "ip.isCanonical": _parsed(2 * TRAVERSAL),
    **dict.fromkeys(("lowerAscii", "upperAscii", "substring", "trim"), _copied),
    "replace": _replaced,
    "split": _split,
    "join": _joined,
    **dict.fromkeys(("find", "findAll", "matches"), _pattern),
    "validate": _validated,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
    **dict.fromkeys(("reverse", "flatten"), _copied_list),
    **dict.fromkeys(("distinct", "sort", "@sortByAssociatedKeys"), _sorted),
    "slice": _sliced,
    "lists.range": _range,
}


def _compared(estimator: Estimator, node: Call) -> Found | None:
    nodes = [node.target, *node.args] if node.target is not None else node.args
    first, second = (estimator.known(n) for n in nodes)
    most = min(first[1], second[1])
    return scale((1 if most else 0, most), TRAVERSAL), None


def _added(estimator: Estimator, node: Call) -> Found | None:
    size = add(estimator.known(node.args[0]), estimator.known(node.args[1]))
    first, second = estimator.entry(node.args[0]), estimator.entry(node.args[1])
    if first is not None and second is not None:
        merged = first._replace(key=union(first.key, second.key), value=union(first.value, second.value))
        estimator.entries[id(node)] = merged
    return scale(size, TRAVERSAL), size


def _added_lists(estimator: Estimator, node: Call) -> Found | None:
    found = _added(estimator, node)
    return (_ONE, found[1]) if found else None


def _searched(estimator: Estimator, node: Call) -> Found | None:
    return scale(estimator.known(node.args[-1]), 1), None


def _prefix(estimator: Estimator, node: Call) -> Found | None:
    return scale(estimator.known(node.args[0]), TRAVERSAL), None


def _contained(estimator: Estimator, node: Call) -> Found | None:
    if node.target is None:
        return None
    return times(*(scale(estimator.known(n), TRAVERSAL) for n in (node.target, node.args[0]))), None


def _encoded(grow: int, shrink: int) -> Rule:
    def rule(estimator: Estimator, node: Call) -> Found | None:
        size = estimator.known(node.args[0])
        return scale(size, TRAVERSAL), (size[0] // shrink, min(size[1] * grow, MOST))

    return rule


def _quoted(estimator: Estimator, node: Call) -> Found | None:
    size = estimator.known(node.args[0])
    return scale(size, TRAVERSAL), (size[0] + 2, min(size[1] * 2 + 2, MOST))


_ORDER = ("less", "greater", "less_equals", "greater_equals")
_BY_OVERLOAD: dict[str, Rule] = {
    **dict.fromkeys(("equals", "not_equals"), _compared),
    **{f"{word}_{kind}": _compared for word in _ORDER for kind in ("string", "bytes")},
    **dict.fromkeys(("add_string", "add_bytes"), _added),
    "add_list": _added_lists,
    "in_list": _searched,
    **dict.fromkeys(("starts_with_string", "ends_with_string"), _prefix),
    "contains_string": _contained,
    "string_to_bytes": _encoded(4, 1),
    "bytes_to_string": _encoded(1, 4),
    "strings_quote": _quoted,
    "string_format": _one_string,
}
