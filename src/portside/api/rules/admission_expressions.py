"""Expressions in webhook configurations and admission policies, compiled when they are written.

The compiler is loaded when the first expression comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required, too_many

if TYPE_CHECKING:
    from portside.api.cel.types import Type

Json = dict[str, Any]
Errors = list[FieldError]
REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
MOST_ANNOTATIONS = 20
MOST_CONDITIONS = 64
LONGEST_ANNOTATION = 5 * 1024


class Scope:
    """What the expressions of one object may name: parameters when there is a kind of them, and the variables so far."""

    def __init__(self, *, params: bool = False, composed: bool = False) -> None:
        self.params = params
        self.composed: dict[str, Type] | None = {} if composed else None

    def problems(
        self, text: str, result: str, path: str, *, authorizer: bool = True, shown: str | None = None
    ) -> Errors:
        """Why ``text`` can't yield ``result`` here; ``shown`` is the value the error names, if another."""
        return self._compile(text, result, path, authorizer, shown)[0]

    def declare(self, name: str, text: str, path: str) -> Errors:
        """A variable: those after it may read it."""
        from portside.api.cel import types as t

        errors, type_ = self._compile(text, "", path, True, None)
        if self.composed is not None:
            self.composed[name] = type_ or t.DYN
        return errors

    def _compile(
        self, text: str, result: str, path: str, authorizer: bool, shown: str | None
    ) -> tuple[Errors, Type | None]:
        from portside.api.admission_environment import NotCompiled, compile_admission, variables_for

        seen: Mapping[str, Type] = variables_for(params=self.params, authorizer=authorizer, composed=self.composed)
        try:
            return [], compile_admission(text, seen, result).type
        except NotCompiled as problem:
            if problem.internal:
                return [FieldError(path, "InternalError", f"Internal error: {problem}")], None
            return [invalid_value(path, text if shown is None else shown, str(problem))], None


def condition_problems(conditions: list[Json], at: str, *, params: bool = False) -> Errors:
    """matchConditions: names, presence, and what expressions compile to."""
    scope, errors = Scope(params=params), []
    if len(conditions) > MOST_CONDITIONS:
        errors.append(too_many(at, len(conditions), MOST_CONDITIONS))
    for i, condition in enumerate(conditions):
        path, name = f"{at}[{i}]", condition.get("name") or ""
        text = (condition.get("expression") or "").strip()
        errors += scope.problems(text, "bool", f"{path}.expression") if text else [required(f"{path}.expression")]
        if not name:
            errors.append(required(f"{path}.name"))
        else:
            errors += [invalid_value(f"{path}.name", name, p) for p in names.qualified_name(name)]
            if any(c.get("name") == name for c in conditions[:i]):
                errors.append(duplicate(f"{path}.name", name))
    return errors


def variable_problems(variables: list[Json], scope: Scope, at: str) -> Errors:
    errors: Errors = []
    for i, variable in enumerate(variables):
        path, name, text = f"{at}[{i}]", variable.get("name") or "", variable.get("expression") or ""
        if not name.strip():
            errors.append(required(f"{path}.name", "name is not specified"))
        else:
            from portside.api.admission_environment import is_identifier

            if not is_identifier(name):
                errors.append(invalid_value(f"{path}.name", name, "must be a valid CEL identifier"))
        if not text.strip():
            errors.append(required(f"{path}.expression", "expression is not specified"))
        else:
            errors += scope.declare(name, text, f"{path}.expression")
    return errors


def validation_problems(checks: list[Json], scope: Scope, at: str) -> Errors:
    """Validations of a policy: expression, message expression, message, reason."""
    errors: Errors = []
    for i, check in enumerate(checks):
        path = f"{at}[{i}]"
        text, said, message = (check.get(f) or "" for f in ("expression", "messageExpression", "message"))
        if not text.strip():
            errors.append(required(f"{path}.expression", "expression is not specified"))
        else:
            errors += scope.problems(text, "bool", f"{path}.expression")
        if said and not said.strip():
            errors.append(invalid_value(f"{path}.messageExpression", said, "must be non-empty if specified"))
        elif said:
            errors += scope.problems(said, "string", f"{path}.messageExpression", authorizer=False)
        if message and not message.strip():
            errors.append(invalid_value(f"{path}.message", message, "message must be non-empty if specified"))
        elif "\n" in message.strip() or "\r" in message.strip():
            errors.append(invalid_value(f"{path}.message", message, "message must not contain line breaks"))
        reason = check.get("reason")
        if reason is not None and reason not in REASONS:
            errors.append(not_supported(f"{path}.reason", reason, REASONS))
    return errors


def annotation_problems(notes: list[Json], name: str, scope: Scope, at: str) -> Errors:
    """Audit annotations of a policy: keys and expressions of their values."""
    errors: Errors = []
    if len(notes) > MOST_ANNOTATIONS:
        errors.append(invalid_value(at, notes, f"must not have more than {MOST_ANNOTATIONS} auditAnnotations"))
    seen: set[str] = set()
    for i, note in enumerate(notes):
        path, key, said = f"{at}[{i}]", note.get("key") or "", note.get("valueExpression") or ""
        if name:
            whole = f"{name}/{key}"
            errors += [invalid_value(f"{path}.key", whole, p) for p in names.qualified_name(whole)]
        else:
            errors.append(invalid_value(f"{path}.key", key, "requires metadata.name be non-empty"))
        text, at_value = said.strip(), f"{path}.valueExpression"
        if not text:
            errors.append(required(at_value, "valueExpression is not specified"))
        elif len(text.encode()) > LONGEST_ANNOTATION:
            errors.append(required(at_value, f"must not exceed {LONGEST_ANNOTATION} bytes in length"))
        else:
            errors += scope.problems(text, "annotation", at_value, shown=said)
        if key in seen:
            errors.append(duplicate(f"{path}.key", key))
        seen.add(key)
    return errors
