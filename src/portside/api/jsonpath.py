"""JSON paths as printer columns and subresources use them: fields, indexes, slices, wildcards, filters by one comparison.

A path starts with a dot: ``.spec.replicas``, ``.spec.ports[?(@.name=="http")].port``, ``.metadata.annotations.a\\.b/c``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Step = Callable[[Any], Iterator[Any]]
_NAME = re.compile(r"(?:[^.\[\]\\{}*]|\\.)+")
_SLICE = re.compile(r"(-?\d*):(-?\d*)(?::(-?\d*))?\Z")
_FILTER = re.compile(r"\?\(\s*@((?:\.[^=!<>\s]+|\[[^\]]+\])*)\s*(?:(==|!=|<=|>=|<|>)\s*(.+?))?\s*\)\Z", re.DOTALL)


class PathError(ValueError):
    """A path that can't be read."""


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _every(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from (value[k] for k in sorted(value))
    elif isinstance(value, list):
        yield from value


def _deep(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            if name in value:
                yield value[name]
            for key in sorted(value):
                yield from step(value[key])
        elif isinstance(value, list):
            for entry in value:
                yield from step(entry)

    return step


def _positions(text: str) -> Step:
    found = _SLICE.match(text)
    if found:
        start, stop, stride = (int(p) if p else None for p in found.groups())

        def part(value: Any) -> Iterator[Any]:
            if isinstance(value, list):
                yield from value[start:stop:stride]

        return part
    at = int(text)

    def one(value: Any) -> Iterator[Any]:
        if isinstance(value, list) and -len(value) <= at < len(value):
            yield value[at]

    return one


def _literal(text: str) -> Any:
    if len(text) > 1 and text[0] in "\"'" and text[-1] == text[0]:
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise PathError(f"unrecognized value {text}") from None


_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}


def _filter(text: str) -> Step:
    found = _FILTER.match(text)
    if not found:
        raise PathError(f"unterminated filter {text}")
    inner = parse_path(found[1] or ".")
    compare = _COMPARE[found[2]] if found[2] else None
    wanted = _literal(found[3]) if found[2] else None

    def holds(entry: Any) -> bool:
        for value in inner(entry):
            if compare is None:
                return True
            try:
                return compare(value, wanted)
            except TypeError:
                return False
        return False

    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from (entry for entry in value if holds(entry))

    return step


def _bracket(text: str) -> Step:
    text = text.strip()
    if text == "*":
        return _every
    if text.startswith("?"):
        return _filter(text)
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        return _field(text[1:-1])
    if _SLICE.match(text) or re.fullmatch(r"-?\d+", text):
        return _positions(text)
    raise PathError(f"invalid array index {text}")


def _closing(path: str, at: int) -> int:
    """Where the bracket opened at ``at`` closes; quotes hide brackets."""
    depth, quote = 0, ""
    for i in range(at, len(path)):
        char = path[i]
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
            if not depth:
                return i
    raise PathError("unterminated array")


@lru_cache(maxsize=4096)
def parse_path(path: str) -> Callable[[Any], list[Any]]:
    """A function that finds all values of the path. Raises PathError."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        if path[at] == "[":
            end = _closing(path, at)
            steps.append(_bracket(path[at + 1 : end]))
            at = end + 1
            continue
        deep = path.startswith("..", at)
        at += 2 if deep else 1 if path[at] == "." else 0
        if at >= len(path) or path[at] == "[":
            continue
        if path[at] == "*":
            steps.append(_every)
            at += 1
            continue
        found = _NAME.match(path, at)
        if not found:
            raise PathError(f"unrecognized character in action: U+{ord(path[at]):04X} '{path[at]}'")
        name = re.sub(r"\\(.)", r"\1", found[0])
        steps.append(_deep(name) if deep else _field(name))
        at = found.end()

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = [inner for outer in values for inner in step(outer)]
        return values

    return find


def at_path(obj: Any, path: str) -> Any:
    """The first value at a path, None when there is none."""
    found = parse_path(path)(obj)
    return found[0] if found else None


def put_at(obj: dict[str, Any], path: str, value: Any) -> None:
    """Set a plain dotted path, making the objects on the way."""
    parts = path.strip(".").split(".")
    for part in parts[:-1]:
        child = obj.get(part)
        if not isinstance(child, dict):
            child = obj[part] = {}
        obj = child
    obj[parts[-1]] = value
