"""RBAC rules: matching a request, covering one rule set by another, and upstream's compact spelling of a rule."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """One PolicyRule in the form that matching wants."""

    verbs: frozenset[str]
    groups: frozenset[str]
    resources: frozenset[str]
    names: frozenset[str]
    urls: tuple[str, ...]
    source: Json

    def matches(self, verb: str, group: str, resource: str, subresource: str) -> bool:
        """Whether the rule speaks of this request, names aside."""
        if not (verb in self.verbs or "*" in self.verbs):
            return False
        if not (group in self.groups or "*" in self.groups):
            return False
        if subresource:
            whole = f"{resource}/{subresource}"
            return whole in self.resources or "*" in self.resources or f"*/{subresource}" in self.resources
        return resource in self.resources or "*" in self.resources

    def matches_url(self, verb: str, path: str) -> bool:
        return (verb in self.verbs or "*" in self.verbs) and any(_url_covers(url, path) for url in self.urls)


def compile_rules(rules: Iterable[Json] | None) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            frozenset(rule.get("verbs") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("resources") or ()),
            frozenset(rule.get("resourceNames") or ()),
            tuple(rule.get("nonResourceURLs") or ()),
            rule,
        )
        for rule in rules or ()
    )


def _url_covers(owner: str, path: str) -> bool:
    return owner in ("*", path) or (owner.endswith("*") and path.startswith(owner.rstrip("*")))


def uncovered(owned: Sequence[Rule], asked: Iterable[Json]) -> list[Json]:
    """The single permissions of ``asked`` that ``owned`` does not hold, in upstream's breakdown order."""
    return [part for rule in asked for part in _breakdown(rule) if not any(_covers(o, part) for o in owned)]


def _breakdown(rule: Json) -> Iterator[Json]:
    verbs = rule.get("verbs") or ()
    for group in rule.get("apiGroups") or ():
        for resource in rule.get("resources") or ():
            for verb in verbs:
                part = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
                names = rule.get("resourceNames") or ()
                if not names:
                    yield part
                for name in names:
                    yield part | {"resourceNames": [name]}
    for url in rule.get("nonResourceURLs") or ():
        for verb in verbs:
            yield {"nonResourceURLs": [url], "verbs": [verb]}


def _covers(owner: Rule, part: Json) -> bool:
    if not ("*" in owner.verbs or part["verbs"][0] in owner.verbs):
        return False
    if "nonResourceURLs" in part:
        return any(_url_covers(url, part["nonResourceURLs"][0]) for url in owner.urls)
    if not ("*" in owner.groups or part["apiGroups"][0] in owner.groups):
        return False
    resource = part["resources"][0]
    if not ("*" in owner.resources or resource in owner.resources):
        _, slash, sub = resource.partition("/")
        if not slash or f"*/{sub}" not in owner.resources:
            return False
    if not owner.names:
        return True
    return "resourceNames" in part and part["resourceNames"][0] in owner.names


def compact(parts: Iterable[Json]) -> list[Json]:
    """Join single permissions that differ in the verb alone, as upstream does before it prints them."""
    merged: dict[tuple[str, str, str], Json] = {}
    rest: list[Json] = []
    for part in parts:
        if "nonResourceURLs" in part:
            rest.append(part)
            continue
        key = (part["apiGroups"][0], part["resources"][0], (part.get("resourceNames") or [""])[0])
        held = merged.get(key)
        if held is None:
            merged[key] = part | {"verbs": list(part["verbs"])}
        elif part["verbs"][0] not in held["verbs"]:
            held["verbs"].extend(part["verbs"])
    return [*merged.values(), *rest]


def spell(rule: Json) -> str:
    """``{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}``."""
    names = (
        ("APIGroups", "apiGroups"),
        ("Resources", "resources"),
        ("NonResourceURLs", "nonResourceURLs"),
        ("ResourceNames", "resourceNames"),
        ("Verbs", "verbs"),
    )
    texts = [f"{label}:{quoted(rule[field])}" for label, field in names if rule.get(field)]
    return "{" + ", ".join(texts) + "}"


def quoted(values: Iterable[str]) -> str:
    """Go's %q of a list: ``["a" "b"]``."""
    return "[" + " ".join(json.dumps(v, ensure_ascii=False) for v in values) + "]"
