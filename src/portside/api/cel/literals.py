"""Constants: numbers within their ranges, strings and bytes with their escapes."""

from __future__ import annotations

import math
import re

from portside.api.cel.values import INT_MAX, INT_MIN, UINT_MAX, Uint

_ESCAPES = re.compile(r"\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.S)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def integer(text: str) -> int:
    """Raises ValueError with the message of the compile error."""
    value = int(text.replace("-", ""), 16 if "0x" in text else 10)
    value = -value if text.startswith("-") else value
    if not INT_MIN <= value <= INT_MAX:
        raise ValueError("invalid int literal")
    return value


def unsigned(text: str) -> Uint:
    value = int(text[:-1], 16 if text.startswith("0x") else 10)
    if value > UINT_MAX:
        raise ValueError("invalid uint literal")
    return Uint(value)


def double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("invalid double literal")
    return value


def _unquote(text: str) -> tuple[str, bool]:
    raw = text[0] in "rR"
    body = text[1:] if raw else text
    width = 3 if len(body) >= 6 and body[:3] in ('"""', "'''") else 1
    return body[width:-width].replace("\r\n", "\n").replace("\r", "\n"), raw


def string(text: str) -> str:
    body, raw = _unquote(text)
    if raw or "\\" not in body:
        return body

    def one(match: re.Match[str]) -> str:
        hexes = match[1] or match[2] or match[3]
        if hexes:
            code = int(hexes, 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise ValueError("invalid unicode code point")
            return chr(code)
        return chr(int(match[4], 8)) if match[4] else _PLAIN.get(match[5], match[5])

    return _ESCAPES.sub(one, body)


def raw_bytes(text: str) -> bytes:
    body, raw = _unquote(text[1:])
    if raw or "\\" not in body:
        return body.encode()
    made, last = bytearray(), 0
    for match in _ESCAPES.finditer(body):
        made += body[last : match.start()].encode()
        last = match.end()
        if match[2] or match[3]:
            raise ValueError("invalid bytes literal")
        if match[1] or match[4]:
            made.append(int(match[1], 16) if match[1] else int(match[4], 8))
        else:
            made += _PLAIN.get(match[5], match[5]).encode()
    return bytes(made + body[last:].encode())
