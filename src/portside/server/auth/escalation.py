"""Nobody grants more than they hold: the check on roles and bindings (verbs ``escalate`` and ``bind`` lift it)."""

from __future__ import annotations

from typing import Any

from portside.api.status import forbidden, not_found
from portside.server.attributes import Attributes, User
from portside.server.auth.authorize import MASTERS, Authorizer
from portside.server.auth.rbac import GROUP
from portside.server.auth.rules import compact, quoted, spell, uncovered

Json = dict[str, Any]
ROLES, BINDINGS = ("roles", "clusterroles"), ("rolebindings", "clusterrolebindings")


def check_escalation(attributes: Attributes, obj: Json, old: Json | None, authorizer: Authorizer) -> None:
    """Raises ApiError 403 when the user may not write this role or binding, 404 when a binding's role is not there."""
    if MASTERS in attributes.user.groups or attributes.group != GROUP:
        return
    if attributes.resource in ROLES:
        _check_role(attributes, obj, old, authorizer)
    elif attributes.resource in BINDINGS:
        _check_binding(attributes, obj, old, authorizer)


def _check_role(attributes: Attributes, obj: Json, old: Json | None, authorizer: Authorizer) -> None:
    if old is not None and old.get("rules") == obj.get("rules") and not _aggregation_changed(obj, old):
        return
    if authorizer.allowed(attributes._replace(verb="escalate", subresource="")):
        return
    name = obj["metadata"].get("name", "")
    asked = list(obj.get("rules") or ())
    if obj.get("aggregationRule") is not None and (old is None or _aggregation_changed(obj, old)):
        everything = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        paths = {"verbs": ["*"], "nonResourceURLs": ["*"]}
        if _missing(attributes.user, "", [everything, paths], authorizer):
            raise forbidden(
                attributes.resource, name, "must have cluster-admin privileges to use the aggregationRule", GROUP
            )
    _refuse_missing(attributes, name, asked, authorizer)


def _aggregation_changed(obj: Json, old: Json) -> bool:
    return bool(obj.get("aggregationRule") != old.get("aggregationRule"))


def _check_binding(attributes: Attributes, obj: Json, old: Json | None, authorizer: Authorizer) -> None:
    if old is not None and all(old.get(field) == obj.get(field) for field in ("roleRef", "subjects")):
        return
    ref = obj.get("roleRef") or {}
    kind, name = ref.get("kind", ""), ref.get("name", "")
    asked = attributes._replace(
        verb="bind",
        resource="clusterroles" if kind == "ClusterRole" else "roles",
        name=name,
        subresource="",
    )
    if authorizer.allowed(asked):
        return
    rules = authorizer.rbac.role_rules(kind, name, attributes.namespace)
    if rules is None:
        raise not_found(attributes.resource, name, GROUP)
    _refuse_missing(attributes, obj["metadata"].get("name", ""), [rule.source for rule in rules], authorizer)


def _missing(user: User, namespace: str, rules: list[Json], authorizer: Authorizer) -> list[Json]:
    held = authorizer.held(user, namespace)
    return uncovered([rule for rule, _ in held.rules], rules)


def _refuse_missing(attributes: Attributes, name: str, rules: list[Json], authorizer: Authorizer) -> None:
    user = attributes.user
    missing = _missing(user, attributes.namespace, rules, authorizer)
    if not missing:
        return
    listed = "\n".join(sorted(spell(rule) for rule in compact(missing)))
    text = (
        f"user {quoted([user.name])[1:-1]} (groups={quoted(user.groups)}) "
        f"is attempting to grant RBAC permissions not currently held:\n{listed}"
    )
    errors = authorizer.held(user, attributes.namespace).errors
    if errors:
        text += f"; resolution errors: {'[' + ', '.join(errors) + ']' if len(errors) > 1 else errors[0]}"
    raise forbidden(attributes.resource, name, text, GROUP)
