"""Bodies in JSON: parsed by orjson, with the fields that occur twice told as upstream's strict decoder tells them.

orjson keeps the last of several equal keys silently. The body is suspected when it has more keys than what came out of it,
counted as occurrences of ``":`` in both, which is C speed; only then is it read again, slowly, with every pair.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from portside.api.status import bad_request

DEPTH = 300
"""Nesting of a body. Deeper ones are refused (upstream: 10,000), so that no later step runs out of stack."""
_SHALLOW = 250  # bodies with fewer brackets than this can't be too deep
_SPACED = re.compile(rb'"[ \t\r\n]+:')
_PATH = re.compile(r'field "(.*)"$', re.DOTALL)


class Problems(list[str]):
    """Duplicate fields, with where every field first stood, so that other problems can be told in the same order."""

    def __init__(self, told: list[str] = [], positions: dict[str, int] | None = None, yaml: bool = False) -> None:  # noqa: B006
        super().__init__(told)
        self.positions = positions or {}
        self.typed: Any = None
        """The value as decoding into types leaves it: objects of one name are merged. None: the same value."""
        self.yaml = yaml


MOST_DIGITS = 400


class _Pairs:
    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


def parse_json(raw: bytes) -> tuple[Any, list[str]]:
    """The value, and its duplicate fields (a Problems). Raises ApiError 400 with Go's text for what is no JSON."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise bad_request(json_error(raw, error)) from None
    if raw.count(b"[") + raw.count(b"{") > _SHALLOW and too_deep(value):
        raise bad_request("exceeded max depth")
    written = orjson.dumps(value)
    if len(written) != len(raw) and (written.count(b'":') != raw.count(b'":') or _SPACED.search(raw)):
        return value, duplicates(raw)
    return value, []


def too_deep(value: Any) -> bool:
    """Whether a value is nested deeper than DEPTH. Walks level by level, so that its own stack stays flat."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEPTH + 1:
            return True
        inner: list[Any] = []
        for entry in level:
            entries = entry.values() if entry.__class__ is dict else entry if entry.__class__ is list else ()
            inner += [e for e in entries if e.__class__ is dict or e.__class__ is list]
        level = inner
    return False


def _integer(digits: str) -> int | float:
    """A whole number; one of more digits than any field holds is not worked out."""
    return int(digits) if len(digits) <= MOST_DIGITS else float(digits)


def duplicates(raw: bytes) -> Problems:
    """Every field that occurs twice in its object, in the order of the document."""
    told: list[str] = []
    positions: dict[str, int] = {}
    pairs = json.loads(raw, object_pairs_hook=_Pairs, parse_int=_integer)
    _walk(pairs, "", told, positions)
    made = Problems(list(dict.fromkeys(told)), positions)
    if told:
        made.typed = _typed(pairs)
    return made


def _typed(value: Any) -> Any:
    if isinstance(value, list):
        return [_typed(entry) for entry in value]
    if not isinstance(value, _Pairs):
        return value
    out: dict[str, Any] = {}
    for key, entry in value.pairs:
        new = _typed(entry)
        out[key] = _joined(out[key], new) if key in out else new
    return out


def _joined(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{k: _joined(old[k], v) if k in old else v for k, v in new.items()}}
    return new


def _walk(value: Any, path: str, told: list[str], positions: dict[str, int]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, entry in value.pairs:
            here = f"{path}.{key}" if path else key
            if key in seen:
                told.append(f'duplicate field "{here}"')
                positions.setdefault("\0" + here, len(positions))
            seen.add(key)
            positions.setdefault(here, len(positions))
            _walk(entry, here, told, positions)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            _walk(entry, f"{path}[{index}]", told, positions)


def in_order(duplicate: list[str], unknown: list[str]) -> list[str]:
    """Both kinds of problems as one pass over the document would have met them.

    Duplicates inside an unknown field are not told: upstream skips what it does not know. Those of YAML come first.
    """
    if not duplicate or not unknown or not isinstance(duplicate, Problems) or duplicate.yaml:
        return [*duplicate, *unknown]
    paths = [found[1] for text in unknown if (found := _PATH.search(text))]
    known = [
        text
        for text in duplicate
        if not any(_path(text) != p and re.match(re.escape(p) + r"[.\[]", _path(text)) for p in paths)
    ]

    def position(text: str) -> int:
        path = _path(text)
        key = "\0" + path if text.startswith("duplicate") else path
        return duplicate.positions.get(key, len(duplicate.positions))

    return sorted([*known, *unknown], key=position)


def _path(text: str) -> str:
    found = _PATH.search(text)
    return found[1] if found else ""


def strict_text(duplicate: list[str], unknown: list[str]) -> str:
    """``strict decoding error: …`` of a refusal."""
    if isinstance(duplicate, Problems) and duplicate.yaml and duplicate:
        lines = "yaml: unmarshal errors:\n" + "\n".join(f"  {text}" for text in duplicate)
        return "strict decoding error: " + ", ".join([lines, *unknown])
    return "strict decoding error: " + ", ".join(in_order(duplicate, unknown))


def _near(raw: bytes, at: int) -> str:
    text = raw.decode("utf-8", "replace")
    shown = text[at] if at < len(text) else ""
    return {"'": "'\\''", '"': "'\"'"}.get(shown, f"'{shown}'" if shown.isprintable() else f"'\\x{ord(shown):02x}'")


def json_error(raw: bytes, error: orjson.JSONDecodeError) -> str:
    """Go's text for a body that is no JSON."""
    if error.msg.startswith(("Recursion limit", "recursion limit")):
        return "exceeded max depth"
    text = raw.decode("utf-8", "replace")
    try:
        json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as precise:
        at, why = precise.pos, precise.msg
    except RecursionError:
        return "exceeded max depth"
    else:
        at, why = error.pos, error.msg
    if at >= len(text.rstrip()) or why.startswith("Unterminated string"):
        return "unexpected end of JSON input"
    shown = _near(raw, at)
    after = {
        "Expecting value": "looking for beginning of value",
        "Extra data": "after top-level value",
        "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
        "Expecting ':' delimiter": "after object key",
        "Expecting ',' delimiter": "after object key:value pair" if _in_object(text, at) else "after array element",
    }.get(why)
    if after is None:
        after = (
            "in string literal"
            if "control character" in why
            else "in string escape code"
            if "escape" in why
            else "in literal"
        )
    return f"invalid character {shown} {after}"


def _in_object(text: str, at: int) -> bool:
    depth: list[str] = []
    for mark in re.findall(r'"(?:\\.|[^"\\])*"|[\[\]{}]', text[:at]):
        if mark in "[{":
            depth.append(mark)
        elif mark in "]}" and depth:
            depth.pop()
    return bool(depth) and depth[-1] == "{"
