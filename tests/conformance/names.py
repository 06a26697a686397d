"""The behaviours that conformance asks for, and the mark by which a test says which of them it shows.

``@conformance("Deployment", "Recreate")`` above a test, or ``marks=conformance(...)`` in a parameter: first the section of
``names.txt`` (the area, where it has none), then the names without what stands in brackets behind them.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TABLE = Path(__file__).parent / "names.txt"
TESTS = Path(__file__).parent.parent
FLAGS = re.compile(r"( \[(S|slow|2n)\]| \(1\.\d+\))+$")


@dataclass(frozen=True, slots=True)
class Name:
    """One behaviour."""

    area: str
    section: str
    name: str

    def __str__(self) -> str:
        return f"{self.section}: {self.name}"


@cache
def table() -> dict[tuple[str, str], Name]:
    """All behaviours by section and name, in the table's order."""
    found: list[Name] = []
    area = section = ""
    for line in TABLE.read_text().splitlines():
        if line.startswith("## "):
            area = section = line[3:].split(" (")[0]
        elif line.startswith("### "):
            section = line[4:].split(" (")[0]
        elif line.startswith("- "):
            found.append(Name(area, section, FLAGS.sub("", line[2:])))
    twice = [str(key) for key, count in Counter((x.section, x.name) for x in found).items() if count > 1]
    assert not twice, f"named twice: {twice}"
    return {(x.section, x.name): x for x in found}


def conformance(section: str, *names: str) -> pytest.MarkDecorator:
    """The mark of a test that shows these behaviours. Raises KeyError for one that the table does not have."""
    for name in names:
        table()[section, name]
    return pytest.mark.conformance(section, *names)


@cache
def claims() -> dict[tuple[str, str], list[str]]:
    """Section and name of every behaviour that some test is marked with, and where that stands (file:line)."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if "conformance(" in text:
            for line, (section, *names) in _marks(ast.parse(text)):
                for name in names:
                    found.setdefault((section, name), []).append(f"{path.relative_to(TESTS)}:{line}")
    return found


def _marks(tree: ast.AST) -> Iterator[tuple[int, list[str]]]:
    """Every call of ``conformance`` with the words it is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "conformance":
            yield node.lineno, [str(ast.literal_eval(x)) for x in node.args]
