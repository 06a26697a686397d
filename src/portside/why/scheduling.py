"""Why a pod has no node: gates, no scheduler, and what the scheduler itself says each filter cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from portside.why.devices import NEEDS as DEVICE_KINDS
from portside.why.devices import facts as device_facts
from portside.why.finding import (
    Cause,
    Fact,
    Finding,
    Grade,
    Role,
    condition,
    describe,
    lookup,
    said,
    seen,
    shown,
    space,
    title,
)
from portside.why.reach import UNFIT, claims_of
from portside.why.world import World

Json = dict[str, Any]
SILENCE = 10.0  # seconds after which a pod of which no scheduler has said anything counts as nobody's
LEAD = re.compile(r"^\d+/(\d+) nodes are available:(?: (?!preemption: )(.*?)\.?)?(?: preemption: .*)?$", re.DOTALL)
PART = re.compile(r"^(\d+) (.+)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Filter:
    """What the scheduler says when a filter takes nodes away (its words begin so), and what would give them back.

    ``path`` is the field of the pod that the filter looks at; ``of_node`` the one of the nodes.
    """

    words: str
    path: tuple[str, ...]
    of_node: tuple[str, ...]
    todo: str


GIVEN = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")  # tolerated by every pod for a while
MAX_NODES = 3  # shown as evidence
SELECTOR = "node(s) didn't match Pod's node affinity/selector"
ALLOCATABLE = ("status", "allocatable")
CLAIMS = ("spec", "resourceClaims")
FILTERS: tuple[Filter, ...] = (
    Filter("node(s) were unschedulable", (), ("spec", "unschedulable"), "kubectl uncordon NODE"),
    Filter(
        "node(s) didn't satisfy plugin(s) [NodeAffinity]",
        ("spec", "affinity", "nodeAffinity"),
        (),
        "the affinity names nodes that do not exist: kubectl get nodes",
    ),
    Filter(
        "node(s) had untolerated taint",
        ("spec", "tolerations"),
        ("spec", "taints"),
        "give the pod a toleration, or take the taint away: kubectl taint node NODE KEY-",
    ),
    Filter(
        SELECTOR,
        ("spec", "nodeSelector"),
        (),
        "correct nodeSelector or nodeAffinity, or label a node: kubectl label node NODE KEY=VALUE",
    ),
    Filter(
        "node(s) didn't have free ports for the requested pod ports",
        (),
        (),
        "leave hostPort out (a Service reaches every pod), or run fewer pods than there are nodes",
    ),
    Filter("Too many pods", (), ("status", "allocatable", "pods"), "add a node, or end pods nobody needs"),
    Filter(
        "Insufficient",
        (),
        ALLOCATABLE,
        "ask for less in resources.requests, end other pods, or add a node; try it: portside what-if add 1 like NODE",
    ),
    Filter(
        "node(s) didn't match pod topology spread constraints",
        ("spec", "topologySpreadConstraints"),
        (),
        "label the nodes with the topology key, raise maxSkew, or set whenUnsatisfiable: ScheduleAnyway",
    ),
    Filter(
        "node(s) didn't match pod affinity rules",
        ("spec", "affinity", "podAffinity"),
        (),
        "start the pods it wants to be near, or correct the affinity's labels and topologyKey",
    ),
    Filter(
        "node(s) didn't match pod anti-affinity rules",
        ("spec", "affinity", "podAntiAffinity"),
        (),
        "add nodes, run fewer replicas, or make the anti-affinity a preference",
    ),
    Filter(
        "node(s) didn't satisfy existing pods anti-affinity rules",
        ("metadata", "labels"),
        (),
        "other pods keep away pods with these labels; change the labels, or their anti-affinity",
    ),
    Filter(
        "node(s) didn't match PersistentVolume's node affinity",
        ("spec", "volumes"),
        (),
        "the volume is on another node: free room there, or use another volume",
    ),
    Filter(
        "node(s) didn't find available persistent volumes to bind",
        ("spec", "volumes"),
        (),
        "make a volume that fits on a node the pod may use: kubectl get pv",
    ),
    Filter(
        "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
        ("spec", "volumes"),
        (),
        "end the pod that uses the claim, or take another access mode",
    ),
    Filter(
        "node(s) did not have enough free storage",
        ("spec", "volumes"),
        (),
        "the driver has no pool with that much room: claim less, or free some (kubectl get csistoragecapacities -A)",
    ),
    Filter(
        "node(s) had no available disk",
        ("spec", "volumes"),
        (),
        "another pod there uses the disk: mount it read-only in both, or end that pod",
    ),
    Filter(
        "node(s) had no available volume zone",
        ("spec", "volumes"),
        (),
        "the volume is in another zone: free room on its nodes, or use another volume",
    ),
    Filter(
        "node(s) exceed max volume count",
        ("spec", "volumes"),
        (),
        "the storage driver attaches no more volumes to these nodes: end pods there, or add a node",
    ),
    Filter(
        "cannot allocate all claims",
        CLAIMS,
        (),
        "no node has free devices as the claims ask: kubectl get resourceslices, kubectl get resourceclaims",
    ),
    Filter(
        "resourceclaim not available on the node",
        CLAIMS,
        (),
        "the claim's devices are on other nodes, or were not made ready: free room there, or end what else uses the claim",
    ),
    Filter(
        "invalid resource pools were encountered",
        CLAIMS,
        (),
        "a driver publishes slices that contradict each other: kubectl get resourceslices",
    ),
    Filter(
        "request ",
        CLAIMS,
        (),
        "a request for all devices waits until its pools are complete: kubectl get resourceslices",
    ),
    Filter(
        "no nodes available to schedule pods",
        (),
        (),
        "the cluster has no node: portside up without --simulate, or portside join on another machine",
    ),
)
TAINTED = next(f for f in FILTERS if "taint" in f.words)
OTHER = Filter(
    "",
    (),
    (),
    "change the pod or the nodes so that one fits; words that no filter has are an extender's (scheduler.yaml)",
)
WORDLESS = "an extender refused nodes without saying why"


def filter_of(words: str) -> Filter:
    return next((f for f in FILTERS if words.startswith(f.words)), OTHER)


def parts_of(message: str) -> tuple[int, list[tuple[int, str]]]:
    """(all nodes, [(nodes lost, why)]) of the scheduler's message; (0, []) when it is of another form."""
    found = LEAD.match(message)
    if not found:
        return 0, []
    if not found[2]:
        return int(found[1]), [(0, WORDLESS)]
    parts = [PART.match(p) for p in re.split(r", (?=\d+ )", found[2])]
    listed = [(int(p[1]), p[2].rstrip(".")) for p in parts if p]
    return int(found[1]), listed or [(0, found[2].removesuffix(". not found").rstrip("."))]


