"""Expressions over an object with a schema, against the recorded answers of Kubernetes 1.37: errors, values, costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portside.api import cel
from portside.api.cel.declared import from_schema
from portside.api.cel.formatting import display

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "typed_answers.json").read_text())
ANSWERS: list[dict[str, Any]] = RECORDED["answers"]


@pytest.mark.parametrize("answer", ANSWERS, ids=[a["text"][:60] for a in ANSWERS])
def test_an_expression_over_declared_fields_is_answered_as_upstream_answers_it(answer: dict[str, Any]) -> None:
    type_ = from_schema(RECORDED["schema"])
    assert type_ is not None
    try:
        program = cel.compile_expression(answer["text"], variables={"self": type_})
    except cel.InstantiationFailure as failure:
        assert str(failure) == answer.get("program")
        return
    except cel.CompileFailure as failure:
        assert str(failure) == answer.get("issues")
        return
    assert "issues" not in answer
    assert list(program.estimate()) == answer["estimate"]
    try:
        value = program.evaluate({"self": RECORDED["self"]}, budget=None)
    except cel.CelRuntimeError as failure:
        assert str(failure) == answer.get("error")
        return
    assert "error" not in answer
    assert program.spent == answer["cost"]
    if "value" in answer:
        assert display(value, top=True) == answer["value"]
