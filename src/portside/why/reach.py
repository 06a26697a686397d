"""What an object depends on: the edges along which its cause is looked for, from the workload down to its pods."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from portside.api.selector import from_object
from portside.why.finding import condition
from portside.why.world import World, plural_of

Json = dict[str, Any]
Follow = Callable[[World, Json], Iterable[Json | None]]
WORKLOADS = ("deployments", "replicasets", "replicationcontrollers", "statefulsets", "daemonsets", "jobs", "cronjobs")
ALL_TAINTED = re.compile(r"0/(\d+) nodes are available: \1 node\(s\) had untolerated taint")
UNFIT = frozenset(f"node.kubernetes.io/{k}" for k in ("not-ready", "unreachable", "memory-pressure", "disk-pressure",
                                                      "pid-pressure", "network-unavailable"))  # fmt: skip
ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Edge:
    """From the objects of a kind to those of other kinds that they depend on."""

    kind: str
    to: tuple[str, ...]
    follow: Follow


def ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ENDED


def replaced(world: World, obj: Json) -> bool:
    """A failed pod or Job whose owner has got what it wanted without it: nobody waits for it any more."""
    meta, status = obj["metadata"], obj.get("status") or {}
    ref = next((r for r in meta.get("ownerReferences") or () if r.get("controller")), None)
    owner = world.get(plural_of(ref), ref["name"], meta.get("namespace", "")) if ref else None
    if owner is None:
        return False
    has = owner.get("status") or {}
    if obj["kind"] == "Job":
        made = str(meta.get("creationTimestamp", ""))
        later = [j for j in world.owned(owner) if str(j["metadata"].get("creationTimestamp", "")) > made]
        return any(condition(j, "Complete").get("status") == "True" for j in later)
    if obj["kind"] != "Pod" or status.get("phase") != "Failed":
        return False
    if owner["kind"] == "Job":
        return condition(owner, "Complete").get("status") == "True" or replaced(world, owner)
    if owner["kind"] == "DaemonSet":
        return bool(has.get("numberReady", 0) >= has.get("desiredNumberScheduled", 0))
    return bool(has.get("readyReplicas", 0) >= (owner.get("spec") or {}).get("replicas", 1))


def owned(world: World, obj: Json) -> Iterable[Json]:
    return [o for o in world.owned(obj) if not replaced(world, o)]


def living_sets(world: World, deployment: Json) -> Iterable[Json]:
    """The ReplicaSets that are to have pods, or still have some."""
    return [r for r in world.owned(deployment) if r["spec"].get("replicas") or (r.get("status") or {}).get("replicas")]


def newest_job(world: World, cronjob: Json) -> Iterable[Json]:
    """The runs under way, and the last one."""
    jobs = sorted(world.owned(cronjob), key=lambda j: str(j["metadata"].get("creationTimestamp", "")))
    return [*(j for j in jobs[:-1] if (j.get("status") or {}).get("active")), *jobs[-1:]]


def claims_of(pod: Json) -> Iterator[str]:
    """Names of the claims that a pod mounts, those of its ephemeral volumes included."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def claims(world: World, pod: Json) -> Iterable[Json | None]:
    namespace = pod["metadata"].get("namespace", "")
    return [world.get("persistentvolumeclaims", name, namespace) for name in claims_of(pod)]


def node_of(world: World, pod: Json) -> Iterable[Json | None]:
    """Its node, when that is not ready: else the node explains nothing."""
    name = pod["spec"].get("nodeName")
    node = world.get("nodes", name) if name and not ended(pod) else None
    return [] if node is None or condition(node, "Ready").get("status") == "True" else [node]


def unfit_nodes(world: World, pod: Json) -> Iterable[Json]:
    """Of a pod without a node: the nodes that are not fit, when taints are all that keeps it from every node."""
    message = str(condition(pod, "PodScheduled").get("message", ""))
    if pod["spec"].get("nodeName") or not ALL_TAINTED.match(message):
        return []
    nodes = world.all("nodes")
    unfit = [n for n in nodes if any(t.get("key") in UNFIT for t in n["spec"].get("taints") or ())]
    return unfit if len(unfit) == len(nodes) else []


