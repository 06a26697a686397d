"""From the text of an expression to tokens. Text that is no token is reported as cel-go's lexer reports it, and skipped."""

from __future__ import annotations

import re
from dataclasses import dataclass

from portside.api.cel.source import Issue

END = "<EOF>"
IDENTIFIER, ESCAPED = "IDENTIFIER", "ESC_IDENTIFIER"
FLOAT, INTEGER, UNSIGNED, TEXT, RAW_BYTES = "NUM_FLOAT", "NUM_INT", "NUM_UINT", "STRING", "BYTES"
WORDS = frozenset(("true", "false", "null", "in"))

_ESCAPE = r"""\\(?:[abfnrtv"'\\?`]|[xX][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-3][0-7]{2})"""
_STRING = (
    rf'"""(?:{_ESCAPE}|[^\\])*?"""' + rf"|'''(?:{_ESCAPE}|[^\\])*?'''"
    rf'|"(?:{_ESCAPE}|[^\\"\n\r])*"' + rf"|'(?:{_ESCAPE}|[^\\'\n\r])*'"
    r'|[rR](?:"""(?:.|\n)*?"""' + r"|'''(?:.|\n)*?'''" + r'|"[^"\n\r]*"' + r"|'[^'\n\r]*')"
)
_TOKEN = re.compile(
    r"(?P<skip>[\t \r\n\f]+|//[^\n]*)"
    r"|(?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<NUM_UINT>0x[0-9a-fA-F]+[uU]|[0-9]+[uU])"
    r"|(?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)"
    rf"|(?P<BYTES>[bB](?:{_STRING}))"
    rf"|(?P<STRING>{_STRING})"
    r"|(?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/ ]+`)"
    r"|(?P<op>==|!=|<=|>=|&&|\|\||[<>\[\]{}().,\-!?:+*/%])"
)
_HALF = re.compile(  # the longest start of a token that was not finished
    rf'"(?:{_ESCAPE}|[^\\"\n\r])*(?:\\(?:[xX][0-9a-fA-F]?|u[0-9a-fA-F]{{0,3}}|U[0-9a-fA-F]{{0,7}}|[0-3][0-7]?)?)?'
    + rf"|'(?:{_ESCAPE}|[^\\'\n\r])*(?:\\(?:[xX][0-9a-fA-F]?|u[0-9a-fA-F]{{0,3}}|U[0-9a-fA-F]{{0,7}}|[0-3][0-7]?)?)?"
    r"|[=&|]|`[A-Za-z0-9_.\-/ ]*|"
)


@dataclass(frozen=True, slots=True)
class Token:
    """``kind`` is the symbol itself, a keyword, or one of the names above."""

    kind: str
    text: str
    pos: int


def tokenize(text: str) -> tuple[list[Token], list[Issue]]:
    """The tokens, ending with END, and what was no token."""
    tokens: list[Token] = []
    issues: list[Issue] = []
    at, size = 0, len(text)
    match = _TOKEN.match
    while at < size:
        found = match(text, at)
        if found is None:
            half = _HALF.match(text, at)
            stop = min((half.end() if half else at) + 1, size)
            issues.append(Issue(at, f"Syntax error: token recognition error at: '{text[at:stop]}'"))
            at = stop
            continue
        kind = found.lastgroup or ""
        if kind != "skip":
            word = found.group()
            if kind == "op" or (kind == IDENTIFIER and word in WORDS):
                kind = word
            tokens.append(Token(kind, word, at))
        at = found.end()
    tokens.append(Token(END, END, size))
    return tokens, issues
