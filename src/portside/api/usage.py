"""What objects count against a ResourceQuota: pure evaluators, shared by quota admission and the quota controller.

Amounts are canonical quantity texts. Rules follow upstream's quota evaluators for pods, services, claims and object counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from portside.api.quantity import compare, format_value, milli, parse, total

Json = dict[str, Any]
Amounts = dict[str, str]

# Kinds that count under their own plain name as well as under count/NAME.
PLAIN = frozenset(
    (
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    )
)
_STANDARD = ("cpu", "memory", "ephemeral-storage")
DEVICE_CLAIMS = ("resource.k8s.io", "resourceclaims")
SPECIAL_CLAIM = "resource.kubernetes.io/extended-resource-claim"
MOST_DEVICES = 32  # of one claim
_DEVICE_SUFFIX = ".deviceclass.resource.k8s.io/devices"
_IMPLICIT = "deviceclass.resource.kubernetes.io/"
_CLASS_SUFFIX = ".storageclass.storage.k8s.io/"
_TERMINAL = ("Failed", "Succeeded")


@dataclass(frozen=True, slots=True)
class Devices:
    """``resources``: device class -> the extended resource it stands for. ``covered``: what the pod of a special claim is
    charged for already, by quota name."""

    resources: Mapping[str, str] = field(default_factory=dict)
    covered: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, claim: Json, classes: Iterable[Json], pods: Callable[[str], Json | None]) -> Devices:
        """``classes``: all device classes; ``pods``: a pod of the claim's namespace by its name."""
        named = {c["metadata"]["name"]: (c.get("spec") or {}).get("extendedResourceName") for c in classes}
        resources = {name: resource for name, resource in named.items() if resource}
        meta = claim["metadata"]
        if (meta.get("annotations") or {}).get(SPECIAL_CLAIM) != "true":
            return cls(resources)
        owner: Json = next((o for o in meta.get("ownerReferences") or () if o.get("controller")), {})
        pod = pods(owner["name"]) if owner.get("kind") == "Pod" else None
        if pod is None or pod["metadata"].get("uid") != owner.get("uid"):
            return cls(resources)
        said = ((pod.get("status") or {}).get("extendedResourceClaimStatus") or {}).get("resourceClaimName")
        return cls(resources, pod_usage(pod) if said in (None, meta.get("name")) else {})


def add(left: Mapping[str, str], right: Mapping[str, str]) -> Amounts:
    """Sums by name; a zero takes the other side's format."""
    out = dict(left)
    for name, amount in right.items():
        held = out.get(name)
        out[name] = amount if held is None or not parse(held) else total([held, amount])
    return out


def subtract(left: Mapping[str, str], right: Mapping[str, str]) -> Amounts:
    """``left`` less ``right``; names of either side."""
    return add(left, {name: negative(amount) for name, amount in right.items()})


def negative(amount: str) -> str:
    if not parse(amount):
        return "0"
    return amount[1:] if amount.startswith("-") else f"-{amount}"


def usage(plural: str, group: str, obj: Json, devices: Devices | None = None) -> Amounts:
    """What one object uses, over every name a quota may speak of. ``devices``: what else is known of a claim for them."""
    counts = {f"count/{plural}.{group}" if group else f"count/{plural}": "1"}
    if (group, plural) == DEVICE_CLAIMS:
        return counts | device_usage(obj, devices or Devices())
    if group:
        return counts
    if plural == "pods":
        return pod_usage(obj)
    if plural == "services":
        return counts | service_usage(obj)
    if plural == "persistentvolumeclaims":
        return claim_usage(obj)
    if plural in PLAIN:
        counts[plural] = "1"
    return counts


def pod_usage(pod: Json) -> Amounts:
    """A finished pod holds only its object count."""
    out = {"count/pods": "1"}
    if pod.get("status", {}).get("phase") in _TERMINAL:
        return out
    out["pods"] = "1"
    requests, limits = pod_amounts(pod["spec"], "requests"), pod_amounts(pod["spec"], "limits")
    for name, amount in requests.items():
        if name in _STANDARD or name.startswith("hugepages-"):
            out[name] = amount
            out[f"requests.{name}"] = amount
        else:
            out[f"requests.{name}"] = amount
    for name, amount in limits.items():
        if name in _STANDARD:
            out[f"limits.{name}"] = amount
    return out


