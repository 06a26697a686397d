"""Admission policies: a policy with its bindings, compiled, and the parameters that a binding brings along.

Common to validating and mutating policies; what they make of their expressions is in ``validating_policies`` and
``mutating_policies``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from portside.api.selector import from_object
from portside.api.status import ApiError
from portside.server.admission.match_conditions import Conditions
from portside.server.admission.matching import Match
from portside.server.watchcache_filter import Filter

if TYPE_CHECKING:
    from portside.api.kinds import Kind
    from portside.server.admission.expressions import Expression, Variables
    from portside.server.admission.review import Review
    from portside.server.admission.subject import Gvr, Subject

Json = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
BUDGET = 10_000_000
"""What all expressions of one policy may cost for one request and parameter, in CEL's units."""
# Policies may not keep anybody from mending policies; reviews are questions, which they do not see either.
EXEMPT = frozenset(
    ("validatingadmissionpolicies", "validatingadmissionpolicybindings", "mutatingadmissionpolicies",
     "mutatingadmissionpolicybindings")
)  # fmt: skip


class Misconfigured(Exception):
    """The policy or the binding can't be used as it is. ``policy``: not only one binding."""

    def __init__(self, text: str, *, policy: bool = False) -> None:
        super().__init__(text)
        self.policy = policy

    def __str__(self) -> str:
        return f"failed to configure {'policy' if self.policy else 'binding'}: {super().__str__()}"


class Binding:
    """Where a policy applies, with what, and (validating) what a denial means."""

    def __init__(self, said: Json) -> None:
        self.name = str(said["metadata"]["name"])
        spec = said.get("spec") or {}
        resources = spec.get("matchResources")
        self.match = Match.of(resources) if resources is not None else None
        self.param_ref: Json | None = spec.get("paramRef")
        self.actions = tuple(spec.get("validationActions") or ())


def bindings_by_policy(bindings: Iterable[Json]) -> dict[str, list[Binding]]:
    """The bindings of each policy, by name."""
    found: dict[str, list[Binding]] = {}
    for said in sorted(bindings, key=lambda b: str(b["metadata"]["name"])):
        found.setdefault(str((said.get("spec") or {}).get("policyName") or ""), []).append(Binding(said))
    return found


class Policy:
    """One policy. Expressions are compiled when the first request meets them."""

    def __init__(self, said: Json, mutating: bool) -> None:
        self.name = str(said["metadata"]["name"])
        self.spec: Json = said.get("spec") or {}
        self.mutating = mutating
        self.bindings: list[Binding] = []
        self.param_kind: Json | None = self.spec.get("paramKind")

    @property
    def fails(self) -> bool:
        """Whether an expression that can't be evaluated refuses the request."""
        return self.spec.get("failurePolicy") != "Ignore"

    @property
    def repeatable(self) -> bool:
        return self.spec.get("reinvocationPolicy") == "IfNeeded"

    @cached_property
    def match(self) -> Match:
        return Match.of(self.spec.get("matchConstraints") or {})

    @cached_property
    def conditions(self) -> Conditions:
        said = self.spec.get("matchConditions") or ()
        return Conditions(said, fails=self.fails, params=self.param_kind is not None)

    @cached_property
    def variables(self) -> Variables:
        from portside.server.admission.expressions import Variables

        return Variables(self.spec.get("variables") or (), params=self.param_kind is not None)

    def expression(self, text: str, result: str = "", *, authorizer: bool = True) -> Expression:
        """An expression of this policy: it sees parameters if there is a kind of them, and the variables."""
        from portside.server.admission.expressions import Expression

        params = self.param_kind is not None
        variables = self.variables if self.spec.get("variables") else None
        return Expression(text, result, params=params, authorizer=authorizer, variables=variables)

    @cached_property
    def validations(self) -> tuple[tuple[Json, Expression, Expression | None], ...]:
        """(validation, its expression, its message's expression)."""
        return tuple(
            (
                v,
                self.expression(v.get("expression") or "", "bool"),
                self.expression(text, "string", authorizer=False) if (text := v.get("messageExpression")) else None,
            )
            for v in self.spec.get("validations") or ()
        )

    @cached_property
    def annotations(self) -> tuple[tuple[str, Expression], ...]:
        """(key, expression of its value)."""
        return tuple(
            (a.get("key") or "", self.expression(a.get("valueExpression") or "", "annotation", authorizer=False))
            for a in self.spec.get("auditAnnotations") or ()
        )

    @cached_property
    def mutations(self) -> tuple[tuple[str, Expression], ...]:
        """(patch type, expression)."""
        found = []
        for mutation in self.spec.get("mutations") or ():
            kind = mutation.get("patchType") or ""
            part = mutation.get("jsonPatch" if kind == "JSONPatch" else "applyConfiguration") or {}
            found.append((kind, self.expression(part.get("expression") or "", kind)))
        return tuple(found)


def exempt(review: Review) -> bool:
    """Whether policies have nothing to say about the request."""
    at = review.attributes
    if at.group == GROUP:
        return at.resource in EXEMPT
    return at.group in ("authentication.k8s.io", "authorization.k8s.io") and at.resource.endswith("reviews")


def concerned(policy: Policy, subject: Subject) -> Gvr | None:
    """The resource as which the policy sees the request, None when it does not. Raises Misconfigured."""
    try:
        gvr = policy.match.find(subject, everything=True)
    except ApiError as error:
        raise Misconfigured(error.message, policy=True) from None
    if gvr is not None and policy.param_kind is not None:
        param_kind(policy, subject)
    return gvr


def bound(binding: Binding, subject: Subject) -> bool:
    """Whether the binding covers the request. Raises Misconfigured."""
    if binding.match is None:
        return True
    try:
        return binding.match.find(subject, everything=True) is not None
    except ApiError as error:
        raise Misconfigured(error.message) from None


def param_kind(policy: Policy, subject: Subject) -> Kind:
    """The served kind of the policy's parameters. Raises Misconfigured."""
    said = policy.param_kind or {}
    version, name = str(said.get("apiVersion") or ""), str(said.get("kind") or "")
    found = subject.review.server.named(version, name)
    if found is None:
        shown = version if "/" in version else f"/{version}"
        text = f"failed to find resource referenced by paramKind: '{shown}, Kind={name}'"
        raise Misconfigured(text, policy=True)
    return found


async def parameters(policy: Policy, binding: Binding, subject: Subject) -> list[Json | None]:
    """The parameters to evaluate the policy with, one after the other: [None] without any, [] when that lets the request
    pass. Raises Misconfigured."""
    ref = binding.param_ref
    if policy.param_kind is None or ref is None:
        return [None]
    kind = param_kind(policy, subject)
    space = str(ref.get("namespace") or "")
    if kind.namespaced:
        space = space or subject.namespace
        if not space:
            raise Misconfigured(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    elif space:
        raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    try:
        found: list[Json | None] = [*await _found(kind, space, ref, subject)]
    except ApiError as error:
        raise Misconfigured(error.message) from None
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found


async def _found(kind: Kind, space: str, ref: Json, subject: Subject) -> list[Json]:
    resource = subject.review.server.resource(kind)
    if ref.get("name"):
        one = resource.cache.get(space, ref["name"])
        return [] if one is None else [await resource.load(one)]
    selector = from_object(ref.get("selector") or {})
    return await resource.load_all(resource.cache.list(Filter(namespace=space, labels=selector.matches)).objects)
