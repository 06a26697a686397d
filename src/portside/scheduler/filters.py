"""Filters: each gives the rows a pod may not use, and why. The order is upstream's default profile's.

A node counts for the first filter that refuses it; resources name every lacking one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from portside.scheduler.counts import Domains
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.profile import Profile
from portside.scheduler.snapshot import PODS, Mask, Snapshot
from portside.scheduler.terms import NodeTerm, PodTerm, Spread, label_selector, requirement


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows refused for one reason. ``resolvable`` says whether evicting pods could help; ``error``, that something is wrong
    with what the pod asks for, wherever that is."""

    reason: str
    rows: Mask
    resolvable: bool
    error: bool = False


Filter = Callable[[PodInfo, Snapshot], list[Refusal]]
ENFORCED = "node(s) didn't match scheduler-enforced node affinity"
NO_EXECUTION = ("NoSchedule", "NoExecute")


def untolerated(shape: Shape, snapshot: Snapshot, effects: tuple[str, ...]) -> Mask:
    """Rows with a taint of one of the effects that the pod does not tolerate."""
    verdicts = [
        any(t[2] in effects and not any(x.tolerates(t) for x in shape.tolerations) for t in taints)
        for taints in snapshot.taint_sets
    ]
    return np.array(verdicts)[snapshot.taints]