def pod_amounts(spec: Json, which: str) -> Amounts:
    """What a pod asks for in all (``requests`` or ``limits``): containers and sidecars, or the largest init step."""
    running: Amounts = {}
    for container in spec.get("containers") or ():
        running = add(running, (container.get("resources") or {}).get(which) or {})
    sidecars: Amounts = {}
    largest: Amounts = {}
    for container in spec.get("initContainers") or ():
        own = (container.get("resources") or {}).get(which) or {}
        if container.get("restartPolicy") == "Always":
            running, sidecars = add(running, own), add(sidecars, own)
            step = sidecars
        else:
            step = add(own, sidecars)
        largest = maximum(largest, step)
    out = maximum(running, largest)
    out = out | ((spec.get("resources") or {}).get(which) or {})
    overhead = spec.get("overhead") or {}
    if which == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in out}
    return add(out, overhead)


def maximum(left: Mapping[str, str], right: Mapping[str, str]) -> Amounts:
    out = dict(left)
    for name, amount in right.items():
        if name not in out or compare(amount, out[name]) > 0:
            out[name] = amount
    return out


def service_usage(service: Json) -> Amounts:
    spec = service.get("spec") or {}
    out = {"services": "1", "services.nodeports": "0", "services.loadbalancers": "0"}
    ports = spec.get("ports") or ()
    if spec.get("type") == "NodePort":
        out["services.nodeports"] = str(len(ports))
    elif spec.get("type") == "LoadBalancer":
        given = spec.get("allocateLoadBalancerNodePorts")
        used = len(ports) if given is not False else sum(1 for port in ports if port.get("nodePort"))
        out["services.nodeports"] = str(used)
        out["services.loadbalancers"] = "1"
    return out


def claim_usage(claim: Json) -> Amounts:
    spec = claim.get("spec") or {}
    out = {"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1"}
    storage_class = spec.get("storageClassName") or (claim["metadata"].get("annotations") or {}).get(
        "volume.beta.kubernetes.io/storage-class", ""
    )
    if storage_class:
        out[f"{storage_class}{_CLASS_SUFFIX}persistentvolumeclaims"] = "1"
    asked = ((spec.get("resources") or {}).get("requests") or {}).get("storage")
    if asked is not None:
        allocated = ((claim.get("status") or {}).get("allocatedResources") or {}).get("storage")
        if allocated is not None and compare(allocated, asked) > 0:
            asked = allocated
        out["requests.storage"] = asked
        if storage_class:
            out[f"{storage_class}{_CLASS_SUFFIX}requests.storage"] = asked
    return out


def scopes_match(quota: Json, plural: str, group: str, obj: Json) -> bool:
    """Whether the quota's scopes include the object; a scoped quota speaks of pods (and claims by attributes class)."""
    selectors = list(scope_requirements(quota))
    if not selectors:
        return True
    if group or plural not in ("pods", "persistentvolumeclaims"):
        return False
    return all(_scope(scope, operator, values, plural, obj) for scope, operator, values in selectors)


def scope_requirements(quota: Json) -> Iterable[tuple[str, str, list[str]]]:
    spec = quota.get("spec") or {}
    for scope in spec.get("scopes") or ():
        yield scope, "Exists", []
    for term in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        yield term["scopeName"], term["operator"], term.get("values") or []


def _scope(scope: str, operator: str, values: list[str], plural: str, obj: Json) -> bool:
    spec = obj.get("spec") or {}
    if plural == "persistentvolumeclaims":
        classes: list[str | None] = [*attributes_classes(obj)] or [None]
        return scope == "VolumeAttributesClass" and any(_in(name, operator, values) for name in classes)
    if scope in ("Terminating", "NotTerminating"):
        return (spec.get("activeDeadlineSeconds") is not None) == (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return best_effort(spec) == (scope == "BestEffort")
    if scope == "PriorityClass":
        return _in(spec.get("priorityClassName"), operator, values)
    if scope == "CrossNamespacePodAffinity":
        return _crosses(spec.get("affinity") or {})
    return False


def attributes_classes(claim: Json) -> list[str]:
    """The volume attributes classes a claim speaks of: that it wants, that it has, and that its volume is brought to."""
    status = claim.get("status") or {}
    named = (
        (claim.get("spec") or {}).get("volumeAttributesClassName"),
        status.get("currentVolumeAttributesClassName"),
        (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName"),
    )
    return sorted({name for name in named if name})


def _in(value: str | None, operator: str, values: list[str]) -> bool:
    if operator == "Exists":
        return bool(value)
    if operator == "DoesNotExist":
        return not value
    return (value in values) == (operator == "In") if value else operator == "NotIn"


def best_effort(spec: Json) -> bool:
    """No container asks for or is limited in cpu or memory."""
    holders = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ()), spec]
    for holder in holders:
        resources = holder.get("resources") or {}
        for which in ("requests", "limits"):
            amounts = resources.get(which) or {}
            if any(name in amounts and milli(amounts[name]) for name in ("cpu", "memory")):
                return False
    return True


