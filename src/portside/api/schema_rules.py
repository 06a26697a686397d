"""Validation rules (x-kubernetes-validations) of a structural schema, compiled: which rule at which place, and what it needs.

Places without rules below them are left out, so a walk over an object visits only what rules look at. Expressions are compiled
when a place is first visited.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from portside.api import cel
from portside.api.cel import declared, types
from portside.api.cel.types import Type
from portside.api.field_path import BadPath, normalized

Json = dict[str, Any]
SELF, OLD_SELF = "self", "oldSelf"
SELF_TYPE = "selfType1"


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule. Either ``program`` or ``error`` is set, neither when the rule is blank; likewise for the message expression."""

    rule: Json
    program: cel.Program | None = None
    error: str = ""
    message: cel.Program | None = None
    message_error: str = ""
    field_path: str = ""

    @property
    def uses_old(self) -> bool:
        return self.program is not None and OLD_SELF in self.program.uses

    @property
    def optional_old(self) -> bool:
        return bool(self.rule.get("optionalOldSelf"))


def self_type(schema: Json, *, root: bool) -> Type | None:
    """The type of ``self`` at a schema; None when expressions may not look at its values."""
    return declared.from_schema(schema, root=root, name=SELF_TYPE)


def compile_rule(rule: Json, schema: Json, type_: Type) -> CompiledRule:
    """The rule with its message expression and path."""
    text = rule.get("rule") or ""
    if not text.strip():
        return CompiledRule(rule)
    optional = bool(rule.get("optionalOldSelf"))
    variables = {SELF: type_, OLD_SELF: types.optional_of(type_) if optional else type_}
    program, error = _compiled(text, variables, types.BOOL, "")
    if error:
        return CompiledRule(rule, None, error)
    message, message_error = None, ""
    if (rule.get("messageExpression") or "").strip():
        message, message_error = _compiled(rule["messageExpression"], variables, types.STRING, "messageExpression ")
    path = ""
    if rule.get("fieldPath"):
        try:
            path = normalized(rule["fieldPath"], schema)
        except BadPath:
            path = ""
    return CompiledRule(rule, program, "", message, message_error, path)


def _compiled(text: str, variables: dict[str, Type], wanted: Type, what: str) -> tuple[cel.Program | None, str]:
    try:
        program = cel.compile_expression(text, variables=variables)
    except cel.InstantiationFailure as problem:
        return None, f"{what or 'program '}instantiation failed: {problem}"
    except cel.CompileFailure as problem:
        return None, f"{what}compilation failed: {problem}"
    if program.type.kind != wanted.kind:
        return None, f"{what.strip() or 'cel expression'} must evaluate to a {wanted.name}"
    return program, ""


class RulePlace:
    """A place in the schema that has rules or leads to some."""

    def __init__(self, schema: Json, *, root: bool = False) -> None:
        self.schema = schema
        self.root = root
        self.fields = {
            name: place
            for name, child in (schema.get("properties") or {}).items()
            if (place := _place(child)) is not None
        }
        self.items = _place(schema.get("items"))
        self.values = _place(schema.get("additionalProperties"))

    @property
    def empty(self) -> bool:
        has = self.schema.get("x-kubernetes-validations") or self.fields or self.items or self.values
        return not has

    @cached_property
    def type(self) -> Type | None:
        return self_type(self.schema, root=self.root)

    @cached_property
    def rules(self) -> list[CompiledRule]:
        """The rules of this very place."""
        given = self.schema.get("x-kubernetes-validations") or ()
        type_ = self.type
        if not given or type_ is None:
            return []
        return [compile_rule(rule, self.schema, type_) for rule in given]

    @cached_property
    def needs_old(self) -> bool:
        return any(rule.uses_old for rule in self.rules)


def _place(schema: Any) -> RulePlace | None:
    if not isinstance(schema, dict):
        return None
    made = RulePlace(schema, root=bool(schema.get("x-kubernetes-embedded-resource")))
    return None if made.empty else made


def compile_rules(schema: Json, *, root: bool = True) -> RulePlace | None:
    """The rules of a schema, ready for validate_rules; None when it has none. ``root``: the schema of a whole resource."""
    made = RulePlace(schema, root=root)
    return None if made.empty else made
