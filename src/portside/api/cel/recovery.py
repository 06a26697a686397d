"""The words of syntax errors: a second reading of tokens that did not parse, which goes on after each error as ANTLR's parsers do.

Rules are functions. Each is entered with what may follow it in its caller; from that come the expected tokens and the tokens a
rule skips to after an error. A token is deleted or inserted where that alone mends the input. While an error is being recovered
from, further ones are not told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portside.api.cel.source import NO_PLACE, Issue
from portside.api.cel.tokens import END, ESCAPED, FLOAT, IDENTIFIER, INTEGER, RAW_BYTES, TEXT, UNSIGNED, Token

MAX_RECOVERIES = 30
MAX_SKIPPED = 256
_SYMBOLS = "== != in < <= >= > && || [ ] { } ( ) . , - ! ? : + * / % true false null"
_ORDER = (END, *_SYMBOLS.split(), FLOAT, INTEGER, UNSIGNED, TEXT, RAW_BYTES, IDENTIFIER, ESCAPED)
_RANK = {kind: rank for rank, kind in enumerate(_ORDER)}
_BARE = frozenset((END, FLOAT, INTEGER, UNSIGNED, TEXT, RAW_BYTES, IDENTIFIER, ESCAPED))
_RELATIONS = frozenset(("==", "!=", "in", "<", "<=", ">=", ">"))
_ARITHMETIC = frozenset("+-*/%")
_LITERALS = frozenset(("-", "true", "false", "null", FLOAT, INTEGER, UNSIGNED, TEXT, RAW_BYTES))
MEMBER_FIRST = _LITERALS | {"[", "{", "(", ".", IDENTIFIER}
EXPRESSION_FIRST = MEMBER_FIRST | {"!"}
Kinds = frozenset[str]


@dataclass(frozen=True, slots=True)
class _Site:
    """What may come after a rule where it was called: tokens, and whether the caller may end there too."""

    tokens: Kinds
    ends: bool


def _site(tokens: str = "", *more: str, ends: bool = False) -> _Site:
    return _Site(frozenset((*tokens.split(), *more)), ends)


_WHOLE, _ENDS = _site("", END), _site(ends=True)
_OR, _AND, _QUESTION = _site("||", ends=True), _site("&&", ends=True), _site("?", ends=True)
_RELATION, _CALC = _Site(_RELATIONS, True), _Site(_ARITHMETIC, True)
_LINKS, _COLON, _COMMA = _site(". [", ends=True), _site(":"), _site(",", ends=True)
_PARENTHESIS, _BRACKET, _IN_LIST, _IN_MAP = _site(")"), _site("]"), _site(", ]"), _site(", }")


class _Problem(Exception):
    """The rule cannot go on. Its message tells at which token."""

    def __init__(self, token: Token, message: str) -> None:
        super().__init__(message)
        self.token = token


class _TooMuch(Exception):
    """Recovery gives up."""


def syntax_issues(tokens: list[Token]) -> list[Issue]:
    """All syntax errors of tokens that do not follow the grammar."""
    reader = _Reader(tokens)
    try:
        reader.start()
    except _TooMuch as problem:
        reader.issues.append(Issue(NO_PLACE, str(problem)))
    return reader.issues


def _shown(text: str) -> str:
    return "'" + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"


def _set_text(kinds: Kinds) -> str:
    names = [k if k in _BARE else f"'{k}'" for k in sorted(kinds, key=_RANK.__getitem__)]
    return names[0] if len(names) == 1 else "{" + ", ".join(names) + "}"


class _Reader:
    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.recovering = False
        self.stack: list[_Site] = []
        self.issues: list[Issue] = []
        self.recoveries = 0
        self.last_error: tuple[int, set[str]] = (-1, set())

    # tokens

    def kind(self, ahead: int = 0) -> str:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)].kind

    @property
    def token(self) -> Token:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def consume(self) -> None:
        if self.at < len(self.tokens) - 1:
            self.at += 1

    def tell(self, token: Token, message: str) -> None:
        self.issues.append(Issue(token.pos, f"Syntax error: {message}"))

    def expected(self, local: Kinds, ends: bool) -> Kinds:
        """What may stand here: ``local``, and when the rule may end, what its callers go on with."""
        found = set(local)
        for site in reversed(self.stack):
            if not ends:
                break
            found |= site.tokens
            ends = site.ends
        return frozenset(found | {END}) if ends else frozenset(found)

    def extraneous(self, expected: Kinds) -> None:
        if not self.recovering:
            self.recovering = True
            self.tell(self.token, f"extraneous input {_shown(self.token.text)} expecting {_set_text(expected)}")

    def deleted(self, expected: Kinds) -> bool:
        """Drops one token when the next one is what is expected."""
        if self.kind(1) not in expected or self.kind() == END:
            return False
        self.extraneous(expected)
        self.consume()
        self.recovering = False
        return True

    def mismatch(self, expected: Kinds) -> _Problem:
        return _Problem(self.token, f"mismatched input {_shown(self.token.text)} expecting {_set_text(expected)}")

    def no_alternative(self, ahead: int) -> _Problem:
        """No way of going on is left ``ahead`` tokens from here."""
        offending = self.tokens[min(self.at + ahead, len(self.tokens) - 1)]
        parts = self.tokens[self.at : self.at + ahead + 1]
        text, last = "", self.token.pos
        for token in parts:
            if token.kind == END:
                break
            text += " " * (token.pos - last) + token.text
            last = token.pos + len(token.text)
        shown = _shown(text) if self.kind() != END else "'<EOF>'"
        return _Problem(offending, f"no viable alternative at input {shown}")

    def match(self, kind: str, after: Kinds, ends: bool = False) -> None:
        """One token of a kind; ``after`` is what may follow it in the rule."""
        if self.kind() == kind:
            self.recovering = False
            self.consume()
            return
        wanted = frozenset((kind,))
        if self.deleted(wanted):
            self.consume()
            return
        if self.kind() in self.expected(after, ends) and kind != END:
            if not self.recovering:
                self.recovering = True
                self.tell(self.token, f"missing {_set_text(wanted)} at {_shown(self.token.text)}")
            return
        raise self.mismatch(wanted)

    def sync(self, local: Kinds, *, loop: bool = False) -> None:
        """Before a choice that cannot be skipped: the token must be one that may stand here."""
        if self.recovering or self.kind() in local:
            return
        if loop:
            self.extraneous(local)
            self.skip_to(local | self.followers())
            return
        if not self.deleted(local):
            raise self.mismatch(local)

    def followers(self) -> Kinds:
        return frozenset().union(*(site.tokens for site in self.stack))

    def skip_to(self, kinds: Kinds) -> None:
        skipped = 0
        while self.kind() != END and self.kind() not in kinds:
            self.consume()
            skipped += 1
            if skipped > MAX_SKIPPED:
                raise _TooMuch(f"error recovery token lookahead limit exceeded: {MAX_SKIPPED}")

    def rule(self, body: Callable[[], None], site: _Site) -> None:
        """A rule within another. An error ends the rule; reading goes on at a token that may follow."""
        self.stack.append(site)
        try:
            body()
        except _Problem as problem:
            self.recover(problem, body.__name__)
        finally:
            self.stack.pop()

    def recover(self, problem: _Problem, state: str) -> None:
        if not self.recovering:
            self.recovering = True
            self.tell(problem.token, str(problem))
        self.recoveries += 1
        if self.recoveries > MAX_RECOVERIES:
            raise _TooMuch(f"error recovery attempt limit exceeded: {MAX_RECOVERIES}")
        if self.last_error[0] == self.at and state in self.last_error[1]:
            self.consume()
        if self.last_error[0] != self.at:
            self.last_error = (self.at, set())
        self.last_error[1].add(state)
        self.skip_to(self.followers())

    # rules

    def start(self) -> None:
        try:
            self.rule(self.expr, _WHOLE)
            self.match(END, frozenset())
        except _Problem as problem:
            self.recover(problem, "start")

    def expr(self) -> None:
        self.rule(self.conditional_or, _QUESTION)
        if self.kind() == "?":
            self.match("?", EXPRESSION_FIRST)
            self.rule(self.conditional_or, _COLON)
            self.match(":", EXPRESSION_FIRST)
            self.rule(self.expr, _ENDS)

    def conditional_or(self) -> None:
        self.rule(self.conditional_and, _OR)
        while self.kind() == "||":
            self.match("||", EXPRESSION_FIRST)
            self.rule(self.conditional_and, _OR)

    def conditional_and(self) -> None:
        self.rule(self.relation, _AND)
        while self.kind() == "&&":
            self.match("&&", EXPRESSION_FIRST)
            self.rule(self.relation, _AND)

    def relation(self) -> None:
        self.rule(self.calc, _RELATION)
        while self.kind() in _RELATIONS:
            self.match(self.kind(), EXPRESSION_FIRST)
            self.rule(self.right_relation, _RELATION)

    def right_relation(self) -> None:
        self.rule(self.calc, _RELATION)

    def calc(self) -> None:
        self.rule(self.unary, _CALC)
        while self.kind() in _ARITHMETIC:
            sum_ = self.kind() in ("+", "-")
            self.match(self.kind(), EXPRESSION_FIRST)
            self.rule(self.product if sum_ else self.factor, _CALC)

    def product(self) -> None:
        self.rule(self.unary, _CALC)
        while self.kind() in ("*", "/", "%"):
            self.match(self.kind(), EXPRESSION_FIRST)
            self.rule(self.factor, _CALC)

    def factor(self) -> None:
        self.rule(self.unary, _CALC)

    def unary(self) -> None:
        self.sync(EXPRESSION_FIRST)
        if self.kind() not in EXPRESSION_FIRST:
            raise self.no_alternative(0)
        if self.kind() == "!":
            while self.kind() == "!":
                self.match("!", EXPRESSION_FIRST)
                self.sync(EXPRESSION_FIRST, loop=True)
        elif self.kind() == "-" and self.kind(1) not in (INTEGER, FLOAT):
            if self.kind(1) not in MEMBER_FIRST:
                raise self.no_alternative(1)
            self.minuses()
        self.rule(self.member, _ENDS)

    def minuses(self) -> None:
        """A run of minus signs; the last one before a number may belong to it, but is taken here."""
        self.match("-", MEMBER_FIRST)
        while True:
            self.sync(MEMBER_FIRST, loop=True)
            if self.kind() != "-":
                return
            if self.kind(1) not in MEMBER_FIRST:
                raise self.no_alternative(1)
            self.match("-", MEMBER_FIRST)

    def member(self) -> None:
        self.rule(self.primary, _LINKS)
        while self.kind() in (".", "["):
            self.link()

    def link(self) -> None:
        if self.kind() == "[":
            self.match("[", EXPRESSION_FIRST | {"?"})
            self.question(EXPRESSION_FIRST)
            self.rule(self.expr, _BRACKET)
            self.match("]", _LINKS.tokens, ends=True)
            return
        if self.kind(1) not in ("?", IDENTIFIER, ESCAPED, "true", "false", "null"):
            raise self.no_alternative(1)
        called = self.kind(1) == IDENTIFIER and self.kind(2) == "("
        self.match(".", frozenset(("?", IDENTIFIER, ESCAPED)))
        if called:
            self.match(IDENTIFIER, frozenset("("))
            self.arguments(_LINKS.tokens)
        elif self.kind() in ("true", "false", "null"):
            raise self.mismatch(frozenset((IDENTIFIER,)))
        else:
            self.question(frozenset((IDENTIFIER, ESCAPED)))
            if self.kind() not in (IDENTIFIER, ESCAPED):
                self.issues.append(Issue(self.token.pos, "unsupported ident kind"))
            self.rule(self.escape_ident, _LINKS)

    def question(self, after: Kinds) -> None:
        """An optional question mark."""
        self.sync(after | {"?"})
        if self.kind() == "?":
            self.match("?", after)

    def arguments(self, after: Kinds) -> None:
        self.match("(", EXPRESSION_FIRST | {")"})
        self.sync(EXPRESSION_FIRST | {")"})
        if self.kind() in EXPRESSION_FIRST:
            self.rule(self.expr_list, _PARENTHESIS)
        self.match(")", after, ends=True)

    def primary(self) -> None:
        self.sync(MEMBER_FIRST)
        kind = self.kind()
        if kind in _LITERALS:
            self.rule(self.literal, _ENDS)
        elif kind == "(":
            self.match("(", EXPRESSION_FIRST)
            self.rule(self.expr, _PARENTHESIS)
            self.match(")", frozenset(), ends=True)
        elif kind in ("[", "{"):
            self.aggregate()
        elif kind in (".", IDENTIFIER):
            self.named()
        else:
            raise self.no_alternative(0)

    def named(self) -> None:
        dot = self.kind() == "."
        if dot and self.kind(1) != IDENTIFIER:
            raise self.no_alternative(1)
        ahead = 2 if dot else 1
        while self.kind(ahead) == "." and self.kind(ahead + 1) == IDENTIFIER:
            ahead += 2
        if self.kind(ahead) == "{":
            for _ in range(ahead):
                self.match(self.kind(), frozenset())
            self.braces(self.field_list, frozenset(("?", IDENTIFIER, ESCAPED)))
            return
        if dot:
            self.match(".", frozenset((IDENTIFIER,)))
        called = self.kind(1) == "("
        self.match(IDENTIFIER, frozenset(), ends=True)
        if called:
            self.arguments(frozenset())

    def aggregate(self) -> None:
        if self.kind() == "{":
            self.braces(self.map_list, EXPRESSION_FIRST | {"?"})
            return
        first = EXPRESSION_FIRST | {"?"}
        self.match("[", first | {",", "]"})
        self.sync(first | {",", "]"})
        if self.kind() in first:
            self.rule(self.list_init, _IN_LIST)
        self.trailing("]")

    def braces(self, body: Callable[[], None], first: Kinds) -> None:
        self.match("{", first | {",", "}"})
        self.sync(first | {",", "}"})
        if self.kind() in first:
            self.rule(body, _IN_MAP)
        self.trailing("}")

    def trailing(self, closing: str) -> None:
        """An optional comma, then the closing bracket."""
        self.sync(frozenset((",", closing)))
        if self.kind() == ",":
            self.match(",", frozenset((closing,)))
        self.match(closing, frozenset(), ends=True)

    def expr_list(self) -> None:
        self.rule(self.expr, _COMMA)
        while self.kind() == ",":
            self.match(",", EXPRESSION_FIRST)
            self.rule(self.expr, _COMMA)

    def list_init(self) -> None:
        self.rule(self.opt_expr, _COMMA)
        while self.kind() == "," and self.kind(1) in EXPRESSION_FIRST | {"?"}:
            self.match(",", EXPRESSION_FIRST | {"?"})
            self.rule(self.opt_expr, _COMMA)

    def map_list(self) -> None:
        self.pairs(self.opt_expr, EXPRESSION_FIRST | {"?"})

    def field_list(self) -> None:
        self.pairs(self.opt_field, frozenset(("?", IDENTIFIER, ESCAPED)))

    def pairs(self, key: Callable[[], None], first: Kinds) -> None:
        while True:
            self.rule(key, _COLON)
            self.match(":", EXPRESSION_FIRST)
            self.rule(self.expr, _COMMA)
            if self.kind() != "," or self.kind(1) not in first:
                return
            self.match(",", first)

    def opt_expr(self) -> None:
        self.question(EXPRESSION_FIRST)
        self.rule(self.expr, _ENDS)

    def opt_field(self) -> None:
        self.question(frozenset((IDENTIFIER, ESCAPED)))
        self.rule(self.escape_ident, _ENDS)

    def escape_ident(self) -> None:
        self.sync(frozenset((IDENTIFIER, ESCAPED)))
        if self.kind() not in (IDENTIFIER, ESCAPED):
            raise self.no_alternative(0)
        self.match(self.kind(), frozenset(), ends=True)

    def literal(self) -> None:
        self.sync(_LITERALS)
        if self.kind() == "-":
            if self.kind(1) not in (INTEGER, FLOAT):
                raise self.no_alternative(1)
            self.match("-", frozenset((INTEGER, FLOAT)))
        self.match(self.kind(), frozenset(), ends=True)
