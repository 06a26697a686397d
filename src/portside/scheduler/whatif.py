"""What would happen: the real decisions on a copy of a cluster's state. Nothing is written anywhere.

A ``World`` is made from lists of objects; each question changes its copy and places the pods that lost or seek a node,
the more important first.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from portside.scheduler import preemption
from portside.scheduler.cycle import Cycle, Placed
from portside.scheduler.devices import Devices
from portside.scheduler.extended_devices import classes_of
from portside.scheduler.owners import Owners
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.snapshot import CPU, MEMORY, Snapshot
from portside.scheduler.volumes import Volumes
from portside.scheduler.whatif_devices import ClaimsCopy

Json = dict[str, Any]
ENDED = ("Succeeded", "Failed")
KINDS = (
    "nodes",
    "pods",
    "namespaces",
    "persistentvolumeclaims",
    "persistentvolumes",
    "storageclasses",
    "csinodes",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourceslices",
    "deviceclasses",
    "devicetaintrules",
    "services",
    "replicasets",
    "replicationcontrollers",
    "statefulsets",
    "poddisruptionbudgets",
)
WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController", "Job")


@dataclass(slots=True)
class Answer:
    """``placed``: pod, from ("" for new ones), to. ``unplaced``: pod, from, why. ``evicted``: pod, from, for whom.
    ``use``: share of allocatable cpu and memory that is asked for, before and after."""

    question: str
    placed: list[tuple[str, str, str]] = field(default_factory=list)
    unplaced: list[tuple[str, str, str]] = field(default_factory=list)
    evicted: list[tuple[str, str, str]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    use: dict[str, tuple[float, float]] = field(default_factory=dict)

    def as_json(self) -> Json:
        return {
            "question": self.question,
            "placed": [{"pod": p, "from": f, "to": t} for p, f, t in self.placed],
            "unplaced": [{"pod": p, "from": f, "reason": r} for p, f, r in self.unplaced],
            "evicted": [{"pod": p, "from": f, "for": w} for p, f, w in self.evicted],
            "ended": self.lost,
            "use": {k: {"before": b, "after": a} for k, (b, a) in self.use.items()},
        }


class World:
    """A copy of the cluster. ``objects``: lists by plural (see KINDS); missing ones count as empty."""

    def __init__(self, objects: Mapping[str, Iterable[Json]], rng: Random | None = None) -> None:
        self.held = {k: {_key(o): o for o in objects.get(k, ())} for k in KINDS}
        self.snapshot = Snapshot()
        for namespace in self.held["namespaces"].values():
            meta = namespace["metadata"]
            self.snapshot.set_namespace(meta["name"], meta.get("labels") or {})
        for node in self.held["nodes"].values():
            self.snapshot.set_node(node)
        self.volumes, self.devices = Volumes(self._read), Devices(self._read, rng or Random(0))
        extra = (
            ("VolumeRestrictions", self.volumes.restrictions),
            ("NodeVolumeLimits", self.volumes.limits),
            ("VolumeBinding", self.volumes.binding),
            ("VolumeZone", self.volumes.zones),
        )
        self.cycle = Cycle(self.snapshot, rng or Random(0), extra=extra, devices=self.devices)
        self.snapshot.set_backed(classes_of(self.held["deviceclasses"].values()))
        self.claims = ClaimsCopy(self.held, self.devices)
        self.owners = Owners(self._read, self._services)
        self.waiting: list[PodInfo] = []
        for pod in self.held["pods"].values():
            if (pod.get("status") or {}).get("phase") in ENDED:
                continue
            info = read_pod(pod)
            if info.node_name:
                self.snapshot.set_pod(info)
            elif not pod["spec"].get("schedulingGates"):
                self.waiting.append(info)

    def _read(self, plural: str) -> Mapping[str, Json]:
        return self.held[plural]

    def _services(self, namespace: str) -> list[Json]:
        return [s for s in self.held["services"].values() if s["metadata"]["namespace"] == namespace]

    # Questions

    def drain(self, name: str) -> Answer:
        """A node is cordoned and its pods move. Raises KeyError for an unknown node."""
        return self._without([name], f"drain {name}", keep=True)

    def fail(self, key: str, wanted: str) -> Answer:
        """All nodes with a label are gone. Raises KeyError when there are none."""
        names = [self.snapshot.names[r] for r in self.snapshot.row_of.values() if _has(self.snapshot, r, key, wanted)]
        if not names:
            raise KeyError(f"no node has the label {key}={wanted}")
        return self._without(sorted(names), f"fail {key}={wanted}", keep=False)

    def add(self, count: int, like: str) -> Answer:
        """More nodes of a kind: which waiting pods get a place. Raises KeyError for an unknown node."""
        model = self.held["nodes"][like]
        answer = self._answer(f"add {count} like {like}")
        for i in range(1, count + 1):
            node = copy.deepcopy(model)
            name = f"{like}-like-{i}"
            node["metadata"] |= {"name": name}
            node["metadata"].setdefault("labels", {})["kubernetes.io/hostname"] = name
            node["spec"] = {k: v for k, v in (node.get("spec") or {}).items() if k not in ("unschedulable", "taints")}
            self.snapshot.set_node(node)
        self._settle(answer, self.waiting)
        return self._finish(answer)

    def apply(self, manifests: Iterable[Json], question: str) -> Answer:
        """Workloads of a file: where their pods would go, and whom they would push out."""
        answer = self._answer(question)
        manifests = list(manifests)
        self.claims.add(manifests)
        self.snapshot.set_backed(classes_of(self.held["deviceclasses"].values()))
        new = [read_pod(p) for m in manifests for p in pods_of(m, self._priorities())]
        self._settle(answer, new)
        return self._finish(answer)

    def _priorities(self) -> Mapping[str, int]:
        known = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
        for pod in self.held["pods"].values():
            if name := pod["spec"].get("priorityClassName"):
                known[name] = int(pod["spec"].get("priority") or 0)
        return known

    # How an answer comes about

    def _answer(self, question: str) -> Answer:
        return Answer(question, use={n: (s, s) for n, s in self._use().items()})

    def _use(self) -> dict[str, float]:
        live = self.snapshot.live
        found = {}
        for name, column in (("cpu", CPU), ("memory", MEMORY)):
            room = int(self.snapshot.allocatable[column][live].sum())
            found[name] = round(int(self.snapshot.used[column][live].sum()) / room, 4) if room else 0.0
        return found

    def _without(self, names: list[str], question: str, *, keep: bool) -> Answer:
        answer = self._answer(question)
        moving: list[PodInfo] = []
        for name in names:
            row = self.snapshot.row_of[name]
            for info in list(self.snapshot.on_row[row].values()):
                owner = _controller(info.object)
                self._leave(info)
                if owner in ("DaemonSet", "Node"):
                    answer.lost += [] if keep else [info.key]
                elif owner:
                    moving.append(info)
                else:
                    answer.lost.append(info.key)
            self.snapshot.remove_node(name)
        self._settle(answer, moving)
        return self._finish(answer)

    def _settle(self, answer: Answer, pods: list[PodInfo]) -> None:
        """Place pods, the more important first; those they push out look for another place in turn."""
        budgets = [preemption.Budget.of(b) for b in self.held["poddisruptionbudgets"].values()]
        queue = sorted(pods, key=lambda p: (-p.priority, p.key))
        while queue:
            old = queue.pop(0)
            before, fresh = old.node_name, read_pod(self.claims.renew(_unplaced(old)))
            if not fresh.shape.spread:
                fresh.default_spread = self.owners.spread(fresh, self.cycle.profile)
            why = self.volumes.problem(fresh) or self.devices.problem(fresh)
            if why:
                answer.unplaced.append((fresh.key, before, why))
                continue
            decision = self.cycle.decide(fresh)
            if isinstance(decision, Placed):
                self._put(answer, fresh, before, decision.node)
                continue
            if not fresh.never_preempts:
                found = preemption.find(self.cycle, fresh, decision, budgets)
                if isinstance(found, preemption.Victims):
                    for victim in found.pods:
                        self._leave(victim)
                        answer.evicted.append((victim.key, found.node, fresh.key))
                        if _controller(victim.object):
                            queue.append(victim)
                    queue.sort(key=lambda p: (-p.priority, p.key))
                    self._put(answer, fresh, before, found.node)
                    continue
            answer.unplaced.append((fresh.key, before, decision.lead))

    def _leave(self, info: PodInfo) -> None:
        self.snapshot.remove_pod(info.uid)
        self.claims.release(info)

    def _put(self, answer: Answer, info: PodInfo, before: str, node: str) -> None:
        info.node_name = node
        if info.claims:
            self.volumes.plan(info, self.snapshot, node)
        if self.devices.asks(info, self.snapshot):
            self.claims.give(info, self.devices.plan(info, self.snapshot, node))
        self.snapshot.set_pod(info)
        answer.placed.append((info.key, before, node))

    def _finish(self, answer: Answer) -> Answer:
        after = self._use()
        answer.use = {n: (b, after[n]) for n, (b, _) in answer.use.items()}
        return answer


def _key(obj: Json) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _has(snapshot: Snapshot, row: int, key: str, wanted: str) -> bool:
    return snapshot.node_labels[row].get(key) == wanted


def _controller(pod: Json) -> str:
    """The kind of the controlling owner; a pod of a node's own files counts as the node's."""
    for owner in pod["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["kind"])
    return ""


def _unplaced(info: PodInfo) -> Json:
    """The pod as its controller would make it again."""
    body = {**info.object, "spec": {k: v for k, v in info.object["spec"].items() if k != "nodeName"}}
    body["status"] = {}
    return body


def pods_of(manifest: Json, priorities: Mapping[str, int]) -> list[Json]:
    """The pods that a manifest would make: its own, or as many as its replicas say. Other kinds make none."""
    kind, meta, spec = manifest.get("kind"), manifest.get("metadata") or {}, manifest.get("spec") or {}
    namespace = meta.get("namespace") or "default"
    if kind == "Pod":
        return [_pod(meta["name"], namespace, meta.get("labels") or {}, spec, "", priorities)]
    if kind not in WORKLOADS:
        return []
    count = spec.get("parallelism", 1) if kind == "Job" else spec.get("replicas", 1)
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        _pod(f"{meta['name']}-{i}", namespace, labels, template.get("spec") or {}, str(kind), priorities)
        for i in range(int(count))
    ]


def _pod(name: str, namespace: str, labels: Json, spec: Json, owner: str, priorities: Mapping[str, int]) -> Json:
    meta: Json = {"name": name, "namespace": namespace, "uid": f"new/{namespace}/{name}", "labels": labels}
    if owner:
        meta["ownerReferences"] = [{"kind": owner, "name": name, "controller": True}]
    made = copy.deepcopy(spec)
    if made.get("priorityClassName") in priorities:
        made["priority"] = priorities[made["priorityClassName"]]
    for container in made.get("containers") or ():  # a limit alone is a request too, as the API defaults it
        resources = container.setdefault("resources", {})
        resources["requests"] = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {"metadata": meta, "spec": made, "status": {}}
