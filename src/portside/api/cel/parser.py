"""From tokens to the syntax tree, macros expanded. The grammar is CEL's with optional syntax; syntax errors are worded by recovery."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.cel import literals, macros
from portside.api.cel.source import NO_PLACE, CompileFailure, Issue
from portside.api.cel.syntax import Call, Entry, Ident, ListNode, Literal, MapNode, Node, Select, Struct
from portside.api.cel.tokens import (
    END,
    ESCAPED,
    FLOAT,
    IDENTIFIER,
    INTEGER,
    RAW_BYTES,
    TEXT,
    UNSIGNED,
    Token,
    tokenize,
)

MAX_CODE_POINTS = 100_000
MAX_NESTING = 250
RESERVED = frozenset(
    ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "namespace")
).union(("package", "return", "var", "void", "while"))
# What no identifier may be: the reserved ones, and those with a meaning.
WORDS = RESERVED | {"true", "false", "null", "in"}
_RELATIONS = frozenset(("<", "<=", ">", ">=", "==", "!=", "in"))
_LEVEL = {"||": 1, "&&": 2, **dict.fromkeys(_RELATIONS, 3), "+": 4, "-": 4, "*": 5, "/": 5, "%": 5}
_CONSTANTS: dict[str, Any] = {"true": True, "false": False, "null": None}
_LITERALS: dict[str, Callable[[str], Any]] = {
    INTEGER: literals.integer,
    UNSIGNED: literals.unsigned,
    FLOAT: literals.double,
    TEXT: literals.string,
    RAW_BYTES: literals.raw_bytes,
}


class _SyntaxProblem(Exception):
    """The tokens do not follow the grammar; recovery says how."""


def parse(text: str, *, bindings: bool = False) -> Node:
    """The syntax tree; with ``bindings`` cel.bind gives names to values. Raises CompileFailure."""
    if len(text) > MAX_CODE_POINTS:
        message = f"expression code point size exceeds limit: size: {len(text)}, limit {MAX_CODE_POINTS}"
        raise CompileFailure(text, [Issue(NO_PLACE, message)])
    tokens, issues = tokenize(text)
    parser = _Parser(tokens, bindings)
    try:
        node = parser.whole()
    except _SyntaxProblem:
        from portside.api.cel.recovery import syntax_issues

        raise CompileFailure(text, issues + syntax_issues(tokens) + parser.issues) from None
    issues += parser.issues
    if issues:
        raise CompileFailure(text, issues)
    return node


class _Parser:
    def __init__(self, tokens: list[Token], bindings: bool = False) -> None:
        self.tokens = tokens
        self.bindings = bindings
        self.at = 0
        self.depth = 0
        self.issues: list[Issue] = []

    # tokens

    def take(self, kind: str) -> Token | None:
        token = self.tokens[self.at]
        if token.kind == kind:
            self.at += 1
            return token
        return None

    def need(self, kind: str) -> Token:
        token = self.take(kind)
        if token is None:
            raise _SyntaxProblem
        return token

    def peek(self, offset: int = 0) -> str:
        return self.tokens[min(self.at + offset, len(self.tokens) - 1)].kind

    def report(self, pos: int, message: str) -> None:
        self.issues.append(Issue(pos, message))

    # grammar

    def whole(self) -> Node:
        node = self.expression()
        self.need(END)
        return node

    def expression(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            text = f"expression recursion limit exceeded: {MAX_NESTING}"
            raise CompileFailure("", [Issue(NO_PLACE, text)])
        node = self.binary(1)
        question = self.take("?")
        if question is not None:
            yes = self.binary(1)
            self.need(":")
            node = Call(question.pos, "_?_:_", [node, yes, self.expression()])
        self.depth -= 1
        return node

    def binary(self, lowest: int) -> Node:
        node, chain = self.unary(), 0
        while True:
            token = self.tokens[self.at]
            level = _LEVEL.get(token.kind, 0)
            if level < lowest or not level:
                return node
            self.at += 1
            right = self.binary(level + 1)
            if level <= 2:
                name = f"_{token.kind}_"
                if isinstance(node, Call) and node.function == name and chain == level:
                    node.args.append(right)
                else:
                    node = Call(token.pos, name, [node, right])
                chain = level
                continue
            chain += 1
            if chain > MAX_NESTING:
                raise CompileFailure("", [Issue(NO_PLACE, "max recursion depth exceeded")])
            node = Call(token.pos, "@in" if token.kind == "in" else f"_{token.kind}_", [node, right])

    def unary(self) -> Node:
        kind = self.peek()
        if kind == "!":
            return self.repeated("!", "!_")
        if kind == "-" and self.peek(1) not in (INTEGER, FLOAT):
            return self.repeated("-", "-_")
        return self.member()

    def repeated(self, kind: str, function: str) -> Node:
        first, count = self.tokens[self.at], 0
        while self.take(kind):
            count += 1
        node = self.member()
        return Call(first.pos, function, [node]) if count % 2 else node

    def member(self) -> Node:
        node, links = self.primary(), 0
        while True:
            kind = self.peek()
            if kind == ".":
                node = self.dotted(node)
            elif kind == "[":
                opened = self.need("[")
                function = "_[?_]" if self.take("?") else "_[_]"
                index = self.expression()
                self.need("]")
                node = Call(opened.pos, function, [node, index])
            else:
                return node
            links += 1
            if links > MAX_NESTING:
                raise CompileFailure("", [Issue(NO_PLACE, "max recursion depth exceeded")])

    def dotted(self, target: Node) -> Node:
        dot = self.need(".")
        if self.take("?"):
            return Select(dot.pos, target, self.field_name()[0], optional=True)
        name, plain = self.field_name()
        opened = self.take("(") if plain else None
        if opened is None:
            return Select(dot.pos, target, name)
        args = self.arguments()
        return macros.expand(opened.pos, name, target, args, self.report, bindings=self.bindings)

    def field_name(self) -> tuple[str, bool]:
        """A field's name, and whether it is an ordinary identifier."""
        token = self.take(IDENTIFIER)
        if token is not None:
            return token.text, True
        return self.need(ESCAPED).text.strip("`"), False

    def arguments(self) -> list[Node]:
        """What stands between parentheses, the opening one already taken."""
        args: list[Node] = []
        if self.take(")"):
            return args
        while True:
            args.append(self.expression())
            if not self.take(","):
                self.need(")")
                return args

    def primary(self) -> Node:
        token = self.tokens[self.at]
        kind = token.kind
        if kind in _LITERALS or kind == "-":
            return self.constant()
        if kind in _CONSTANTS:
            self.at += 1
            return Literal(token.pos, _CONSTANTS[kind])
        if kind == "(":
            self.at += 1
            node = self.expression()
            self.need(")")
            return node
        if kind == "[":
            return self.list_of()
        if kind == "{":
            self.at += 1
            return MapNode(token.pos, self.entries(fields=False))
        if kind in (IDENTIFIER, "."):
            return self.named()
        raise _SyntaxProblem

    def constant(self) -> Node:
        token = self.tokens[self.at]
        sign = ""
        if token.kind == "-":
            sign, token = "-", self.tokens[self.at + 1]
            if token.kind not in (INTEGER, FLOAT):
                raise _SyntaxProblem
            self.at += 1
        pos = self.tokens[self.at - 1].pos if sign else token.pos
        self.at += 1
        try:
            return Literal(pos, _LITERALS[token.kind](sign + token.text))
        except ValueError as problem:
            self.report(pos, str(problem))
            return Literal(pos, None)

    def list_of(self) -> Node:
        opened = self.need("[")
        items: list[Node] = []
        optional: set[int] = set()
        if self.peek() == ",":
            self.at += 1
            self.need("]")
            return ListNode(opened.pos, [])
        while not self.take("]"):
            if self.take("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self.take(","):
                self.need("]")
                break
        return ListNode(opened.pos, items, frozenset(optional))

    def entries(self, *, fields: bool) -> list[Entry]:
        """Entries of a map or of an object, the opening brace already taken."""
        made: list[Entry] = []
        if self.peek() == ",":
            self.at += 1
            self.need("}")
            return made
        while not self.take("}"):
            optional = self.take("?") is not None
            key: Any = self.field_name()[0] if fields else self.expression()
            colon = self.need(":")
            made.append(Entry(colon.pos, key, self.expression(), optional))
            if not self.take(","):
                self.need("}")
                break
        return made

    def named(self) -> Node:
        dot = self.take(".")
        token = self.need(IDENTIFIER)
        name = ("." if dot else "") + token.text
        ahead = 0
        while self.peek(ahead) == "." and self.peek(ahead + 1) == IDENTIFIER:
            ahead += 2
        if self.peek(ahead) == "{":
            for index in range(self.at, self.at + ahead):
                name += self.tokens[index].text
            self.at += ahead
            opened = self.need("{")
            return Struct(opened.pos, name, self.entries(fields=True))
        if token.text in RESERVED:
            self.report(token.pos, f"reserved identifier: {token.text}")
        called = self.take("(")
        if called is not None:
            return macros.expand(called.pos, name, None, self.arguments(), self.report)
        return Ident(token.pos, name)
