"""The table of known flaws names tests that exist, and every test that tries an exploit is in it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = (ROOT / "docs/explanation/security.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TABLE)


def functions_of(path: Path) -> set[str]:
    found = ast.walk(ast.parse(path.read_text()))
    return {
        n.name for n in found if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name.startswith("test_")
    }


def test_every_test_the_table_names_exists() -> None:
    assert len(NAMED) > 40
    missing = [f"{file}::{name}" for file, name in NAMED if name not in functions_of(ROOT / file)]
    assert missing == []


def test_every_exploit_that_is_tried_is_in_the_table() -> None:
    files = [*ROOT.glob("tests/conformance/test_exploits_*.py"), *ROOT.glob("tests/real/test_exploits_*.py")]
    tried = {(str(path.relative_to(ROOT)), name) for path in files for name in functions_of(path)}
    assert tried and sorted(tried - set(NAMED)) == []


def test_every_row_says_what_holds_and_who_tries_it() -> None:
    lines = [line for line in TABLE.splitlines() if line.startswith("| ") and "---" not in line][1:]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines]
    assert len(rows) > 30
    assert [row for row in rows if len(row) != 4 or not row[0] or not row[2] or "::" not in row[3]] == []
