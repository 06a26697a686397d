"""MutatingAdmissionPolicy: mutations one after the other, by ApplyConfiguration or JSON patch, reinvoked when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from portside.api.applyconfiguration import CannotApply, apply_configuration
from portside.api.patch_json import PatchFailure, apply_operations
from portside.api.status import ApiError, internal
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
    from portside.server.admission.expressions import Expression
    from portside.server.admission.reinvocation import Invocations

Json = dict[str, Any]
PLUGIN = "policies"
Problem = tuple[Policy, Binding | None, str, str]
"""Policy, binding, message, and the reason ("" for Forbidden)."""


async def mutate(review: Review) -> None:
    """All mutating policies that the request concerns. Raises ApiError when one of them fails and may not.

    Who is concerned is decided on the object as it came; only match conditions see what policies before made of it.
    """
    rounds = review.rounds
    if rounds is None or exempt(review):
        return
    subject = Subject(review)
    own = rounds.begin(PLUGIN, review.obj)
    problems: list[Problem] = []
    invocations = await _invocations(subject, problems)
    for invocation in invocations:
        problems += await _invoke(invocation, subject, own)
    rounds.end(PLUGIN, review.obj)
    _raise(review, [p for p in problems if p[0].fails])


@dataclass(frozen=True, slots=True)
class Invocation:
    """One policy, seen as ``gvr``, by one binding with one parameter."""

    policy: Policy
    binding: Binding
    gvr: Gvr
    param: Json | None

    @property
    def key(self) -> str:
        meta = (self.param or {}).get("metadata") or {}
        return f"{self.policy.name}/{self.binding.name}/{meta.get('namespace', '')}/{meta.get('name', '')}"


async def _invocations(subject: Subject, problems: list[Problem]) -> list[Invocation]:
    """Everything to be done for the request; what is misconfigured goes to ``problems``."""
    found: list[Invocation] = []
    for policy in subject.review.server.dynamic.mutating.policies:
        try:
            gvr = concerned(policy, subject)
        except Misconfigured as problem:
            problems.append((policy, None, str(problem), ""))
            continue
        for binding in policy.bindings if gvr is not None else ():
            try:
                params = await parameters(policy, binding, subject) if bound(binding, subject) else []
            except Misconfigured as problem:
                problems.append((policy, binding, str(problem), ""))
                continue
            assert gvr is not None
            found += [Invocation(policy, binding, gvr, param) for param in params]
    return found


def _raise(review: Review, problems: list[Problem]) -> None:
    """The refusal tells the first problem, and all of them as causes."""
    if not problems:
        return
    texts = []
    for policy, binding, message, _ in problems:
        place = f" with binding '{binding.name}'" if binding is not None else ""
        texts.append(f"policy '{policy.name}'{place} denied request: {message}")
    details = (review.refuse("").details or {}) | {"causes": [{"message": text} for text in texts]}
    raise ApiError(403, problems[0][3] or "Forbidden", texts[0], details=details)


async def _invoke(invocation: Invocation, subject: Subject, own: Invocations) -> list[Problem]:
    """Carry one out; answers what went wrong."""
    policy, gvr, param = invocation.policy, invocation.gvr, invocation.param
    rounds = subject.review.rounds
    assert rounds is not None
    problems: list[Problem] = []
    try:
        if not await policy.conditions.hold(subject, gvr, param):
            return []
    except Cannot as problem:
        return [(policy, invocation.binding, str(problem), "Invalid")]
    if rounds.skips(own, invocation.key):
        return []
    changed = False
    for kind, expression in policy.mutations:
        obj, _ = await subject.shown(gvr)
        if obj is None:
            continue
        try:
            made = await _mutated(policy, kind, expression, subject, gvr, obj, param)
            if made is not None and await subject.take(made, gvr):
                changed = True
        except _Refused as problem:
            problems.append((policy, invocation.binding, str(problem), "Invalid"))
        except ApiError as error:
            raise internal(error.message) from None
    rounds.called(own, invocation.key, changed=changed, repeatable=policy.repeatable)
    return problems


class _Refused(Exception):
    """A mutation can't be made."""


async def _mutated(
    policy: Policy, kind: str, expression: Expression, subject: Subject, gvr: Gvr, obj: Json, param: Json | None
) -> Json | None:
    """The object after one mutation; None when it is to stay as it is. Raises _Refused."""
    from portside.server.admission.expressions import Activation, Budget, Failed, OutOfBudget, mismatch, plain

    activation = await Activation.of(subject, gvr, params=param, variables=policy.variables)
    try:
        value = expression.run(activation, Budget(BUDGET))
        if kind != "JSONPatch" and (wrong := mismatch(value)):
            raise _Refused(f"type mismatch: {wrong}")
        said = plain(value)
    except (Failed, OutOfBudget) as problem:
        raise _Refused(str(problem)) from None
    if kind == "JSONPatch":
        try:
            return apply_operations(obj, said)
        except PatchFailure as problem:
            if problem.test:
                return None  # a test that does not hold means: nothing to do
            raise _Refused(f"JSONPath: {problem}") from None
    schema = subject.schema(gvr)
    if schema is None:
        raise _Refused(f"Resource kind {subject.kind_as(gvr).kind} not found.")
    try:
        return apply_configuration(orjson.loads(orjson.dumps(obj)), said, schema)
    except CannotApply as problem:
        raise _Refused(f"error applying patch: {problem}") from None
