"""Access, rules and self reviews: what may somebody do, and who am I."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, required
from portside.api.status import bad_request, invalid
from portside.base.clock import rfc3339
from portside.server.attributes import Attributes, User
from portside.server.auth.nodes import node_name
from portside.server.auth.rbac import Decision
from portside.server.host import Host

Json = dict[str, Any]
GROUP = "authorization.k8s.io"


async def subject_access_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST subjectaccessreviews: about any user. Raises ApiError 422."""
    _check(body, _spec_errors(body.get("spec") or {}) + _meta_errors(body))
    return _answer(body, server, _subject(body["spec"]))


async def local_subject_access_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST localsubjectaccessreviews: about any user within the request's namespace."""
    spec = body.get("spec") or {}
    meta = body.setdefault("metadata", {})
    if meta.get("namespace", "") not in ("", attributes.namespace):
        raise bad_request(
            f"the namespace of the provided object does not match the namespace sent on the request: "
            f"{meta['namespace']} != {attributes.namespace}"
        )
    meta["namespace"] = attributes.namespace
    errors = _spec_errors(spec) + _meta_errors(body, ("namespace",))
    resource = spec.get("resourceAttributes")
    if resource is not None and resource.get("namespace", "") != attributes.namespace:
        text = "must match metadata.namespace"
        errors.append(invalid_value("spec.resourceAttributes.namespace", resource.get("namespace", ""), text))
    if spec.get("nonResourceAttributes") is not None:
        text = "disallowed on this kind of request"
        errors.append(invalid_value("spec.nonResourceAttributes", _go_path(spec["nonResourceAttributes"]), text))
    _check(body, errors)
    return _answer(body, server, _subject(spec))


async def self_subject_access_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST selfsubjectaccessreviews: about the caller."""
    _check(body, _attribute_errors(body.get("spec") or {}) + _meta_errors(body))
    return _answer(body, server, attributes.user)


async def self_subject_rules_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST selfsubjectrulesreviews: the caller's rules in a namespace."""
    namespace = (body.get("spec") or {}).get("namespace", "")
    if not namespace:
        raise bad_request("no namespace on request")
    held = server.authorizer.held(attributes.user, namespace)
    resources: list[Json] = []
    paths: list[Json] = []
    for rule, _ in held.rules:
        source = rule.source
        target, fields = (
            (paths, ("verbs", "nonResourceURLs"))
            if rule.urls
            else (resources, ("verbs", "apiGroups", "resources", "resourceNames"))
        )
        fact = {field: source[field] for field in fields if source.get(field)}
        if fact not in target:
            target.append(fact)
    status: Json = {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}
    notes = list(dict.fromkeys(held.errors))
    if node_name(attributes.user):
        notes.append("node authorizer does not support user rule resolution")
        status["incomplete"] = True
    if held.errors:
        status["incomplete"] = True
    if notes:
        status["evaluationError"] = notes[0] if len(notes) == 1 else f"[{', '.join(notes)}]"
    return _head(body) | {"spec": {}, "status": status}


async def self_subject_review(attributes: Attributes, body: Json, server: Host) -> Json:
    """POST selfsubjectreviews: who the caller is."""
    meta = (body.get("metadata") or {}) | {"creationTimestamp": rfc3339(server.clock.now())}
    return _head(body) | {"metadata": meta, "status": {"userInfo": user_info(attributes.user)}}


def user_info(user: User) -> Json:
    """A UserInfo object; empty members are left out."""
    info: Json = {"username": user.name, "uid": user.uid, "groups": list(user.groups)}
    info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return {key: value for key, value in info.items() if value}


def _head(body: Json) -> Json:
    return {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": body.get("metadata") or {}}


def _answer(body: Json, server: Host, user: User) -> Json:
    decision = decide(body["spec"], user, server)
    status: Json = {"allowed": decision.allowed}
    if decision.reason:
        status["reason"] = decision.reason
    return _head(body) | {"spec": body["spec"], "status": status}


def decide(spec: Json, user: User, server: Host) -> Decision:
    """The authorizer's decision for a review's attributes."""
    if (resource := spec.get("resourceAttributes")) is not None:
        asked = Attributes(
            user,
            resource.get("verb", ""),
            group=resource.get("group", ""),
            version=resource.get("version", ""),
            resource=resource.get("resource", ""),
            subresource=resource.get("subresource", ""),
            namespace=resource.get("namespace", ""),
            name=resource.get("name", ""),
            field_selector=_selector_text(resource.get("fieldSelector")),
            label_selector=_selector_text(resource.get("labelSelector")),
        )
    else:
        path = spec["nonResourceAttributes"]
        asked = Attributes(user, path.get("verb", ""), path=path.get("path", ""), is_resource=False)
    return server.authorizer.authorize(asked)


def _selector_text(selector: Json | None) -> str:
    if not selector:
        return ""
    if selector.get("rawSelector"):
        return str(selector["rawSelector"])
    found = []
    for requirement in selector.get("requirements") or ():
        if requirement.get("operator") == "In" and len(requirement.get("values") or ()) == 1:
            found.append(f"{requirement.get('key')}={requirement['values'][0]}")
    return ",".join(found)


def _subject(spec: Json) -> User:
    extra = {key.lower(): tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _spec_errors(spec: Json) -> list[FieldError]:
    errors = _attribute_errors(spec)
    if not spec.get("user") and not spec.get("groups"):
        errors.append(
            invalid_value("spec.user", spec.get("user", ""), "at least one of user or group must be specified")
        )
    return errors


def _attribute_errors(spec: Json) -> list[FieldError]:
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    errors: list[FieldError] = []
    if (resource is None) == (path is None):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(invalid_value("spec", _go_path(path) if path is not None else None, text))
    for field in ("fieldSelector", "labelSelector"):
        if resource is not None and resource.get(field) is not None:
            errors.extend(_selector_errors(f"spec.resourceAttributes.{field}", resource[field], field))
    return errors


def _selector_errors(path: str, selector: Json, field: str) -> Iterable[FieldError]:
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or []
    if not raw and not requirements:
        yield required(f"{path}.requirements", f"when {path} is specified, requirements or rawSelector is required")
    if raw and requirements:
        yield invalid_value(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")
    for index, requirement in enumerate(requirements):
        yield from _requirement_errors(f"{path}.requirements[{index}]", requirement)


def _requirement_errors(path: str, requirement: Json) -> Iterable[FieldError]:
    if not requirement.get("key"):
        yield required(f"{path}.key", "must be specified")
    operator, values = requirement.get("operator", ""), requirement.get("values") or []
    if operator in ("In", "NotIn"):
        if not values:
            yield required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            yield forbidden_field(
                f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
    else:
        yield invalid_value(f"{path}.operator", operator, "not a valid selector operator")


def _go_path(path: Json) -> Json:
    """The internal spelling that upstream's refusals print."""
    return {"Path": path.get("path", ""), "Verb": path.get("verb", "")}


def _meta_errors(body: Json, but: tuple[str, ...] = ()) -> list[FieldError]:
    meta = {key: value for key, value in (body.get("metadata") or {}).items() if value and key != "managedFields"}
    if set(meta) <= set(but):
        return []
    text = "must be empty except for namespace" if but else "must be empty"
    return [invalid_value("metadata", json.loads(json.dumps(meta)), text)]


def _check(body: Json, errors: list[FieldError]) -> None:
    # Upstream passes an empty kind here, so the message starts with a dot.
    if errors:
        raise invalid("", "", errors, GROUP)
