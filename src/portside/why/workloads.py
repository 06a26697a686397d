"""Causes of the controllers themselves: paused, out of time, held back by an earlier pod, no node to run on."""

from __future__ import annotations

from typing import Any

from portside.api.selector import format_object
from portside.why.finding import Cause, Finding, Grade, Role, condition, describe, said, seen, space, title
from portside.why.world import World

Json = dict[str, Any]
PATIENCE = 30.0  # seconds a controller has to notice a change


def paused(world: World, deployment: Json) -> Finding | None:
    """A pause with nothing to roll out keeps nobody from anything."""
    status, want = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    if not deployment["spec"].get("paused") or status.get("updatedReplicas", 0) >= want:
        return None
    return Finding(
        "the rollout is paused, so changes of the template do not take effect",
        (
            seen(deployment, "spec", "paused"),
            seen(deployment, "status", "updatedReplicas"),
            *said(deployment, "Progressing"),
        ),
        (f"kubectl rollout resume {title(deployment)}{space(deployment)}",),
    )


def deadline_exceeded(world: World, deployment: Json) -> Finding | None:
    if condition(deployment, "Progressing").get("reason") != "ProgressDeadlineExceeded":
        return None
    return Finding(
        f"the rollout has made no progress for {deployment['spec'].get('progressDeadlineSeconds')} s",
        (
            *said(deployment, "Progressing"),
            seen(deployment, "spec", "progressDeadlineSeconds"),
            seen(deployment, "status", "unavailableReplicas"),
        ),
        (
            f"back to the version before: kubectl rollout undo {title(deployment)}{space(deployment)}",
            f"see what changed: portside diff {title(deployment)}{space(deployment)}",
        ),
    )


def not_available(world: World, obj: Json) -> Finding | None:
    """Fewer pods ready than wanted; what its pods suffer from is the cause."""
    spec, status = obj["spec"], obj.get("status") or {}
    if obj["kind"] == "ReplicaSet" and obj["metadata"].get("ownerReferences"):
        return None  # its Deployment says the same
    if obj["kind"] == "DaemonSet":
        want, ready, field = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0), "numberReady"
    else:
        want, ready, field = spec.get("replicas", 1), status.get("readyReplicas", 0), "readyReplicas"
    says = f"{ready} of {want} pods are ready"
    if ready >= want:
        updated = status.get("updatedReplicas", 0)
        if obj["kind"] != "Deployment" or (updated >= want and status.get("replicas", 0) <= updated):
            return None
        says, field = f"{updated} of {want} pods are of the newest version", "updatedReplicas"
    return Finding(says, (seen(obj, "status", field), *said(obj, "Available")), (describe(obj),))


def not_observed(world: World, obj: Json) -> Finding | None:
    generation = obj["metadata"].get("generation", 0)
    known = (obj.get("status") or {}).get("observedGeneration", 0)
    if known >= generation or world.age(obj) < PATIENCE or obj["metadata"].get("deletionTimestamp"):
        return None
    return Finding(
        "its controller has not looked at the newest version: it is behind, or does not run",
        (seen(obj, "metadata", "generation"), seen(obj, "status", "observedGeneration")),
        ("portside status", "portside logs"),
    )


def blocked(world: World, statefulset: Json) -> Finding | None:
    """Ordered sets make, and update, a pod only when all before it are ready."""
    spec = statefulset["spec"]
    want, held = spec.get("replicas", 1), world.owned(statefulset)
    if spec.get("podManagementPolicy") == "Parallel" or not held:
        return None
    pods = sorted((p for p in held if p["kind"] == "Pod"), key=_ordinal)
    unready = [p for p in pods if condition(p, "Ready").get("status") != "True"]
    if not unready or len(pods) >= want:
        return None
    first = unready[0]
    return Finding(
        f"{want - len(pods)} more pods are not made before {title(first)} is ready",
        (
            seen(statefulset, "spec", "podManagementPolicy"),
            seen(statefulset, "status", "replicas"),
            *said(first, "Ready")[:2],
        ),
        (f"see to the first one: portside why {title(first)}{space(first)}",),
    )


