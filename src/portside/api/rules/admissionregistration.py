"""Webhook configurations, admission policies and their bindings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from portside.api import names
from portside.api.field import FieldError, duplicate, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import admission_rules as shared
from portside.api.rules.admission_expressions import (
    Scope,
    annotation_problems,
    condition_problems,
    validation_problems,
    variable_problems,
)
from portside.api.rules.conditions import validate_conditions
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
GROUP = "admissionregistration.k8s.io"
SIDE_EFFECTS = ("None", "NoneOnDryRun")
REVIEWS = ("v1", "v1beta1")
ACTIONS = ("Audit", "Deny", "Warn")
_FORM = "; desired format: https://host[/path]"
_BOTH = (
    "must not contain both Deny and Warn (repeating the same validation failure information in the API response and "
    "headers serves no purpose)"
)


def default_webhooks(obj: Json) -> None:
    mutating = obj.get("kind") == "MutatingWebhookConfiguration"
    for hook in obj.get("webhooks") or ():
        hook.setdefault("failurePolicy", "Fail")
        hook.setdefault("matchPolicy", "Equivalent")
        hook.setdefault("namespaceSelector", {})
        hook.setdefault("objectSelector", {})
        hook.setdefault("timeoutSeconds", 10)
        if mutating:
            hook.setdefault("reinvocationPolicy", "Never")
        shared.default_rules(hook.get("rules"))
        service = (hook.get("clientConfig") or {}).get("service")
        if service is not None:
            service.setdefault("port", 443)


def _hook_name(name: str, path: str) -> Errors:
    if not name:
        return [required(path)]
    errors = [invalid_value(path, name, p) for p in names.is_subdomain(name)]
    if not errors and name.count(".") < 2:
        errors.append(invalid_value(path, name, "should be a domain with at least three segments separated by dots"))
    return errors


def url_problems(url: str, path: str) -> Errors:
    """A webhook's URL: https, a host, and nothing but a path."""
    if url.partition("/")[0].startswith(":"):
        return [required(path, f'url must be a valid URL: parse "{url}": missing protocol scheme{_FORM}')]
    parts, errors = urlsplit(url), []
    if parts.scheme != "https":
        errors.append(invalid_value(path, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    user, at, host = parts.netloc.rpartition("@")
    if not host:
        errors.append(invalid_value(path, parts.netloc, f"host must be specified{_FORM}"))
    if at:
        errors.append(invalid_value(path, user, "user information is not permitted in the URL"))
    if parts.fragment:
        errors.append(invalid_value(path, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        errors.append(invalid_value(path, parts.query, "query parameters are not permitted in the URL"))
    return errors


def service_problems(service: Json, at: str) -> Errors:
    """A webhook's Service."""
    errors = [required(f"{at}.{f}") for f in ("name", "namespace") if not service.get(f)]
    port = service.get("port", 443)
    errors += [invalid_value(f"{at}.port", port, f"port is not valid: {p}") for p in names.port_number(port)]
    path = service.get("path")
    if path in (None, "", "/"):
        return errors
    if not path.startswith("/"):
        errors.append(invalid_value(f"{at}.path", path, "must start with a '/'"))
    segments = path[1:].split("/")
    if segments[-1] == "":
        segments.pop()
    for i, segment in enumerate(segments):
        if not segment:
            errors.append(invalid_value(f"{at}.path", path, f"segment[{i}] may not be empty"))
        else:
            found = names.is_subdomain(segment)
            errors += [invalid_value(f"{at}.path", path, f"segment[{i}]: {p}") for p in found]
    return errors


def _client(client: Json, at: str) -> Errors:
    url, service = client.get("url"), client.get("service")
    if (url is None) == (service is None):
        return [required(at, "exactly one of url or service is required")]
    return url_problems(url, f"{at}.url") if url is not None else service_problems(service or {}, f"{at}.service")


def _versions(versions: list[str], at: str) -> Errors:
    if not versions:
        return [required(at, "must specify one of v1, v1beta1")]
    errors: Errors = []
    for i, version in enumerate(versions):
        if version in versions[:i]:
            errors.append(invalid_value(f"{at}[{i}]", version, "duplicate version"))
            continue
        errors += [invalid_value(f"{at}[{i}]", version, p) for p in names.is_label_1035(version)]
    if not set(versions) & set(REVIEWS):
        errors.append(invalid_value(at, versions, "must include at least one of v1, v1beta1"))
    return errors


def _hook(hook: Json, at: str) -> Errors:
    errors = _hook_name(hook.get("name") or "", f"{at}.name")
    for i, rule in enumerate(hook.get("rules") or ()):
        errors += shared.rule_problems(rule, f"{at}.rules[{i}]")
    errors += shared.one_of(hook.get("failurePolicy"), shared.FAILURES, f"{at}.failurePolicy")
    errors += shared.one_of(hook.get("matchPolicy"), shared.MATCHES, f"{at}.matchPolicy")
    effects, seconds = hook.get("sideEffects"), hook.get("timeoutSeconds")
    if effects is None:
        errors.append(required(f"{at}.sideEffects", "must specify one of None, NoneOnDryRun"))
    errors += shared.one_of(effects, SIDE_EFFECTS, f"{at}.sideEffects")
    if seconds is not None and not 1 <= seconds <= 30:
        text = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid_value(f"{at}.timeoutSeconds", seconds, text))
    for field in ("namespaceSelector", "objectSelector"):
        errors += validate_object(hook.get(field), f"{at}.{field}")
    errors += shared.one_of(hook.get("reinvocationPolicy"), shared.REINVOCATIONS, f"{at}.reinvocationPolicy")
    errors += _client(hook.get("clientConfig") or {}, f"{at}.clientConfig")
    return errors + condition_problems(hook.get("matchConditions") or [], f"{at}.matchConditions")


def validate_webhooks(obj: Json, ctx: Context) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, hook in enumerate(obj.get("webhooks") or ()):
        at, name = f"webhooks[{i}]", hook.get("name") or ""
        errors += _hook(hook, at)
        errors += _versions(hook.get("admissionReviewVersions") or [], f"{at}.admissionReviewVersions")
        if name and name in seen:
            errors.append(duplicate(f"{at}.name", name))
        seen.add(name)
    return errors


def default_policy(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("failurePolicy", "Fail")
    shared.default_match(spec.get("matchConstraints"))
    if obj.get("kind") == "ValidatingAdmissionPolicy":
        obj.setdefault("status", {})


_PARTS = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def _mutation(mutation: Json, scope: Scope, at: str) -> Errors:
    type_ = mutation.get("patchType") or ""
    if not type_:
        return [required(f"{at}.patchType")]
    if type_ not in _PARTS:
        return [not_supported(f"{at}.patchType", type_, tuple(_PARTS))]
    own = _PARTS[type_]
    errors: Errors = []
    if mutation.get(own) is None:
        errors.append(required(f"{at}.{own}", f"must be specified when patchType is {type_}"))
    else:
        text, path = mutation[own].get("expression") or "", f"{at}.{own}.expression"
        errors += scope.problems(text, type_, path) if text.strip() else [required(path)]
    for part in _PARTS.values():
        if part != own and mutation.get(part) is not None:
            text = f"must not be specified when patchType is {type_}"
            errors.append(invalid_value(f"{at}.{part}", f"{{{part}}}", text))
    return errors


def _scope(spec: Json) -> Scope:
    return Scope(params=spec.get("paramKind") is not None, composed=bool(spec.get("variables")))


def _policy(spec: Json, scope: Scope, *, mutating: bool = False) -> Errors:
    errors = shared.one_of(spec.get("failurePolicy"), shared.FAILURES, "spec.failurePolicy")
    errors += shared.param_kind(spec.get("paramKind"), "spec.paramKind")
    match = spec.get("matchConstraints")
    if match is None:
        errors.append(required("spec.matchConstraints"))
    else:
        errors += shared.match_problems(match, "spec.matchConstraints")
        if not match.get("resourceRules"):
            errors.append(required("spec.matchConstraints.resourceRules"))
        errors += _operations(match) if mutating else []
    errors += condition_problems(spec.get("matchConditions") or [], "spec.matchConditions", params=scope.params)
    return errors + variable_problems(spec.get("variables") or [], scope, "spec.variables")


def validate_policy(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    scope = _scope(spec)
    errors = _policy(spec, scope)
    checks, notes = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not checks and not notes:
        text = "validations or auditAnnotations must contain at least one item"
        return [*errors, required("spec.validations", text), required("spec.auditAnnotations", text)]
    errors += validation_problems(checks, scope, "spec.validations")
    return errors + annotation_problems(notes, name, scope, "spec.auditAnnotations")


_MUTABLE = ("*", "CONNECT", "CREATE", "UPDATE")


def _operations(match: Json) -> Errors:
    """A mutating policy can't be about deletions: there is no object to change."""
    found = (o for rule in match.get("resourceRules") or () for o in rule.get("operations") or ())
    path = "spec.matchConstraints.resourceRules.operations"
    return [not_supported(path, o, _MUTABLE) for o in found if o == "DELETE"]


def validate_mutating(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    scope, mutations = _scope(spec), spec.get("mutations") or []
    errors = _policy(spec, scope, mutating=True)
    if not mutations:
        errors.append(required("spec.mutations", "mutations must contain at least one item"))
    for i, mutation in enumerate(mutations):
        errors += _mutation(mutation, scope, f"spec.mutations[{i}]")
    again = spec.get("reinvocationPolicy") or ""
    if not again:
        errors.append(required("spec.reinvocationPolicy"))
    elif again not in shared.REINVOCATIONS:
        errors.append(not_supported("spec.reinvocationPolicy", again, shared.REINVOCATIONS))
    return errors


def default_binding(obj: Json) -> None:
    shared.default_match(obj.setdefault("spec", {}).get("matchResources"))


def _binding(spec: Json) -> Errors:
    name, path = spec.get("policyName") or "", "spec.policyName"
    errors = [invalid_value(path, name, p) for p in names.dns_subdomain(name)] if name else [required(path)]
    errors += shared.param_ref(spec.get("paramRef"), "spec.paramRef")
    match = spec.get("matchResources")
    return errors + (shared.match_problems(match, "spec.matchResources") if match is not None else [])


def validate_binding(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors, actions, path = _binding(spec), spec.get("validationActions") or [], "spec.validationActions"
    if not actions:
        errors.append(required(path))
    for i, action in enumerate(actions):
        if action not in ACTIONS:
            errors.append(not_supported(f"{path}[{i}]", action, ACTIONS))
        if action in actions[:i]:
            errors.append(duplicate(f"{path}[{i}]", action))
    if "Deny" in actions and "Warn" in actions:
        errors.append(invalid_value(path, actions, _BOTH))
    return errors


def validate_mutating_binding(obj: Json, ctx: Context) -> Errors:
    return _binding(obj.get("spec") or {})


def _clear(obj: Json, ctx: Context) -> None:
    obj["status"] = {}


def _keep(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    """Warnings of the type check say what and where; conditions are as everywhere."""
    status, errors = obj.get("status") or {}, []
    for i, warning in enumerate((status.get("typeChecking") or {}).get("expressionWarnings") or ()):
        path = f"status.typeChecking.expressionWarnings[{i}]"
        errors += [required(f"{path}.{f}") for f in ("warning", "fieldRef") if not (warning.get(f) or "").strip()]
    return errors + validate_conditions(status.get("conditions"), "status.conditions")


_STATUS = SubRules(prepare_update=STATUS_ONLY.prepare_update, validate_update=validate_status)


def _rules(kind: str, default: Any, validate: Any, **more: Any) -> tuple[tuple[str, str], Rules]:
    rules = Rules(
        BY_KIND[GROUP, "v1", kind],
        default=default,
        validate=validate,
        validate_update=lambda obj, old, ctx: validate(obj, ctx),
        generation=True,
        unconditional_update=False,
        any_finalizer=True,
        **more,
    )
    return ("v1", kind), rules


RULES = dict(
    (
        _rules("MutatingWebhookConfiguration", default_webhooks, validate_webhooks),
        _rules("ValidatingWebhookConfiguration", default_webhooks, validate_webhooks),
        _rules("MutatingAdmissionPolicy", default_policy, validate_mutating),
        _rules("MutatingAdmissionPolicyBinding", default_binding, validate_mutating_binding),
        _rules(
            "ValidatingAdmissionPolicy",
            default_policy,
            validate_policy,
            prepare_create=_clear,
            prepare_update=_keep,
            subresources={"status": _STATUS},
        ),
        _rules("ValidatingAdmissionPolicyBinding", default_binding, validate_binding),
    )
)
