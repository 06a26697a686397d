"""The pods that a manifest would make, as its controller makes them, and the claims that come with them. Pure."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
COUNTED = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController", "Job")
WORKLOADS = (*COUNTED, "DaemonSet", "CronJob", "Pod")
BUILT_IN = ("", "apps", "batch")  # groups of the kinds above
DAEMON_TOLERATIONS = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


@dataclass(slots=True)
class Expected:
    """``pods`` of a workload, its ``claims``, and for a DaemonSet one pod of the template for each node it is wanted on."""

    kind: str
    namespace: str
    name: str
    pods: list[Json] = field(default_factory=list)
    claims: list[Json] = field(default_factory=list)


def is_workload(manifest: Json) -> bool:
    """Whether pods come of it in a way that is known here."""
    group = str(manifest.get("apiVersion") or "v1").rpartition("/")[0]
    return manifest.get("kind") in WORKLOADS and group in BUILT_IN


def expect(manifest: Json, priorities: Mapping[str, int]) -> Expected:
    """What a workload would make; of a CronJob one run. A DaemonSet's pods come of ``daemon``."""
    kind, meta, spec = str(manifest["kind"]), manifest.get("metadata") or {}, manifest.get("spec") or {}
    namespace, name = meta.get("namespace") or "default", meta["name"]
    found = Expected(kind, namespace, name)
    if kind == "Pod":
        found.pods.append(_pod(name, namespace, meta.get("labels") or {}, spec, "", "", priorities))
    elif kind == "CronJob":
        made = (spec.get("jobTemplate") or {}).get("spec") or {}
        found.pods = _pods(name, namespace, made, "Job", int(made.get("parallelism", 1)), priorities)
    elif kind == "Job":
        wanted, most = int(spec.get("parallelism", 1)), spec.get("completions")
        count = 0 if spec.get("suspend") else wanted if most is None else min(wanted, int(most))
        found.pods = _pods(name, namespace, spec, kind, count, priorities)
    elif kind != "DaemonSet":
        found.pods = _pods(name, namespace, spec, kind, int(spec.get("replicas", 1)), priorities)
    for pod in found.pods:
        found.claims += _claims(pod, spec.get("volumeClaimTemplates") or () if kind == "StatefulSet" else ())
    return found


def daemon(manifest: Json, node: str, priorities: Mapping[str, int]) -> Json:
    """A DaemonSet's pod for one node."""
    meta, spec = manifest["metadata"], copy.deepcopy(manifest.get("spec") or {})
    inner = spec.setdefault("template", {}).setdefault("spec", {})
    inner["tolerations"] = [
        *(inner.get("tolerations") or ()),
        *({"key": key, "operator": "Exists", "effect": effect} for key, effect in DAEMON_TOLERATIONS),
    ]
    affinity = inner.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    named = {"key": "metadata.name", "operator": "In", "values": [node]}
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    terms = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [{**t, "matchFields": [*(t.get("matchFields") or ()), named]} for t in terms]
    space = meta.get("namespace") or "default"
    found = _pods(f"{meta['name']}-{node}", space, spec, "DaemonSet", 1, priorities, owner=meta["name"])[0]
    found["metadata"] |= {"name": f"{meta['name']}-{node}", "uid": f"new/{space}/{meta['name']}-{node}"}
    return found


def _pods(
    name: str, namespace: str, spec: Json, kind: str, count: int, priorities: Mapping[str, int], owner: str = ""
) -> list[Json]:
    template = spec.get("template") or {}
    labels, inner = (template.get("metadata") or {}).get("labels") or {}, template.get("spec") or {}
    return [
        _pod(f"{name}-{i}", namespace, labels, inner, kind, owner or name, priorities) for i in range(max(count, 0))
    ]


def _pod(
    name: str, namespace: str, labels: Json, spec: Json, kind: str, owner: str, priorities: Mapping[str, int]
) -> Json:
    meta: Json = {"name": name, "namespace": namespace, "uid": f"new/{namespace}/{name}", "labels": labels}
    if kind:
        meta["ownerReferences"] = [{"kind": kind, "name": owner, "controller": True}]
    made = copy.deepcopy(spec)
    if "priority" not in made:
        made["priority"] = priorities.get(made.get("priorityClassName") or "", 0)
    for container in (*(made.get("containers") or ()), *(made.get("initContainers") or ())):
        resources = container.setdefault("resources", {})  # a limit alone is a request too, as the API defaults it
        resources["requests"] = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {"metadata": meta, "spec": made, "status": {}}


def _claims(pod: Json, templates: Any) -> list[Json]:
    """The claims of a StatefulSet's templates, which its pods then use, and those of generic ephemeral volumes."""
    meta, volumes, found = pod["metadata"], pod["spec"].setdefault("volumes", []), []
    for template in templates:
        name = f"{template['metadata']['name']}-{meta['name']}"
        found.append(_claim(name, meta["namespace"], template.get("spec") or {}))
        volumes[:] = [v for v in volumes if v.get("name") != template["metadata"]["name"]]
        volumes.append({"name": template["metadata"]["name"], "persistentVolumeClaim": {"claimName": name}})
    for volume in volumes:
        if "ephemeral" in volume:
            spec = ((volume["ephemeral"] or {}).get("volumeClaimTemplate") or {}).get("spec") or {}
            found.append(_claim(f"{meta['name']}-{volume['name']}", meta["namespace"], spec))
    return found


def _claim(name: str, namespace: str, spec: Json) -> Json:
    return {"metadata": {"name": name, "namespace": namespace, "uid": f"new/{namespace}/{name}"}, "spec": dict(spec)}
