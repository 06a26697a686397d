"""Rules of style that no linter checks: sizes, docstrings, names, and nothing of the machine in the repository."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
MAX_FILE, MAX_FUNCTION = 500, 70
MACHINE = re.compile(r"/work/|/farm/|/root/\.|\bTODO\b|\bFIXME\b|\bXXX\b|NotImplementedError")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src")))
def test_a_source_file_is_tidy(path: Path) -> None:
    text = path.read_text()
    lines = text.splitlines()
    assert len(lines) <= MAX_FILE, f"{len(lines)} lines; split it along its nouns"
    assert path.stem not in FORBIDDEN_NAMES
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "the module docstring is missing"
    long = [
        f"{n.name}: {n.end_lineno - n.lineno + 1}"
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
        and n.end_lineno
        and n.end_lineno - n.lineno >= MAX_FUNCTION
    ]
    assert not long, f"functions over {MAX_FUNCTION} lines: {long}"
    assert not MACHINE.search(text)
