"""The text of an expression, places in it, and compile errors as cel-go prints them: message, source line, caret."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

MAX_ISSUES = 100
NO_PLACE = -1


@dataclass(frozen=True, slots=True)
class Issue:
    """One problem. ``offset`` counts code points; NO_PLACE for problems of the whole expression."""

    offset: int
    message: str


class CompileFailure(ValueError):
    """An expression that does not compile. Its text is cel-go's: every issue in order of place."""

    def __init__(self, text: str, issues: list[Issue]) -> None:
        super().__init__(describe(text, issues))
        self.issues = issues


class Source:
    """Lines of an expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.starts = [0]
        for index, char in enumerate(text):
            if char == "\n":
                self.starts.append(index + 1)

    def place(self, offset: int) -> tuple[int, int]:
        """Line from 1 and column from 0 of an offset."""
        if offset < 0:
            return -1, -1
        line = bisect_right(self.starts, offset)
        return line, offset - self.starts[line - 1]

    def line(self, number: int) -> str | None:
        if not 1 <= number <= len(self.starts) or not self.text:
            return None
        start = self.starts[number - 1]
        end = self.starts[number] - 1 if number < len(self.starts) else len(self.text)
        return self.text[start:end]


def describe(text: str, issues: list[Issue]) -> str:
    """All issues, one after the other; beyond MAX_ISSUES their number."""
    source = Source(text)
    empty_end = not text
    placed = sorted(((source.place(i.offset), i) for i in issues), key=lambda pair: pair[0])
    shown = [_one(source, place, issue, empty_end) for place, issue in placed[:MAX_ISSUES]]
    if len(placed) > MAX_ISSUES:
        shown.append(f"{len(placed) - MAX_ISSUES} more errors were truncated")
    return "\n".join(shown)


def _one(source: Source, place: tuple[int, int], issue: Issue, empty_end: bool) -> str:
    line, column = place
    if empty_end and line == 1:
        column = -1  # the end of an empty expression is before its first column
    head = f"ERROR: <input>:{line}:{column + 1}: {issue.message}"
    text = source.line(line)
    if text is None:
        return head
    text = text.replace("\t", " ")
    dots = "".join("．" if ord(c) > 127 else "." for c in text[: max(column, 0)])
    caret = "＾" if column < len(text) and ord(text[column]) > 127 else "^"
    return f"{head}\n | {text}\n | {dots}{caret}"
