"""Which FlowSchema a request belongs to. Pure: compiled schemas against a request's attributes, in order of precedence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from portside.server.attributes import Attributes

Json = dict[str, Any]
ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True, slots=True)
class Schema:
    """``distinguisher`` tells flows of one schema apart: by user, by namespace, or ("") not at all."""

    name: str
    uid: str
    level: str
    distinguisher: str
    rules: tuple[Json, ...]

    def matches(self, attributes: Attributes) -> bool:
        return any(_rule(rule, attributes) for rule in self.rules)

    def flow_of(self, attributes: Attributes) -> str:
        if self.distinguisher == "ByUser":
            return attributes.user.name
        return attributes.namespace if self.distinguisher == "ByNamespace" else ""


def compile_schemas(objects: list[Json]) -> tuple[Schema, ...]:
    """Schemas in the order in which they are tried."""
    ordered = sorted(
        objects,
        key=lambda o: (int((o.get("spec") or {}).get("matchingPrecedence") or 1000), str(o["metadata"]["name"])),
    )
    return tuple(
        Schema(
            str(o["metadata"]["name"]),
            str(o["metadata"].get("uid") or ""),
            str(((o.get("spec") or {}).get("priorityLevelConfiguration") or {}).get("name") or ""),
            str(((o.get("spec") or {}).get("distinguisherMethod") or {}).get("type") or ""),
            tuple((o.get("spec") or {}).get("rules") or ()),
        )
        for o in ordered
    )


def _rule(rule: Json, attributes: Attributes) -> bool:
    if not any(_subject(subject, attributes) for subject in rule.get("subjects") or ()):
        return False
    if attributes.is_resource:
        return any(_resource(r, attributes) for r in rule.get("resourceRules") or ())
    return any(_path(r, attributes) for r in rule.get("nonResourceRules") or ())


def _subject(subject: Json, attributes: Attributes) -> bool:
    user, kind = attributes.user, subject.get("kind")
    if kind == "User":
        name = (subject.get("user") or {}).get("name")
        return name in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    account = subject.get("serviceAccount") or {}
    space, name = account.get("namespace") or "", account.get("name") or ""
    if name == "*":
        return user.name.startswith(f"{ACCOUNT}{space}:")
    return user.name == f"{ACCOUNT}{space}:{name}"


def _has(words: list[str] | None, word: str) -> bool:
    return bool(words) and (word in words or "*" in words)  # type: ignore[operator]


def _resource(rule: Json, attributes: Attributes) -> bool:
    name = f"{attributes.resource}/{attributes.subresource}" if attributes.subresource else attributes.resource
    if not (_has(rule.get("verbs"), attributes.verb) and _has(rule.get("apiGroups"), attributes.group)):
        return False
    if not _has(rule.get("resources"), name):
        return False
    return (
        _has(rule.get("namespaces"), attributes.namespace) if attributes.namespace else bool(rule.get("clusterScope"))
    )


def _path(rule: Json, attributes: Attributes) -> bool:
    if not _has(rule.get("verbs"), attributes.verb):
        return False
    for url in rule.get("nonResourceURLs") or ():
        if url in ("*", attributes.path) or (url.endswith("*") and attributes.path.startswith(url[:-1])):
            return True
    return False
