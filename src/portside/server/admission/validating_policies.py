"""ValidatingAdmissionPolicy: validations that hold or do not, with messages, reasons, and what a binding makes of a denial."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.status import ApiError
from portside.server.admission.match_conditions import Cannot
from portside.server.admission.policy import (
    BUDGET,
    Binding,
    Misconfigured,
    Policy,
    bound,
    concerned,
    exempt,
    parameters,
)
from portside.server.admission.review import Review
from portside.server.admission.subject import Gvr, Subject

if TYPE_CHECKING:
    from portside.server.admission.expressions import Activation, Budget, Expression

Json = dict[str, Any]
CODES = {"Unauthorized": 401, "Forbidden": 403, "RequestEntityTooLarge": 413}
LONGEST_MESSAGE = 5 * 1024
"""A message expression's result of more characters is not used."""
LONGEST_NOTE = 10 * 1024
"""Characters of an audit annotation's value; the rest is cut."""
MOST_NOTED = 50
"""Failures that one request's audit annotation names."""
FAILURES = "validation.policy.admission.k8s.io/validation_failure"


@dataclass(slots=True)
class Notes:
    """What policies have for the audit log: their annotations, values of several bindings side by side, and failures."""

    values: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Json] = field(default_factory=list)

    def add(self, policy: Policy, key: str, value: str) -> None:
        found = self.values.setdefault(f"{policy.name}/{key}", [])
        if value[:LONGEST_NOTE] not in found:
            found.append(value[:LONGEST_NOTE])

    def failed(self, policy: Policy, binding: Binding, denial: Denial) -> None:
        said = {"message": denial.message, "policy": policy.name, "binding": binding.name}
        self.failures.append(said | {"expressionIndex": denial.index, "validationActions": list(binding.actions)})

    def write(self, review: Review) -> None:
        for key, values in self.values.items():
            review.note(key, ", ".join(values))
        if self.failures:
            review.note(FAILURES, orjson.dumps(self.failures[:MOST_NOTED]).decode())


@dataclass(frozen=True, slots=True)
class Denial:
    """Why, and with which reason ("" for Invalid); ``index`` of the validation, 0 where none was reached."""

    message: str
    reason: str = ""
    index: int = 0


async def validate(review: Review) -> None:
    """All policies that the request concerns. Raises the ApiError of the first denial that its binding enforces."""
    if exempt(review):
        return
    subject = Subject(review)
    denied: list[tuple[Policy, Binding | None, Denial]] = []
    notes = Notes()
    for policy in review.server.dynamic.validating.policies:
        try:
            gvr = concerned(policy, subject)
        except Misconfigured as problem:
            if policy.fails:
                denied.append((policy, None, Denial(str(problem))))
            continue
        if gvr is None:
            continue
        for binding in policy.bindings:
            for denial, enforced in await _by_binding(policy, binding, subject, gvr, notes):
                if enforced or "Deny" in binding.actions:
                    denied.append((policy, binding, denial))
                if not enforced and "Audit" in binding.actions:
                    notes.failed(policy, binding, denial)
                if not enforced and "Warn" in binding.actions:
                    review.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding "
                        f"'{binding.name}': {denial.message}"
                    )
    notes.write(review)
    if denied:
        raise _refusal(review, *denied[0])


def _refusal(review: Review, policy: Policy, binding: Binding | None, denial: Denial) -> ApiError:
    place = f" with binding '{binding.name}'" if binding is not None else ""
    text = f"ValidatingAdmissionPolicy '{policy.name}'{place} denied request: {denial.message}"
    error = review.refuse(text)
    reason = denial.reason or "Invalid"
    details = (error.details or {}) | {"causes": [{"message": text}]}
    return ApiError(CODES.get(reason, 422), reason, error.message, details=details)


async def _by_binding(
    policy: Policy, binding: Binding, subject: Subject, gvr: Gvr, notes: Notes
) -> list[tuple[Denial, bool]]:
    """The denials of one binding over all its parameters; True for those that hold whatever its actions say."""
    try:
        if not bound(binding, subject):
            return []
        params = await parameters(policy, binding, subject)
    except Misconfigured as problem:
        return [(Denial(str(problem)), True)] if policy.fails else []
    found: list[tuple[Denial, bool]] = []
    for param in params:
        found += await _evaluate(policy, subject, gvr, param, notes)
    return found


async def _evaluate(
    policy: Policy, subject: Subject, gvr: Gvr, param: Json | None, notes: Notes
) -> list[tuple[Denial, bool]]:
    from portside.server.admission.expressions import Activation, Budget, OutOfBudget

    try:
        if not await policy.conditions.hold(subject, gvr, param):
            return []
    except Cannot as problem:
        return [(Denial(str(problem)), False)] if policy.fails else []
    activation = await Activation.of(subject, gvr, params=param, variables=policy.variables)
    budget = Budget(BUDGET)
    denials: list[tuple[Denial, bool]] = []
    try:
        for index, (validation, expression, message) in enumerate(policy.validations):
            denial = _check(policy, validation, expression, message, activation, budget)
            if denial is not None:
                denials.append((replace(denial, index=index), False))
    except OutOfBudget as spent:
        return [(Denial(str(spent)), False)] if policy.fails else []
    return denials + _annotate(policy, activation, notes)


def _check(
    policy: Policy,
    validation: Json,
    expression: Expression,
    message: Expression | None,
    activation: Activation,
    budget: Budget,
) -> Denial | None:
    from portside.server.admission.expressions import Failed

    try:
        if expression.run(activation, budget) is True:
            return None
    except Failed as problem:
        return Denial(str(problem)) if policy.fails else None
    return Denial(_message(validation, message, activation, budget), validation.get("reason") or "")


def _message(validation: Json, message: Expression | None, activation: Activation, budget: Budget) -> str:
    """The message expression's result if it is usable, else the message, else the expression itself."""
    from portside.server.admission.expressions import Failed

    if message is not None:
        try:
            said = message.run(activation, budget)
        except Failed:
            said = ""
        text = said.strip() if isinstance(said, str) else ""
        if text and "\n" not in text and len(text.encode()) <= LONGEST_MESSAGE:
            return text
    plain = (validation.get("message") or "").strip()
    return plain or f"failed expression: {(validation.get('expression') or '').strip()}"


def _annotate(policy: Policy, activation: Activation, notes: Notes) -> list[tuple[Denial, bool]]:
    """The policy's audit annotations; an expression that fails is a denial."""
    from portside.server.admission.expressions import Budget, Failed, OutOfBudget

    budget, found = Budget(BUDGET), []
    for key, expression in policy.annotations:
        try:
            value = expression.run(activation, budget)
            if isinstance(value, str) and (text := value.strip()):
                notes.add(policy, key, text)
        except (Failed, OutOfBudget) as problem:
            if policy.fails:
                found.append((Denial(f"valueExpression '{expression.text}' resulted in error: {problem}"), True))
    return found
