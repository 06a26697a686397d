"""Functions on strings beyond the standard ones, and ``find`` and ``findAll``. Positions count code points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api.cel import patterns
from portside.api.cel.formatting import format_string
from portside.api.cel.values import MAX_TEXT, CelRuntimeError, bounded

DECLARATIONS = """
string_char_at_int: string :: charAt(int) -> string
string_format: string :: format(list(dyn)) -> string
string_index_of_string: string :: indexOf(string) -> int
string_index_of_string_int: string :: indexOf(string, int) -> int
list_join: list(string) :: join() -> string
list_join_string: list(string) :: join(string) -> string
string_last_index_of_string: string :: lastIndexOf(string) -> int
string_last_index_of_string_int: string :: lastIndexOf(string, int) -> int
string_lower_ascii: string :: lowerAscii() -> string
strings_quote: strings.quote(string) -> string
string_replace_string_string: string :: replace(string, string) -> string
string_replace_string_string_int: string :: replace(string, string, int) -> string
string_split_string: string :: split(string) -> list(string)
string_split_string_int: string :: split(string, int) -> list(string)
string_substring_int: string :: substring(int) -> string
string_substring_int_int: string :: substring(int, int) -> string
string_trim: string :: trim() -> string
string_upper_ascii: string :: upperAscii() -> string
string_find_string: string :: find(string) -> string
string_find_all_string: string :: findAll(string) -> list(string)
string_find_all_string_int: string :: findAll(string, int) -> list(string)
"""
_SPACES = "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
_LOWER = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
_UPPER = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_QUOTED = str.maketrans(
    {
        "\a": "\\a",
        "\b": "\\b",
        "\f": "\\f",
        "\n": "\\n",
        "\r": "\\r",
        "\t": "\\t",
        "\v": "\\v",
        "\\": "\\\\",
        '"': '\\"',
    }
)


def _out_of_range(at: int) -> CelRuntimeError:
    return CelRuntimeError(f"index out of range: {at}")


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise _out_of_range(at)
    return text[at : at + 1]


def _index_of(text: str, part: str, start: int = 0) -> int:
    if start < 0:
        raise _out_of_range(start)
    if not part:
        return start
    return text.find(part, start) if start < len(text) else -1


def _last_index_of(text: str, part: str, start: int | None = None) -> int:
    if start is None:
        return text.rfind(part) if part else len(text)
    if start < 0:
        raise _out_of_range(start)
    if not part:
        return start
    return text.rfind(part, 0, start + len(part)) if start < len(text) else -1


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    found = (text.count(old) if old else len(text) + 1) if count < 0 else count
    bounded(len(text) + found * max(len(new) - len(old), 0) if len(new) > len(old) else 0, MAX_TEXT, "string")
    return text.replace(old, new, count)


def _join(parts: list[str], separator: str = "") -> str:
    bounded(sum(map(len, parts)) + len(separator) * len(parts), MAX_TEXT, "string")
    return separator.join(parts)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if not separator:
        chars = list(text)
        return chars if limit < 0 or limit >= len(chars) else [*chars[: limit - 1], "".join(chars[limit - 1 :])]
    return text.split(separator, -1 if limit < 0 else limit - 1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    last = len(text) if end is None else end
    if end is not None and start > end:
        raise CelRuntimeError(f"invalid substring range. start: {start}, end: {end}")
    if not 0 <= start <= len(text):
        raise _out_of_range(start)
    if not 0 <= last <= len(text):
        raise _out_of_range(last)
    return text[start:last]


def escape_key(key: str) -> str:
    """A key as one segment of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def quote(text: str) -> str:
    return f'"{text.translate(_QUOTED)}"'


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "string_char_at_int": _char_at,
    "string_format": format_string,
    "string_index_of_string": _index_of,
    "string_index_of_string_int": _index_of,
    "list_join": _join,
    "list_join_string": _join,
    "string_last_index_of_string": _last_index_of,
    "string_last_index_of_string_int": _last_index_of,
    "string_lower_ascii": lambda text: text.translate(_LOWER),
    "strings_quote": quote,
    "string_replace_string_string": _replace,
    "string_replace_string_string_int": _replace,
    "string_split_string": _split,
    "string_split_string_int": _split,
    "string_substring_int": _substring,
    "string_substring_int_int": _substring,
    "string_trim": lambda text: text.strip(_SPACES),
    "string_upper_ascii": lambda text: text.translate(_UPPER),
    "string_find_string": patterns.find,
    "string_find_all_string": patterns.find_all,
    "string_find_all_string_int": patterns.find_all,
}
