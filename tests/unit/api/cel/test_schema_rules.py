"""Validation rules of custom resource definitions against recorded answers of Kubernetes 1.37: definitions and objects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from portside.api.rule_evaluation import validate_rules
from portside.api.rules.crd_expressions import check_rules
from portside.api.schema_rules import compile_rules

HERE = Path(__file__).parent
DEFINITIONS: list[dict[str, Any]] = json.loads((HERE / "definitions.json").read_text())
OBJECTS: list[dict[str, Any]] = json.loads((HERE / "objects.json").read_text())


@pytest.mark.parametrize("case", DEFINITIONS, ids=[c["name"] for c in DEFINITIONS])
def test_a_definition_is_told_what_is_wrong_with_its_rules(case: dict[str, Any]) -> None:
    found = sorted([e.field, e.detail_text] for e in check_rules(case["schema"], "schema"))
    assert found == case["errors"]


@pytest.mark.parametrize("case", OBJECTS, ids=[c["name"] for c in OBJECTS])
def test_an_object_is_judged_by_the_rules_of_its_schema(case: dict[str, Any]) -> None:
    compiled = compile_rules(case["schema"])
    assert compiled is not None
    errors, warnings = validate_rules(compiled, case["new"], case["old"])
    assert sorted([e.field, e.detail_text] for e in errors) == case["errors"]
    assert sorted(warnings) == case["warnings"]


def test_a_schema_without_rules_costs_nothing() -> None:
    assert compile_rules({"type": "object", "properties": {"spec": {"type": "object"}}}) is None


def test_rules_are_not_compiled_where_the_schema_is_broken() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-validations": [{"rule": "nope"}]}}}
    assert check_rules(schema, "schema", broken=["schema.properties[a].type"]) == []
    assert check_rules(schema, "schema", broken=["schema.properties[b].type"]) != []
