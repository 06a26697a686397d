"""The syntax tree of an expression. ``pos`` is the code point a problem with the node is reported at.

The checker fills in ``type`` and, for calls, ``overloads`` (those the argument types allow) and ``static``; for names and
selections that are names of declared things, ``resolved``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portside.api.cel.functions import Overload
    from portside.api.cel.types import Type


class Node:
    """Any expression."""

    __slots__ = ("pos", "type")
    type: Type

    def __init__(self, pos: int) -> None:
        self.pos = pos


class Literal(Node):
    """A constant: bool, int, Uint, float, str, bytes or None."""

    __slots__ = ("value",)

    def __init__(self, pos: int, value: Any) -> None:
        self.pos = pos
        self.value = value


class Ident(Node):
    """A name."""

    __slots__ = ("name", "resolved")

    def __init__(self, pos: int, name: str) -> None:
        self.pos = pos
        self.name = name
        self.resolved: str | None = None


class Select(Node):
    """``operand.field``; with ``test`` the has() of it; with ``optional`` ``operand.?field``."""

    __slots__ = ("field", "field_pos", "operand", "optional", "resolved", "test")

    def __init__(self, pos: int, operand: Node, field: str, *, test: bool = False, optional: bool = False) -> None:
        self.pos = pos
        self.operand = operand
        self.field = field
        self.test = test
        self.optional = optional
        self.resolved: str | None = None


class Call(Node):
    """A function or operator; ``target`` is the receiver. && and || take any number of arguments."""

    __slots__ = ("args", "function", "overloads", "target")

    def __init__(self, pos: int, function: str, args: list[Node], target: Node | None = None) -> None:
        self.pos = pos
        self.function = function
        self.target = target
        self.args = args
        self.overloads: tuple[Overload, ...] = ()


class ListNode(Node):
    """``[a, ?b]``; ``optional`` holds the indices written with a question mark."""

    __slots__ = ("items", "optional")

    def __init__(self, pos: int, items: list[Node], optional: frozenset[int] = frozenset()) -> None:
        self.pos = pos
        self.items = items
        self.optional = optional


class Entry:
    """One entry of a map or one field of an object."""

    __slots__ = ("key", "optional", "pos", "value")

    def __init__(self, pos: int, key: Any, value: Node, optional: bool) -> None:
        self.pos = pos
        self.key = key
        self.value = value
        self.optional = optional


class MapNode(Node):
    """``{k: v}``."""

    __slots__ = ("entries",)

    def __init__(self, pos: int, entries: list[Entry]) -> None:
        self.pos = pos
        self.entries = entries


class Struct(Node):
    """``Name{field: v}``."""

    __slots__ = ("fields", "name")

    def __init__(self, pos: int, name: str, fields: list[Entry]) -> None:
        self.pos = pos
        self.name = name
        self.fields = fields


class Fold(Node):
    """A comprehension: what macros over lists and maps become. ``bind`` marks a local name instead of a loop."""

    __slots__ = ("accu", "bind", "cond", "init", "range", "result", "step", "var", "var2")

    def __init__(
        self,
        pos: int,
        *,
        over: Node,
        var: str,
        var2: str | None,
        accu: str,
        init: Node,
        cond: Node,
        step: Node,
        result: Node,
        bind: bool = False,
    ) -> None:
        self.pos = pos
        self.range = over
        self.var = var
        self.var2 = var2
        self.accu = accu
        self.init = init
        self.cond = cond
        self.step = step
        self.result = result
        self.bind = bind


def qualified_name(node: Node) -> str | None:
    """``a.b.c`` when the node is nothing but names."""
    parts: list[str] = []
    while isinstance(node, Select) and not node.test and not node.optional:
        parts.append(node.field)
        node = node.operand
    if not isinstance(node, Ident):
        return None
    parts.append(node.name)
    return ".".join(reversed(parts))
