"""ValidatingAdmissionPolicy: validations that hold or do not, with messages, reasons, and what a binding makes of a denial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True, slots=True)
class Denial:
    """Why, and with which reason ("" for Invalid)."""

    message: str
    reason: str = ""


async def validate(review: Review) -> None:
    """All policies that the request concerns. Raises the ApiError of the first denial that its binding enforces."""
    if exempt(review):
        return
    subject = Subject(review)
    denied: list[tuple[Policy, Binding | None, Denial]] = []
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
            for denial, enforced in await _by_binding(policy, binding, subject, gvr):
                if enforced or "Deny" in binding.actions:
                    denied.append((policy, binding, denial))
                if not enforced and "Warn" in binding.actions:
                    review.warnings.append(
                        f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with binding "
                        f"'{binding.name}': {denial.message}"
                    )
    if denied:
        raise _refusal(review, *denied[0])


def _refusal(review: Review, policy: Policy, binding: Binding | None, denial: Denial) -> ApiError:
    place = f" with binding '{binding.name}'" if binding is not None else ""
    text = f"ValidatingAdmissionPolicy '{policy.name}'{place} denied request: {denial.message}"
    error = review.refuse(text)
    reason = denial.reason or "Invalid"
    details = (error.details or {}) | {"causes": [{"message": text}]}
    return ApiError(CODES.get(reason, 422), reason, error.message, details=details)


async def _by_binding(policy: Policy, binding: Binding, subject: Subject, gvr: Gvr) -> list[tuple[Denial, bool]]:
    """The denials of one binding over all its parameters; True for those that hold whatever its actions say."""
    try:
        if not bound(binding, subject):
            return []
        params = await parameters(policy, binding, subject)
    except Misconfigured as problem:
        return [(Denial(str(problem)), True)] if policy.fails else []
    found: list[tuple[Denial, bool]] = []
    for param in params:
        found += await _evaluate(policy, subject, gvr, param)
    return found


async def _evaluate(policy: Policy, subject: Subject, gvr: Gvr, param: Json | None) -> list[tuple[Denial, bool]]:
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
        for validation, expression, message in policy.validations:
            denial = _check(policy, validation, expression, message, activation, budget)
            if denial is not None:
                denials.append((denial, False))
    except OutOfBudget as spent:
        return [(Denial(str(spent)), False)] if policy.fails else []
    return denials + _annotate(policy, activation)


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


def _annotate(policy: Policy, activation: Activation) -> list[tuple[Denial, bool]]:
    """Audit annotations: there is no audit log to write them to, but an expression that fails is a denial as upstream's."""
    from portside.server.admission.expressions import Budget, Failed, OutOfBudget

    budget, found = Budget(BUDGET), []
    for _, expression in policy.annotations:
        try:
            expression.run(activation, budget)
        except (Failed, OutOfBudget) as problem:
            if policy.fails:
                found.append((Denial(f"valueExpression '{expression.text}' resulted in error: {problem}"), True))
    return found