def placed(pod: Json) -> bool:
    return bool(pod["spec"].get("nodeName")) or bool(pod["metadata"].get("deletionTimestamp"))


def gates(world: World, pod: Json) -> Finding | None:
    held = [g["name"] for g in pod["spec"].get("schedulingGates") or ()]
    if not held or placed(pod):
        return None
    return Finding(
        f"the pod is held back by the scheduling gate{'s' if len(held) > 1 else ''} {', '.join(held)}",
        (seen(pod, "spec", "schedulingGates"), *said(pod, "PodScheduled")),
        (
            "whoever set a gate takes it away; by hand:",
            f"kubectl patch {title(pod)}{space(pod)} --type=json "
            '-p \'[{"op":"remove","path":"/spec/schedulingGates"}]\'',
        ),
    )


def scheduler_absent(world: World, pod: Json) -> Finding | None:
    if placed(pod) or condition(pod, "PodScheduled") or world.age(pod) < SILENCE or world.events(pod):
        return None
    name = pod["spec"].get("schedulerName", "default-scheduler")
    ours = name == "default-scheduler"
    return Finding(
        f"no scheduler has looked at the pod: nobody seems to serve schedulerName {name}",
        (
            seen(pod, "spec", "schedulerName"),
            seen(pod, "status", "conditions"),
            seen(pod, "metadata", "creationTimestamp"),
        ),
        ("see whether the control plane runs: portside status",)
        if ours
        else (f"start the scheduler {name}, or leave schedulerName out; it can't be changed in a pod that exists",),
    )


def preemption(world: World, pod: Json) -> Finding | None:
    node = (pod.get("status") or {}).get("nominatedNodeName")
    if not node or placed(pod):
        return None
    leaving = [
        p for p in world.all("pods") if p["spec"].get("nodeName") == node and p["metadata"].get("deletionTimestamp")
    ]
    facts = [seen(pod, "status", "nominatedNodeName"), *said(pod, "PodScheduled")[:1]]
    facts += [
        Fact(f"{title(p)}{space(p)}", "metadata.deletionTimestamp", str(p["metadata"]["deletionTimestamp"]))
        for p in leaving[:5]
    ]
    return Finding(
        f"pods of lower priority make room on node {node}, and have not ended yet",
        tuple(facts),
        (
            "wait; they have their terminationGracePeriodSeconds",
            f"kubectl get pods -A --field-selector spec.nodeName={node}",
        ),
    )


