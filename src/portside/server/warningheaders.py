"""Warnings to a client as Warning headers: each once, and cut as upstream cuts them when there are too many words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MOST_TOGETHER = 4096
"""Characters of all warnings; beyond them each is cut to LONGEST, and those that still don't fit are left out."""
LONGEST = 256


def warning_headers(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Texts with control characters are no warnings: they would end the header."""
    plain = [t for t in dict.fromkeys(texts) if t and not any(unicodedata.category(c) == "Cc" for c in t)]
    if sum(map(len, plain)) > MOST_TOGETHER:
        plain = _cut(plain)
    return [("Warning", f'299 - "{_quoted(text)}"') for text in plain]


def _cut(texts: list[str]) -> list[str]:
    kept, size = [], 0
    for text in texts:
        if size >= MOST_TOGETHER:
            break
        kept.append(text[:LONGEST])
        size += len(kept[-1])
    return kept


def _quoted(text: str) -> str:
    plain = "".join(c if c.isprintable() else " " for c in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"')
