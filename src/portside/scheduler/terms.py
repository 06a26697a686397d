"""Selectors of pods and nodes, compiled once into predicates; equal selectors share one compiled form."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

Json = dict[str, Any]
Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]


def canonical(value: Any) -> str:
    """One text for equal JSON values: the key under which compiled forms are shared."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def requirement(key: str, operator: str, values: tuple[str, ...]) -> Predicate:
    """One match expression. Gt and Lt compare integers (node selectors only); a value that is no integer never matches."""
    if operator == "In":
        return lambda labels: labels.get(key) in values
    if operator == "NotIn":
        return lambda labels: labels.get(key) not in values
    if operator == "Exists":
        return lambda labels: key in labels
    if operator == "DoesNotExist":
        return lambda labels: key not in labels
    return lambda labels: _compare(labels.get(key), operator, values)


def _compare(have: str | None, operator: str, values: tuple[str, ...]) -> bool:
    try:
        left, right = int(have or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if operator == "Gt" else left < right if operator == "Lt" else False


@lru_cache(maxsize=4096)
def label_selector(text: str) -> Predicate:
    """Compile a LabelSelector given as canonical JSON. ``null`` matches nothing, ``{}`` everything."""
    selector = json.loads(text)
    if selector is None:
        return lambda labels: False
    parts = [requirement(k, "In", (v,)) for k, v in (selector.get("matchLabels") or {}).items()]
    parts += [
        requirement(e["key"], e["operator"], tuple(e.get("values") or ()))
        for e in selector.get("matchExpressions") or ()
    ]
    if not parts:
        return lambda labels: True
    if len(parts) == 1:
        return parts[0]
    return lambda labels: all(part(labels) for part in parts)


@lru_cache(maxsize=4096)
def handle(text: str) -> tuple[str, str] | None:
    """A label (key, value) that every match of the selector carries: what an index finds it by. None when there is none."""
    selector = json.loads(text) or {}
    for pair in (selector.get("matchLabels") or {}).items():
        return pair  # type: ignore[no-any-return]
    for entry in selector.get("matchExpressions") or ():
        if entry["operator"] == "In" and len(entry.get("values") or ()) == 1:
            return entry["key"], entry["values"][0]
    return None


@dataclass(frozen=True, slots=True)
class NodeTerm:
    """One nodeSelectorTerm: expressions over labels, and over the field metadata.name."""

    labels: tuple[tuple[str, str, tuple[str, ...]], ...]
    fields: tuple[tuple[str, str, tuple[str, ...]], ...]

    @classmethod
    def of(cls, term: Json) -> NodeTerm:
        def read(entries: Any) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
            return tuple((e["key"], e["operator"], tuple(e.get("values") or ())) for e in entries or ())

        return cls(read(term.get("matchExpressions")), read(term.get("matchFields")))

    def names(self) -> frozenset[str] | None:
        """The node names the term is limited to, None when it names none."""
        for _, operator, values in self.fields:
            if operator == "In":
                return frozenset(values)
        return None


@dataclass(frozen=True, slots=True)
class PodTerm:
    """One pod (anti-)affinity term. ``namespaces`` is resolved against the live namespaces when it is used.

    ``key`` identifies equal terms; ``weight`` is 0 for required ones.
    """

    key: str
    selector: str
    topology: str
    namespaces: frozenset[str]
    namespace_selector: str
    weight: int = 0
    who: str = ""  # the key without the topology: equal for terms that match the same pods

    @classmethod
    def of(cls, term: Json, own_namespace: str, weight: int = 0) -> PodTerm:
        listed = frozenset(term.get("namespaces") or ())
        selects = "namespaceSelector" in term and term["namespaceSelector"] is not None
        if not listed and not selects:
            listed = frozenset((own_namespace,))
        selector = canonical(term.get("labelSelector"))
        namespace_selector = canonical(term["namespaceSelector"]) if selects else ""
        topology = term.get("topologyKey", "")
        who = f"{selector}|{','.join(sorted(listed))}|{namespace_selector}"
        return cls(f"{topology}|{who}", selector, topology, listed, namespace_selector, weight, who)

    @classmethod
    @lru_cache(maxsize=4096)
    def within(cls, namespace: str, selector: str, topology: str = "") -> PodTerm:
        """A selector over one namespace."""
        who = f"{selector}|{namespace}|"
        return cls(f"{topology}|{who}", selector, topology, frozenset((namespace,)), "", 0, who)

    def covers(self, namespace: str, namespace_labels: Mapping[str, Labels]) -> bool:
        if namespace in self.namespaces:
            return True
        return bool(self.namespace_selector) and label_selector(self.namespace_selector)(
            namespace_labels.get(namespace, {})
        )

    def matches(self, namespace: str, labels: Labels, namespace_labels: Mapping[str, Labels]) -> bool:
        return self.covers(namespace, namespace_labels) and label_selector(self.selector)(labels)


@dataclass(frozen=True, slots=True)
class Spread:
    """One topologySpreadConstraint."""

    topology: str
    skew: int
    required: bool
    selector: str
    min_domains: int
    honor_affinity: bool
    honor_taints: bool
    all_keys: tuple[str, ...] = ()  # topology keys that a node must have to count: those of all constraints of its kind

    @classmethod
    def all_of(cls, constraints: list[Json]) -> tuple[Spread, ...]:
        """A pod's constraints; required and preferred ones each look only at nodes that have all their keys."""
        found = [cls.of(c) for c in constraints]
        keys = {r: tuple(dict.fromkeys(s.topology for s in found if s.required is r)) for r in (True, False)}
        return tuple(replace(s, all_keys=keys[s.required]) for s in found)

    @classmethod
    def of(cls, constraint: Json) -> Spread:
        return cls(
            constraint["topologyKey"],
            int(constraint["maxSkew"]),
            constraint.get("whenUnsatisfiable") != "ScheduleAnyway",
            canonical(constraint.get("labelSelector")),
            int(constraint.get("minDomains") or 1),
            constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
            constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
        )


@dataclass(frozen=True, slots=True)
class Toleration:
    """One toleration; an empty key with Exists tolerates everything, an empty effect every effect."""

    key: str
    operator: str
    value: str
    effect: str

    def tolerates(self, taint: tuple[str, str, str]) -> bool:
        key, value, effect = taint
        if self.effect and self.effect != effect:
            return False
        if self.key and self.key != key:
            return False
        if self.operator == "Exists":
            return True
        if self.operator in ("Lt", "Gt"):
            try:
                return int(value) < int(self.value) if self.operator == "Lt" else int(value) > int(self.value)
            except ValueError:
                return False
        return bool(self.key) and self.value == value
