"""The type check of a ValidatingAdmissionPolicy: its expressions against the schemas of the kinds that it names.

A finding never changes what the policy does; it is written into its status, kind by kind, for whoever wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from portside.api.admission_environment import REQUEST_RESOURCE, variables_for
from portside.api.cel import CompileFailure, InstantiationFailure, compile_expression
from portside.api.cel import types as t
from portside.api.cel.declared import from_schema
from portside.api.cel.types import Field, Type, struct

Json = dict[str, Any]
MOST_KINDS = 10
# (group, version, plural) -> (kind, its OpenAPI schema); None when it is not served or has none.
Known = Callable[[str, str, str], tuple[str, Json] | None]
REF = "$ref"


def resolved(schema: Json, definitions: Json, within: tuple[str, ...] = ()) -> Json:
    """A published schema with every reference put in its place. ``within``: the definitions on the way, since some hold
    themselves; there anything goes."""
    if (ref := schema.get(REF)) is not None:
        name = str(ref).rsplit("/", 1)[1]
        if name in within:
            return {"x-kubernetes-int-or-string": True}
        return resolved(definitions[name], definitions, (*within, name))
    made = {k: v for k, v in schema.items() if k not in ("properties", "items", "additionalProperties", "description")}
    if isinstance(listed := schema.get("type"), list):
        made["type"] = next((word for word in listed if word != "null"), "")
    if schema.get("format") == "int-or-string":
        made["x-kubernetes-int-or-string"] = True
    if "properties" in schema:
        made["properties"] = {k: resolved(v, definitions, within) for k, v in schema["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            made[key] = resolved(schema[key], definitions, within)
    return made


def named_resources(spec: Json) -> Iterator[tuple[str, str, str]]:
    """The (group, version, plural) that rules name without wildcards, rule by rule."""
    for rule in (spec.get("matchConstraints") or {}).get("resourceRules") or ():
        groups, versions = rule.get("apiGroups") or [], rule.get("apiVersions") or []
        plurals = sorted(r for r in rule.get("resources") or () if "*" not in r and "/" not in r)
        if "*" in groups or "*" in versions:
            continue
        for group in sorted(groups):
            for version in sorted(versions):
                for plural in plurals:
                    yield group, version, plural


def expression_warnings(spec: Json, known: Known, param: Json | None) -> list[Json]:
    """``status.typeChecking.expressionWarnings`` of a policy. ``param``: the schema of its parameters, if there is one."""
    kinds: dict[str, Type] = {}
    for group, version, plural in named_resources(spec):
        found = known(group, version, plural)
        type_ = from_schema(found[1]) if found is not None else None
        if found is None or type_ is None:
            continue
        kinds[f"{group}/{version}, Kind={found[0]}"] = type_
        if len(kinds) == MOST_KINDS:
            break
    places = [_variables(spec, type_, param) for type_ in kinds.values()]
    warnings: list[Json] = []
    for i, validation in enumerate(spec.get("validations") or ()):
        for field in ("expression", "messageExpression"):
            text = validation.get(field) or ""
            if not text:
                continue
            problems = [
                f"{kind}: {problem}\n"
                for kind, seen in zip(sorted(kinds), _sorted(kinds, places), strict=True)
                if (problem := _problem(text, seen))
            ]
            if problems:
                warnings.append({"fieldRef": f"spec.validations[{i}].{field}", "warning": "\n".join(problems)})
    return warnings


def _sorted(kinds: dict[str, Type], places: list[dict[str, Type]]) -> list[dict[str, Type]]:
    return [place for _, place in sorted(zip(kinds, places, strict=True), key=lambda pair: pair[0])]


def _variables(spec: Json, type_: Type, param: Json | None) -> dict[str, Type]:
    """The variables of expressions when the object is of this type, the policy's own included."""
    params = spec.get("paramKind") is not None
    seen = variables_for(params=params, authorizer=True, composed=None) | {"object": type_, "oldObject": type_}
    assert REQUEST_RESOURCE in seen
    if param is not None and (of_params := from_schema(param)) is not None:
        seen["params"] = of_params
    composed: dict[str, Field] = {}
    for variable in spec.get("variables") or ():
        seen["variables"] = struct("kubernetes.variables", dict(composed))
        name = str(variable.get("name") or "")
        try:
            found = compile_expression(variable.get("expression") or "", variables=seen).type
        except CompileFailure:
            found = t.DYN
        composed[name] = Field(found, name)
    if composed:
        seen["variables"] = struct("kubernetes.variables", composed)
    return seen


def _problem(text: str, seen: dict[str, Type]) -> str:
    try:
        compile_expression(text, variables=seen)
    except InstantiationFailure:
        return ""
    except CompileFailure as problem:
        return str(problem)
    return ""
