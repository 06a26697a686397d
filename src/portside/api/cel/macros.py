"""Macros: calls that are rewritten before they are checked. Each becomes the comprehension that CEL defines for it."""

from __future__ import annotations

from collections.abc import Callable

from portside.api.cel.syntax import Call, Entry, Fold, Ident, ListNode, Literal, MapNode, Node, Select

RESULT = "@result"
UNUSED = "#unused"
SORTED = "@__sortBy_input__"
Report = Callable[[int, str], None]
Expander = Callable[[int, "Node | None", "list[Node]", Report], "Node | None"]
NOT_A_NAME = "argument must be a simple name"


def expand(
    pos: int, name: str, target: Node | None, args: list[Node], report: Report, *, bindings: bool = False
) -> Node:
    """The call, or what the macro of that name, shape and number of arguments makes of it. ``bindings``: cel.bind is one."""
    if bindings and name == "bind" and len(args) == 3 and isinstance(target, Ident) and target.name == "cel":
        variable = _name(args[0], report, "cel.bind() variable names must be simple identifiers")
        return Literal(pos, None) if variable is None else _bind(pos, variable, args[1], args[2])
    expander = _MACROS.get((name, len(args), target is not None))
    if expander is not None:
        made = expander(pos, target, args, report)
        return made if made is not None else Literal(pos, None)
    return Call(pos, name, args, target)


def _name(node: Node, report: Report, message: str = NOT_A_NAME) -> str | None:
    if isinstance(node, Ident) and not node.name.startswith("."):
        return node.name
    report(node.pos, message)
    return None


def _has(pos: int, target: Node | None, args: list[Node], report: Report) -> Node | None:
    field = args[0]
    if isinstance(field, Select) and not field.test and not field.optional:
        return Select(pos, field.operand, field.field, test=True)
    report(field.pos, "invalid argument to has() macro")
    return None


class _Loop:
    """The parts that differ between the macros that walk over a list or map."""

    def __init__(self, pos: int) -> None:
        self.pos = pos

    def accu(self) -> Ident:
        return Ident(self.pos, RESULT)

    def literal(self, value: bool | int) -> Literal:
        return Literal(self.pos, value)

    def call(self, function: str, *args: Node) -> Call:
        return Call(self.pos, function, list(args))

    def when(self, condition: Node | None, step: Node) -> Node:
        return step if condition is None else self.call("_?_:_", condition, step, self.accu())

    def fold(
        self, over: Node, names: list[str], init: Node, cond: Node, step: Node, result: Node | None = None
    ) -> Fold:
        second = names[1] if len(names) > 1 else None
        return Fold(
            self.pos,
            over=over,
            var=names[0],
            var2=second,
            accu=RESULT,
            init=init,
            cond=cond,
            step=step,
            result=result or self.accu(),
        )


