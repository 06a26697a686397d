"""The DaemonSet controller: one pod on every node that its selector and the taints allow; rolling updates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from portside.api.status import ApiError
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.backoff import Backoff
from portside.controllers.claim import candidates, claim, matching_owners, selector_of
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, update_status
from portside.controllers.pods import (
    LABELS,
    PODS,
    available_in,
    created,
    from_template,
    is_finished,
    is_ready,
    is_terminating,
    owner_reference,
    phase,
)
from portside.controllers.replicas import pod_deletion
from portside.controllers.revisions import HASH, REVISIONS, History, history, surplus
from portside.controllers.rollout import scaled
from portside.controllers.taints import NOT_READY, TAINTS, UNREACHABLE, fits_affinity, taints_of, untolerated

DAEMONSETS: Resource = ("apps", "v1", "daemonsets")
NODES: Resource = ("", "v1", "nodes")
GENERATION = "deprecated.daemonset.template.generation"
GENERATION_LABEL = "pod-template-generation"
BURST = 250  # pods one plan creates or deletes (upstream's BurstReplicas)
FIRST_DELAY, LAST_DELAY = 1.0, 900.0  # seconds between replacements of failed pods on one node, doubling
TOLERATED: tuple[tuple[str, str], ...] = (
    (NOT_READY, "NoExecute"),
    (UNREACHABLE, "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)


def tolerations(spec: Json) -> list[Json]:
    """The template's tolerations and those every daemon gets."""
    found = list(spec.get("tolerations") or ())
    wanted = list(TOLERATED)
    if spec.get("hostNetwork"):
        wanted.append(("node.kubernetes.io/network-unavailable", "NoSchedule"))
    for key, effect in wanted:
        made = {"key": key, "operator": "Exists", "effect": effect}
        if made not in found:
            found.append(made)
    return found


def placement(daemonset: Json, node: Json) -> tuple[bool, bool]:
    """(a pod should run there, a running one may stay)."""
    spec = daemonset["spec"]["template"].get("spec") or {}
    if spec.get("nodeName") and spec["nodeName"] != node["metadata"]["name"]:
        return False, False
    if not fits_affinity(spec, node):
        return False, False
    allowed = tolerations(spec)
    if untolerated(taints_of(node, "NoExecute"), allowed) is not None:
        return False, False
    return untolerated(taints_of(node, "NoSchedule"), allowed) is None, True


def node_of(pod: Json) -> str:
    """Where the pod runs, or is meant to run: the affinity says so until it is bound."""
    spec = pod.get("spec") or {}
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    for term in (required or {}).get("nodeSelectorTerms") or ():
        for match in term.get("matchFields") or ():
            if match.get("key") == "metadata.name" and match.get("values"):
                return str(match["values"][0])
    return ""


def _pod(daemonset: Json, node: str, code: str) -> Json:
    pod = from_template(daemonset, daemonset["spec"]["template"], "apps/v1", "DaemonSet")
    spec = dict(pod["spec"])
    spec["tolerations"] = tolerations(spec)
    affinity = dict(spec.get("affinity") or {})
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    node_affinity = dict(affinity.get("nodeAffinity") or {})
    node_affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    spec["affinity"] = {**affinity, "nodeAffinity": node_affinity}
    labels = {**(pod["metadata"].get("labels") or {}), HASH: code}
    generation = (daemonset["metadata"].get("annotations") or {}).get(GENERATION)
    if generation:
        labels[GENERATION_LABEL] = generation
    pod["metadata"]["labels"] = labels
    pod["spec"] = spec
    return pod


