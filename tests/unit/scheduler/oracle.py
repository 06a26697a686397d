"""What is right, said slowly: the scheduler's filters and scores as loops over plain objects.

Nothing here shares code with the scheduler but the reading of quantities. ``Cluster`` holds nodes, placed pods and
namespaces as JSON; every rule is one function of a pod and a node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from portside.api.quantity import milli, value

Json = dict[str, Any]
TAINTS = ("NoSchedule", "NoExecute")


@dataclass
class Cluster:
    nodes: list[Json]
    pods: list[Json] = field(default_factory=list)  # each with spec.nodeName
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)

    def on(self, node: Json) -> list[Json]:
        return [p for p in self.pods if p["spec"].get("nodeName") == node["metadata"]["name"]]


def labels(obj: Json) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


def selects(selector: Json | None, have: dict[str, str]) -> bool:
    if selector is None:
        return False
    for key, want in (selector.get("matchLabels") or {}).items():
        if have.get(key) != want:
            return False
    return all(expression(e, have) for e in selector.get("matchExpressions") or [])


def expression(e: Json, have: dict[str, str]) -> bool:
    operator, key, values = e["operator"], e["key"], e.get("values") or []
    if operator == "In":
        return key in have and have[key] in values
    if operator == "NotIn":
        return key not in have or have[key] not in values
    if operator == "Exists":
        return key in have
    if operator == "DoesNotExist":
        return key not in have
    try:
        left, right = int(have[key]), int(values[0])
    except (KeyError, ValueError):
        return False
    return left > right if operator == "Gt" else left < right


# Filters: True when the node will do


def tolerated(pod: Json, taint: Json) -> bool:
    for t in pod["spec"].get("tolerations") or []:
        if t.get("effect") and t["effect"] != taint["effect"]:
            continue
        if t.get("key") and t["key"] != taint["key"]:
            continue
        if t.get("operator", "Equal") == "Exists":
            return True
        if t.get("key") and t.get("value", "") == taint.get("value", ""):
            return True
    return False


def taints_ok(pod: Json, node: Json) -> bool:
    if node["spec"].get("unschedulable") and not tolerated(
        pod, {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    ):
        return False
    return all(tolerated(pod, t) for t in node["spec"].get("taints") or [] if t["effect"] in TAINTS)


def term_matches(term: Json, node: Json) -> bool:
    by_label, by_field = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not by_label and not by_field:
        return False
    name = {"metadata.name": node["metadata"]["name"]}
    return all(expression(e, labels(node)) for e in by_label) and all(expression(e, name) for e in by_field)


def node_affinity_ok(pod: Json, node: Json) -> bool:
    for key, want in (pod["spec"].get("nodeSelector") or {}).items():
        if labels(node).get(key) != want:
            return False
    required = affinity(pod, "nodeAffinity").get("requiredDuringSchedulingIgnoredDuringExecution")
    return required is None or any(term_matches(t, node) for t in required["nodeSelectorTerms"])


def affinity(pod: Json, kind: str) -> Json:
    found: Json = (pod["spec"].get("affinity") or {}).get(kind) or {}
    return found


def host_ports(pod: Json) -> list[tuple[str, str, int]]:
    return [
        (p.get("hostIP") or "0.0.0.0", p.get("protocol", "TCP"), p["hostPort"])
        for c in pod["spec"]["containers"]
        for p in c.get("ports") or []
        if p.get("hostPort")
    ]


def ports_ok(pod: Json, node: Json, cluster: Cluster) -> bool:
    for ip, protocol, port in host_ports(pod):
        for other in cluster.on(node):
            for his_ip, his_protocol, his_port in host_ports(other):
                same_address = ip == his_ip or "0.0.0.0" in (ip, his_ip)
                if same_address and protocol == his_protocol and port == his_port:
                    return False
    return True


def requests(pod: Json) -> dict[str, int]:
    total: dict[str, int] = {}
    for container in pod["spec"]["containers"]:
        for name, text in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = total.get(name, 0) + (milli(text) if name == "cpu" else value(text))
    return total


def allocatable(node: Json) -> dict[str, int]:
    return {n: milli(q) if n == "cpu" else value(q) for n, q in node["status"]["allocatable"].items()}


def used(node: Json, cluster: Cluster) -> dict[str, int]:
    total: dict[str, int] = {}
    for pod in cluster.on(node):
        for name, amount in requests(pod).items():
            total[name] = total.get(name, 0) + amount
    return total


def resources_ok(pod: Json, node: Json, cluster: Cluster) -> bool:
    room, taken = allocatable(node), used(node, cluster)
    if len(cluster.on(node)) + 1 > room.get("pods", 0):
        return False
    return all(taken.get(n, 0) + a <= room.get(n, 0) for n, a in requests(pod).items() if a)


def spread_ok(pod: Json, node: Json, cluster: Cluster) -> bool:
    hard = [
        c
        for c in pod["spec"].get("topologySpreadConstraints") or []
        if c.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
    ]
    for c in hard:
        if c["topologyKey"] not in labels(node):
            return False
        counts = domains(pod, c, hard, cluster)
        least = min(counts.values(), default=0)
        if len(counts) < (c.get("minDomains") or 1):
            least = 0
        here = counts.get(labels(node)[c["topologyKey"]], 0)
        own = 1 if selects(c.get("labelSelector"), labels(pod)) else 0
        if here + own - least > c["maxSkew"]:
            return False
    return True


def domains(pod: Json, c: Json, alike: list[Json], cluster: Cluster) -> dict[str, int]:
    """Matching pods per domain, over the nodes that count for this constraint."""
    counts: dict[str, int] = {}
    for node in cluster.nodes:
        if any(other["topologyKey"] not in labels(node) for other in alike):
            continue
        if c.get("nodeAffinityPolicy", "Honor") == "Honor" and not node_affinity_ok(pod, node):
            continue
        if c.get("nodeTaintsPolicy", "Ignore") == "Honor" and not all(
            tolerated(pod, t) for t in node["spec"].get("taints") or [] if t["effect"] in TAINTS
        ):
            continue
        domain = labels(node)[c["topologyKey"]]
        counts.setdefault(domain, 0)
        for other in cluster.on(node):
            if other["metadata"].get("deletionTimestamp"):
                continue
            if other["metadata"]["namespace"] != pod["metadata"]["namespace"]:
                continue
            counts[domain] += selects(c.get("labelSelector"), labels(other))
    return counts


def pod_matches(term: Json, owner: Json, other: Json, cluster: Cluster) -> bool:
    """Whether ``other`` is one of the pods that a term of ``owner`` means."""
    namespace = other["metadata"]["namespace"]
    listed, selector = term.get("namespaces") or [], term.get("namespaceSelector")
    if not listed and selector is None:
        listed = [owner["metadata"]["namespace"]]
    inside = namespace in listed or (selector is not None and selects(selector, cluster.namespaces.get(namespace, {})))
    return inside and selects(term.get("labelSelector"), labels(other))


def same_domain(key: str, a: Json, b: Json) -> bool:
    return key in labels(a) and labels(a)[key] == labels(b).get(key)


def required_terms(pod: Json, kind: str) -> list[Json]:
    return affinity(pod, kind).get("requiredDuringSchedulingIgnoredDuringExecution") or []


def pod_affinity_ok(pod: Json, node: Json, cluster: Cluster) -> bool:
    where = {n["metadata"]["name"]: n for n in cluster.nodes}
    terms = required_terms(pod, "podAffinity")
    friends = [p for p in cluster.pods if all(pod_matches(t, pod, p, cluster) for t in terms)]
    for t in terms:
        if t["topologyKey"] not in labels(node):
            return False
    if terms:
        anywhere = any(t["topologyKey"] in labels(where[p["spec"]["nodeName"]]) for p in friends for t in terms)
        near = all(
            any(same_domain(t["topologyKey"], node, where[p["spec"]["nodeName"]]) for p in friends) for t in terms
        )
        alone = not anywhere and all(pod_matches(t, pod, pod, cluster) for t in terms)
        if not near and not alone:
            return False
    for other in cluster.pods:
        there = where[other["spec"]["nodeName"]]
        for t in required_terms(pod, "podAntiAffinity"):
            if pod_matches(t, pod, other, cluster) and same_domain(t["topologyKey"], node, there):
                return False
        for t in required_terms(other, "podAntiAffinity"):
            if pod_matches(t, other, pod, cluster) and same_domain(t["topologyKey"], node, there):
                return False
    return True


def fits(pod: Json, node: Json, cluster: Cluster) -> bool:
    return (
        taints_ok(pod, node)
        and node_affinity_ok(pod, node)
        and ports_ok(pod, node, cluster)
        and resources_ok(pod, node, cluster)
        and spread_ok(pod, node, cluster)
        and pod_affinity_ok(pod, node, cluster)
    )


# Scores: whole numbers from 0 to 100 per feasible node


def least_allocated(pod: Json, node: Json, cluster: Cluster) -> int:
    room, total, weights = allocatable(node), 0, 0
    for name, stand_in in (("cpu", 100), ("memory", 200 * 1024 * 1024)):
        if not room.get(name):
            continue
        asked = 0
        for p in [*cluster.on(node), pod]:
            for container in p["spec"]["containers"]:
                text = ((container.get("resources") or {}).get("requests") or {}).get(name)
                asked += stand_in if text is None else milli(text) if name == "cpu" else value(text)
        weights += 1
        total += max(room[name] - asked, 0) * 100 // room[name]
    return total // weights if weights else 0


def balanced(pod: Json, node: Json, cluster: Cluster) -> int:
    if not any(requests(pod).values()):
        return 0
    room, taken, wanted = allocatable(node), used(node, cluster), requests(pod)
    shares = [min((taken.get(n, 0) + wanted.get(n, 0)) / room[n], 1.0) for n in ("cpu", "memory") if room.get(n)]
    if len(shares) < 2:
        return 100
    return int((1 - abs(shares[0] - shares[1]) / 2) * 100)


def pod_affinity_score(pod: Json, feasible: list[Json], cluster: Cluster) -> dict[str, int]:
    where = {n["metadata"]["name"]: n for n in cluster.nodes}
    raw = {n["metadata"]["name"]: 0 for n in feasible}

    def preferred(p: Json) -> list[tuple[int, Json]]:
        name = "preferredDuringSchedulingIgnoredDuringExecution"
        near = [(w["weight"], w["podAffinityTerm"]) for w in affinity(p, "podAffinity").get(name) or []]
        return near + [(-w["weight"], w["podAffinityTerm"]) for w in affinity(p, "podAntiAffinity").get(name) or []]

    for node in feasible:
        for other in cluster.pods:
            there = where[other["spec"]["nodeName"]]
            for weight, t in preferred(pod):
                if pod_matches(t, pod, other, cluster) and same_domain(t["topologyKey"], node, there):
                    raw[node["metadata"]["name"]] += weight
            for weight, t in [*preferred(other), *((1, t) for t in required_terms(other, "podAffinity"))]:
                if pod_matches(t, other, pod, cluster) and same_domain(t["topologyKey"], node, there):
                    raw[node["metadata"]["name"]] += weight
    low, high = min(raw.values()), max(raw.values())
    return {n: int(100 * ((s - low) / (high - low))) if high > low else 0 for n, s in raw.items()}


def spread_score(pod: Json, feasible: list[Json], cluster: Cluster) -> dict[str, int]:
    soft = [
        c for c in pod["spec"].get("topologySpreadConstraints") or [] if c.get("whenUnsatisfiable") == "ScheduleAnyway"
    ]
    names = [n["metadata"]["name"] for n in feasible]
    if not soft:
        return dict.fromkeys(names, 0)
    whole = [n for n in feasible if all(c["topologyKey"] in labels(n) for c in soft)]
    if not whole:
        return dict.fromkeys(names, 0)
    raw: dict[str, float] = {}
    for node in whole:
        raw[node["metadata"]["name"]] = 0.0
        for c in soft:
            key = c["topologyKey"]
            number = len(whole) if key == "kubernetes.io/hostname" else len({labels(n)[key] for n in whole})
            counts = domains(pod, c, soft, cluster)
            raw[node["metadata"]["name"]] += counts.get(labels(node)[key], 0) * math.log(number + 2) + c["maxSkew"] - 1
    rounded = {n: math.floor(s + 0.5) for n, s in raw.items()}
    low, high = min(rounded.values()), max(rounded.values())
    if high == low and len(whole) == len(feasible):
        return dict.fromkeys(names, 0)  # no difference: any constant will do
    return {n: 0 if n not in rounded else 100 if high == 0 else 100 * (high + low - rounded[n]) // high for n in names}


def node_preference_score(pod: Json, feasible: list[Json]) -> dict[str, int]:
    preferred = affinity(pod, "nodeAffinity").get("preferredDuringSchedulingIgnoredDuringExecution") or []
    raw = {
        n["metadata"]["name"]: sum(p["weight"] for p in preferred if term_matches(p["preference"], n)) for n in feasible
    }
    top = max(raw.values())
    return {n: s * 100 // top if top else 0 for n, s in raw.items()}


def taint_score(pod: Json, feasible: list[Json]) -> dict[str, int]:
    soft = [t for t in pod["spec"].get("tolerations") or [] if t.get("effect", "") in ("", "PreferNoSchedule")]
    picky = {"spec": {"tolerations": soft}}
    raw = {
        n["metadata"]["name"]: sum(
            not tolerated(picky, t) for t in n["spec"].get("taints") or [] if t["effect"] == "PreferNoSchedule"
        )
        for n in feasible
    }
    top = max(raw.values())
    return {n: 100 - s * 100 // top if top else 100 for n, s in raw.items()}


def best(pod: Json, cluster: Cluster) -> set[str]:
    """The names of the nodes that a right decision may choose: empty when none fits."""
    feasible = [n for n in cluster.nodes if fits(pod, n, cluster)]
    if not feasible:
        return set()
    by_pods, by_spread = pod_affinity_score(pod, feasible, cluster), spread_score(pod, feasible, cluster)
    by_nodes, by_taints = node_preference_score(pod, feasible), taint_score(pod, feasible)
    total = {}
    for node in feasible:
        name = node["metadata"]["name"]
        total[name] = (
            3 * by_taints[name]
            + 2 * by_nodes[name]
            + 2 * by_spread[name]
            + 2 * by_pods[name]
            + least_allocated(pod, node, cluster)
            + balanced(pod, node, cluster)
        )
    top = max(total.values())
    return {n for n, score in total.items() if score == top}
