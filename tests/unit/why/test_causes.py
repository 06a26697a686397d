"""The table of causes: every row has a test that brings it about, its page is fresh, and it asks for what it reads."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from portside.why.causes import CAUSES, causes_of
from portside.why.scheduling import FILTERS
from portside.why.world import BUILT_IN

ROOT = Path(__file__).resolve().parents[3]
TESTS = [*(ROOT / "tests/conformance").glob("test_why*.py"), *(ROOT / "tests/real").glob("test_why*.py")]


def words() -> Iterator[str]:
    """Every text in the tests that bring causes about; those of parametrized tests stand in their tables."""
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def asserted() -> Iterator[str]:
    """The causes that the tests wait for: first argument of ``says``, or a table's entry for a test that passes it on."""
    for path in TESTS:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "says":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield str(first.value)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.parametrize":
                listed = node.args[1]
                for row in listed.elts if isinstance(listed, ast.List) else ():
                    if isinstance(row, ast.Tuple) and isinstance(row.elts[0], ast.Constant):
                        yield str(row.elts[0].value)


def test_every_cause_has_a_test_that_brings_it_about() -> None:
    assert {c.name for c in CAUSES} - {*asserted()} == set()


def test_every_filter_of_the_scheduler_has_a_test() -> None:
    said = [*words()]
    missing = [f.words for f in FILTERS if not any(f.words in w for w in said)]
    assert missing == []


def test_names_are_unique_and_kinds_exist() -> None:
    names = [c.name for c in CAUSES]
    assert len(names) == len({*names})
    for cause in CAUSES:
        for kind in (*cause.kinds, *cause.needs):
            assert "*" in kind or kind in BUILT_IN, f"{cause.name}: {kind}"


def test_the_page_of_causes_is_fresh() -> None:
    place = ROOT / "scripts/causes_page.py"
    spec = importlib.util.spec_from_file_location("causes_page", place)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs/reference/causes.md").read_text(), f"run {place.name}"


@pytest.mark.parametrize(("plural", "name"), [("pods", "crash-loop"), ("Widget.example.com", "condition-says")])
def test_a_kind_is_asked_its_causes_and_those_of_everything(plural: str, name: str) -> None:
    asked = {c.name for c in causes_of(plural)}
    assert {name, "finalizers"} <= asked
    assert ("crash-loop" in asked) == (plural == "pods")
