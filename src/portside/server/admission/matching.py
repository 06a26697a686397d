"""Which requests a webhook or a policy is for: rules, selectors and equivalent versions. Pure functions over compiled rules.

The order of questions is upstream's (namespace, object, rules), because an unknown namespace is an error only for what would
otherwise apply.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from portside.api.selector import LabelSelector, from_object
from portside.server.admission.subject import Gvr, Subject

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its resources split into (resource, subresource); ``names`` empty means all."""

    groups: frozenset[str]
    versions: frozenset[str]
    operations: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str
    names: frozenset[str]

    @classmethod
    def of(cls, rule: Json) -> Rule:
        split = (word.partition("/") for word in rule.get("resources") or ())
        return cls(
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            frozenset(rule.get("operations") or ()),
            tuple((name, sub) for name, _, sub in split),
            rule.get("scope") or "*",
            frozenset(rule.get("resourceNames") or ()),
        )

    def matches(self, subject: Subject, gvr: Gvr) -> bool:
        """Whether the rule covers the request, were it made for ``gvr``."""
        return (
            self._operation(subject)
            and _one_of(self.groups, gvr.group)
            and _one_of(self.versions, gvr.version)
            and self._resource(gvr.resource, subject.subresource)
            and self._scope(subject)
            and (not self.names or subject.name in self.names)
        )

    def _operation(self, subject: Subject) -> bool:
        return _one_of(self.operations, subject.operation)

    def _resource(self, resource: str, subresource: str) -> bool:
        return any(name in ("*", resource) and sub in ("*", subresource) for name, sub in self.resources)

    def _scope(self, subject: Subject) -> bool:
        if self.scope == "*":
            return True
        inside = bool(subject.namespace) and not subject.is_namespace
        return inside if self.scope == "Namespaced" else not inside


def _one_of(words: frozenset[str], word: str) -> bool:
    return word in words or "*" in words


@dataclass(frozen=True, slots=True)
class Match:
    """A compiled ``matchConstraints``, ``matchResources`` or webhook: what a request must be like."""

    rules: tuple[Rule, ...]
    excluded: tuple[Rule, ...]
    namespaces: LabelSelector
    objects: LabelSelector
    equivalent: bool

    @classmethod
    def of(cls, said: Json, rules: str = "resourceRules") -> Match:
        return cls(
            tuple(Rule.of(r) for r in said.get(rules) or ()),
            tuple(Rule.of(r) for r in said.get("excludeResourceRules") or ()),
            from_object(said.get("namespaceSelector") or {}),
            from_object(said.get("objectSelector") or {}),
            said.get("matchPolicy") != "Exact",
        )

    def find(self, subject: Subject, *, everything: bool = False) -> Gvr | None:
        """The resource, as which the request is covered: its own or an equivalent one; None when it is not.

        ``everything``: no rules at all cover all (bindings). Raises ApiError 404 when the namespace is not there.
        """
        unknown: Exception | None = None
        if not self.namespaces.everything:
            try:
                if not _namespace_matches(self.namespaces, subject):
                    return None
            except subject.NamespaceUnknown as error:
                unknown = error
        if not self.objects.everything and not any(self.objects.matches_object(o) for o in subject.labelled()):
            return None
        if self.excluded and self._covered(self.excluded, subject) is not None:
            return None
        found = subject.resource if everything and not self.rules else self._covered(self.rules, subject)
        if found is not None and unknown is not None:
            raise unknown
        return found

    def _covered(self, rules: Iterable[Rule], subject: Subject) -> Gvr | None:
        own = subject.resource
        if any(rule.matches(subject, own) for rule in rules):
            return own
        if not self.equivalent:
            return None
        others = subject.equivalents()
        return next((other for rule in rules for other in others if rule.matches(subject, other)), None)


def _namespace_matches(selector: LabelSelector, subject: Subject) -> bool:
    if not subject.namespace and not subject.is_namespace:
        return True  # what has no namespace is never exempt
    return selector.matches(subject.namespace_labels())
