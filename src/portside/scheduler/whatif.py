"""What would happen: the real decisions on a copy of a cluster's state. Nothing is written anywhere.

A ``World`` is made from lists of objects; each question changes its copy and places the pods that lost or seek a node,
the more important first, gangs as a whole. A DaemonSet's pods go where it wants them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

from portside.scheduler import gang, gang_victims, preemption
from portside.scheduler.answer import Answer
from portside.scheduler.cycle import Cycle, Placed, Unplaced
from portside.scheduler.devices import Allocation, Devices
from portside.scheduler.expected import Expected, daemon, expect, is_workload
from portside.scheduler.extended_devices import classes_of
from portside.scheduler.extender_config import Extender
from portside.scheduler.hints import Facts, admits
from portside.scheduler.owners import Owners
from portside.scheduler.pod_info import PodInfo, read_pod
from portside.scheduler.profile import DEFAULT, Profile
from portside.scheduler.snapshot import CPU, MEMORY, Snapshot
from portside.scheduler.volumes import NO_PROVISIONER, Binding, Volumes
from portside.scheduler.whatif_devices import KINDS as DEVICE_KINDS
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
    "csidrivers",
    "csistoragecapacities",
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
    "daemonsets",
    "priorityclasses",
    "podgroups",
)
PLURALS = {  # kinds of a manifest that change what decisions look at
    "Node": "nodes",
    "Namespace": "namespaces",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "PersistentVolume": "persistentvolumes",
    "StorageClass": "storageclasses",
    "Service": "services",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "PriorityClass": "priorityclasses",
    "PodGroup": "podgroups",
}
IN_CLUSTER = ("Node", "Namespace", "PersistentVolume", "StorageClass", "PriorityClass")
IS_DEFAULT = "storageclass.kubernetes.io/is-default-class"
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
ALIKE = ("requests", "node_selector", "node_terms", "affinity", "anti_affinity", "spread", "ports", "images")


class World:
    """A copy of the cluster. ``objects``: lists by plural (see KINDS); missing ones count as empty. ``profiles``: how the
    cluster's schedulers are configured; pods of other schedulers are judged by the first. ``extenders`` are not asked, as they may
    keep what they are asked; the answer says which would have been."""

    def __init__(
        self,
        objects: Mapping[str, Iterable[Json]],
        rng: Random | None = None,
        profiles: tuple[Profile, ...] = (DEFAULT,),
        extenders: tuple[Extender, ...] = (),
    ) -> None:
        self.extenders = tuple(e for e in extenders if e.decides)
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
        rng = rng or Random(0)
        self.cycles = {p.name: Cycle(self.snapshot, rng, p, extra=extra, devices=self.devices) for p in profiles}
        self.snapshot.set_backed(classes_of(self.held["deviceclasses"].values()))
        self.claims = ClaimsCopy(self.held, self.devices)
        self.first = self.cycles[profiles[0].name]
        self.groups = {g.key: g for g in map(gang.Group.of, self.held["podgroups"].values())}
        self.companions = gang.companions_in(self.snapshot, self.groups)
        self.owners = Owners(self._read, self._services)
        self.waiting: list[PodInfo] = []
        self.classless: set[str] = set()  # claims of new pods that nobody will provide for
        self._plans: dict[str, list[Binding]] = {}
        self._allocations: dict[str, list[Allocation]] = {}
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

    def _cycle(self, pod: PodInfo) -> Cycle:
        return self.cycles.get(pod.scheduler, self.first)

    # Questions

    def drain(self, *names: str) -> Answer:
        """Nodes are cordoned and their pods move. Raises KeyError for an unknown node."""
        return self._without(list(names), f"drain {' '.join(names)}", keep=True)

    def fail(self, key: str, wanted: str) -> Answer:
        """All nodes with a label are gone. Raises KeyError when there are none."""
        names = [self.snapshot.names[r] for r in self.snapshot.row_of.values() if _has(self.snapshot, r, key, wanted)]
        if not names:
            raise KeyError(f"no node has the label {key}={wanted}")
        return self._without(sorted(names), f"fail {key}={wanted}", keep=False)

    def fail_nodes(self, *names: str) -> Answer:
        """These nodes are gone. Raises KeyError for an unknown one."""
        return self._without(list(names), f"fail {' '.join(names)}", keep=False)

    def add(self, count: int, like: str) -> Answer:
        """More nodes of a kind, with the pods of DaemonSets on them: which waiting pods get a place. Raises KeyError for an
        unknown node."""
        model = self.held["nodes"][like]
        answer = self._answer(f"add {count} like {like}")
        made = []
        for i in range(1, count + 1):
            node = copy.deepcopy(model)
            made.append(name := f"{like}-like-{i}")
            node["metadata"] |= {"name": name}
            node["metadata"].setdefault("labels", {})["kubernetes.io/hostname"] = name
            node["spec"] = {k: v for k, v in (node.get("spec") or {}).items() if k != "unschedulable"}
            taints = [t for t in node["spec"].get("taints") or () if not t["key"].startswith("node.kubernetes.io/")]
            node["spec"]["taints"] = taints
            self._set_node(node)
        daemons = [p for d in self.held["daemonsets"].values() for p in self._daemons(d, made)]
        self._settle(answer, [*daemons, *self.waiting])
        return self._finish(answer)

    def apply(self, manifests: Iterable[Json], question: str) -> Answer:
        """The objects of a file: where pods of its workloads would go, whom they would push out, and which pods of earlier
        versions would go. What is of no kind that is known here is said to be ignored."""
        answer = self._answer(question)
        workloads, fresh, manifests = [], [], list(manifests)
        self.claims.add(manifests)
        self.snapshot.set_backed(classes_of(self.held["deviceclasses"].values()))
        for manifest in manifests:
            kind = str(manifest.get("kind"))
            if is_workload(manifest):
                workloads.append(manifest)
            elif kind in PLURALS:
                fresh += self._hold(manifest, kind)
            elif kind not in DEVICE_KINDS:
                answer.ignored[f"{kind} ({manifest.get('apiVersion') or 'v1'})"] += 1
        priorities = self._priorities()
        new = [p for d in self.held["daemonsets"].values() for p in self._daemons(d, fresh)]
        for manifest in workloads:
            made = expect(manifest, priorities)
            for claim in made.claims:
                self._claim(claim)
            if made.kind == "DaemonSet":
                pods = self._daemons(manifest, self.snapshot.row_of)
            else:
                pods = [read_pod(p) for p in made.pods]
            new += self._instead(answer, made, pods)
        self._settle(answer, new)
        return self._finish(answer)

    def _claim(self, claim: Json) -> None:
        """A workload's claim, as the API would make it: of the default class when it names none. A class that provisions at
        once is taken to do so for the node of the pod."""
        key, classes = _key(claim), self.held["storageclasses"]
        if key in self.held["persistentvolumeclaims"]:
            return
        self.held["persistentvolumeclaims"][key] = claim
        spec = claim["spec"]
        if spec.get("storageClassName") is None:
            chosen = [
                n for n, c in classes.items() if (c["metadata"].get("annotations") or {}).get(IS_DEFAULT) == "true"
            ]
            if not chosen:
                self.classless.add(key)
                return
            spec["storageClassName"] = max(chosen)
        found = classes.get(spec["storageClassName"])
        if (
            found
            and found.get("volumeBindingMode") != "WaitForFirstConsumer"
            and found["provisioner"] != NO_PROVISIONER
        ):
            spec["storageClassName"] = name = f"{spec['storageClassName']}, at once"
            classes[name] = {**found, "volumeBindingMode": "WaitForFirstConsumer"}

    def _hold(self, manifest: Json, kind: str) -> list[str]:
        """An object of the file joins the copy. Returns the name of a new node."""
        obj = copy.deepcopy(manifest)
        if kind not in IN_CLUSTER:
            obj["metadata"].setdefault("namespace", "default")
        self.held[PLURALS[kind]][_key(obj)] = obj
        if kind == "Namespace":
            self.snapshot.set_namespace(obj["metadata"]["name"], obj["metadata"].get("labels") or {})
        elif kind == "PodGroup":
            group = gang.Group.of(obj)
            self.groups[group.key] = group
        elif kind == "Node":
            known = obj["metadata"]["name"] in self.snapshot.row_of
            self._set_node(obj)
            return [] if known else [obj["metadata"]["name"]]
        return []

    def _set_node(self, node: Json) -> None:
        self.held["nodes"][node["metadata"]["name"]] = node
        self.snapshot.set_node(node)

    def _daemons(self, manifest: Json, nodes: Iterable[str]) -> list[PodInfo]:
        """A DaemonSet's pods for those of the nodes that it is wanted on."""
        found = []
        for name in list(nodes):
            pod = read_pod(daemon(manifest, name, self._priorities()))
            if admits(Facts.of(self.held["nodes"][name]), pod.shape, self._cycle(pod).profile):
                found.append(pod)
        return found

    def _instead(self, answer: Answer, made: Expected, pods: list[PodInfo]) -> list[PodInfo]:
        """Which pods are new when a workload of this name has some already: pods that ask for the same stay, as many as are
        wanted; the others go, and with another template all do."""
        old = self._pods_of(made)
        if made.kind == "DaemonSet":
            there = {p.node_name: p for p in old}
            wanted = {p.name.removeprefix(f"{made.name}-"): p for p in pods}
            kept = {n for n, p in wanted.items() if n in there and _alike(p, there[n])}
            gone, new = [p for p in old if p.node_name not in kept], [p for n, p in wanted.items() if n not in kept]
        elif old and pods and not _alike(pods[0], old[0]):
            gone, new = old, pods
        else:
            gone, new = old[len(pods) :], pods[len(old) :]
        for pod in gone:
            self._leave(pod)
            answer.removed.append((pod.key, pod.node_name))
        return new

    def _pods_of(self, made: Expected) -> list[PodInfo]:
        """The placed pods of a workload, by name; those that wait are forgotten for those of the file."""
        owners = {(made.kind, made.name)}
        if made.kind == "Deployment":
            for one in self.held["replicasets"].values():
                meta = one["metadata"]
                if meta.get("namespace") == made.namespace and _owner(one) == ("Deployment", made.name):
                    owners.add(("ReplicaSet", meta["name"]))
        found = []
        for pod in (*(p for p, _ in self.snapshot.pods.values()), *self.waiting):
            mine = pod.name == made.name if made.kind == "Pod" else _owner(pod.object) in owners
            if mine and pod.namespace == made.namespace:
                found.append(pod)
        self.waiting = [p for p in self.waiting if p not in found]  # they are among what the file asks for
        found = [p for p in found if p.node_name]
        return sorted(found, key=lambda p: p.key)

    def _priorities(self) -> Mapping[str, int]:
        """Priorities by class; "" is what pods without one get."""
        known = dict(SYSTEM_CLASSES)
        for pod in self.held["pods"].values():
            if name := pod["spec"].get("priorityClassName"):
                known[name] = int(pod["spec"].get("priority") or 0)
        for one in self.held["priorityclasses"].values():
            known[one["metadata"]["name"]] = int(one.get("value") or 0)
            if one.get("globalDefault"):
                known[""] = int(one.get("value") or 0)
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
            if name not in self.snapshot.row_of:
                raise KeyError(name)
        for name in names:
            row = self.snapshot.row_of[name]
            for info in sorted(self.snapshot.on_row[row].values(), key=lambda p: p.key):
                kind = _owner(info.object)[0]
                self._leave(info)
                if kind not in ("", "DaemonSet", "Node"):  # those of DaemonSets come and go with their node
                    moving.append(info)
                elif not kind:
                    answer.lost.append(info.key)
            self.snapshot.remove_node(name)
        if keep:
            self._held_up(answer, moving)
        self._settle(answer, moving)
        return self._finish(answer)

    def _leave(self, pod: PodInfo) -> None:
        self.snapshot.remove_pod(pod.uid)
        self.claims.release(pod)

    def _held_up(self, answer: Answer, moving: Iterable[PodInfo]) -> None:
        """The pods whose eviction a budget would refuse until others are ready elsewhere."""
        budgets = {k: preemption.Budget.of(b) for k, b in self.held["poddisruptionbudgets"].items()}
        left = {k: b.allowed for k, b in budgets.items()}
        for pod in moving:
            mine = [k for k, b in budgets.items() if preemption.covers(b, pod)]
            if refusing := [k for k in mine if left[k] <= 0]:
                answer.held_up.append((pod.key, refusing[0].partition("/")[2]))
            else:
                for key in mine:
                    left[key] -= 1

    def _settle(self, answer: Answer, pods: list[PodInfo]) -> None:
        """Place pods, the more important first; those they push out look for another place in turn. Pods of a gang are
        placed when the first of them has its turn."""
        queue = sorted(pods, key=lambda p: (-p.priority, p.key))
        while queue:
            old = queue.pop(0)
            group = self.groups.get(old.group)
            together = [old]
            if old.group and (group is None or group.least):
                together += [p for p in queue if p.group == old.group]
                queue = [p for p in queue if p.group != old.group]
            before = {p.uid: p.node_name for p in together}
            fresh = [self._fresh(p) for p in together]
            answer.unasked.update(e.url for e in self.extenders for p in fresh if e.interested(p))
            if group is not None and group.least:
                victims = self._gang(answer, group, fresh, before)
            elif old.group and group is None:
                why = gang.ABSENT.format(f'"{old.group.partition("/")[2]}"')
                answer.unplaced += [(p.key, before[p.uid], why) for p in fresh]
                victims = []
            else:
                victims = self._single(answer, fresh[0], before[old.uid])
            again = [v for v in victims if _owner(v.object)[0]]
            if again:
                queue = sorted([*queue, *again], key=lambda p: (-p.priority, p.key))

    def _fresh(self, info: PodInfo) -> PodInfo:
        """The pod as its controller would make it again."""
        body = {**info.object, "spec": {k: v for k, v in info.object["spec"].items() if k != "nodeName"}}
        body["status"] = {}
        found = read_pod(self.claims.renew(body))
        if not found.shape.spread:
            found.default_spread = self.owners.spread(found, self._cycle(found).profile)
        return found

    def _decide(self, pod: PodInfo) -> Placed | Unplaced:
        if unclassed := [n for n in pod.claims if f"{pod.namespace}/{n}" in self.classless]:
            why = f'claim "{unclassed[0]}" names no storage class, and the cluster has no default one'
            return Unplaced(why, {}, 0, lead=why, final=True)
        if why := self.volumes.problem(pod) or self.devices.problem(pod):
            return Unplaced(why, {}, 0, lead=why, final=True)
        return self._cycle(pod).decide(pod)

    def _single(self, answer: Answer, pod: PodInfo, before: str) -> list[PodInfo]:
        """Place one pod. Returns whom it pushes out."""
        decision = self._decide(pod)
        if isinstance(decision, Placed):
            self._put(answer, pod, before, decision.node)
            return []
        if not pod.never_preempts and not decision.final:
            found = preemption.find(self._cycle(pod), pod, decision, self._budgets(), self.companions)
            if isinstance(found, preemption.Victims):
                self._push_out(answer, found.pods, pod)
                self._put(answer, pod, before, found.node)
                return list(found.pods)
        answer.unplaced.append((pod.key, before, decision.lead))
        return []

    def _gang(self, answer: Answer, group: gang.Group, pods: list[PodInfo], before: dict[str, str]) -> list[PodInfo]:
        """Place a gang with all that still wait for it, or nobody of it. Returns whom it pushes out."""
        there = {p.uid for p in pods}
        pods = [*pods, *(self._fresh(p) for p in self.waiting if p.group == group.key and p.uid not in there)]
        scheduled = len(self.snapshot.groups.get(group.key, ()))
        if len(pods) + scheduled < group.least:
            answer.unplaced += [(p.key, before.get(p.uid, ""), gang.FEW) for p in pods]
            return []
        hands = gang.Hands(self._decide, self._lay, self._lift)
        made = gang.attempt(group, pods, scheduled, hands)
        pushed: list[PodInfo] = []
        if made.message and not any(p.never_preempts for p in pods):
            cycle = self._cycle(pods[0])
            wins = gang_victims.preempt(cycle, group, pods, scheduled, self._budgets(), hands, self.companions)
            for pod, victims in wins:
                self._push_out(answer, victims.pods, pod)
                pushed += victims.pods
            if wins:
                made = gang.attempt(group, pods, scheduled, hands)
        placed = {p.uid for p in made.placed}
        answer.placed += [(p.key, before.get(p.uid, ""), p.node_name) for p in made.placed]
        for pod in made.placed:
            self.claims.give(pod, self._allocations.pop(pod.uid, []))
        why = {p.uid: u.lead or u.message for p, u in made.refused}
        left = [p for p in pods if p.uid not in placed]
        answer.unplaced += [(p.key, before.get(p.uid, ""), why.get(p.uid) or made.message) for p in left]
        return pushed

    def _budgets(self) -> list[preemption.Budget]:
        return [preemption.Budget.of(b) for b in self.held["poddisruptionbudgets"].values()]

    def _push_out(self, answer: Answer, victims: Iterable[PodInfo], pod: PodInfo) -> None:
        for victim in victims:
            self._leave(victim)
            answer.evicted.append((victim.key, victim.node_name, pod.key))

    def _lay(self, pod: PodInfo, node: str) -> None:
        pod.node_name = node
        if pod.claims:
            self._plans[pod.uid] = self.volumes.plan(pod, self.snapshot, node)
        if self.devices.asks(pod, self.snapshot):
            self._allocations[pod.uid] = self.devices.plan(pod, self.snapshot, node)
        self.snapshot.set_pod(pod)

    def _lift(self, pod: PodInfo) -> None:
        self.volumes.forget(self._plans.pop(pod.uid, ()))
        self.devices.forget(self._allocations.pop(pod.uid, ()))
        self.snapshot.remove_pod(pod.uid)
        pod.node_name = ""

    def _put(self, answer: Answer, pod: PodInfo, before: str, node: str) -> None:
        self._lay(pod, node)
        self.claims.give(pod, self._allocations.pop(pod.uid, []))
        answer.placed.append((pod.key, before, node))

    def _finish(self, answer: Answer) -> Answer:
        after = self._use()
        answer.use = {n: (b, after[n]) for n, (b, _) in answer.use.items()}
        return answer


def _key(obj: Json) -> str:
    meta = obj["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


def _has(snapshot: Snapshot, row: int, key: str, wanted: str) -> bool:
    return snapshot.node_labels[row].get(key) == wanted


def _owner(obj: Json) -> tuple[str, str]:
    """Kind and name of the controlling owner; a pod of a node's own files counts as the node's."""
    for owner in obj["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["kind"]), str(owner["name"])
    return "", ""


def _alike(new: PodInfo, old: PodInfo) -> bool:
    """Whether a pod of a template is like one that is there; what the API adds to a pod by itself does not count."""
    return all(getattr(new.shape, name) == getattr(old.shape, name) for name in ALIKE)
