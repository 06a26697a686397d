"""Resources of containers and pods: names, quantities, requests against limits, sums, and the QoS class."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_found_value, required

Json = dict[str, Any]
Errors = list[FieldError]

_STANDARD = frozenset(
    {
        *("cpu", "memory", "ephemeral-storage", "requests.cpu", "requests.memory", "requests.ephemeral-storage"),
        *("limits.cpu", "limits.memory", "limits.ephemeral-storage", "pods", "resourcequotas", "services"),
        *("replicationcontrollers", "secrets", "configmaps", "persistentvolumeclaims", "storage", "requests.storage"),
        *("services.nodeports", "services.loadbalancers"),
    }
)
_CONTAINER = frozenset({"cpu", "memory", "ephemeral-storage"})
NOT_NEGATIVE = "must be greater than or equal to 0"


def is_huge(name: str) -> bool:
    return name.startswith("hugepages-")


def is_native(name: str) -> bool:
    """Upstream's own resources: no prefix, or one of kubernetes.io."""
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    if is_native(name) or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")


def overcommit_allowed(name: str) -> bool:
    return is_native(name) and not is_huge(name)


def _name(name: str, path: str, pod_level: bool) -> Errors:
    problems = names.qualified_name(name)
    if problems:
        return [invalid_value(path, name, p) for p in problems]
    if "/" not in name and not is_huge(name) and name not in _STANDARD:
        return [invalid_value(path, name, "must be a standard resource type or fully qualified")]
    if "/" not in name and not is_huge(name) and name not in _CONTAINER:
        return [invalid_value(path, name, "must be a standard resource for containers")]
    if pod_level and "/" in name:
        return [invalid_value(path, name, "must be a standard resource for pods")]
    if not is_native(name) and not is_extended(name):
        return [invalid_value(path, name, "doesn't follow extended resource name standard")]
    return []


def validate_value(name: str, text: str, path: str) -> Errors:
    """A quantity of a resource: not negative, whole for countable ones."""
    value = quantity.parse(text)
    shown = quantity.canonical(text)
    errors: Errors = []
    if value < 0:
        errors.append(invalid_value(path, shown, NOT_NEGATIVE))
    if is_extended(name) and value != value.to_integral_value():
        errors.append(invalid_value(path, shown, "must be an integer"))
    if is_huge(name):
        size = name[len("hugepages-") :]
        try:
            page = quantity.parse(size)
        except quantity.QuantityError:
            page = Decimal(0)
        if page > 0 and value % page:
            text = f"{shown} is not positive integer multiple of {quantity.canonical(size)}"
            errors.append(invalid_value(path, shown, text))
    return errors


@lru_cache(maxsize=4096)
def _faultless(name: str, text: str, pod_level: bool) -> bool:
    """Whether a resource and its quantity have nothing wrong; most pods say the same few."""
    return not _name(name, "", pod_level) and not validate_value(name, text, "")


