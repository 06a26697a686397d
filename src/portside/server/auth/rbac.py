"""RBAC over live objects: bindings indexed by subject, roles compiled once, decisions cached until something changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portside.server.attributes import Attributes, User
from portside.server.auth.rules import Rule, compile_rules
from portside.server.live import Live, Mirror

Json = dict[str, Any]
GROUP = "rbac.authorization.k8s.io"
# Bounded: names that users send end up in the keys (docs/limits.md).
CACHED_DECISIONS = 16384


@dataclass(frozen=True, slots=True)
class Decision:
    """``reason`` is upstream's text: why it is allowed, or what an authorizer had to say about refusing."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """One subject of one binding."""

    order: str
    cluster_role: bool
    role_name: str
    namespace: str
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """The rules a user holds somewhere, each with the grant's reason; ``errors`` are roles that do not exist."""

    rules: tuple[tuple[Rule, str], ...]
    errors: tuple[str, ...]


class Rbac:
    """Indexes are brought up to date when the next decision is asked for, so a burst of changes costs one pass."""

    def __init__(self, live: Live) -> None:
        self._cluster_roles, self._roles = live.of("clusterroles", GROUP), live.of("roles", GROUP)
        self._cluster_bindings = live.of("clusterrolebindings", GROUP)
        self._bindings = live.of("rolebindings", GROUP)
        # namespace ("" for cluster bindings) -> subject -> grants by binding key
        self._grants: dict[str, dict[str, dict[str, list[Grant]]]] = {}
        self._subjects: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._dirty: set[str] = set()
        self._compiled: dict[str, tuple[Rule, ...]] = {}
        self._held: dict[tuple[str, tuple[str, ...], str], Held] = {}
        self._decisions: dict[tuple[Any, ...], Decision | None] = {}
        for mirror in (self._cluster_bindings, self._bindings):
            self._dirty.update(mirror.keys())
            mirror.on_change(self._binding_changed)
        for mirror in (self._cluster_roles, self._roles):
            mirror.on_change(self._role_changed)

    def authorize(self, asked: Attributes) -> Decision:
        """Whether some rule allows the request; the first grant in upstream's order gives the reason."""
        user = asked.user
        if not asked.is_resource:
            return self._authorize_path(asked)
        key = (user.name, user.groups, asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace)
        known = self._decisions.get(key, _UNKNOWN)
        if known is None:  # it depends on the name
            known = self._decisions.get((*key, asked.name), _UNKNOWN)
        if known is not None and known is not _UNKNOWN:
            return known
        decision, by_name = self._decide(asked)
        if len(self._decisions) >= CACHED_DECISIONS:
            self._decisions.clear()
        if by_name:
            self._decisions[key] = None
            self._decisions[(*key, asked.name)] = decision
        else:
            self._decisions[key] = decision
        return decision

    def held(self, user: User, namespace: str) -> Held:
        """All rules of a user at cluster scope and, if given, in a namespace."""
        if self._dirty:
            self._refresh()
        key = (user.name, user.groups, namespace)
        found = self._held.get(key)
        if found is None:
            if len(self._held) >= CACHED_DECISIONS:
                self._held.clear()
            found = self._held[key] = self._collect(user, namespace)
        return found

    def role_rules(self, kind: str, name: str, namespace: str) -> tuple[Rule, ...] | None:
        """The rules of the role a binding in ``namespace`` would refer to; None when there is no such role."""
        mirror = self._cluster_roles if kind == "ClusterRole" else self._roles
        return self._compile(mirror, name, "" if kind == "ClusterRole" else namespace)

    def _decide(self, asked: Attributes) -> tuple[Decision, bool]:
        held = self.held(asked.user, asked.namespace)
        by_name = False
        for rule, reason in held.rules:
            if rule.matches(asked.verb, asked.group, asked.resource, asked.subresource):
                if not rule.names:
                    return Decision(True, reason), by_name
                by_name = True
                if asked.name in rule.names:
                    return Decision(True, reason), True
        return Decision(False, _errors(held)), by_name

    def _authorize_path(self, asked: Attributes) -> Decision:
        held = self.held(asked.user, "")
        for rule, reason in held.rules:
            if rule.urls and rule.matches_url(asked.verb, asked.path):
                return Decision(True, reason)
        return Decision(False, _errors(held))

    def _collect(self, user: User, namespace: str) -> Held:
        subjects = [f"U{user.name}", *(f"G{group}" for group in user.groups)]
        rules: list[tuple[Rule, str]] = []
        errors: list[str] = []
        for scope in ("", namespace) if namespace else ("",):
            by_subject = self._grants.get(scope, {})
            found = [g for subject in subjects for gs in by_subject.get(subject, {}).values() for g in gs]
            seen = ""
            for grant in sorted(found, key=lambda g: g.order):
                if grant.order == seen:
                    continue
                seen = grant.order
                mirror = self._cluster_roles if grant.cluster_role else self._roles
                compiled = self._compile(mirror, grant.role_name, "" if grant.cluster_role else grant.namespace)
                if compiled is None:
                    kind = "clusterrole" if grant.cluster_role else "role"
                    errors.append(f'{kind}.{GROUP} "{grant.role_name}" not found')
                    continue
                rules.extend((rule, grant.reason) for rule in compiled)
        return Held(tuple(rules), tuple(errors))

    def _compile(self, mirror: Mirror, name: str, namespace: str) -> tuple[Rule, ...] | None:
        key = f"{mirror.prefix}{namespace}/{name}" if namespace else mirror.prefix + name
        found = self._compiled.get(key)
        if found is None:
            role = mirror.at(key)
            if role is None:
                return None
            found = self._compiled[key] = compile_rules(role.get("rules"))
        return found

    def _role_changed(self, key: str) -> None:
        self._compiled.pop(key, None)
        self._held.clear()
        self._decisions.clear()

    def _binding_changed(self, key: str) -> None:
        self._dirty.add(key)
        self._held.clear()
        self._decisions.clear()

    def _refresh(self) -> None:
        for key in self._dirty:
            space, subjects = self._subjects.pop(key, ("", ()))
            for subject in subjects:
                held = self._grants[space][subject]
                held.pop(key, None)
                if not held:
                    del self._grants[space][subject]
            cluster = key.startswith(self._cluster_bindings.prefix)
            binding = (self._cluster_bindings if cluster else self._bindings).at(key)
            if binding is None:
                continue
            space = "" if cluster else binding["metadata"]["namespace"]
            scope = self._grants.setdefault(space, {})
            names = []
            for subject, grant in _grants_of(binding, key, space):
                scope.setdefault(subject, {}).setdefault(key, []).append(grant)
                names.append(subject)
            self._subjects[key] = (space, tuple(dict.fromkeys(names)))
        self._dirty.clear()


_UNKNOWN = Decision(False, "unknown")


def _errors(held: Held) -> str:
    if not held.errors:
        return ""
    texts = list(dict.fromkeys(held.errors))
    return "RBAC: " + (texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def _grants_of(binding: Json, key: str, namespace: str) -> Iterator[tuple[str, Grant]]:
    ref = binding["roleRef"]
    name = binding["metadata"]["name"]
    described = f'RoleBinding "{name}/{namespace}"' if namespace else f'ClusterRoleBinding "{name}"'
    for subject in binding.get("subjects") or ():
        kind, who = subject.get("kind"), subject.get("name", "")
        if kind == "ServiceAccount":
            space = subject.get("namespace") or namespace
            index, text = f"Usystem:serviceaccount:{space}:{who}", f'ServiceAccount "{who}/{space}"'
        elif kind in ("User", "Group"):
            index, text = kind[0] + who, f"{kind} {json.dumps(who, ensure_ascii=False)}"
        else:
            continue
        reason = f'RBAC: allowed by {described} of {ref["kind"]} "{ref["name"]}" to {text}'
        yield index, Grant(key, ref["kind"] == "ClusterRole", ref["name"], namespace, reason)