class Work:
    """One reconciliation of one DaemonSet."""

    def __init__(self, view: View, daemonset: Json, now: float, failures: Backoff) -> None:
        self.view, self.set, self.now, self.failures = view, daemonset, now, failures
        self.draft = Draft()
        reference = owner_reference(daemonset, "apps/v1", "DaemonSet")
        selector = selector_of(daemonset["spec"].get("selector"))
        self.pods, ops = claim(daemonset, reference, selector, PODS, candidates(view, PODS, daemonset))
        self.draft.add(*ops)
        collisions = int((daemonset.get("status") or {}).get("collisionCount") or 0)
        self.past: History = history(view, daemonset, "DaemonSet", collisions=collisions)
        self.draft.add(*self.past.ops)
        self.by_node: dict[str, list[Json]] = {}
        for pod in sorted(self.pods, key=_age):
            if is_terminating(pod) and is_finished(pod):
                continue  # held by a finalizer only: nothing is left to do with it
            self.by_node.setdefault(node_of(pod), []).append(pod)
        self.nodes = view.all(NODES)
        self.places = {n["metadata"]["name"]: placement(daemonset, n) for n in self.nodes}
        self.doomed: dict[str, Json] = {}
        self.wanted: list[str] = []
        self.min_ready = int(daemonset["spec"].get("minReadySeconds") or 0)
        strategy = daemonset["spec"].get("updateStrategy") or {}
        self.rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        self.parameters = strategy.get("rollingUpdate") or {}
        self.desired = sum(1 for should, _ in self.places.values() if should)
        self.surge = scaled(self.parameters.get("maxSurge", 0), self.desired, up=True) if self.rolling else 0

    def updated(self, pod: Json) -> bool:
        labels = pod["metadata"].get("labels") or {}
        generation = (self.set["metadata"].get("annotations") or {}).get(GENERATION)
        by_generation = generation is not None and labels.get(GENERATION_LABEL) == generation
        return labels.get(HASH) == self.past.current_hash or by_generation

    def available(self, pod: Json) -> bool:
        return self._for_long(pod) and not is_terminating(pod)

    def _for_long(self, pod: Json) -> bool:
        wait = available_in(pod, self.min_ready, self.now)
        if wait:
            self.draft.look_again(wait + 0.01)
        return wait == 0

    def place(self) -> None:
        """Missing pods, pods in the wrong place, finished and surplus ones."""
        for name, (should, may_stay) in self.places.items():
            pods = self.by_node.get(name, [])
            if should and not pods:
                self.wanted.append(name)
            elif not may_stay:
                self._doom(*pods)
            elif pods:
                self._node(name, pods, should=should)
        for name, pods in self.by_node.items():
            if name and name not in self.places:  # those that are bound go with the other pods of a node that is gone
                self._doom(*(p for p in pods if not (p.get("spec") or {}).get("nodeName")))

    def _node(self, name: str, pods: list[Json], *, should: bool) -> None:
        running: list[Json] = []
        for pod in pods:
            if is_terminating(pod):
                continue
            if is_finished(pod):
                self._finished(name, pod)
            else:
                running.append(pod)
        if self.surge == 0:
            self._doom(*running[1:])
            return
        if should and not running:
            self.wanted.append(name)  # beside a pod that is on its way out
        newest = [p for p in running if self.updated(p)]
        older = [p for p in running if not self.updated(p)]
        self._doom(*newest[1:], *older[1:])
        if newest and older and (not is_ready(older[0]) or self.available(newest[0])):
            self._doom(older[0])

    def _finished(self, name: str, pod: Json) -> None:
        meta = pod["metadata"]
        place = f"{meta['namespace']}/{meta['name']} on node {name}"
        if phase(pod) == "Failed":
            seen = (self.set.get("status") or {}).get("observedGeneration", 0)
            key = f"{self.set['metadata']['uid']}/{seen}/{name}"
            if left := self.failures.left(key, self.now):
                self.draft.look_again(left + 0.01)
                return
            self.failures.turn(key, self.now)
            text = f"Found failed daemon pod {place}, will try to kill it"
            self.draft.add(Emit(self.set, "Warning", "FailedDaemonPod", text))
        else:
            text = f"Found succeeded daemon pod {place}, will try to delete it"
            self.draft.add(Emit(self.set, "Normal", "SucceededDaemonPod", text))
        self._doom(pod)

    def _doom(self, *pods: Json) -> None:
        for pod in pods:
            if not is_terminating(pod):
                self.doomed[pod["metadata"]["uid"]] = pod

    def roll(self) -> None:
        """Replaces old pods, as many at a time as may be unavailable; or adds new ones beside them (surge)."""
        if self.rolling and self.surge:
            self._surge()
        elif self.rolling:
            self._replace()

    def _pair(self, name: str) -> tuple[Json | None, Json | None]:
        """(the node's old pod, its new one) of those that stay."""
        pods = [p for p in self.by_node.get(name, ()) if not is_terminating(p)]
        pods = [p for p in pods if p["metadata"]["uid"] not in self.doomed]
        old = next((p for p in pods if not self.updated(p)), None)
        return old, next((p for p in pods if self.updated(p)), None)

    def _where(self) -> Iterable[tuple[str, bool]]:
        """(node, whether a pod should run there): the nodes that want one, and those that have one none the less."""
        for name, (should, _) in self.places.items():
            if should or name in self.by_node:
                yield name, should

    def _replace(self) -> None:
        limit = scaled(self.parameters.get("maxUnavailable", 1), self.desired, up=True) or 1
        unavailable = 0
        broken: list[Json] = []
        ripe: list[Json] = []
        for name, _ in self._where():
            old, new = self._pair(name)
            if new is not None:
                unavailable += 0 if self.available(new) else 1
            elif old is None:
                unavailable += 1
            elif self.available(old):
                ripe.append(old)
            else:
                broken.append(old)
                unavailable += 1
        self._doom(*broken, *ripe[: max(limit - unavailable, 0)])

    def _surge(self) -> None:
        """A pod where none should run any more goes only when as many as wanted are available elsewhere."""
        extra = available = 0
        surging: list[str] = []
        misplaced: list[Json] = []
        for name, should in self._where():
            old, new = self._pair(name)
            speaks = old or new
            available += 1 if speaks is not None and self.available(speaks) else 0
            if old is None:
                continue
            if new is not None:
                extra += 0 if self.available(new) else 1
            elif not should and self.available(old):
                misplaced.append(old)
            elif not should:
                self._doom(old)
            elif self.available(old):
                surging.append(name)
            else:
                self.wanted.append(name)  # nothing is lost by a successor, so it takes no surge
        self.wanted += surging[: max(self.surge - extra, 0)]
        self._doom(*misplaced[: max(available - self.desired, 0)])

    def writes(self) -> None:
        def failed(error: ApiError) -> list[Emit]:
            return [Emit(self.set, "Warning", "FailedCreate", f"Error creating: {error.message}")]

        def made(answer: Json) -> list[Emit]:
            return [Emit(self.set, "Normal", "SuccessfulCreate", f"Created pod: {answer['metadata']['name']}")]

        for name in self.wanted[:BURST]:
            self.draft.add(create(PODS, _pod(self.set, name, self.past.current_hash), ok=made, failed=failed))
        self.draft.add(*(pod_deletion(self.set, pod) for pod in list(self.doomed.values())[:BURST]))

    def clean_up(self) -> None:
        used = {str((p["metadata"].get("labels") or {}).get(HASH, "")) for p in self.pods}
        limit = int(self.set["spec"].get("revisionHistoryLimit", 10))
        self.draft.add(*surplus(self.past, used, limit, lambda r: str((r["metadata"].get("labels") or {}).get(HASH))))

    def status(self, failures: list[Failure]) -> Sequence[Step]:
        current = ready = available = misplaced = updated = 0
        for name, (should, _) in self.places.items():
            pods = self.by_node.get(name, [])
            if not should:
                misplaced += 1 if pods else 0
                continue
            if not pods:
                continue
            oldest = pods[0]  # one pod speaks for its node
            current += 1
            ready += 1 if is_ready(oldest) else 0
            available += 1 if is_ready(oldest) and self._for_long(oldest) else 0
            updated += 1 if self.updated(oldest) else 0
        old = self.set.get("status") or {}
        status: Json = {
            "currentNumberScheduled": current,
            "numberMisscheduled": misplaced,
            "desiredNumberScheduled": self.desired,
            "numberReady": ready,
            "observedGeneration": self.set["metadata"].get("generation", 0),
        }
        optional = {
            "updatedNumberScheduled": updated,
            "numberAvailable": available,
            "numberUnavailable": self.desired - available,
            "collisionCount": self.past.collisions,
        }
        status |= {k: v for k, v in optional.items() if v}
        if old.get("conditions"):
            status["conditions"] = old["conditions"]
        return [] if status == old else [update_status(DAEMONSETS, self.set, status)]