def validate_requirements(resources: Json, path: str, claims: set[Any], pod_level: bool = False) -> Errors:
    """Limits and requests; map entries in the order given, as upstream's is random."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    errors: Errors = []
    for name, text in limits.items():
        if _faultless(name, text, pod_level):
            continue
        where = f"{path}.limits[{name}]"
        errors += _name(name, where, pod_level) + validate_value(name, text, where)
    for name, text in requests.items():
        if not _faultless(name, text, pod_level):
            where = f"{path}.requests[{name}]"
            errors += [] if pod_level and name in limits else _name(name, where, pod_level)
            errors += validate_value(name, text, where)
        if name in limits:
            limit = limits[name]
            order = quantity.compare(text, limit)
            if order and not overcommit_allowed(name):
                text_ = f"must be equal to {name} limit of {quantity.canonical(limit)}"
                errors.append(invalid_value(f"{path}.requests", quantity.canonical(text), text_))
            elif order > 0:
                text_ = f"must be less than or equal to {name} limit of {quantity.canonical(limit)}"
                errors.append(invalid_value(f"{path}.requests", quantity.canonical(text), text_))
        elif name not in _CONTAINER and not overcommit_allowed(name):
            errors.append(required(f"{path}.limits", "Limit must be set for non overcommitable resources"))
    every = limits.keys() | requests.keys()
    if any(map(is_huge, every)) and not ("cpu" in every or "memory" in every):
        errors.append(forbidden_field(path, "HugePages require cpu or memory"))
    used = resources.get("claims")
    return errors + _claims(used, f"{path}.claims", claims) if used else errors


def _claims(used: list[Json], path: str, declared: set[Any]) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    known = ": " + ", ".join(sorted(str(name) for name in declared if name)) if any(declared) else " which is empty"
    for i, claim in enumerate(used):
        name, request = claim.get("name") or "", claim.get("request") or ""
        if not name:
            errors.append(required(f"{path}[{i}]"))
            continue
        key = f"{name}/{request}" if request else name
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        else:
            if request:
                errors += [invalid_value(f"{path}[{i}].request", request, p) for p in names.is_label(request)]
            if key in seen:
                errors.append(duplicate(f"{path}[{i}]", key))
            elif not request:
                errors += [duplicate(f"{path}[{i}]", name) for one in seen if one.startswith(f"{name}/")]
            seen.add(key)
        if name not in declared:
            text = f"must be one of the names in pod.spec.resourceClaims{known}"
            errors.append(not_found_value(f"{path}[{i}]", name, text))
    return errors


def aggregate(spec: Json, kind: str) -> dict[str, str]:
    """What all containers need together: the sum, or an init container's more with the sidecars started before it."""
    sums: dict[str, list[str]] = {}
    for container in spec.get("containers") or ():
        for name, text in ((container.get("resources") or {}).get(kind) or {}).items():
            sums.setdefault(name, []).append(text)
    side: dict[str, list[str]] = {}
    peaks: dict[str, list[list[str]]] = {}
    for container in spec.get("initContainers") or ():
        own = (container.get("resources") or {}).get(kind) or {}
        always = container.get("restartPolicy") == "Always"
        for name, text in own.items():
            if always:
                side.setdefault(name, []).append(text)
                sums.setdefault(name, []).append(text)
                peaks.setdefault(name, []).append(list(side[name]))
            else:
                peaks.setdefault(name, []).append([*side.get(name, []), text])
    result = {name: quantity.total(texts) for name, texts in sums.items()}
    for name, candidates in peaks.items():
        for texts in candidates:
            peak = quantity.total(texts)
            if name not in result or quantity.compare(peak, result[name]) > 0:
                result[name] = peak
    return result


def validate_pod_resources(spec: Json, path: str, claims: set[Any]) -> Errors:
    """Pod-level resources: allowed names, not below the containers' requests, not below a container's limit."""
    resources = spec.get("resources")
    if not resources:
        return []
    where = f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        return [forbidden_field(where, "may not be set for a windows pod")]
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    errors = []
    if resources.get("claims"):
        errors.append(forbidden_field(f"{where}.claims", "claims may not be set for Resources at pod-level"))
    errors += [
        e
        for e in validate_requirements(resources, where, claims)
        if "must be a standard" not in e.detail_text or ".requests[" not in e.field
    ]
    needed = aggregate(spec, "requests")
    for name, text in requests.items():
        if name in needed and quantity.compare(text, needed[name]) < 0:
            detail = f"must be greater than or equal to aggregate container requests of {needed[name]}"
            errors.append(invalid_value(f"{where}.requests[{name}]", quantity.canonical(text), detail))
    for name, text in limits.items():
        for kind in ("containers", "initContainers"):
            for i, container in enumerate(spec.get(kind) or ()):
                own = ((container.get("resources") or {}).get("limits") or {}).get(name)
                if own is not None and quantity.compare(own, text) > 0:
                    detail = f"must be less than or equal to pod limits of {quantity.canonical(text)}"
                    shown = quantity.canonical(own)
                    errors.append(invalid_value(f"{where}.{kind}[{i}][{name}].limits", shown, detail))
    return errors


def qos_class(spec: Json) -> str:
    """Guaranteed, Burstable or BestEffort from cpu and memory of the pod or of all its containers."""
    if spec.get("resources") and (spec["resources"].get("limits") or spec["resources"].get("requests")):
        holders = [spec]
    else:
        holders = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    requests: dict[str, Decimal] = {}
    limits: dict[str, Decimal] = {}
    guaranteed = True
    for holder in holders:
        resources = holder.get("resources") or {}
        for name in ("cpu", "memory"):
            text = (resources.get("requests") or {}).get(name)
            if text is not None and (value := quantity.parse(text)) > 0:
                requests[name] = requests.get(name, Decimal(0)) + value
            text = (resources.get("limits") or {}).get(name)
            if text is not None and (value := quantity.parse(text)) > 0:
                limits[name] = limits.get(name, Decimal(0)) + value
            else:
                guaranteed = False
    if not requests and not limits:
        return "BestEffort"
    if guaranteed and all(limits.get(n) == v for n, v in requests.items()) and len(requests) == len(limits):
        return "Guaranteed"
    return "Burstable"
