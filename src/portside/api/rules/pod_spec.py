"""Validation of a pod's spec and of pod templates, in upstream's order and words."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.meta import validate_annotations, validate_labels
from portside.api.rules.pod_affinity import validate_affinity, validate_spread, validate_tolerations
from portside.api.rules.pod_annotations import validate_pod_annotations
from portside.api.rules.pod_containers import (
    PodFacts,
    validate_containers,
    validate_ephemeral_containers,
    validate_init_containers,
)
from portside.api.rules.pod_resources import validate_pod_resources, validate_value
from portside.api.rules.pod_security import (
    validate_host_process,
    validate_host_users,
    validate_os,
    validate_pod_context,
)
from portside.api.rules.pod_volumes import validate_volumes

Json = dict[str, Any]
Errors = list[FieldError]

RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_UNDERSCORED = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*"
_SEARCH = re.compile(_UNDERSCORED + r"\Z")
_SEARCH_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start "
    f"and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_UNDERSCORED}')"
)
_IP_TEXT = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"


@lru_cache(maxsize=8192)
def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def validate_ip(text: str, path: str) -> Errors:
    if not _is_address(text):
        if re.fullmatch(r"\d+\.\d+\.\d+\.\d+", text) and all(int(p) < 256 for p in text.split(".")):
            return [invalid_value(path, text, "must not have leading 0s")]
        return [invalid_value(path, text, _IP_TEXT)]
    return []


def _resource_claims(claims: list[Json], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        where, name = f"{path}[{i}]", claim.get("name") or ""
        if not name:
            errors.append(required(f"{where}.name"))
        elif name in seen:
            errors.append(duplicate(f"{where}.name", name))
        else:
            errors += [invalid_value(f"{where}.name", name, p) for p in names.is_label(name)]
            seen.add(name)
        direct, template = claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName")
        shown = {"Name": name, "ResourceClaimName": direct, "ResourceClaimTemplateName": template}
        if direct is not None and template is not None:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(invalid_value(where, shown, text))
        if direct is None and template is None:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(invalid_value(where, shown, text))
        for key, value in (("resourceClaimName", direct), ("resourceClaimTemplateName", template)):
            if value is not None:
                errors += [invalid_value(f"{where}.{key}", value, p) for p in names.is_subdomain(value)]
    return errors


def _dns(spec: Json, path: str) -> Errors:
    config, policy = spec.get("dnsConfig"), spec.get("dnsPolicy")
    where = f"{path}.dnsConfig"
    if policy == "None":
        if config is None:
            return [required(where, "must provide `dnsConfig` when `dnsPolicy` is None")]
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{where}.nameservers", text)]
    if config is None:
        return []
    errors: Errors = []
    servers, searches = config.get("nameservers") or [], config.get("searches") or []
    if len(servers) > 3:
        errors.append(invalid_value(f"{where}.nameservers", servers, "must not have more than 3 nameservers"))
    for i, server in enumerate(servers):
        errors += validate_ip(server, f"{where}.nameservers[{i}]")
    if len(searches) > 32:
        errors.append(invalid_value(f"{where}.searches", searches, "must not have more than 32 search paths"))
    if len(" ".join(searches)) > 2048:
        text = "must not have more than 2048 characters (including spaces) in the search list"
        errors.append(invalid_value(f"{where}.searches", searches, text))
    for i, search in enumerate(searches):
        text = search.removesuffix(".") if search != "." else "a"
        if len(text) > 253:
            errors.append(invalid_value(f"{where}.searches[{i}]", text, names.too_long(253)))
        if not _SEARCH.match(text):
            errors.append(invalid_value(f"{where}.searches[{i}]", text, _SEARCH_TEXT))
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            errors.append(required(f"{where}.options[{i}]", "must not be empty"))
    return errors


def _gates(spec: Json, path: str) -> Errors:
    errors: Errors = []
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType") or ""
        where = f"{path}.readinessGates[{i}].conditionType"
        errors += [invalid_value(where, kind, p) for p in names.qualified_name(kind)]
    seen: set[str] = set()
    for i, gate in enumerate(spec.get("schedulingGates") or ()):
        where, name = f"{path}.schedulingGates[{i}]", gate.get("name") or ""
        errors += [invalid_value(where, name, p) for p in names.qualified_name(name)]
        if name in seen:
            errors.append(duplicate(where, name))
        seen.add(name)
    return errors


def _host_network(spec: Json, path: str) -> Errors:
    if not spec.get("hostNetwork"):
        return []
    errors: Errors = []
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            for i, port in enumerate(container.get("ports") or ()):
                host, number = port.get("hostPort") or 0, port.get("containerPort") or 0
                if host and host != number:
                    text = "must match `hostPort` when `hostNetwork` is true"
                    errors.append(invalid_value(f"{path}.{kind}.ports[{i}].containerPort", number, text))
    return errors


def _host_aliases(aliases: list[Json], path: str) -> Errors:
    errors: Errors = []
    for i, alias in enumerate(aliases):
        errors += validate_ip(alias.get("ip") or "", f"{path}[{i}].ip")
        for h, name in enumerate(alias.get("hostnames") or ()):
            errors += [invalid_value(f"{path}[{i}].hostnames[{h}]", name, p) for p in names.is_subdomain(name)]
    return errors


def _names(spec: Json, path: str) -> Errors:
    """What names things: account, node, host; then the deadline and lists that stand between them upstream."""
    errors: Errors = []
    for key, rule in (("serviceAccountName", names.is_subdomain), ("nodeName", names.is_subdomain)):
        value = spec.get(key)
        if value:
            errors += [invalid_value(f"{path}.{key}", value, p) for p in rule(value)]
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2147483647:
        text = "must be between 1 and 2147483647, inclusive"
        errors.append(invalid_value(f"{path}.activeDeadlineSeconds", deadline, text))
    for key in ("hostname", "subdomain"):
        value = spec.get(key)
        if value:
            errors += [invalid_value(f"{path}.{key}", value, p) for p in names.is_label(value)]
    if spec.get("tolerations"):
        errors += validate_tolerations(spec["tolerations"], f"{path}.tolerations")
    if spec.get("hostAliases"):
        errors += _host_aliases(spec["hostAliases"], f"{path}.hostAliases")
    for key in ("priorityClassName", "runtimeClassName"):
        value = spec.get(key)
        if value:
            errors += [invalid_value(f"{path}.{key}", value, p) for p in names.is_subdomain(value)]
    policy = spec.get("preemptionPolicy")
    if policy is not None and policy not in ("PreemptLowerPriority", "Never"):
        errors.append(not_supported(f"{path}.preemptionPolicy", policy, ("PreemptLowerPriority", "Never")))
    for name, text in (spec.get("overhead") or {}).items():
        errors += validate_value(name, text, f"{path}.overhead[{name}]")
    return errors


def _hostname_override(spec: Json, path: str) -> Errors:
    value = spec.get("hostnameOverride")
    if value is None:
        return []
    where = f"{path}.hostnameOverride"
    errors: Errors = []
    if spec.get("hostNetwork"):
        errors.append(forbidden_field(where, "may not be specified when hostNetwork is true"))
    if spec.get("setHostnameAsFQDN"):
        errors.append(forbidden_field(where, "may not be specified when setHostnameAsFQDN is true"))
    if len(value) > 64:
        errors.append(FieldError(where, "FieldValueTooLong", "Too long: may not be more than 64 bytes"))
    return errors + [invalid_value(where, value, p) for p in names.is_subdomain(value)]


def _scheduling_group(group: Json, path: str) -> Errors:
    """A pod is in one PodGroup of its namespace."""
    name = group.get("podGroupName")
    if name is None:
        return [invalid_value(path, None, "must specify one of: `podGroupName`")]
    return [invalid_value(path, name, why) for why in names.is_subdomain(name)]


def validate_pod_spec(spec: Json, path: str, *, is_pod: bool = False, pod_name: str = "") -> Errors:
    """Everything wrong with a defaulted spec. ``is_pod``: a pod's own, where some rules are stricter than a template's."""
    errors: Errors = []
    good: dict[str, Json] = {}
    if spec.get("volumes"):
        errors, good = validate_volumes(spec["volumes"], f"{path}.volumes", pod_name if is_pod else "")
    facts = PodFacts(spec, good, is_pod)
    if spec.get("resourceClaims"):
        errors += _resource_claims(spec["resourceClaims"], f"{path}.resourceClaims")
    found, taken = validate_containers(spec.get("containers") or [], facts, f"{path}.containers")
    errors += found
    if "initContainers" in spec:
        errors += validate_init_containers(spec["initContainers"], taken, facts, f"{path}.initContainers")
    if "ephemeralContainers" in spec:
        where = f"{path}.ephemeralContainers"
        errors += validate_ephemeral_containers(spec["ephemeralContainers"], spec, facts, where)
    if "resources" in spec:
        errors += validate_pod_resources(spec, path, facts.claims)
    restart = spec.get("restartPolicy")
    if restart not in RESTART_POLICIES:
        errors.append(not_supported(f"{path}.restartPolicy", restart, RESTART_POLICIES))
    policy = spec.get("dnsPolicy")
    if policy not in _DNS_POLICIES:
        errors.append(not_supported(f"{path}.dnsPolicy", policy, _DNS_POLICIES))
    if "nodeSelector" in spec:
        errors += validate_labels(spec["nodeSelector"], f"{path}.nodeSelector")
    errors += _host_network(spec, path)
    if len(spec.get("securityContext") or ()) or "hostPID" in spec:
        errors += validate_pod_context(spec, path)
    if "schedulingGroup" in spec:
        errors += _scheduling_group(spec["schedulingGroup"], f"{path}.schedulingGroup.podGroupName")
    if spec.get("affinity"):
        errors += validate_affinity(spec["affinity"], f"{path}.affinity")
    if policy == "None" or "dnsConfig" in spec:
        errors += _dns(spec, path)
    if "readinessGates" in spec or "schedulingGates" in spec:
        errors += _gates(spec, path)
    if "topologySpreadConstraints" in spec:
        errors += validate_spread(spec["topologySpreadConstraints"], f"{path}.topologySpreadConstraints")
    errors += validate_host_process(spec, path)
    errors += validate_host_users(spec, path)
    errors += _names(spec, path)
    if spec.get("os") is not None:
        errors += validate_os(spec, path)
    if "hostnameOverride" in spec:
        errors += _hostname_override(spec, path)
    return errors


def validate_template(template: Json, path: str) -> Errors:
    """A pod template; its labels' path lacks ``metadata``, as upstream's."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    errors = validate_labels(meta.get("labels"), f"{path}.labels")
    errors += validate_annotations(meta.get("annotations"), f"{path}.annotations")
    errors += validate_pod_annotations(meta.get("annotations"), spec, f"{path}.annotations")
    errors += validate_pod_spec(spec, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        errors.append(forbidden_field(f"{path}.spec.ephemeralContainers", text))
    return errors