def _all(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    cond = loop.call("@not_strictly_false", loop.accu())
    return loop.fold(over, names, loop.literal(True), cond, loop.call("_&&_", loop.accu(), rest[0]))


def _exists(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    cond = loop.call("@not_strictly_false", loop.call("!_", loop.accu()))
    return loop.fold(over, names, loop.literal(False), cond, loop.call("_||_", loop.accu(), rest[0]))


def _exists_one(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    step = loop.when(rest[0], loop.call("_+_", loop.accu(), loop.literal(1)))
    result = loop.call("_==_", loop.accu(), loop.literal(1))
    return loop.fold(over, names, loop.literal(0), loop.literal(True), step, result)


def _map(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    step = loop.call("_+_", loop.accu(), ListNode(loop.pos, [rest[-1]]))
    condition = rest[0] if len(rest) > 1 else None
    return loop.fold(over, names, ListNode(loop.pos, []), loop.literal(True), loop.when(condition, step))


def _filter(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    step = loop.call("_+_", loop.accu(), ListNode(loop.pos, [Ident(loop.pos, names[0])]))
    return loop.fold(over, names, ListNode(loop.pos, []), loop.literal(True), loop.when(rest[0], step))


def _transform_map(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    step = loop.call("cel.@mapInsert", loop.accu(), Ident(loop.pos, names[0]), rest[-1])
    condition = rest[0] if len(rest) > 1 else None
    return loop.fold(over, names, MapNode(loop.pos, []), loop.literal(True), loop.when(condition, step))


def _transform_entry(loop: _Loop, over: Node, names: list[str], rest: list[Node]) -> Fold:
    step = loop.call("cel.@mapInsert", loop.accu(), rest[-1])
    condition = rest[0] if len(rest) > 1 else None
    return loop.fold(over, names, MapNode(loop.pos, []), loop.literal(True), loop.when(condition, step))


def _walk(make: Callable[[_Loop, Node, list[str], list[Node]], Fold], variables: int) -> Expander:
    def expander(pos: int, target: Node | None, args: list[Node], report: Report) -> Node | None:
        assert target is not None
        names: list[str] = []
        for node in args[:variables]:
            name = _name(node, report)
            if name is None:
                return None
            if name in names:
                report(node.pos, f"duplicate variable name: {name}")
                return None
            names.append(name)
        return make(_Loop(pos), target, names, args[variables:])

    return expander


def _bind(pos: int, name: str, value: Node, result: Node) -> Fold:
    return Fold(
        pos,
        over=ListNode(pos, []),
        var=UNUSED,
        var2=None,
        accu=name,
        init=value,
        cond=Literal(pos, False),
        step=Ident(pos, name),
        result=result,
        bind=True,
    )


def _optional_map(function: str, flat: bool) -> Expander:
    def expander(pos: int, target: Node | None, args: list[Node], report: Report) -> Node | None:
        assert target is not None
        name = _name(args[0], report, f"{function}() variable name must be a simple identifier")
        if name is None:
            return None
        made: Node = _bind(pos, name, Call(pos, "value", [], target), args[1])
        if not flat:
            made = Call(pos, "optional.of", [made])
        has = Call(pos, "hasValue", [], target)
        return Call(pos, "_?_:_", [has, made, Call(pos, "optional.none", [])])

    return expander


def _sort_by(pos: int, target: Node | None, args: list[Node], report: Report) -> Node | None:
    assert target is not None
    if not isinstance(target, Ident | Select | Call | ListNode | Fold):
        report(target.pos, "sortBy can only be applied to a list, identifier, comprehension, call or select expression")
        return None
    name = _name(args[0], report, "argument is not an identifier")
    if name is None:
        return None
    keys = _map(_Loop(pos), Ident(pos, SORTED), [name], args[1:])
    return _bind(pos, SORTED, target, Call(pos, "@sortByAssociatedKeys", [keys], Ident(pos, SORTED)))


_MACROS: dict[tuple[str, int, bool], Expander] = {
    ("has", 1, False): _has,
    ("all", 2, True): _walk(_all, 1),
    ("exists", 2, True): _walk(_exists, 1),
    ("exists_one", 2, True): _walk(_exists_one, 1),
    ("map", 2, True): _walk(_map, 1),
    ("map", 3, True): _walk(_map, 1),
    ("filter", 2, True): _walk(_filter, 1),
    ("all", 3, True): _walk(_all, 2),
    ("exists", 3, True): _walk(_exists, 2),
    ("exists_one", 3, True): _walk(_exists_one, 2),
    ("existsOne", 3, True): _walk(_exists_one, 2),
    ("transformList", 3, True): _walk(_map, 2),
    ("transformList", 4, True): _walk(_map, 2),
    ("transformMap", 3, True): _walk(_transform_map, 2),
    ("transformMap", 4, True): _walk(_transform_map, 2),
    ("transformMapEntry", 3, True): _walk(_transform_entry, 2),
    ("transformMapEntry", 4, True): _walk(_transform_entry, 2),
    ("optMap", 2, True): _optional_map("optMap", flat=False),
    ("optFlatMap", 2, True): _optional_map("optFlatMap", flat=True),
    ("sortBy", 2, True): _sort_by,
}

__all__ = ["RESULT", "Entry", "expand"]
