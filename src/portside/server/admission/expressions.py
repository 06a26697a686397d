"""Expressions of webhooks and policies: compiled once, run against a request within a budget.

Imported when the first expression is there; clusters without any never load CEL.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from portside.api.admission_environment import (
    REQUEST_RESOURCE,
    NotCompiled,
    compile_admission,
    variables_for,
)
from portside.api.cel import CelRuntimeError, CostExceeded
from portside.api.cel import types as t
from portside.api.cel.lib_authorizer import Answer, Authorizer, Question, ResourceCheck
from portside.api.cel.program import PER_CALL_LIMIT
from portside.api.cel.types import Type, struct
from portside.api.cel.values import Typed
from portside.server.admission.subject import Gvr, Subject
from portside.server.attributes import Attributes, User

if TYPE_CHECKING:
    from portside.api.cel import Program
    from portside.server.admission.review import Review

Json = dict[str, Any]
SPENT = "validation failed due to running out of cost budget, no further validation rules will be run"


class Failed(Exception):
    """The expression has no value; the text is upstream's."""


class OutOfBudget(Exception):
    """The expressions together cost more than they may."""

    def __init__(self) -> None:
        super().__init__(SPENT)


class Budget:
    """What is left to spend, in CEL's units."""

    def __init__(self, left: int) -> None:
        self.left = left

    def pay(self, cost: int) -> None:
        """Raises OutOfBudget."""
        if cost > self.left:
            raise OutOfBudget
        self.left -= cost


class Variables:
    """The named expressions of a policy: each sees those before it, and is evaluated when somebody reads it."""

    def __init__(self, said: Sequence[Json], *, params: bool) -> None:
        self.types: dict[str, Type] = {}
        self.programs: dict[str, Program | NotCompiled] = {}
        for variable in said:
            name, text = str(variable.get("name") or ""), str(variable.get("expression") or "")
            seen = variables_for(params=params, authorizer=True, composed=dict(self.types))
            try:
                program: Program | NotCompiled = compile_admission(text, seen, "")
            except NotCompiled as problem:
                program = problem
            self.programs[name] = program
            self.types[name] = t.DYN if isinstance(program, NotCompiled) else program.type

    @property
    def type(self) -> Type:
        return struct("kubernetes.variables", {})


class _Lazy(dict[str, Any]):
    """The value of ``variables``: computes a member when it is first read, and keeps it."""

    def __init__(self, variables: Variables, activation: Activation) -> None:
        super().__init__()
        self._variables = variables
        self._activation = activation

    def __contains__(self, name: object) -> bool:
        return name in self._variables.programs

    def __missing__(self, name: str) -> Any:
        program = self._variables.programs[name]
        if isinstance(program, NotCompiled):
            raise CelRuntimeError(f'composited variable "{name}" fails to compile: {program}')
        try:
            value = program.evaluate(self._activation.bindings, budget=PER_CALL_LIMIT)
        except (CelRuntimeError, CostExceeded) as problem:
            raise CelRuntimeError(f'composited variable "{name}" fails to evaluate: {problem}') from None
        finally:
            self._activation.spent += program.spent
        self[name] = value
        return value


class Activation:
    """What expressions see of one request. ``spent`` is the cost of variables read so far."""

    def __init__(self, bindings: Json) -> None:
        self.bindings = bindings
        self.spent = 0

    @classmethod
    async def of(
        cls,
        subject: Subject,
        gvr: Gvr,
        *,
        params: Json | None = None,
        namespace: bool = True,
        variables: Variables | None = None,
    ) -> Activation:
        """``namespace``: whether the object's namespace is shown; match conditions don't see it."""
        obj, old = await subject.shown(gvr)
        review = subject.review
        authorizer = Authorizer(_asker(review))
        made = cls(
            {
                "object": obj,
                "oldObject": old,
                "request": lambda: _request(subject, gvr),
                "namespaceObject": subject.namespace_object if namespace else None,
                "params": params,
                "authorizer": authorizer,
                REQUEST_RESOURCE: authorizer.to(
                    ResourceCheck,
                    group=gvr.group,
                    resource=gvr.resource,
                    subresource=subject.subresource,
                    namespace=subject.namespace,
                    name=subject.name,
                ),
            }
        )
        if variables is not None:
            made.bindings["variables"] = Typed(_Lazy(variables, made), variables.type)
        return made


def _request(subject: Subject, gvr: Gvr) -> Json:
    """The ``request`` variable: the AdmissionRequest without its objects."""
    made = subject.request_json(gvr) | {"dryRun": subject.review.dry_run}
    options = subject.options()
    return made if options is None else made | {"options": options}


def _asker(review: Review) -> Callable[[Question], Answer]:
    """Questions of expressions to the cluster's authorizer, in the name of who makes the request or a service account."""

    def ask(question: Question) -> Answer:
        user = review.user
        if question.user:
            space, _, name = question.user.partition("/")
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{space}", "system:authenticated")
            user = User(f"system:serviceaccount:{space}:{name}", groups=groups)
        attributes = Attributes(user, question.verb)
        if question.path:
            attributes = attributes._replace(path=question.path, is_resource=False)
        else:
            attributes = attributes._replace(
                group=question.group,
                version="*",
                resource=question.resource,
                subresource=question.subresource,
                namespace=question.namespace,
                name=question.name,
                field_selector=question.field_selector,
                label_selector=question.label_selector,
            )
        decision = review.server.authorizer.authorize(attributes)
        return Answer(decision.allowed, decision.reason)

    return ask


class Expression:
    """One expression in its place, compiled when it is made; what does not compile fails when it is run."""

    def __init__(
        self,
        text: str,
        result: str = "",
        *,
        params: bool = False,
        authorizer: bool = False,
        variables: Variables | None = None,
    ) -> None:
        self.text = text
        seen = variables_for(params=params, authorizer=authorizer, composed=variables.types if variables else None)
        self._program: Program | NotCompiled
        try:
            self._program = compile_admission(text, seen, result)
        except NotCompiled as problem:
            self._program = problem

    def run(self, activation: Activation, budget: Budget) -> Any:
        """Its value. Raises Failed and OutOfBudget."""
        program = self._program
        if isinstance(program, NotCompiled):
            raise Failed(f"compilation error: {program}")
        before = activation.spent
        problem: Exception | None = None
        value: Any = None
        try:
            value = program.evaluate(activation.bindings, budget=PER_CALL_LIMIT)
        except (CelRuntimeError, CostExceeded) as error:
            problem = error
        budget.pay(program.spent + activation.spent - before)
        if problem is not None:
            raise Failed(f"expression '{self.text}' resulted in error: {problem}")
        return value


def plain(value: Any) -> Any:
    """A value of CEL as JSON. Raises Failed for what JSON has no form of."""
    if isinstance(value, Typed):
        return {k: plain(v) for k, v in value.data.items()}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, str, float)):
        return copy.copy(value)
    if isinstance(value, int):
        return int(value)
    raise Failed(f"the expression evaluated to a type that could not marshal to JSON: {type(value).__name__}")


def mismatch(value: Any, path: str = "Object") -> str:
    """Where the names of ``Object.a.b{}`` do not follow the fields they stand in; "" when all do."""
    if isinstance(value, list):
        return next((found for v in value if (found := mismatch(v, path))), "")
    if isinstance(value, Typed):
        if value.type.name != path:
            return f'unexpected type name "{value.type.name}", expected "{path}", which matches field name path from root Object type'
        return next((found for k, v in value.data.items() if (found := mismatch(v, f"{path}.{k}"))), "")
    return ""
