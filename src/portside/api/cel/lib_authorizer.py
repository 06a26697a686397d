"""Questions to the authorizer: ``authorizer.group('apps').resource('deployments').check('create').allowed()``.

The binding is an Authorizer made of a callable: the edge decides, this module only builds the question.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from portside.api.cel.values import CelRuntimeError, Opaque

DECLARATIONS = """
authorizer_path: Authorizer :: path(string) -> PathCheck
authorizer_group: Authorizer :: group(string) -> GroupCheck
authorizer_serviceaccount: Authorizer :: serviceAccount(string, string) -> Authorizer
groupcheck_resource: GroupCheck :: resource(string) -> ResourceCheck
resourcecheck_subresource: ResourceCheck :: subresource(string) -> ResourceCheck
resourcecheck_namespace: ResourceCheck :: namespace(string) -> ResourceCheck
resourcecheck_name: ResourceCheck :: name(string) -> ResourceCheck
authorizer_fieldselector: ResourceCheck :: fieldSelector(string) -> ResourceCheck
authorizer_labelselector: ResourceCheck :: labelSelector(string) -> ResourceCheck
pathcheck_check: PathCheck :: check(string) -> Decision
resourcecheck_check: ResourceCheck :: check(string) -> Decision
decision_allowed: Decision :: allowed() -> bool
decision_reason: Decision :: reason() -> string
decision_errored: Decision :: errored() -> bool
decision_error: Decision :: error() -> string
"""


@dataclass(frozen=True)
class Question:
    """What is asked. ``user`` is a service account as ``namespace/name`` when asked for another than the requester."""

    verb: str = ""
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""
    label_selector: str = ""
    user: str = ""


@dataclass(frozen=True)
class Answer:
    """Whether it is allowed, why, and what went wrong when nobody could tell."""

    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Question], Answer]


class Authorizer(Opaque):
    """The binding of ``authorizer``."""

    __slots__ = ("ask", "question")
    TYPE_NAME = "kubernetes.authorization.Authorizer"

    def __init__(self, ask: Ask, question: Question | None = None) -> None:
        self.ask = ask
        self.question = question or Question()

    def to(self, kind: type[Authorizer], **parts: str) -> Authorizer:
        return kind(self.ask, replace(self.question, **parts))


class PathCheck(Authorizer):
    """A question about a path."""

    __slots__ = ()
    TYPE_NAME = "kubernetes.authorization.PathCheck"


class GroupCheck(Authorizer):
    """A question about an API group."""

    __slots__ = ()
    TYPE_NAME = "kubernetes.authorization.GroupCheck"


class ResourceCheck(Authorizer):
    """A question about a resource. Bound to ``authorizer.requestResource`` it is about the request itself."""

    __slots__ = ()
    TYPE_NAME = "kubernetes.authorization.ResourceCheck"


class Decision(Opaque):
    """What the authorizer said."""

    __slots__ = ("answer",)
    TYPE_NAME = "kubernetes.authorization.Decision"

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


def _path(authorizer: Authorizer, path: str) -> Authorizer:
    if not path:
        raise CelRuntimeError("path must not be empty")
    return authorizer.to(PathCheck, path=path)


def _account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    from portside.api import names

    problems = names.dns_label(namespace)
    if problems:
        raise CelRuntimeError(f"Invalid service account namespace {'; '.join(problems)}")
    problems = names.dns_subdomain(name)
    if problems:
        raise CelRuntimeError(f"Invalid service account name {'; '.join(problems)}")
    return authorizer.to(Authorizer, user=f"{namespace}/{name}")


def _check(authorizer: Authorizer, verb: str) -> Decision:
    return Decision(authorizer.ask(replace(authorizer.question, verb=verb)))


def _with(part: str) -> Callable[[Authorizer, str], Authorizer]:
    return lambda authorizer, value: authorizer.to(ResourceCheck, **{part: value})


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "authorizer_path": _path,
    "authorizer_group": lambda authorizer, group: authorizer.to(GroupCheck, group=group),
    "authorizer_serviceaccount": _account,
    "groupcheck_resource": _with("resource"),
    "resourcecheck_subresource": _with("subresource"),
    "resourcecheck_namespace": _with("namespace"),
    "resourcecheck_name": _with("name"),
    "authorizer_fieldselector": _with("field_selector"),
    "authorizer_labelselector": _with("label_selector"),
    "pathcheck_check": _check,
    "resourcecheck_check": _check,
    "decision_allowed": lambda decision: decision.answer.allowed,
    "decision_reason": lambda decision: decision.answer.reason,
    "decision_errored": lambda decision: bool(decision.answer.error),
    "decision_error": lambda decision: decision.answer.error,
}
