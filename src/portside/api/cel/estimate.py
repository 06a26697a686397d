"""The least and the most an expression can cost, found without running it.

Sizes come from constants, from declared types along the path from a variable (``self.list.@items.name``), and from what calls
make of their arguments. A range is a pair; arithmetic stops at the largest unsigned number, as upstream's does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from portside.api.cel import estimate_calls
from portside.api.cel.ranges import MOST, UNKNOWN, ZERO, Range, add, fixed, times, union
from portside.api.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from portside.api.cel.types import Type

Path = tuple[str, ...]
_ONE = fixed(1)


class Entry(NamedTuple):
    """Sizes of the members of a list or map that an expression makes."""

    kind: str
    key: Range
    value: Range


class _Local(NamedTuple):
    path: Path
    size: Range | None
    entry: Entry | None


def estimate(node: Node, variables: Mapping[str, Type]) -> Range:
    """(least, most)."""
    return Estimator(variables).cost(node)


class Estimator:
    """One walk over a tree. Remembers paths and sizes of the nodes seen."""

    def __init__(self, variables: Mapping[str, Type]) -> None:
        self.variables = variables
        self.locals: dict[str, list[_Local]] = {}
        self.costs: dict[int, Range] = {}
        self.paths: dict[int, Path] = {}
        self.sizes: dict[int, Range] = {}
        self.entries: dict[int, Entry] = {}

    def cost(self, node: Node) -> Range:
        """The range of one node. Macros may use a node twice; it is looked at once."""
        found = self.costs.get(id(node))
        if found is None:
            found = self.costs[id(node)] = self._cost(node)
        return found

    def _cost(self, node: Node) -> Range:
        if isinstance(node, Literal):
            return ZERO
        if isinstance(node, Ident):
            return self.ident(node, node.resolved or node.name)
        if isinstance(node, Select):
            return self.select(node)
        if isinstance(node, Call):
            return self.call(node)
        if isinstance(node, ListNode):
            return self.list_node(node)
        if isinstance(node, MapNode):
            return self.map_node(node)
        if isinstance(node, Struct):
            return add(*(self.cost(e.value) for e in node.fields), fixed(40))
        assert isinstance(node, Fold)
        return self.bind(node) if node.bind else self.fold(node)

    def ident(self, node: Node, name: str) -> Range:
        local = self.local(name)
        self.paths[id(node)] = local.path if local else (name,)
        return _ONE

    def local(self, name: str) -> _Local | None:
        stack = self.locals.get(name)
        return stack[-1] if stack else None

    def select(self, node: Select) -> Range:
        if node.resolved is not None:
            return self.ident(node, node.resolved)
        total = self.cost(node.operand)
        if node.test:
            return total
        if node.optional:
            return add(total, _ONE)
        self.paths[id(node)] = (*self.path(node.operand), node.field) if self.path(node.operand) else (node.field,)
        return add(total, _ONE) if node.operand.type.kind in ("map", "struct", "param") else total

    def path(self, node: Node) -> Path:
        if isinstance(node, Ident):
            local = self.local(node.name)
            if local is not None:
                return local.path
        return self.paths.get(id(node), ())

    # calls

    def call(self, node: Call) -> Range:
        if node.function == "dyn" and node.target is None:
            inner = self.cost(node.args[0])
            self.copy(node, node.args[0])
            return add(_ONE, inner)
        costs = [self.cost(a) for a in node.args]
        if not node.overloads:
            return ZERO
        total = self.cost(node.target) if node.target is not None else ZERO
        least, most, size = MOST, 0, None
        for overload in node.overloads:
            found, made = estimate_calls.cost_of(self, node, overload, costs)
            least, most = min(least, found[0]), max(most, found[1])
            if made is not None:
                size = made if size is None else union(size, made)
            if overload.id in ("index_list", "index_map"):
                step = "@items" if overload.id == "index_list" else "@values"
                entry = self.entry(node.args[0])
                size = entry.value if entry else None
                self.paths[id(node)] = (*self.path(node.args[0]), step)
            if size is None:
                size = self.size(node)
        if size is not None:
            self.sizes[id(node)] = size
        return add(total, (least, most))

    # aggregates

    def list_node(self, node: ListNode) -> Range:
        total = add(*(self.cost(n) for n in node.items), fixed(10))
        sizes = [self.known(n) for n in node.items]
        self.entries[id(node)] = Entry("list", _ONE, _spread(sizes))
        return total

    def map_node(self, node: MapNode) -> Range:
        costs = [self.cost(n) for e in node.entries for n in (e.key, e.value)]
        keys = [self.known(e.key) for e in node.entries]
        values = [self.known(e.value) for e in node.entries]
        self.entries[id(node)] = Entry("map", _spread(keys), _spread(values))
        return add(*costs, fixed(30))

    # comprehensions

    def fold(self, node: Fold) -> Range:
        total = add(self.cost(node.range), self.cost(node.init))
        local = _Local(self.path(node.init), self.size(node.init), self.entry(node.init))
        self.locals.setdefault(node.accu, []).append(local)
        pushed = self.iterate(node)
        each = add(self.cost(node.cond), self.cost(node.step))
        for name in pushed:
            self.locals[name].pop()
        total = add(total, self.cost(node.result))
        self.locals[node.accu].pop()
        count = self.known(node.range)
        total = add(total, times(count, each))
        if isinstance(node.init, Literal):
            self.sizes[id(node)] = self.known(node.init)
        elif isinstance(node.init, ListNode | MapNode):
            self.sizes[id(node)] = count
            entry = self.entry(node.step)
            if entry is not None:
                self.entries[id(node)] = entry
        return total

    def iterate(self, node: Fold) -> list[str]:
        """Makes the loop's variables visible; their names."""
        entry, path = self.entry(node.range), self.path(node.range)
        kind = entry.kind if entry else node.range.type.kind
        key, value = (entry.key, entry.value) if entry else (None, None)
        keys = (*path, "@indices" if kind == "list" and node.var2 else "@keys")
        values = (*path, "@items" if kind == "list" else "@values")
        if node.var2:
            made = [(node.var, keys, key), (node.var2, values, value)]
        else:
            made = [(node.var, values, value) if kind == "list" else (node.var, keys, key)]
        for name, where, size in made:
            self.locals.setdefault(name, []).append(_Local(where, size, None))
        return [name for name, _, _ in made]

    def bind(self, node: Fold) -> Range:
        total = add(self.cost(node.range), self.cost(node.init))
        local = _Local(self.path(node.init), self.size(node.init), self.entry(node.init))
        self.locals.setdefault(node.accu, []).append(local)
        total = add(total, self.cost(node.result))
        self.locals[node.accu].pop()
        self.copy(node, node.result)
        return total

    # sizes

    def copy(self, node: Node, source: Node) -> None:
        size, entry = self.size(source), self.entry(source)
        if size is not None:
            self.sizes[id(node)] = size
        if entry is not None:
            self.entries[id(node)] = entry

    def size(self, node: Node) -> Range | None:
        """The size a value has, when anything is known."""
        found = self.sizes.get(id(node))
        if found is not None:
            return found
        if isinstance(node, Literal):
            return fixed(len(node.value) if isinstance(node.value, str | bytes) else 1)
        if isinstance(node, ListNode):
            return fixed(len(node.items))
        if isinstance(node, MapNode):
            return fixed(len(node.entries))
        declared = self.declared(self.path(node))
        if declared is not None:
            self.sizes[id(node)] = declared
            return declared
        if node.type.is_scalar:
            return _ONE
        local = self.local(node.name) if isinstance(node, Ident) else None
        return local.size if local else None

    def known(self, node: Node) -> Range:
        return self.size(node) or UNKNOWN

    def entry(self, node: Node) -> Entry | None:
        found = self.entries.get(id(node))
        if found is None and isinstance(node, Ident):
            local = self.local(node.name)
            return local.entry if local else None
        return found

    def declared(self, path: Path) -> Range | None:
        """The size that the declared type at a path allows. What is not below a variable counts from the first one."""
        if not path or not self.variables:
            return None
        found = self.variables.get(path[0]) or next(iter(self.variables.values()))
        type_ = found.params[0] if found.is_optional else found
        for step in path[1:]:
            if step == "@items" or step == "@values":
                if type_.kind not in ("list", "map"):
                    return None
                type_ = type_.params[-1]
            elif step == "@keys":
                if type_.kind != "map":
                    return None
                type_ = type_.params[0]
            else:
                field = type_.fields.get(step)
                if field is None and not type_.by_name:
                    return None
                type_ = field.type if field is not None else type_.params[1]
        return 0, type_.limit or 0


def _spread(sizes: list[Range]) -> Range:
    """The range that holds all sizes; of none (0, 0)."""
    if not sizes:
        return 0, 0
    return min(s[0] for s in sizes), max(s[1] for s in sizes)
