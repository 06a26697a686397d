"""Why a text is no JSON, in the words of Go's encoding/json: users meet them in refusals of embedded documents."""

from __future__ import annotations

import json

_SPACE = " \t\r\n"
_LITERALS = {"t": "true", "f": "false", "n": "null"}


class _Bad(ValueError):
    pass


def _shown(c: str) -> str:
    return {"'": "'\\''", '"': "'\"'"}.get(c, "'" + json.dumps(c, ensure_ascii=False)[1:-1] + "'")


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def char(self) -> str:
        if self.at >= len(self.text):
            raise _Bad("unexpected end of JSON input")
        return self.text[self.at]

    def skip(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in _SPACE:
            self.at += 1

    def bad(self, where: str) -> _Bad:
        return _Bad(f"invalid character {_shown(self.char())} {where}")

    def value(self) -> None:
        self.skip()
        c = self.char()
        if c == "{":
            self.members("}", True)
        elif c == "[":
            self.members("]", False)
        elif c == '"':
            self.string()
        elif c in _LITERALS:
            self.literal(_LITERALS[c])
        elif c == "-" or c.isdigit():
            self.number()
        else:
            raise self.bad("looking for beginning of value")

    def literal(self, word: str) -> None:
        for i, want in enumerate(word):
            if self.char() != want:
                raise self.bad(f"in literal {word} (expecting '{word[i]}')")
            self.at += 1

    def number(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in "+-.eE0123456789":
            self.at += 1

    def string(self) -> None:
        self.at += 1
        while self.char() != '"':
            if self.char() < " ":
                raise self.bad("in string literal")
            if self.char() == "\\":
                self.at += 1
                if self.char() not in '"\\/bfnrtu':
                    raise self.bad("in string escape code")
            self.at += 1
        self.at += 1

    def members(self, close: str, keyed: bool) -> None:
        what = "object key:value pair" if keyed else "array element"
        self.at += 1
        self.skip()
        if self.char() == close:
            self.at += 1
            return
        while True:
            self.skip()
            if keyed:
                if self.char() != '"':
                    raise self.bad("looking for beginning of object key string")
                self.string()
                self.skip()
                if self.char() != ":":
                    raise self.bad("after object key")
                self.at += 1
            self.value()
            self.skip()
            c = self.char()
            self.at += 1
            if c == close:
                return
            if c != ",":
                self.at -= 1
                raise self.bad(f"after {what}")


def json_problem(text: str) -> str:
    """Go's error for ``text``; empty when it is JSON."""
    scanner = _Scanner(text)
    try:
        scanner.value()
        scanner.skip()
        if scanner.at < len(text):
            raise scanner.bad("after top-level value")
    except _Bad as error:
        return str(error)
    return ""