def _age(pod: Json) -> tuple[bool, float, str]:
    """Those on their node first, then the oldest."""
    return not (pod.get("spec") or {}).get("nodeName"), created(pod), pod["metadata"]["name"]


def plan(view: View, key: str, now: float, failures: Backoff) -> Plan:
    """One step of a DaemonSet towards one pod per node; ``failures``: the delays of its nodes."""
    daemonset = view.get(DAEMONSETS, *split_key(key))
    if daemonset is None or is_terminating(daemonset):
        return NOTHING
    if selector_of(daemonset["spec"].get("selector")).everything:
        text = "This daemon set is selecting all pods. A non-empty selector is required."
        return Plan([Emit(daemonset, "Warning", "SelectingAll", text)])
    work = Work(view, daemonset, now, failures)
    work.place()
    work.roll()
    work.writes()
    work.clean_up()
    return work.draft.plan(work.status)


def _every(view: View, node: Json) -> Iterable[str]:
    return [f"{d['metadata']['namespace']}/{d['metadata']['name']}" for d in view.all(DAEMONSETS)]


def controller() -> Controller:
    """A controller with a memory of its own: where pods have failed lately."""
    failures = Backoff(FIRST_DELAY, LAST_DELAY)
    return Controller(
        "daemonset-controller",
        DAEMONSETS,
        lambda view, key, now: plan(view, key, now, failures),
        watches={
            PODS: matching_owners(DAEMONSETS, "DaemonSet", "apps"),
            REVISIONS: matching_owners(DAEMONSETS, "DaemonSet", "apps"),
            NODES: _every,
        },
        relevant={NODES: (LABELS, TAINTS)},
    )
