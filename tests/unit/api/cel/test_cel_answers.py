"""Expressions against the recorded answers of cel-go in the Kubernetes 1.37 environment: text of errors, type, value, costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portside.api import cel
from portside.api.cel import types
from portside.api.cel.formatting import display
from portside.api.cel.type_values import TypeValue
from portside.api.cel.types import declared_name
from portside.api.cel.values import Optional

ANSWERS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "answers.json").read_text())


def _go(value: Any) -> str:
    """A value as Go's %v prints it."""
    if isinstance(value, Optional):
        return _go(value.value) if value.present else "<nil>"
    if value is None:
        return "NULL_VALUE"
    if isinstance(value, bytes):
        return "[" + " ".join(map(str, value)) + "]"
    if isinstance(value, list):
        return "[" + " ".join(map(_go, value)) + "]"
    if isinstance(value, dict):
        return "map[" + " ".join(sorted(f"{_go(k)}:{_go(v)}" for k, v in value.items())) + "]"
    return value.name if isinstance(value, TypeValue) else display(value, top=True)


@pytest.mark.parametrize("answer", ANSWERS, ids=[a["text"][:60] for a in ANSWERS])
def test_an_expression_is_answered_as_cel_go_answers_it(answer: dict[str, Any]) -> None:
    try:
        program = cel.compile_expression(answer["text"], variables={"self": types.DYN})
    except cel.InstantiationFailure as failure:
        assert str(failure) == answer.get("program")
        return
    except cel.CompileFailure as failure:
        assert str(failure) == answer.get("issues")
        return
    assert "issues" not in answer and "program" not in answer
    if "type" in answer:
        assert declared_name(program.type) == answer["type"]
    if "estimate" in answer:
        assert list(program.estimate()) == answer["estimate"]
    try:
        value = program.evaluate({"self": {"a": {"b": 1}}}, budget=None)
    except cel.CelRuntimeError as failure:
        assert str(failure) == answer.get("error")
        return
    assert "error" not in answer
    if "value" in answer:
        assert _go(value) == answer["value"]
    if "cost" in answer:
        assert program.spent == answer["cost"]
