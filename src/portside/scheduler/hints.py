"""What a change of the cluster can do for a parked pod: upstream's queueing hints, one rule a filter.

A pod was refused by some filters. News wakes it only when it can change what one of those said; a storm of other news
costs a look at each kind of parked pod and wakes nobody. Where a filter looks at one node alone, the hint asks whether the
pod would now pass there, so it is narrower than upstream's. Pure: reads the snapshot and the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from portside.api.usage import SPECIAL_CLAIM
from portside.scheduler.cycle import Unplaced
from portside.scheduler.disks import clash
from portside.scheduler.pod_info import PodInfo, Shape
from portside.scheduler.profile import Profile
from portside.scheduler.snapshot import PODS, Snapshot
from portside.scheduler.terms import NodeTerm, PodTerm, Spread, label_selector, requirement

Json = dict[str, Any]
ALL = 1 << 30  # no number of pods is too large to have a chance
NODE_LOCAL = frozenset(
    ("NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit")
)
SPREAD, AFFINITY, GANG, DEVICES = "PodTopologySpread", "InterPodAffinity", "GangScheduling", "DynamicResources"
RESTRICTIONS, LIMITS, BINDING, ZONE = "VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone"
VOLUMES = frozenset((RESTRICTIONS, LIMITS, BINDING, ZONE))
ELSEWHERE = VOLUMES | {SPREAD, AFFINITY, DEVICES}
BY_DEVICES = frozenset((DEVICES,))
EVERY = NODE_LOCAL | VOLUMES | {SPREAD, AFFINITY, GANG, DEVICES}
CORDON = ("node.kubernetes.io/unschedulable", "", "NoSchedule")
NO_EXECUTION = ("NoSchedule", "NoExecute")


# Labels that controllers give to one pod alone: pods that differ in nothing else are parked as one kind.
SINGULAR = (
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
)


@dataclass(frozen=True, slots=True)
class News:
    """One change. ``what``: pod (``old``, ``new``: PodInfo on ``node``), node, namespace, group, a plural of storage or
    devices (objects), or any: everybody is woken."""

    what: str
    old: Any = None
    new: Any = None
    node: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """Parked pods that news helps alike, with one of them. Equal by what was asked and refused."""

    asked: tuple[Any, ...]
    pod: PodInfo = field(compare=False)
    plugins: frozenset[str] = field(compare=False)

    @classmethod
    def of(cls, pod: PodInfo, plugins: frozenset[str]) -> Kind:
        """``plugins``: those that refused it; empty when that is not known."""
        labels = frozenset(i for i in pod.labels.items() if i[0] not in SINGULAR) if AFFINITY in plugins else None
        claims = pod.claims, pod.disks, pod.devices
        same = pod.shape, pod.priority, pod.never_preempts, pod.scheduler, pod.group, claims, pod.default_spread
        return cls((plugins, labels, *same), pod, plugins)


@dataclass(frozen=True, slots=True)
class Facts:
    """What filters of one node read of it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[tuple[str, str, str], ...]
    unschedulable: bool

    @classmethod
    def of(cls, node: Json) -> Facts:
        meta, spec = node["metadata"], node.get("spec") or {}
        taints = tuple((t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ())
        return cls(meta["name"], meta.get("labels") or {}, taints, bool(spec.get("unschedulable")))


def admits(facts: Facts, shape: Shape, profile: Profile) -> bool:
    """Whether a node's taints, labels and name let pods of a shape in; filters that are off do not count."""
    without = profile.without
    taints = [CORDON] if facts.unschedulable and "NodeUnschedulable" not in without else []
    if "TaintToleration" not in without:
        taints += (t for t in facts.taints if t[2] in NO_EXECUTION)
    if not all(any(t.tolerates(taint) for t in shape.tolerations) for taint in taints):
        return False
    if "NodeAffinity" in without:
        return True
    if any(facts.labels.get(key) != wanted for key, wanted in shape.node_selector):
        return False
    alternatives = [terms for terms in (shape.node_terms, profile.required_nodes) if terms is not None]
    return all(any(_matches(term, facts) for term in terms) for terms in alternatives)


def _matches(term: NodeTerm, facts: Facts) -> bool:
    if not term.labels and not term.fields:
        return False
    if not all(requirement(*one)(facts.labels) for one in term.labels):
        return False
    return all((facts.name in values) == (operator == "In") for _, operator, values in term.fields)


def label_keys(shape: Shape, profile: Profile) -> set[str]:
    """Labels of nodes that decide where pods of a shape may go by themselves."""
    terms = (*(shape.node_terms or ()), *(profile.required_nodes or ()))
    return {key for key, _ in shape.node_selector} | {one[0] for term in terms for one in term.labels}


def refusers(pod: PodInfo, decision: Unplaced) -> frozenset[str]:
    """The filters whose word may have to change. Where evictions could help but did not, that may be any filter's doing."""
    evicts = bool(decision.rows) and not pod.never_preempts
    return decision.plugins | ELSEWHERE if evicts and decision.plugins else decision.plugins


def required_spread(pod: PodInfo) -> list[Spread]:
    """The constraints that can refuse a pod."""
    return [c for c in pod.shape.spread or pod.default_spread if c.required]


class Hints:
    """``read(plural)`` gives a cache of objects, ``nominated`` the pods that room is kept for, by uid."""

    def __init__(
        self,
        snapshot: Snapshot,
        profiles: Mapping[str, Profile],
        read: Callable[[str], Mapping[str, Json]],
        nominated: Mapping[str, PodInfo],
    ) -> None:
        self.snapshot, self.profiles, self.read, self.nominated = snapshot, profiles, read, nominated

    def _devices(self, pod: PodInfo, plugins: frozenset[str]) -> bool:
        """Whether devices were among what refused the pod."""
        return DEVICES in plugins and (bool(pod.devices) or self.snapshot.delegates(pod.shape))

    def _claiming(self, pod: PodInfo, plugins: frozenset[str]) -> bool:
        return bool(pod.claims and plugins & VOLUMES) or self._devices(pod, plugins)

    def chances(self, pod: PodInfo, plugins: frozenset[str], news: News) -> int:
        """For how many pods like this one, refused by these plugins, the news may make room; ALL when it can't be said."""
        if news.what == "any" or not plugins <= EVERY or not plugins:
            return ALL
        if news.what == "pod":
            return self._pod(pod, plugins, news)
        if news.what == "node":
            return self._node(pod, plugins, news)
        if news.what == "namespace":
            return ALL if AFFINITY in plugins and self._asks_namespaces(pod) else 0
        if news.what == "group":
            return ALL if pod.group and pod.group == news.node else 0
        helps = OBJECTS[news.what]
        return ALL if helps(self, pod, plugins, news.old, news.new) else 0

    # Pods that came, went or changed

    def _pod(self, pod: PodInfo, plugins: frozenset[str], news: News) -> int:
        old, new = news.old, news.new
        if GANG in plugins and pod.group and new is not None and new.group == pod.group:
            return ALL
        if old is not None and new is None and pod.mounts and self._volumes_left(pod, plugins, old):
            return ALL
        if SPREAD in plugins and self._spread_differs(pod, old, new):
            return ALL
        if AFFINITY in plugins and self._affinity_differs(pod, old, new):
            return ALL
        if old is not None and plugins & NODE_LOCAL:
            return self.room(pod, news.node)
        return 0

    def _volumes_left(self, pod: PodInfo, plugins: frozenset[str], gone: PodInfo) -> bool:
        if LIMITS in plugins and gone.claims:
            return True
        shared = gone.namespace == pod.namespace and not set(gone.claims).isdisjoint(pod.claims)
        return RESTRICTIONS in plugins and (shared or clash(pod.disks, gone.disks))

    def _spread_differs(self, pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
        """Whether a constraint counts the pod now as it did not before, or the other way round."""

        def counted(other: PodInfo | None, constraint: Spread) -> bool:
            if other is None or other.terminating or other.namespace != pod.namespace:
                return False
            return label_selector(constraint.selector)(other.labels)

        return any(counted(old, c) != counted(new, c) for c in required_spread(pod))

    def _affinity_differs(self, pod: PodInfo, old: PodInfo | None, new: PodInfo | None) -> bool:
        namespaces = self.snapshot.namespaces

        def match(term: PodTerm, other: PodInfo | None) -> bool:
            return other is not None and term.matches(other.namespace, other.labels, namespaces)

        shape = pod.shape
        if any(match(t, old) != match(t, new) for t in (*shape.affinity, *shape.anti_affinity)):
            return True
        gone = old.shape.anti_affinity if old is not None else ()
        kept = {t.key for t in new.shape.anti_affinity} if new is not None else ()
        return any(t.key not in kept and (match(t, pod) or any(k in t.selector for k in SINGULAR)) for t in gone)

    # Nodes

    def _node(self, pod: PodInfo, plugins: frozenset[str], news: News) -> int:
        profile = self.profiles[pod.scheduler]
        old, new = news.old, news.new
        if new is None:
            return ALL if plugins & {SPREAD, AFFINITY, RESTRICTIONS} else 0
        facts = Facts.of(new)
        if old is None:
            if plugins & {SPREAD, AFFINITY} and self._topologies(pod, profile, plugins) & facts.labels.keys():
                return ALL
            found = self.room(pod, facts.name)
            return ALL if found and self._claiming(pod, plugins) else found
        before = Facts.of(old)
        keys = {k for k in facts.labels.keys() | before.labels.keys() if facts.labels.get(k) != before.labels.get(k)}
        if keys and self._claiming(pod, plugins):
            return ALL
        if plugins & {SPREAD, AFFINITY} and keys & self._topologies(pod, profile, plugins):
            return ALL
        if SPREAD in plugins and facts.taints != before.taints and any(c.honor_taints for c in required_spread(pod)):
            return ALL
        grown = _grown(old, new)
        if grown and self._devices(pod, plugins):
            return ALL
        if not plugins & NODE_LOCAL or not (
            grown & (pod.shape.requests.keys() | {"pods"}) or not admits(before, pod.shape, profile)
        ):
            return 0
        return self.room(pod, facts.name)

    def _topologies(self, pod: PodInfo, profile: Profile, plugins: frozenset[str]) -> set[str]:
        """Labels of nodes that say which pods count together for this one."""
        shape = pod.shape
        found: set[str] = set()
        if SPREAD in plugins:
            spread = required_spread(pod)
            found |= {k for c in spread for k in (c.topology, *c.all_keys)}
            if any(c.honor_affinity for c in spread):
                found |= label_keys(shape, profile)
        if AFFINITY in plugins:
            found |= {t.topology for t in (*shape.affinity, *shape.anti_affinity)}
            found |= {c.term.topology for c in self.snapshot.anti_terms.counts.values()}
        return found

    def room(self, pod: PodInfo, name: str) -> int:
        """How many pods like this one a node has room for, if all that may be evicted for them were gone."""
        snapshot, profile = self.snapshot, self.profiles[pod.scheduler]
        row = snapshot.row_of.get(name)
        if row is None:
            return 0
        facts = Facts(
            name,
            snapshot.node_labels[row],
            snapshot.taints_on(row),
            bool(snapshot.unschedulable[row]),
        )
        if not admits(facts, pod.shape, profile):
            return 0
        gone = self._yielding(pod, row)
        room = ALL
        if "NodePorts" not in profile.without and pod.shape.ports:
            room = 1
        if "NodeResourcesFit" in profile.without:
            return room
        room = min(room, int(snapshot.allocatable[PODS, row] - snapshot.used[PODS, row]) + len(gone))
        for resource, amount in pod.shape.requests.items():
            if amount <= 0 or not profile.counts_resource(resource):
                continue
            column = snapshot.resources.get(resource)
            if resource in snapshot.backed and (column is None or not snapshot.allocatable[column, row]):
                continue  # devices answer for it
            if column is None:
                return 0
            free = int(snapshot.allocatable[column, row] - snapshot.used[column, row])
            free += sum(p.shape.requests.get(resource, 0) for p in gone)
            room = min(room, free // amount)
        return max(room, 0)

    def _yielding(self, pod: PodInfo, row: int) -> list[PodInfo]:
        """Pods on a node that do not stand in the way: those it may evict, and less important ones that room is kept for."""
        if not self.snapshot.has_below(pod.priority):
            return []
        below = (p for p in self.snapshot.on_row[row].values() if p.priority < pod.priority)
        return [p for p in below if not pod.never_preempts or p.uid in self.nominated]

    # Objects

    def _asks_namespaces(self, pod: PodInfo) -> bool:
        own = (*pod.shape.affinity, *pod.shape.anti_affinity)
        return any(t.namespace_selector for t in own) or any(
            c.term.namespace_selector for c in self.snapshot.anti_terms.counts.values()
        )

    def _claim(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        meta = (new or old or {})["metadata"]
        own = meta["namespace"] == pod.namespace and meta["name"] in pod.claims
        return own and bool(plugins & VOLUMES)

    def _volume(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        if new is None or not plugins & VOLUMES:
            return False
        holder = new["spec"].get("claimRef") or {}
        return not holder or (holder.get("namespace") == pod.namespace and holder.get("name") in pod.claims)

    def _class(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        if new is None or not plugins & VOLUMES:
            return False
        claims = [self.read("persistentvolumeclaims").get(f"{pod.namespace}/{name}") for name in pod.claims]
        return any(c is None or c["spec"].get("storageClassName") == new["metadata"]["name"] for c in claims)

    def _attaching(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        return bool(pod.claims and plugins & {LIMITS, BINDING})

    def _capacity(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        return bool(pod.claims) and BINDING in plugins

    def _device_claim(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        if not self._devices(pod, plugins):
            return False
        meta = (new or old or {})["metadata"]
        if meta["namespace"] == pod.namespace and meta["name"] in pod.devices:
            return True
        if new is None and SPECIAL_CLAIM in (meta.get("annotations") or {}):
            return True  # left by an earlier attempt for extended resources; the pod may start anew
        return _allocated(old) and (not _allocated(new) or _allocation(old) != _allocation(new))

    def _device(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        return self._devices(pod, plugins)

    def _device_class(self, pod: PodInfo, plugins: frozenset[str], old: Json | None, new: Json | None) -> bool:
        extended = any("/" in name for name in pod.shape.requests)  # a class may come to stand for it
        return self._devices(pod, plugins) or (extended and "NodeResourcesFit" in plugins)


Rule = Callable[[Hints, PodInfo, frozenset[str], Json | None, Json | None], bool]
OBJECTS: Mapping[str, Rule] = {
    "persistentvolumeclaims": Hints._claim,
    "persistentvolumes": Hints._volume,
    "storageclasses": Hints._class,
    "csinodes": Hints._attaching,
    "csidrivers": Hints._capacity,
    "csistoragecapacities": Hints._capacity,
    "resourceclaims": Hints._device_claim,
    "resourceslices": Hints._device,
    "deviceclasses": Hints._device_class,
    "devicetaintrules": Hints._device,
}


def _allocation(claim: Json | None) -> Json:
    return ((claim or {}).get("status") or {}).get("allocation") or {}


def _allocated(claim: Json | None) -> bool:
    return bool(_allocation(claim))


def _grown(old: Json, new: Json) -> set[str]:
    """Resources of which a node has another amount than before."""
    before, now = ((n.get("status") or {}).get("allocatable") or {} for n in (old, new))
    return {name for name in now if now[name] != before.get(name)}
