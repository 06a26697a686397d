"""From a checked tree to Python closures. A closure takes the frame and yields the value.

The frame is a list: the cost spent, the cost allowed, then one slot for each variable. What is known statically is decided here,
once: which overload a call means, how a field is read, how two values of a type are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from portside.api.cel import calls, folds, members, type_values
from portside.api.cel.checker import TYPE_NAMES
from portside.api.cel.comparison import equality
from portside.api.cel.macros import RESULT
from portside.api.cel.syntax import Call, Fold, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from portside.api.cel.types import Type
from portside.api.cel.values import CelRuntimeError, Optional, Typed

Frame = list[Any]
Closure = Callable[[Frame], Any]
SPENT, ALLOWED, FIRST = 0, 1, 2
MAP_COST, STRUCT_COST = 30, 40


class Constant:
    """A closure whose value is known: it costs nothing."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, frame: Frame) -> Any:
        return self.value


class Compiler:
    """Makes the closures of one expression. ``slots`` says where in the frame each visible name is."""

    def __init__(self, names: Mapping[str, Type]) -> None:
        self.slots = {name: FIRST + index for index, name in enumerate(names)}
        self.used: set[str] = set()
        self.made: dict[int, Closure] = {}  # by node: macros may use one twice
        self.size = FIRST + len(self.slots)

    def compile(self, node: Node) -> Closure:
        made = self.made.get(id(node))
        if made is None:
            made = self.made[id(node)] = _COMPILERS[type(node)](self, node)
        return made

    def constant(self, closure: Closure) -> Constant | None:
        """The closure when its value is known."""
        return closure if isinstance(closure, Constant) else None

    def new_slot(self, name: str) -> int:
        """A slot for a local name, visible until ``restore``."""
        slot, self.size = self.size, self.size + 1
        self.slots[name] = slot
        return slot

    # names and fields

    def literal(self, node: Literal) -> Closure:
        return Constant(node.value)

    def variable(self, name: str) -> Closure:
        if name not in self.slots:
            return Constant(type_values.TypeValue(TYPE_NAMES[name].name if name in TYPE_NAMES else name))
        slot = self.slots[name]
        self.used.add(name)
        if name == RESULT:
            return folds.read(slot)

        def read(frame: Frame) -> Any:
            frame[SPENT] += 1
            return frame[slot]

        return read

    def ident(self, node: Ident) -> Closure:
        return self.variable(node.resolved or node.name)

    def select(self, node: Select) -> Closure:
        if node.resolved is not None:
            return self.variable(node.resolved)
        declared = node.operand.type
        operand = self.attribute(node.operand)
        field, convert = node.field, None
        target = declared.params[0] if declared.is_optional else declared
        if target.kind == "struct":
            known = target.fields[node.field]
            field, convert = known.source, known.type.convert
        fixed = target.kind == "struct"
        if node.test:
            return _tested(operand, field, fixed)
        if node.optional or declared.is_optional:
            return _optional_field(operand, field, convert, fixed)
        return _struct_field(operand, field, convert) if fixed else _plain_field(operand, field)

    def attribute(self, node: Node) -> Closure:
        """What is selected from or indexed: reading it is one more step unless it is itself a name, a field or a member."""
        inner = self.compile(node)
        if _is_attribute(node) or (isinstance(node, Call) and node.function == "_?_:_"):
            return inner

        def read(frame: Frame) -> Any:
            value = inner(frame)
            frame[SPENT] += 1
            return value

        return read

    def indexed(self, node: Call) -> Closure:
        """``a[b]`` and ``a[?b]``: by the values, since an optional or dyn container looks the same."""
        container, key = self.attribute(node.args[0]), self.branch(node.args[1])
        if node.function == "_[_]":

            def read(frame: Frame) -> Any:
                value, at = container(frame), key(frame)
                frame[SPENT] += 1
                if value.__class__ is dict and at.__class__ is str and at in value:
                    return value[at]
                return members.index(value, at)

            return read

        def maybe(frame: Frame) -> Any:
            found = members.optional_index(container(frame), key(frame))
            frame[SPENT] += found.present
            return found

        return maybe

    def fallback(self, node: Call) -> Closure:
        """``or`` and ``orValue``: the other is evaluated only when it is needed."""
        assert node.target is not None
        first, second = self.compile(node.target), self.compile(node.args[0])
        unwrap = node.function == "orValue"

        def choose(frame: Frame) -> Any:
            value = first(frame)
            if value.__class__ is not Optional:
                return type_values.no_overload()
            if value.present:
                return value.value if unwrap else value
            return second(frame)

        return choose

    # aggregates

    def list_node(self, node: ListNode) -> Closure:
        items = [self.compile(child) for child in node.items]
        if not node.optional and all(type(c) is Constant for c in items):
            return Constant([c.value for c in items])  # type: ignore[attr-defined]
        optional = node.optional

        def make(frame: Frame) -> Any:
            made: list[Any] = []
            for index, item in enumerate(items):
                value = item(frame)
                if index in optional:
                    if not optional_of(value).present:
                        continue
                    value = value.value
                made.append(value)
            frame[SPENT] += folds.LIST_COST
            return made

        return make

    def map_node(self, node: MapNode) -> Closure:
        parts = [(self.compile(e.key), self.compile(e.value), e.optional) for e in node.entries]
        constant = all(type(k) is Constant and type(v) is Constant and not o for k, v, o in parts)

        def make(frame: Frame) -> Any:
            made: dict[Any, Any] = {}
            for key, value, optional in parts:
                name, member = key(frame), value(frame)
                if optional:
                    if not optional_of(member).present:
                        continue
                    member = member.value
                if name.__class__ in (list, dict):
                    raise CelRuntimeError(f"unsupported key type: {type_values.type_name(name)}")
                made[name] = member
            if not constant:
                frame[SPENT] += MAP_COST
            return made

        return Constant(make([0, None])) if constant else make

    def struct(self, node: Struct) -> Closure:
        type_ = node.type
        parts = [(type_.fields[e.key].source, self.compile(e.value), e.optional) for e in node.fields]

        def make(frame: Frame) -> Any:
            made: dict[str, Any] = {}
            for name, value, optional in parts:
                member = value(frame)
                if optional:
                    if not optional_of(member).present:
                        continue
                    member = member.value
                made[name] = member
            frame[SPENT] += STRUCT_COST
            return Typed(made, type_)

        return make

    # calls

    def call(self, node: Call) -> Closure:
        special = _SPECIAL.get(node.function)
        if special is not None:
            return special(self, node)
        nodes = [node.target, *node.args] if node.target is not None else node.args
        return calls.make(node, [self.compile(n) for n in nodes])

    def conditional(self, node: Call) -> Closure:
        test = self.compile(node.args[0])
        yes, no = (self.branch(a) for a in node.args[1:])

        def choose(frame: Frame) -> Any:
            value = test(frame)
            if value is True:
                return yes(frame)
            return no(frame) if value is False else type_values.no_overload()

        return choose

    def branch(self, node: Node) -> Closure:
        """A branch of a conditional, or a key: reading a name there is part of what is around it, and costs nothing more."""
        inner = self.compile(node)
        if not _is_attribute(node):
            return inner

        def read(frame: Frame) -> Any:
            frame[SPENT] -= 1
            return inner(frame)

        return read

    def logical(self, node: Call) -> Closure:
        """&& and ||: the deciding value wins over errors, wherever it stands."""
        parts = [self.compile(a) for a in node.args]
        decides = node.function == "_||_"
        if len(parts) == 2:
            return _logical_pair(parts[0], parts[1], decides)

        def decide(frame: Frame) -> Any:
            failed: CelRuntimeError | None = None
            for part in parts:
                try:
                    value = part(frame)
                except CelRuntimeError as problem:
                    failed = failed or problem
                    continue
                if value is decides:
                    return decides
                if value.__class__ is not bool:
                    failed = failed or CelRuntimeError("no such overload")
            if failed is not None:
                raise failed
            return not decides

        return decide

    def equals(self, node: Call) -> Closure:
        left, right = (self.compile(a) for a in node.args)
        same = equality(node.args[0].type, node.args[1].type)
        return calls.comparison(left, right, same, negate=node.function == "_!=_")

    def strictly(self, node: Call) -> Closure:
        inner = self.compile(node.args[0])

        def test(frame: Frame) -> Any:
            try:
                value = inner(frame)
            except CelRuntimeError:
                value = True
            frame[SPENT] += 1
            return value is not False

        return test

    def fold(self, node: Fold) -> Closure:
        return folds.make(self, node)


