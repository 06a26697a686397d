"""``fieldPath`` of a validation rule: ``.spec.name``, ``.labels['a.b']``; checked against the schema it starts at."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]]+", re.S)
_ESCAPE = re.compile(r"\\(.)", re.S)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class BadPath(ValueError):
    """A path that leads nowhere."""


def normalized(path: str, schema: Json) -> str:
    """The path as errors write it: ``spec.labels[a.b]``. Raises BadPath when it does not fit the schema."""
    made = ""
    tokens = iter(_TOKEN.findall(path))
    for token in tokens:
        if token == ".":
            name = _next(tokens)
        elif token == "[":
            name = _quoted(_next(tokens))
            if _next(tokens) != "]":
                raise BadPath("expected ]")
        else:
            raise BadPath(f"expected [ or . but got: {token}")
        step, schema = _step(name, schema)
        made += step if made or step[0] != "." else step[1:]
    return made


def _next(tokens: Iterator[str]) -> str:
    token = next(tokens, None)
    if token is None:
        raise BadPath("unexpected end of JSON path")
    return token


def _quoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise BadPath(f"expected single quoted string but got {token}")
    inner = token[1:-1]
    if any(c not in _ESCAPED for c in _ESCAPE.findall(inner)):
        raise BadPath("invalid string literal")
    return _ESCAPE.sub(lambda m: _ESCAPED[m[1]], inner)


def _step(name: str, schema: Json) -> tuple[str, Json]:
    properties, more = schema.get("properties"), schema.get("additionalProperties")
    if properties is not None:
        child = properties.get(name)
        if child is None:
            raise BadPath("does not refer to a valid field")
        return f".{name}", child
    if not isinstance(more, dict):
        raise BadPath("does not refer to a valid field")
    return f"[{name}]", more
