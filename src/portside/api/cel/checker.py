"""Static checking: every node gets a type, every call the overloads it may mean. What does not fit is reported as cel-go does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portside.api.cel import types as t
from portside.api.cel.functions import Overload
from portside.api.cel.source import MAX_ISSUES, Issue
from portside.api.cel.syntax import (
    Call,
    Fold,
    Ident,
    ListNode,
    Literal,
    MapNode,
    Node,
    Select,
    Struct,
    qualified_name,
)
from portside.api.cel.types import Bindings, Field, Type
from portside.api.cel.values import Uint

Functions = Mapping[str, tuple[Overload, ...]]
TYPE_NAMES: dict[str, Type] = {
    "bool": t.BOOL,
    "int": t.INT,
    "uint": t.UINT,
    "double": t.DOUBLE,
    "string": t.STRING,
    "bytes": t.BYTES,
    "null_type": t.NULL,
    "list": t.list_of(t.DYN),
    "map": t.map_of(t.DYN, t.DYN),
    "type": t.TYPE,
    "optional_type": t.optional_of(t.param("V")),
    "google.protobuf.Timestamp": t.TIMESTAMP,
    "google.protobuf.Duration": t.DURATION,
    **{n: t.opaque(n) for n in ("net.IP", "net.CIDR")},
    **{"kubernetes." + n: t.opaque("kubernetes." + n) for n in ("Quantity", "URL", "Semver", "NamedFormat")},
}
_CONSTANTS = {bool: t.BOOL, int: t.INT, Uint: t.UINT, float: t.DOUBLE, str: t.STRING, bytes: t.BYTES}


def check(node: Node, names: Mapping[str, Type], functions: Functions, objects: Mapping[str, Type]) -> list[Issue]:
    """Annotates the tree. ``names`` are variables, ``objects`` types that may be built with ``Name{}``."""
    checker = _Checker(names, functions, objects)
    checker.visit(node)
    if not checker.issues:
        for seen in checker.seen:
            seen.type = checker.bindings.resolve(seen.type, dyn=True)
    return checker.issues


class _Checker:
    def __init__(self, names: Mapping[str, Type], functions: Functions, objects: Mapping[str, Type]) -> None:
        self.scopes: list[dict[str, Type]] = [dict(names)]
        self.functions = functions
        self.objects = objects
        self.bindings = Bindings()
        self.issues: list[Issue] = []
        self.fresh = 0
        self.seen: list[Node] = []
        self.told: dict[int, list[Issue]] = {}

    def report(self, node: Node | int, message: str) -> None:
        self.issues.append(Issue(node if isinstance(node, int) else node.pos, message))

    def undeclared(self, node: Node, name: str) -> None:
        self.report(node, f"undeclared reference to '{name}' (in container '')")

    def mismatch(self, node: Node, expected: Type, found: Type) -> None:
        self.report(node, f"expected type '{t.show(expected)}' but found '{t.show(found)}'")

    def new_parameter(self) -> Type:
        made = t.param(f"_var{self.fresh}")
        self.fresh += 1
        return made

    def lookup(self, name: str) -> Type | None:
        name = name.removeprefix(".")
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        if name in TYPE_NAMES:
            return t.type_of(TYPE_NAMES[name]) if name != "type" else t.type_of(t.TYPE)
        return t.type_of(self.objects[name]) if name in self.objects else None

    def visit(self, node: Node) -> Type:
        told = self.told.get(id(node))
        if told is not None:  # a macro used the node twice: what was said of it is said again
            self.issues += told[: max(0, 2 * MAX_ISSUES - len(self.issues))]
            return node.type
        before = len(self.issues)
        made: Type = _VISITS[type(node)](self, node)
        node.type = made
        self.seen.append(node)
        self.told[id(node)] = self.issues[before:]
        return made

    def literal(self, node: Literal) -> Type:
        return _CONSTANTS.get(type(node.value), t.NULL)

    def ident(self, node: Ident) -> Type:
        found = self.lookup(node.name)
        if found is None:
            self.undeclared(node, node.name)
            return t.ERROR
        node.resolved = node.name.removeprefix(".")
        return found

    def select(self, node: Select) -> Type:
        name = None if node.test or node.optional else qualified_name(node)
        if name is not None:
            found = self.lookup(name)
            if found is not None:
                node.resolved = name.removeprefix(".")
                return found
        made = self.field_of(node)
        return t.BOOL if node.test else self.bindings.resolve(made)

    def field_of(self, node: Select) -> Type:
        operand = self.bindings.resolve(self.visit(node.operand))
        target, wrapped = t.unwrap_optional(operand)
        made: Type = t.ERROR
        if target.kind == "map":
            made = target.params[1]
        elif target.kind == "struct":
            field = target.fields.get(node.field)
            if field is None:
                self.report(node, f"undefined field '{node.field}'")
            else:
                made = field.type
        elif target.kind == "param":
            self.bindings.fits(t.DYN, target)
            made = t.DYN
        else:
            if not target.is_dyn:
                self.report(node, f"type '{t.show(target)}' does not support field selection")
            made = t.DYN
        return t.optional_of(made) if wrapped or node.optional else made

    def call(self, node: Call) -> Type:
        args = [self.visit(a) for a in node.args]
        name = node.function.removeprefix(".")
        if node.target is None:
            if name not in self.functions:
                self.undeclared(node, name)
                return t.ERROR
            node.function = name
            return self.choose(node, name, args)
        prefix = qualified_name(node.target)
        if prefix is not None:
            full = f"{prefix}.{name}".removeprefix(".")
            if full in self.functions:
                node.function, node.target = full, None
                return self.choose(node, full, args)
        receiver = self.visit(node.target)
        if name not in self.functions:
            self.undeclared(node, name)
            return t.ERROR
        return self.choose(node, name, [receiver, *args])

    def choose(self, node: Call, name: str, args: list[Type]) -> Type:
        """The result type of the overloads that take ``args``; notes them on the node."""
        if name in ("_&&_", "_||_"):
            return self.logical(node, args)
        member = node.target is not None
        result: Type | None = None
        chosen: list[Overload] = []
        for overload in self.functions[name]:
            if overload.member is not member:
                continue
            formal, yields = overload.args, overload.result
            if overload.params:
                renamed = Bindings()
                for parameter in sorted(overload.params):
                    renamed.found[parameter] = self.new_parameter()
                formal = tuple(renamed.resolve(a) for a in formal)
                yields = renamed.resolve(yields)
            if not self.bindings.assign(args, formal):
                continue
            chosen.append(overload)
            yields = self.bindings.resolve(yields)
            if result is None:
                result = yields
            elif result.kind != "dyn" and not yields.same(result):
                result = t.DYN
        if result is None:
            shown = t.show_call([self.bindings.resolve(a, dyn=True) for a in args], member=member)
            self.report(node, f"found no matching overload for '{name}' applied to '{shown}'")
            return t.ERROR
        node.overloads = tuple(chosen)
        if name == "_+_" and args[0].list_type and result.kind == "list":
            result = t.list_of(result.params[0])
            result.list_type, result.keys = args[0].list_type, args[0].keys
        return result

    def logical(self, node: Call, args: list[Type]) -> Type:
        good = True
        for argument, type_ in zip(node.args, args, strict=True):
            if not self.bindings.fits(type_, t.BOOL):
                self.mismatch(argument, t.BOOL, type_)
                good = False
        node.overloads = self.functions[node.function]
        return t.BOOL if good else t.ERROR

    def join(self, previous: Type | None, current: Type) -> Type:
        """The type of an aggregate's members so far. What does not agree is dyn; literals are told apart by a later check."""
        if previous is None:
            return current
        return t.most_general(previous, current) if self.bindings.fits(previous, current) else t.DYN

    def maybe_optional(self, node: Node, type_: Type, optional: bool) -> Type:
        if not optional:
            return type_
        inner, wrapped = t.unwrap_optional(type_)
        if not wrapped and type_.kind != "dyn":
            self.mismatch(node, t.optional_of(inner), inner)
        return inner

    def list_node(self, node: ListNode) -> Type:
        item: Type | None = None
        for index, child in enumerate(node.items):
            found = self.visit(child)
            item = self.join(item, self.maybe_optional(child, found, index in node.optional))
        return t.list_of(item if item is not None else self.new_parameter())

    def map_node(self, node: MapNode) -> Type:
        key: Type | None = None
        value: Type | None = None
        for entry in node.entries:
            key = self.join(key, self.visit(entry.key))
            found = self.visit(entry.value)
            value = self.join(value, self.maybe_optional(entry.value, found, entry.optional))
        return t.map_of(key or self.new_parameter(), value or self.new_parameter())

    def struct(self, node: Struct) -> Type:
        found = self.lookup(node.name)
        if found is None:
            self.undeclared(node, node.name.removeprefix("."))
            return t.ERROR
        made = found.params[0] if found.kind == "type" and found.params else t.ERROR
        if made.kind != "struct":
            self.report(node, f"'{t.show(made)}' is not a message type")
            made = t.ERROR
        for entry in node.fields:
            value = self.visit(entry.value)
            field: Field | None = made.fields.get(entry.key)
            if field is None and made is not t.ERROR:
                self.report(entry.pos, f"undefined field '{entry.key}'")
            wanted = field.type if field else t.ERROR
            value = self.maybe_optional(entry.value, value, entry.optional)
            if not self.bindings.fits(wanted, value):
                shown = (t.show(wanted), t.show(value))
                text = f"expected type of field '{entry.key}' is '{shown[0]}' but provided type is '{shown[1]}'"
                self.report(entry.pos, text)
        return made

    def fold(self, node: Fold) -> Type:
        over = self.bindings.resolve(self.visit(node.range))
        accu = self.visit(node.init)
        first, second = self.iterated(node.range, over, node.var2 is not None)
        self.scopes.append({node.accu: accu})
        self.scopes.append({node.var: first, **({node.var2: second} if node.var2 else {})})
        self.expect(node.cond, t.BOOL)
        self.expect(node.step, accu)
        self.scopes.pop()
        made = self.visit(node.result)
        self.scopes.pop()
        return self.bindings.resolve(made)

    def expect(self, node: Node, type_: Type) -> None:
        found = self.visit(node)
        if not self.bindings.fits(type_, found):
            self.mismatch(node, type_, found)

    def iterated(self, node: Node, over: Type, two: bool) -> tuple[Type, Type]:
        if over.kind == "list":
            return (t.INT, over.params[0]) if two else (over.params[0], t.ERROR)
        if over.kind == "map":
            return over.params[0], over.params[1]
        if over.kind == "param":
            self.bindings.fits(t.DYN, over)
        elif not over.is_dyn:
            text = f"expression of type '{t.show(over)}' cannot be range of a comprehension (must be list, map, or dynamic)"
            self.report(node, text)
            return t.ERROR, t.ERROR
        return t.DYN, t.DYN


_VISITS: dict[type[Node], Callable[[_Checker, Any], Type]] = {
    Literal: _Checker.literal,
    Ident: _Checker.ident,
    Select: _Checker.select,
    Call: _Checker.call,
    ListNode: _Checker.list_node,
    MapNode: _Checker.map_node,
    Struct: _Checker.struct,
    Fold: _Checker.fold,
}