def claim_missing(world: World, pod: Json) -> Finding | None:
    namespace = pod["metadata"].get("namespace", "")
    if (pod.get("status") or {}).get("phase", "Pending") != "Pending" or placed(pod):
        return None
    for name in claims_of(pod):
        if world.missing("persistentvolumeclaims", name, namespace):
            return Finding(
                f"the PersistentVolumeClaim {name} does not exist in namespace {namespace}",
                (seen(pod, "spec", "volumes"), *said(pod, "PodScheduled")),
                ("create the claim, or correct claimName", f"kubectl get pvc -n {namespace}"),
            )
    return None


def unschedulable(world: World, pod: Json) -> Finding | None:
    held = condition(pod, "PodScheduled")
    if placed(pod) or held.get("status") != "False" or held.get("reason") == "SchedulingGated":
        return None
    message = str(held.get("message", ""))
    total, parts = parts_of(message)
    if not parts:
        return Finding(
            f"the scheduler can't place the pod: {message}",
            said(pod, "PodScheduled"),
            (
                "see to the extender that is asked about this pod, or let scheduler.yaml call it ignorable"
                if held.get("reason") == "SchedulerError" and not message.startswith("running ")
                else "see whether the control plane runs: portside status",
                describe(pod),
            ),
        )
    listed = "; ".join(f"{count} of {total}: {words}" if count else words for count, words in parts)
    filters = list(dict.fromkeys(filter_of(words) for _, words in sorted(parts, reverse=True)))
    facts = [seen(pod, "status", "conditions", "PodScheduled", "message")]
    facts += [_tolerated(pod) if f.path[-1] == "tolerations" else seen(pod, *f.path) for f in filters if f.path]
    facts += _wanted(pod, parts)
    if any(f.path == CLAIMS for f in filters):
        facts += device_facts(world, pod)
    if any(words.startswith(SELECTOR) for _, words in parts):
        keys = list(pod["spec"].get("nodeSelector") or ())
        facts += [seen(n, "metadata", "labels", key) for n in world.all("nodes")[:MAX_NODES] for key in keys]
    lacking = [words.split()[1] for _, words in parts if words.startswith("Insufficient ")]
    paths = [f.of_node for f in filters if f.of_node and f.of_node != ALLOCATABLE]
    paths += [(*ALLOCATABLE, name) for name in lacking]
    for path in dict.fromkeys(paths):
        nodes = [n for n in world.all("nodes") if path[0] == "status" or lookup(n, *path)]
        facts += [seen(n, *path) for n in nodes[:MAX_NODES]]
    unfit = [n["metadata"]["name"] for n in world.all("nodes") if UNFIT & {t.get("key") for t in taints_of(n)}]
    advice = [f.todo for f in filters]
    if TAINTED in filters and unfit:
        advice.insert(0, f"see to the node that is not fit: portside why node/{unfit[0]}")
    return Finding(f"no node can take the pod ({listed})", tuple(facts), (*advice, describe(pod)))


def taints_of(node: Json) -> list[Json]:
    return list(node["spec"].get("taints") or ())


def _tolerated(pod: Json) -> Fact:
    """The pod's own tolerations; those that every pod is given say nothing."""
    own = [t for t in pod["spec"].get("tolerations") or () if t.get("key") not in GIVEN]
    return Fact(title(pod), "spec.tolerations of its own", shown(own))


def _wanted(pod: Json, parts: list[tuple[int, str]]) -> list[Fact]:
    """What the containers ask for of that which lacks, and the host ports they want."""
    lacking = [words.split()[1] for _, words in parts if words.startswith("Insufficient ")]
    found = []
    for container in pod["spec"]["containers"]:
        requests = (container.get("resources") or {}).get("requests") or {}
        found += [
            seen(pod, "spec", "containers", container["name"], "resources", "requests", name)
            for name in lacking
            if name in requests
        ]
        if any("free ports" in words for _, words in parts):
            found += [
                seen(pod, "spec", "containers", container["name"], "ports", number, "hostPort")
                for number, port in enumerate(container.get("ports") or ())
                if port.get("hostPort")
            ]
    return found


PODS = ("pods",)
CAUSES: tuple[Cause, ...] = (
    Cause("scheduling-gate", PODS, gates, "a scheduling gate holds the pod back", grade=Grade.WAITS),
    Cause("scheduler-absent", PODS, scheduler_absent, "nobody serves the pod's schedulerName"),
    Cause("preemption", PODS, preemption, "pods of lower priority make room and have not ended yet", grade=Grade.WAITS),
    Cause(
        "claim-missing",
        PODS,
        claim_missing,
        "the pod mounts a PersistentVolumeClaim that does not exist",
        ("persistentvolumeclaims",),
    ),
    Cause(
        "unschedulable",
        PODS,
        unschedulable,
        "no node fits: what each of the scheduler's filters cost",
        ("nodes", *DEVICE_KINDS),
        role=Role.LINK,
    ),
)