def node_unschedulable(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    taint = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
    if not snapshot.unschedulable.any() or any(t.tolerates(taint) for t in pod.shape.tolerations):
        return []
    return [Refusal("node(s) were unschedulable", snapshot.unschedulable, False)]


def node_name(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.node_name:
        return []
    return [Refusal("node(s) didn't match the requested node name", ~snapshot.rows_named([pod.node_name]), False)]


def taint_toleration(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    mask = untolerated(pod.shape, snapshot, NO_EXECUTION)
    return [Refusal("node(s) had untolerated taint(s)", mask, False)] if mask.any() else []


def matches_term(term: NodeTerm, snapshot: Snapshot) -> Mask:
    """Rows one nodeSelectorTerm matches; an empty term matches nothing."""
    if not term.labels and not term.fields:
        return np.zeros(snapshot.size, bool)
    mask = snapshot.live.copy()
    for key, operator, values in term.labels:
        column = snapshot.label(key)
        if operator in ("In", "NotIn"):
            codes = [column.values[v] for v in values if v in column.values]
            inside = np.isin(column.codes, codes) if codes else np.zeros(snapshot.size, bool)
            mask &= inside if operator == "In" else ~inside
        elif operator in ("Exists", "DoesNotExist"):
            mask &= (column.codes >= 0) if operator == "Exists" else (column.codes < 0)
        else:
            check = requirement(key, operator, values)
            mask &= np.fromiter((check(labels) for labels in snapshot.node_labels), bool, snapshot.size)
    for _, operator, values in term.fields:
        named = snapshot.rows_named(values)
        mask &= named if operator == "In" else ~named
    return mask


def selected(shape: Shape, snapshot: Snapshot) -> Mask:
    """Rows that the pod's nodeSelector and required node affinity allow."""
    mask = snapshot.live.copy()
    for key, value in shape.node_selector:
        column = snapshot.label(key)
        mask &= column.codes == column.values.get(value, -2)
    if shape.node_terms is not None:
        allowed = np.zeros(snapshot.size, bool)
        for term in shape.node_terms:
            allowed |= matches_term(term, snapshot)
        mask &= allowed
    return mask


def node_affinity(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.shape.limits_nodes:
        return []
    return [Refusal("node(s) didn't match Pod's node affinity/selector", ~selected(pod.shape, snapshot), False)]


def enforcing(enforced: tuple[NodeTerm, ...]) -> Filter:
    """Node affinity with terms that a profile asks of every pod (NodeAffinityArgs.addedAffinity), before the pod's own."""

    def run(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        allowed = np.zeros(snapshot.size, bool)
        for term in enforced:
            allowed |= matches_term(term, snapshot)
        return [Refusal(ENFORCED, ~allowed, False), *node_affinity(pod, snapshot)]

    return run


def ports_clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0]))


def ports_taken(shape: Shape, snapshot: Snapshot, row: int) -> bool:
    """Whether one of the host ports is in use on a node."""
    taken = snapshot.ports.get(row)
    return bool(taken) and any(ports_clash(want, have) for want in shape.ports for have in taken or ())


def node_ports(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.shape.ports or not snapshot.ports:
        return []
    mask = np.zeros(snapshot.size, bool)
    for row in snapshot.ports:
        mask[row] = ports_taken(pod.shape, snapshot, row)
    return [Refusal("node(s) didn't have free ports for the requested pod ports", mask, True)]


def resources_fit(pod: PodInfo, snapshot: Snapshot, counted: Callable[[str], bool] | None = None) -> list[Refusal]:
    """``counted``: whether a resource matters at all (None: each does)."""
    refusals = []
    full = snapshot.used[PODS] + 1 > snapshot.allocatable[PODS]
    if full.any():
        refusals.append(Refusal("Too many pods", full, True))
    for name, amount in pod.shape.requests.items():
        if amount <= 0 or (counted is not None and not counted(name)):
            continue
        column = snapshot.resources.get(name)
        if column is None and name in snapshot.backed:
            continue
        if column is None:
            refusals.append(Refusal(f"Insufficient {name}", snapshot.live, False))
            continue
        lacking = snapshot.used[column] + amount > snapshot.allocatable[column]
        if name in snapshot.backed:
            lacking &= snapshot.allocatable[column] > 0
        if lacking.any():
            never = lacking & (snapshot.allocatable[column] < amount)
            refusals.append(Refusal(f"Insufficient {name}", never, False))
            refusals.append(Refusal(f"Insufficient {name}", lacking & ~never, True))
    return refusals


def spread_domains(pod: PodInfo, constraint: Spread, snapshot: Snapshot) -> Domains:
    """The pods that one constraint counts, by domain. Nodes that the pod can't use for other reasons make no domain."""
    term = PodTerm.within(pod.namespace, constraint.selector)
    counter = snapshot.counter((term,), terminating=False)
    shape = pod.shape
    by_affinity = constraint.honor_affinity and shape.limits_nodes
    eligibility = (
        (shape.node_selector, shape.node_terms) if by_affinity else None,
        shape.tolerations if constraint.honor_taints else None,
        constraint.all_keys,
    )
    found = counter.domains.get((constraint.topology, eligibility))
    if found is not None and found.version == snapshot.node_version:
        return found
    eligible = snapshot.live.copy()
    for key in constraint.all_keys:
        eligible &= snapshot.label(key).codes >= 0
    if by_affinity:
        eligible &= selected(shape, snapshot)
    if constraint.honor_taints:
        eligible &= ~untolerated(shape, snapshot, NO_EXECUTION)
    return snapshot.domains(counter, constraint.topology, eligible, eligibility)


def topology_spread(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    required = [c for c in pod.shape.spread or pod.default_spread if c.required]
    if not required:
        return []
    refusals = []
    for constraint in required:
        domains = spread_domains(pod, constraint, snapshot)
        missing = snapshot.live & ~domains.known
        if missing.any():
            reason = "node(s) didn't match pod topology spread constraints (missing required label)"
            refusals.append(Refusal(reason, missing, False))
        least = int(domains.sums[domains.present].min()) if len(domains.present) else 0
        if len(domains.present) < constraint.min_domains:
            least = 0
        own = int(label_selector(constraint.selector)(pod.labels))
        over = domains.sums + (own - least) > constraint.skew
        if over.any():
            reason = "node(s) didn't match pod topology spread constraints"
            refusals.append(Refusal(reason, over[domains.safe] & domains.known, True))
    return refusals


def pod_affinity(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    refusals = []
    if pod.shape.affinity:
        refusals.append(Refusal("node(s) didn't match pod affinity rules", _affinity_lacking(pod, snapshot), False))
    if pod.shape.anti_affinity:
        clash = np.zeros(snapshot.size, bool)
        for term in pod.shape.anti_affinity:
            clash |= snapshot.domains(snapshot.counter((term,), terminating=True), term.topology).has
        refusals.append(Refusal("node(s) didn't match pod anti-affinity rules", clash, True))
    if snapshot.anti_terms:
        blocking = snapshot.anti_terms.matching(pod.namespace, pod.labels, snapshot.namespaces)
        if blocking:
            blocked = np.zeros(snapshot.size, bool)
            for counted in blocking:
                blocked |= snapshot.term_domains(counted).has
            refusals.append(Refusal("node(s) didn't satisfy existing pods anti-affinity rules", blocked, True))
    return refusals


def _affinity_lacking(pod: PodInfo, snapshot: Snapshot) -> Mask:
    """Rows without a pod that matches all terms in every term's domain. The first pod of a group that matches its own
    terms may go anywhere the topology labels exist."""
    terms = pod.shape.affinity
    counter = snapshot.counter(terms, terminating=True)
    per_term = [snapshot.domains(counter, t.topology) for t in terms]
    first = all(d.total == 0 for d in per_term) and all(
        t.matches(pod.namespace, pod.labels, snapshot.namespaces) for t in terms
    )
    lacking = np.zeros(snapshot.size, bool)
    for domains in per_term:
        lacking |= ~domains.known if first else ~domains.has
    return lacking


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("NodeUnschedulable", node_unschedulable),
    ("NodeName", node_name),
    ("TaintToleration", taint_toleration),
    ("NodeAffinity", node_affinity),
    ("NodePorts", node_ports),
    ("NodeResourcesFit", resources_fit),
    ("PodTopologySpread", topology_spread),
    ("InterPodAffinity", pod_affinity),
)


def filters_of(profile: Profile) -> tuple[tuple[str, Filter], ...]:
    """The filters of a profile: those that are on, in order."""
    added: dict[str, Filter] = {}
    if profile.required_nodes is not None:
        added["NodeAffinity"] = enforcing(profile.required_nodes)
    if profile.ignored_resources or profile.ignored_groups:
        added["NodeResourcesFit"] = partial(resources_fit, counted=profile.counts_resource)
    return tuple((name, added.get(name, run)) for name, run in FILTERS if name not in profile.without)


STATIC = frozenset(("NodeUnschedulable", "TaintToleration", "NodeAffinity"))  # depend on nodes alone: cached by shape
FITTING = frozenset(("NodePorts", "NodeResourcesFit"))  # depend on the shape and on what is on the node: cached by row