def _crosses(affinity: Json) -> bool:
    for kind in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(kind) or {}
        found = list(terms.get("requiredDuringSchedulingIgnoredDuringExecution") or ())
        found += [t["podAffinityTerm"] for t in terms.get("preferredDuringSchedulingIgnoredDuringExecution") or ()]
        if any(t.get("namespaces") or t.get("namespaceSelector") is not None for t in found):
            return True
    return False


def missing_for(quota_names: Iterable[str], pod: Json) -> dict[str, list[str]]:
    """Container names by quota name that say nothing of a compute resource the quota limits (upstream refuses them)."""
    required = [n for n in quota_names if n in _ENFORCED]
    out: dict[str, list[str]] = {}
    spec = pod["spec"]
    whole = spec.get("resources") or {}
    for name in required:
        which, resource = _ENFORCED[name]
        if resource in (whole.get(which) or {}):
            continue
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            if resource not in ((container.get("resources") or {}).get(which) or {}):
                out.setdefault(name, []).append(container["name"])
    return out


_ENFORCED = {
    "cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}


def device_usage(claim: Json, known: Devices) -> Amounts:
    """Devices by class, at most: of alternatives the largest of each class, of a request for all as many as a claim may
    have. Where a class stands for an extended resource that is used too, as far as its pod is not charged for it."""
    out: dict[str, int] = {}
    for request in ((claim.get("spec") or {}).get("devices") or {}).get("requests") or ():
        most: dict[str, int] = {}
        for wanted in request.get("firstAvailable") or filter(None, [request.get("exactly")]):
            name = wanted.get("deviceClassName", "")
            count = MOST_DEVICES if wanted.get("allocationMode") == "All" else int(wanted.get("count") or 0)
            most[name] = max(most.get(name, 0), count)
        for name, count in most.items():
            out[name] = out.get(name, 0) + count
    found = {f"{name}{_DEVICE_SUFFIX}": str(count) for name, count in out.items()}
    for name, count in out.items():
        for resource in (f"{_IMPLICIT}{name}", known.resources.get(name)):
            if resource is not None:
                quota = f"requests.{resource}"
                rest = subtract({quota: str(count)}, {quota: known.covered.get(quota, "0")})
                found |= {n: a for n, a in rest.items() if compare(a, "0") > 0}
    return found


def canonical_zero(names: Iterable[str]) -> Amounts:
    """A fresh ``status.used``."""
    return {name: format_value(parse("0")) for name in names}


def sources_of(name: str) -> list[tuple[str, str]]:
    """(group, plural) of the objects that a quota's resource name counts."""
    if name.endswith(_DEVICE_SUFFIX):
        return [DEVICE_CLAIMS]
    if name.startswith("requests.") and "/" in name:
        return [("", "pods"), DEVICE_CLAIMS]
    return [_source_of(name)]


def _source_of(name: str) -> tuple[str, str]:
    if name.startswith("count/"):
        plural, _, group = name[len("count/") :].partition(".")
        return group, plural
    if name in PLAIN:
        return "", name
    if name.startswith("services."):
        return "", "services"
    if name == "requests.storage" or _CLASS_SUFFIX in name:
        return "", "persistentvolumeclaims"
    return "", "pods"


def counted(
    quota: Json,
    objects: Mapping[tuple[str, str], Iterable[Json]],
    devices: Callable[[Json], Devices] | None = None,
) -> Amounts:
    """``status.used`` of a quota over the objects of its namespace, by (group, plural). ``devices``: see ``usage``."""
    hard = (quota.get("spec") or {}).get("hard") or {}
    used = dict.fromkeys(hard, "0")
    for (group, plural), found in objects.items():
        for obj in found:
            if scopes_match(quota, plural, group, obj):
                known = devices(obj) if devices is not None and (group, plural) == DEVICE_CLAIMS else None
                amounts = usage(plural, group, obj, known)
                used = add(used, {name: amount for name, amount in amounts.items() if name in hard})
    return used
