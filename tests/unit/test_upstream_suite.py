"""The script that runs upstream's own suite: what it does to the sources, and what it makes of a report."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location("upstream_suite", ROOT / "scripts" / "upstream_suite.py")
    assert found and found.loader
    made = importlib.util.module_from_spec(found)
    sys.modules[found.name] = made  # dataclasses look their module up
    found.loader.exec_module(made)
    return made


def test_libraries_are_taken_from_their_published_modules(script: ModuleType, tmp_path: Path) -> None:
    module = tmp_path / "go.mod"
    module.write_text("replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\tother => other v1\n)\n")
    script.published(module, "1.37.2")
    assert module.read_text() == "replace (\n\tk8s.io/api => k8s.io/api v0.37.2\n\tother => other v1\n)\n"
    with pytest.raises(script.Trouble, match="replaces no library"):
        script.published(module, "1.37.2")


def test_a_report_is_summed_up_by_area_with_causes(script: ModuleType, tmp_path: Path) -> None:
    def spec(name: str, state: str, why: str = "", kind: str = "It") -> dict[str, object]:
        failure = {"Failure": {"Message": why}} if why else {}
        texts = ["[sig-auth] Accounts", name]
        return {"ContainerHierarchyTexts": texts[:1], "LeafNodeText": name, "LeafNodeType": kind, "State": state,
                "RunTime": 2_000_000_000} | failure  # fmt: skip

    report = tmp_path / "report.json"
    specs = [spec("a", "passed"), spec("b", "failed", "no\n token"), spec("c", "skipped"), spec("", "passed", kind="x")]
    report.write_text(json.dumps([{"SpecReports": specs}]))
    found = list(script.results(report))
    assert [(r.area, r.state, r.seconds) for r in found] == [("sig-auth", "passed", 2.0), ("sig-auth", "failed", 2.0)]
    lines = script.summary(found).splitlines()
    assert lines[0].split() == ["sig-auth", "1", "of", "2", "passed", "4", "s"]
    assert lines[-2:] == ["[sig-auth] Accounts b", "    failed after 2 s: no token"]


def test_a_run_without_a_report_says_where_to_look(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(script.Trouble, match=r"run\.log"):
        list(script.results(tmp_path / "report.json"))
