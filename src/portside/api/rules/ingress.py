"""Ingress: hosts, paths, backends, TLS; and the parameters of an IngressClass."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import addresses, service_checks
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules

Json = dict[str, Any]
Errors = list[FieldError]
PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
ANNOTATION = "kubernetes.io/ingress.class"
_BAD_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")
_BAD_AT_END = ("/..", "/.")
_DOMAIN_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z")
_DEPRECATED = f"annotation \"{ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"


def domain_path(text: str, path: str) -> Errors:
    """``example.com/name``, as controllers of a class are named."""
    if not text:
        return [required(path)]
    domain, slash, rest = text.partition("/")
    if not slash or not domain or not rest:
        return [invalid_value(path, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    errors = [invalid_value(path, domain, p) for p in names.is_subdomain(domain)]
    if not _DOMAIN_PATH.match(rest):
        text = "must be a valid path (e.g. 'my/path', regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')"
        errors.append(invalid_value(path, rest, text))
    return errors


def class_parameters(ref: Json | None, path: str) -> Errors:
    """Where the settings of a class are."""
    if ref is None:
        return []
    errors = _typed(ref, path)
    absent = [e for e in errors if e.reason == "FieldValueRequired"]
    errors = [e for e in errors if e not in absent]
    scope, namespace = ref.get("scope"), ref.get("namespace")
    if scope is None:
        errors.append(required(f"{path}.scope"))
    elif scope not in ("Cluster", "Namespace"):
        errors.append(not_supported(f"{path}.scope", scope, ("Cluster", "Namespace")))
    elif scope == "Namespace":
        if not namespace:
            errors.append(required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'"))
        else:
            errors += [invalid_value(f"{path}.namespace", namespace, p) for p in names.dns_label(namespace)]
    elif namespace is not None:
        errors.append(forbidden_field(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'"))
    return errors + absent


def _typed(ref: Json, path: str) -> Errors:
    group, errors = ref.get("apiGroup"), []
    if group is not None:
        errors += [invalid_value(f"{path}.apiGroup", group, p) for p in names.is_subdomain(group)]
    for field in ("kind", "name"):
        value = ref.get(field) or ""
        if not value:
            errors.append(required(f"{path}.{field}"))
        else:
            errors += [invalid_value(f"{path}.{field}", value, p) for p in names.path_segment(value)]
    return errors


def _backend(backend: Json, path: str) -> Errors:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [invalid_value(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _typed(resource, f"{path}.resource")
    if service is None:
        return [invalid_value(path, "", "resource or service backend is required")]
    name, port = service.get("name") or "", service.get("port") or {}
    errors: Errors = []
    if not name:
        errors.append(required(f"{path}.service.name"))
    else:
        errors += [invalid_value(f"{path}.service.name", name, p) for p in names.dns_label(name)]
    if port.get("name") and port.get("number"):
        return [*errors, invalid_value(path, "", "cannot set both port name & port number")]
    if port.get("name"):
        at = f"{path}.service.port.name"
        return errors + [invalid_value(at, port["name"], p) for p in names.port_name(port["name"])]
    if port.get("number"):
        at = f"{path}.service.port.number"
        return errors + [invalid_value(at, port["number"], p) for p in names.port_number(port["number"])]
    return [*errors, required(path, "port name or number is required")]


def _path(path: Json, at: str) -> Errors:
    text, type_, errors = path.get("path") or "", path.get("pathType"), []
    if type_ is None:
        return [
            required(f"{at}.pathType", "pathType must be specified"),
            *_backend(path.get("backend") or {}, f"{at}.backend"),
        ]
    if type_ in ("Exact", "Prefix"):
        if not text.startswith("/"):
            errors.append(invalid_value(f"{at}.path", text, "must be an absolute path"))
        if text:
            errors += [invalid_value(f"{at}.path", text, f"must not contain '{s}'") for s in _BAD_IN_PATH if s in text]
            ends = (s for s in _BAD_AT_END if text.endswith(s))
            errors += [invalid_value(f"{at}.path", text, f"cannot end with '{s}'") for s in ends]
    elif type_ == "ImplementationSpecific":
        if text and not text.startswith("/"):
            errors.append(invalid_value(f"{at}.path", text, "must be an absolute path"))
    else:
        errors.append(not_supported(f"{at}.pathType", type_, PATH_TYPES))
    return errors + _backend(path.get("backend") or {}, f"{at}.backend")


def _host(host: str, at: str) -> Errors:
    if addresses.parse_ip(host) is not None:
        return [invalid_value(at, host, "must be a DNS name, not an IP address")]
    check = names.is_wildcard_subdomain if "*" in host else names.is_subdomain
    return [invalid_value(at, host, p) for p in check(host)]


def _tls(entry: Json, at: str) -> Errors:
    errors: Errors = []
    for i, host in enumerate(entry.get("hosts") or ()):
        check = names.is_wildcard_subdomain if "*" in host else names.is_subdomain
        errors += [invalid_value(f"{at}.hosts[{i}]", host, p) for p in check(host)]
    secret = entry.get("secretName") or ""
    return errors + (
        [invalid_value(f"{at}.secretName", secret, p) for p in names.dns_subdomain(secret)] if secret else []
    )


def _spec(spec: Json) -> Errors:
    errors: Errors = []
    if not spec.get("rules") and spec.get("defaultBackend") is None:
        errors.append(invalid_value("spec", None, "either `defaultBackend` or `rules` must be specified"))
    if spec.get("defaultBackend") is not None:
        errors += _backend(spec["defaultBackend"], "spec.defaultBackend")
    for i, rule in enumerate(spec.get("rules") or ()):
        at = f"spec.rules[{i}]"
        if rule.get("host"):
            errors += _host(rule["host"], f"{at}.host")
        if rule.get("http") is not None:
            paths = rule["http"].get("paths") or []
            if not paths:
                errors.append(required(f"{at}.http.paths"))
            errors += [e for j, p in enumerate(paths) for e in _path(p, f"{at}.http.paths[{j}]")]
    for i, entry in enumerate(spec.get("tls") or ()):
        errors += _tls(entry, f"spec.tls[{i}]")
    name = spec.get("ingressClassName")
    if name is not None:
        errors += [invalid_value("spec.ingressClassName", name, p) for p in names.dns_subdomain(name)]
    return errors


def validate(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors = _spec(spec)
    old_style = (obj["metadata"].get("annotations") or {}).get(ANNOTATION)
    name = spec.get("ingressClassName")
    if old_style is not None and name is not None and old_style != name:
        text = "must match `ingressClassName` when both are specified"
        errors.append(invalid_value(f"annotations.{ANNOTATION}", old_style, text))
    return errors


def validate_status(obj: Json, old: Json, ctx: Context) -> Errors:
    points = ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return service_checks.balancer_status(points, "status.loadBalancer.ingress", modes=False)


def default(obj: Json) -> None:
    obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("loadBalancer", {})


def _create(obj: Json, ctx: Context) -> None:
    obj["status"] = {"loadBalancer": {}}


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {"loadBalancer": {}}


def _warn(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    have = ANNOTATION in (obj["metadata"].get("annotations") or {})
    had = old is not None and ANNOTATION in (old["metadata"].get("annotations") or {})
    return [_DEPRECATED] if have and not had else []


INGRESS = Rules(
    BY_KIND["networking.k8s.io", "v1", "Ingress"],
    default=default,
    prepare_create=_create,
    prepare_update=_update,
    validate=validate,
    validate_update=lambda obj, old, ctx: _spec(obj.get("spec") or {}),
    warnings=_warn,
    subresources={"status": SubRules(STATUS_ONLY.prepare_update, validate_status)},
    generation=True,
)