def selected(world: World, service: Json) -> list[Json]:
    """The living pods that a Service selects; none when it has no selector."""
    selector = service["spec"].get("selector")
    if not selector or service["spec"].get("type") == "ExternalName":
        return []
    return [p for p in world.labelled(service["metadata"].get("namespace", ""), selector) if not ended(p)]


def guarded(world: World, budget: Json) -> list[Json]:
    """The pods of a disruption budget."""
    wanted = from_object(budget["spec"].get("selector"))
    return [p for p in world.all("pods", budget["metadata"].get("namespace", "")) if wanted.matches_object(p)]


def backends(ingress: Json) -> Iterator[tuple[str, Json]]:
    """Every backend of an Ingress with the path of its field."""
    spec = ingress["spec"]
    if spec.get("defaultBackend"):
        yield "spec.defaultBackend", spec["defaultBackend"]
    for r, rule in enumerate(spec.get("rules") or ()):
        for p, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            yield f"spec.rules[{r}].http.paths[{p}].backend", path["backend"]


def services(world: World, ingress: Json) -> Iterable[Json | None]:
    namespace = ingress["metadata"].get("namespace", "")
    names = {(b.get("service") or {}).get("name", "") for _, b in backends(ingress)}
    return [world.get("services", name, namespace) for name in sorted(names)]


def scaled(world: World, autoscaler: Json) -> Iterable[Json | None]:
    target = autoscaler["spec"]["scaleTargetRef"]
    plural = plural_of(target)
    return [world.get(plural, target["name"], autoscaler["metadata"].get("namespace", ""))]


def server_of(world: World, api: Json) -> Iterable[Json | None]:
    named = api["spec"].get("service")
    return [world.get("services", named["name"], named["namespace"])] if named else []


def held_back(world: World, namespace: Json) -> Iterable[Json]:
    """What is left in a namespace that is being deleted, and held by finalizers."""
    if not namespace["metadata"].get("deletionTimestamp"):
        return []
    inside = (o for p in world.plurals() for o in world.all(p, namespace["metadata"]["name"]))
    return [o for o in inside if o["metadata"].get("deletionTimestamp") and o["metadata"].get("finalizers")]


EDGES: tuple[Edge, ...] = (
    Edge("deployments", ("replicasets",), living_sets),
    Edge("replicasets", ("pods",), owned),
    Edge("replicationcontrollers", ("pods",), owned),
    Edge("statefulsets", ("pods",), owned),
    Edge("daemonsets", ("pods",), owned),
    Edge("jobs", ("pods",), owned),
    Edge("cronjobs", ("jobs",), newest_job),
    Edge("pods", ("persistentvolumeclaims",), claims),
    Edge("pods", ("nodes",), node_of),
    Edge("pods", ("nodes",), unfit_nodes),
    Edge("services", ("pods",), selected),
    Edge("ingresses", ("services",), services),
    Edge("namespaces", (), held_back),
    Edge("apiservices", ("services",), server_of),
    Edge("horizontalpodautoscalers", ("deployments", "replicasets", "statefulsets"), scaled),
)
CUSTOM = Edge("", (*WORKLOADS, "pods", "services", "persistentvolumeclaims"), owned)


def edges_of(plural: str) -> list[Edge]:
    """Those that leave a kind; one that is not built in is followed to all that it controls."""
    if "." in plural:
        return [CUSTOM]
    return [e for e in EDGES if e.kind == plural]


def reachable(plural: str) -> list[str]:
    """Every kind that lies on a way from this one, itself first."""
    found = [plural]
    for kind in found:
        found += [to for edge in edges_of(kind) for to in edge.to if to not in found]
    return found


def below(world: World, obj: Json) -> Iterator[Json]:
    """Everything an object depends on, near to far, each once; without the object."""
    seen = {id(obj)}
    queue = [obj]
    for at in queue:
        for edge in edges_of(plural_of(at)):
            for found in edge.follow(world, at):
                if found is not None and id(found) not in seen:
                    seen.add(id(found))
                    queue.append(found)
                    yield found


def consumers(world: World, claim: Json) -> list[Json]:
    """The living pods that mount a claim."""
    meta = claim["metadata"]
    pods = world.all("pods", meta.get("namespace", ""))
    return [p for p in pods if not ended(p) and meta["name"] in claims_of(p)]