def _is_attribute(node: Node) -> bool:
    return isinstance(node, Ident | Select) or (isinstance(node, Call) and node.function in ("_[_]", "_[?_]"))


def optional_of(value: Any) -> Optional:
    if value.__class__ is Optional:
        return value  # type: ignore[no-any-return]
    raise CelRuntimeError(f"cannot initialize optional list element from non-optional value {value}")


def _mapping(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, dict):
        return value
    return value.data if value.__class__ is Typed else None


def read_field(value: Any, field: str) -> Any:
    """``value.field`` when the quick way failed: objects made by the expression, optionals, and what has no such field."""
    if value.__class__ is Optional:
        return optional_field(value, field)
    mapping = _mapping(value)
    if mapping is not None and field in mapping:
        return mapping[field]
    if value.__class__ is list:
        raise CelRuntimeError("unsupported index type 'string' in list")
    raise CelRuntimeError(f"no such key: {field}")


def optional_field(value: Any, field: str) -> Optional:
    if value.__class__ is Optional:
        if not value.present:
            return Optional.NONE
        value = value.value
    mapping = _mapping(value)
    if value.__class__ is list:
        raise CelRuntimeError("unsupported index type 'string' in list")
    return Optional(mapping[field]) if mapping is not None and field in mapping else Optional.NONE


