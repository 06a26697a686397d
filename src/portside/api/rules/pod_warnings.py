"""Warnings about pods and templates: deprecated labels, volumes and annotations, duplicates, fractions of bytes."""

from __future__ import annotations

from typing import Any

from portside.api import names, quantity
from portside.api.field import go_value
from portside.api.rules.pod_annotations import APP_ARMOR
from portside.api.rules.pod_seen import GoodSpecs
from portside.api.rules.registry import Context

Json = dict[str, Any]
_SILENT = GoodSpecs()

# Deprecated node labels: since when, what to use instead.
_LABELS = {
    "beta.kubernetes.io/arch": ("v1.14", "kubernetes.io/arch"),
    "beta.kubernetes.io/os": ("v1.14", "kubernetes.io/os"),
    "failure-domain.beta.kubernetes.io/region": ("v1.17", "topology.kubernetes.io/region"),
    "failure-domain.beta.kubernetes.io/zone": ("v1.17", "topology.kubernetes.io/zone"),
    "beta.kubernetes.io/instance-type": ("v1.17", "node.kubernetes.io/instance-type"),
}
# Deprecated volume sources: name in the path, text.
_VOLUMES = {
    "photonPersistentDisk": ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    "gitRepo": ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    "scaleIO": ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    "flocker": ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    "storageos": ("storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    "quobyte": ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    "glusterfs": ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    "rbd": ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    "cephfs": ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
}
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_CRITICAL = "scheduler.alpha.kubernetes.io/critical-pod"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def _term(term: Json, path: str) -> list[str]:
    found: list[str] = []
    for i, item in enumerate(term.get("matchExpressions") or ()):
        if item.get("key") in _LABELS:
            since, better = _LABELS[item["key"]]
            found.append(
                f'{path}.matchExpressions[{i}].key: {item["key"]} is deprecated since {since}; use "{better}" instead'
            )
    return found


def _placement(spec: Json, path: str) -> list[str]:
    found: list[str] = []
    for key in spec.get("nodeSelector") or ():
        if key in _LABELS:
            since, better = _LABELS[key]
            found.append(f'{path}.nodeSelector[{key}]: deprecated since {since}; use "{better}" instead')
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    where = f"{path}.affinity.nodeAffinity"
    for i, term in enumerate((node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ()):
        found += _term(term, f"{where}.{_REQUIRED}.nodeSelectorTerms[{i}]")
    for i, weighted in enumerate(node.get(_PREFERRED) or ()):
        found += _term(weighted.get("preference") or {}, f"{where}.{_PREFERRED}[{i}].preference")
    for i, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        key, item = constraint.get("topologyKey"), f"{path}.topologySpreadConstraints[{i}]"
        if key in _LABELS:
            since, better = _LABELS[key]
            found.append(f'{item}.topologyKey: {key} is deprecated since {since}; use "{better}" instead')
        if constraint.get("labelSelector") is None:
            found.append(f"{item}.labelSelector: a null labelSelector results in matching no pod")
    return found


def _annotations(annotations: Json, path: str, spec: Json) -> list[str]:
    found: list[str] = []
    instead = 'use the "seccompProfile" field instead'
    if _SECCOMP_POD in annotations:
        found.append(f"{path}[{_SECCOMP_POD}]: non-functional in v1.27+; {instead}")
    for container in _all(spec):
        key = f"{_SECCOMP_CONTAINER}{container.get('name')}"
        if key in annotations:
            found.append(f"{path}[{key}]: non-functional in v1.27+; {instead}")
    for container in _all(spec):
        key = f"{APP_ARMOR}{container.get('name')}"
        if key in annotations:
            found.append(f'{path}[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead')
    if _CRITICAL in annotations:
        found.append(f'{path}[{_CRITICAL}]: non-functional in v1.16+; use the "priorityClassName" field instead')
    return found


def _all(spec: Json) -> list[Json]:
    return [c for k in ("initContainers", "containers") for c in spec.get(k) or ()]


def _projected_paths(volume: Json) -> list[tuple[str, str]]:
    """(path, who) of every file of a projected volume, as far as known."""
    found: list[tuple[str, str]] = []
    for source in (volume.get("projected") or {}).get("sources") or ():
        for kind, shown in (("configMap", "ConfigMap"), ("secret", "Secret")):
            part = source.get(kind) or {}
            found += [(i.get("path", ""), f'{shown} "{part.get("name", "")}"') for i in part.get("items") or ()]
        found += [(i.get("path", ""), "DownwardAPI") for i in (source.get("downwardAPI") or {}).get("items") or ()]
        if source.get("serviceAccountToken"):
            found.append((source["serviceAccountToken"].get("path", ""), "ServiceAccountToken"))
        if source.get("clusterTrustBundle"):
            found.append((source["clusterTrustBundle"].get("path", ""), "ClusterTrustBundle"))
    return found


def _overlaps(volume: Json) -> list[str]:
    found: list[str] = []
    name = volume.get("name", "")
    paths = _projected_paths(volume)
    for i, (mine, who) in enumerate(paths):
        for other, whose in paths[:i]:
            if mine.startswith(f"{other}/") or other.startswith(f"{mine}/"):
                text = f'overlapping paths: "{mine}" ({who}) with "{other}" ({whose})'
                found.append(f'volume "{name}" (Projected): {text}')
    for kind, shown in (("configMap", "ConfigMap"), ("secret", "Secret"), ("downwardAPI", "DownwardAPI")):
        items = [i.get("path", "") for i in (volume.get(kind) or {}).get("items") or ()]
        for i, mine in enumerate(items):
            for other in items[:i]:
                if mine == other or mine.startswith(f"{other}/") or other.startswith(f"{mine}/"):
                    found.append(f'volume "{name}" ({shown}): overlapping paths: "{mine}" with "{other}"')
    return found


def _lists(spec: Json, path: str) -> list[str]:
    found: list[str] = []
    for i, volume in enumerate(spec.get("volumes") or ()):
        for kind, (shown, text) in _VOLUMES.items():
            if volume.get(kind) is not None:
                found.append(f"{path}.volumes[{i}].{shown}: {text}")
        found += _overlaps(volume)
    seen: set[str] = set()
    for i, alias in enumerate(spec.get("hostAliases") or ()):
        address = alias.get("ip", "")
        if address in seen:
            found.append(f'{path}.hostAliases[{i}].ip: duplicate ip "{address}"')
        seen.add(address)
    seen = set()
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        name = secret.get("name", "")
        if not name:
            found.append(f'{path}.imagePullSecrets[{i}].name: invalid empty name ""')
        elif name in seen:
            found.append(f'{path}.imagePullSecrets[{i}].name: duplicate name "{name}"')
        seen.add(name)
    return found


def _fractions(resources: Json, path: str) -> list[str]:
    found: list[str] = []
    for name in ("memory", "ephemeral-storage"):
        for kind in ("limits", "requests"):
            text = (resources.get(kind) or {}).get(name)
            if text is not None and quantity.parse(text) % 1:
                shown = go_value(quantity.canonical(text))
                found.append(f"{path}.{kind}[{name}]: fractional byte value {shown} is invalid, must be an integer")
    return found


def _container(container: Json, path: str) -> list[str]:
    found = _fractions(container["resources"], f"{path}.resources") if container.get("resources") else []
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            text = f"hides previous definition of {go_value(name)}, which may be dropped when using apply"
            found.append(f"{path}.env[{i}]: {text}")
        seen.add(name)
    return found


def _ports(spec: Json, path: str) -> list[str]:
    found: list[str] = []
    seen: dict[tuple[Any, ...], str] = {}
    for kind in ("containers",):
        for c, container in enumerate(spec.get(kind) or ()):
            for i, port in enumerate(container.get("ports") or ()):
                key = (port.get("containerPort"), port.get("protocol"), port.get("hostPort"), port.get("hostIP"))
                where = f"{path}.{kind}[{c}].ports[{i}]"
                if key in seen:
                    found.append(f"{where}: duplicate port definition with {seen[key]}")
                else:
                    seen[key] = where
    return found


def spec_warnings(spec: Json, meta: Json, path: str, meta_path: str) -> list[str]:
    """All warnings of a pod's or a template's spec, in upstream's order."""
    found = _placement(spec, path)
    annotations = meta.get("annotations")
    if annotations:
        found += _annotations(annotations, f"{meta_path}.annotations", spec)
    found += _lists(spec, path)
    for kind in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(kind) or ()):
            found += _container(container, f"{path}.{kind}[{i}]")
    if any("ports" in c for c in spec.get("containers") or ()):
        found += _ports(spec, path)
    if (spec.get("terminationGracePeriodSeconds") or 0) < 0 and path != "spec":
        found.append(
            f"{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    return found


def pod_warnings(pod: Json, old: Json | None, ctx: Context) -> list[str]:
    """On creation also a word on names that are no host names; on update nothing when the spec is the old one."""
    if old is not None:
        return (
            []
            if pod.get("spec") == old.get("spec")
            else spec_warnings(pod["spec"], pod["metadata"], "spec", "metadata")
        )
    found: list[str] = []
    problems = names.is_label(pod["metadata"].get("name") or "")
    if problems and pod["metadata"].get("name"):
        listed = ", ".join(problems)
        found.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; "
            f"a DNS label is recommended: [{listed}]"
        )
    return found + _SILENT.told(pod, lambda: spec_warnings(pod["spec"], pod["metadata"], "spec", "metadata"))