def _ordinal(pod: Json) -> int:
    last = str(pod["metadata"]["name"]).rpartition("-")[2]
    return int(last) if last.isdigit() else -1


def no_node(world: World, daemonset: Json) -> Finding | None:
    status = daemonset.get("status") or {}
    if status.get("desiredNumberScheduled", 0) or not status.get("observedGeneration") or not world.knows("nodes"):
        return None
    spec = daemonset["spec"]["template"]["spec"]
    paths = [p for p in ("nodeSelector", "affinity", "tolerations", "nodeName") if spec.get(p)]
    nodes = world.all("nodes")
    keys = list(spec.get("nodeSelector") or ())
    tainted = [] if keys else [n for n in nodes if n["spec"].get("taints")]
    because = "its nodeSelector or affinity matches none" if {"nodeSelector", "affinity"} & {*paths} else "none is fit"
    return Finding(
        f"none of the {len(nodes)} nodes is eligible for its pods: {because}",
        (
            seen(daemonset, "status", "desiredNumberScheduled"),
            *(seen(daemonset, "spec", "template", "spec", p) for p in paths),
            *(seen(n, "metadata", "labels", key) for n in nodes[:3] for key in keys),
            *(seen(n, "spec", "taints") for n in tainted[:3]),
        ),
        ("kubectl get nodes --show-labels", "label a node, or correct nodeSelector, affinity or tolerations"),
    )


def nothing_wanted(world: World, obj: Json) -> Finding | None:
    if obj["spec"].get("replicas", 1) != 0 or (obj["kind"] == "ReplicaSet" and obj["metadata"].get("ownerReferences")):
        return None
    return Finding(
        "it is scaled to zero, so it has no pods",
        (seen(obj, "spec", "replicas"),),
        (f"kubectl scale {title(obj)}{space(obj)} --replicas=1",),
    )


def budget_blocks(world: World, budget: Json) -> Finding | None:
    status = budget.get("status") or {}
    if status.get("disruptionsAllowed", 0) > 0 or not status.get("expectedPods"):
        return None
    want, have = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
    return Finding(
        f"no pod may be evicted now: {have} of {status.get('expectedPods', 0)} pods are healthy and {want} must be",
        (
            seen(budget, "spec", "selector"),
            *(seen(budget, "spec", f) for f in ("minAvailable", "maxUnavailable") if f in budget["spec"]),
            *(seen(budget, "status", f) for f in ("currentHealthy", "desiredHealthy", "disruptionsAllowed")),
        ),
        (
            "run more replicas, or lower minAvailable",
            f"its pods: kubectl get pods{space(budget)} -l '{format_object(budget['spec'].get('selector'))}'",
        ),
    )


SETS = ("deployments", "replicasets", "statefulsets", "replicationcontrollers")
CAUSES: tuple[Cause, ...] = (
    Cause(
        "rollout-paused",
        ("deployments",),
        paused,
        "the Deployment is paused with changes not rolled out",
        grade=Grade.NOTE,
    ),
    Cause("scaled-to-zero", SETS, nothing_wanted, "it is to have no pods", grade=Grade.NOTE),
    Cause(
        "controller-behind",
        ("deployments", "replicasets", "statefulsets", "daemonsets"),
        not_observed,
        "its controller has not seen the newest version",
    ),
    Cause(
        "daemonset-without-nodes", ("daemonsets",), no_node, "no node is eligible for a DaemonSet's pods", ("nodes",)
    ),
    Cause(
        "progress-deadline",
        ("deployments",),
        deadline_exceeded,
        "a rollout has made no progress in its time",
        role=Role.SYMPTOM,
    ),
    Cause(
        "earlier-pod-not-ready",
        ("statefulsets",),
        blocked,
        "an ordered StatefulSet waits for an earlier pod",
        ("pods",),
        role=Role.SYMPTOM,
    ),
    Cause(
        "pods-not-ready", (*SETS, "daemonsets"), not_available, "fewer pods are ready than wanted", role=Role.SYMPTOM
    ),
    Cause(
        "budget-blocks",
        ("poddisruptionbudgets",),
        budget_blocks,
        "a disruption budget allows no eviction",
        grade=Grade.NOTE,
    ),
)