def _plain_field(operand: Closure, field: str) -> Closure:
    def read(frame: Frame) -> Any:
        value = operand(frame)
        frame[SPENT] += 1
        if value.__class__ is dict and field in value:
            return value[field]
        return read_field(value, field)

    return read


def _struct_field(operand: Closure, field: str, convert: Callable[[Any], Any] | None) -> Closure:
    """A field of an object with a declared type. Null counts as absent there."""

    def read(frame: Frame) -> Any:
        value = operand(frame)
        frame[SPENT] += 1
        found = value.get(field) if value.__class__ is dict else read_field(value, field)
        if found is None:
            raise CelRuntimeError(f"no such key: {field}")
        return found if convert is None else convert(found)

    return read


def _optional_field(operand: Closure, field: str, convert: Callable[[Any], Any] | None, fixed: bool) -> Closure:
    def read(frame: Frame) -> Any:
        found = optional_field(operand(frame), field)
        if fixed and found.value is None:
            return Optional.NONE
        frame[SPENT] += found.present
        if convert is not None and found.value is not None:
            return Optional(convert(found.value))
        return found

    return read


def _tested(operand: Closure, field: str, fixed: bool) -> Closure:
    def test(frame: Frame) -> Any:
        value = operand(frame)
        if value.__class__ is Optional:
            value = value.value if value.present else {}
        mapping = _mapping(value)
        if mapping is None:
            if value.__class__ is list:
                raise CelRuntimeError("unsupported index type 'string' in list")
            return False
        return field in mapping and not (fixed and mapping[field] is None)

    return test


def _logical_pair(left: Closure, right: Closure, decides: bool) -> Closure:
    other = not decides

    def decide(frame: Frame) -> Any:
        try:
            first = left(frame)
        except CelRuntimeError:
            if right(frame) is decides:
                return decides
            raise
        if first is decides:
            return decides
        second = right(frame)
        if second is decides:
            return decides
        if first is other and second is other:
            return other
        return type_values.no_overload()

    return decide


_SPECIAL: dict[str, Callable[[Compiler, Call], Closure]] = {
    "_?_:_": Compiler.conditional,
    "_&&_": Compiler.logical,
    "_||_": Compiler.logical,
    "_==_": Compiler.equals,
    "_!=_": Compiler.equals,
    "@not_strictly_false": Compiler.strictly,
    "_[_]": Compiler.indexed,
    "_[?_]": Compiler.indexed,
    "or": Compiler.fallback,
    "orValue": Compiler.fallback,
}
_COMPILERS: dict[type[Node], Callable[[Compiler, Any], Closure]] = {
    Literal: Compiler.literal,
    Ident: Compiler.ident,
    Select: Compiler.select,
    Call: Compiler.call,
    ListNode: Compiler.list_node,
    MapNode: Compiler.map_node,
    Struct: Compiler.struct,
    Fold: Compiler.fold,
}
