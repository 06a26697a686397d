"""Filters: each gives the rows a pod may not use, and why. The order is upstream's default profile's.

A node counts for the first filter that refuses it; resources name every lacking one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import PODS, Mask, Snapshot
from portside.scheduler.terms import NodeTerm, PodTerm, Spread, label_selector, requirement


@dataclass(frozen=True, slots=True)
class Refusal:
    """Rows refused for one reason. ``resolvable`` says whether evicting pods could help."""

    reason: str
    rows: Mask
    resolvable: bool


Filter = Callable[[PodInfo, Snapshot], list[Refusal]]


def untolerated(pod: PodInfo, snapshot: Snapshot, effects: tuple[str, ...]) -> Mask:
    mask = np.zeros(snapshot.size, bool)
    verdicts: dict[tuple[tuple[str, str, str], ...], bool] = {(): False}
    for row in snapshot.row_of.values():
        taints = snapshot.taints[row]
        if taints not in verdicts:
            verdicts[taints] = any(t[2] in effects and not any(x.tolerates(t) for x in pod.tolerations) for t in taints)
        mask[row] = verdicts[taints]
    return mask


def node_unschedulable(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    taint = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
    if not snapshot.unschedulable.any() or any(t.tolerates(taint) for t in pod.tolerations):
        return []
    return [Refusal("node(s) were unschedulable", snapshot.unschedulable, False)]


def node_name(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.node_name:
        return []
    return [Refusal("node(s) didn't match the requested node name", ~snapshot.rows_named([pod.node_name]), False)]


def taint_toleration(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    mask = untolerated(pod, snapshot, ("NoSchedule", "NoExecute"))
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


def selected(pod: PodInfo, snapshot: Snapshot) -> Mask:
    """Rows that the pod's nodeSelector and required node affinity allow."""
    mask = snapshot.live.copy()
    for key, value in pod.node_selector:
        column = snapshot.label(key)
        mask &= column.codes == column.values.get(value, -2)
    if pod.node_terms is not None:
        allowed = np.zeros(snapshot.size, bool)
        for term in pod.node_terms:
            allowed |= matches_term(term, snapshot)
        mask &= allowed
    return mask


def node_affinity(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.node_selector and pod.node_terms is None:
        return []
    return [Refusal("node(s) didn't match Pod's node affinity/selector", ~selected(pod, snapshot), False)]


def ports_clash(a: tuple[str, str, int], b: tuple[str, str, int]) -> bool:
    return a[1:] == b[1:] and (a[0] == b[0] or "0.0.0.0" in (a[0], b[0]))


def node_ports(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    if not pod.ports or not snapshot.ports:
        return []
    mask = np.zeros(snapshot.size, bool)
    for row, taken in snapshot.ports.items():
        mask[row] = any(ports_clash(want, have) for want in pod.ports for have in taken)
    return [Refusal("node(s) didn't have free ports for the requested pod ports", mask, True)]


def resources_fit(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    refusals = []
    full = snapshot.used[PODS] + 1 > snapshot.allocatable[PODS]
    if full.any():
        refusals.append(Refusal("Too many pods", full, True))
    for name, amount in pod.requests.items():
        if amount <= 0:
            continue
        column = snapshot.resources.get(name)
        if column is None:
            refusals.append(Refusal(f"Insufficient {name}", snapshot.live, False))
            continue
        lacking = snapshot.used[column] + amount > snapshot.allocatable[column]
        if lacking.any():
            never = lacking & (snapshot.allocatable[column] < amount)
            refusals.append(Refusal(f"Insufficient {name}", never, False))
            refusals.append(Refusal(f"Insufficient {name}", lacking & ~never, True))
    return refusals


def spread_eligible(pod: PodInfo, constraint: Spread, snapshot: Snapshot) -> Mask:
    """Rows that count as domains of one constraint."""
    mask = snapshot.live & (snapshot.label(constraint.topology).codes >= 0)
    if constraint.honor_affinity and (pod.node_selector or pod.node_terms is not None):
        mask &= selected(pod, snapshot)
    if constraint.honor_taints:
        mask &= ~untolerated(pod, snapshot, ("NoSchedule", "NoExecute"))
    return mask


def spread_term(pod: PodInfo, constraint: Spread) -> PodTerm:
    return PodTerm("", constraint.selector, constraint.topology, frozenset((pod.namespace,)), "")


def topology_spread(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    refusals = []
    required = [c for c in pod.spread if c.required]
    if required:
        missing = np.zeros(snapshot.size, bool)
        for constraint in required:
            missing |= snapshot.label(constraint.topology).codes < 0
        refusals.append(
            Refusal("node(s) didn't match pod topology spread constraints (missing required label)", missing, False)
        )
    for constraint in required:
        eligible = spread_eligible(pod, constraint, snapshot)
        codes, sums = snapshot.per_domain(constraint.topology, snapshot.count(spread_term(pod, constraint)), eligible)
        domains = np.unique(codes[eligible])
        least = int(sums[domains].min()) if len(domains) else 0
        if len(domains) < constraint.min_domains:
            least = 0
        own = int(label_selector(constraint.selector)(pod.labels))
        skewed = (sums[np.maximum(codes, 0)] + own - least > constraint.skew) & (codes >= 0)
        refusals.append(Refusal("node(s) didn't match pod topology spread constraints", skewed, True))
    return refusals


def _domain_has(snapshot: Snapshot, topology: str, rows: np.ndarray) -> Mask:  # type: ignore[type-arg]
    codes, sums = snapshot.per_domain(topology, rows)
    return (codes >= 0) & (sums[np.maximum(codes, 0)] > 0)


def pod_affinity(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    refusals = []
    if pod.affinity:
        refusals.append(Refusal("node(s) didn't match pod affinity rules", _affinity_lacking(pod, snapshot), False))
    if pod.anti_affinity:
        clash = np.zeros(snapshot.size, bool)
        for term in pod.anti_affinity:
            clash |= _domain_has(snapshot, term.topology, snapshot.count(term))
        refusals.append(Refusal("node(s) didn't match pod anti-affinity rules", clash, True))
    if snapshot.anti_terms:
        blocked = np.zeros(snapshot.size, bool)
        for counted in snapshot.anti_terms.values():
            if counted.term.matches(pod.namespace, pod.labels, snapshot.namespaces):
                blocked |= _domain_has(snapshot, counted.term.topology, counted.rows)
        refusals.append(Refusal("node(s) didn't satisfy existing pods anti-affinity rules", blocked, True))
    return refusals


def _affinity_lacking(pod: PodInfo, snapshot: Snapshot) -> Mask:
    """Rows without a matching pod in every term's domain. The first pod of a group that matches its own terms may go
    anywhere the topology labels exist."""
    lacking = np.zeros(snapshot.size, bool)
    anywhere = np.zeros(snapshot.size, bool)
    found = False
    for term in pod.affinity:
        rows = snapshot.count(term)
        found = found or bool((rows[snapshot.label(term.topology).codes >= 0] > 0).any())
        lacking |= ~_domain_has(snapshot, term.topology, rows)
        anywhere |= snapshot.label(term.topology).codes < 0
    own = all(t.matches(pod.namespace, pod.labels, snapshot.namespaces) for t in pod.affinity)
    return anywhere if not found and own else lacking


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

STATIC = frozenset(("NodeUnschedulable", "TaintToleration", "NodeAffinity"))  # depend on nodes alone: cached by shape
