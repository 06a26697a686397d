"""Keeping N pods of one template: what ReplicaSet and ReplicationController share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import orjson

from portside.api.selector import LabelSelector
from portside.api.status import ApiError
from portside.base.clock import rfc3339
from portside.client.cache import View, controller_of, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.claim import candidates, claim, selector_of
from portside.controllers.plan import (
    NOTHING,
    Draft,
    Emit,
    Failure,
    Plan,
    Step,
    Thinking,
    at_once,
    create,
    delete,
    update_status,
)
from portside.controllers.pods import (
    LABELS,
    OWNERS,
    PHASE,
    PODS,
    READY,
    TERMINATING,
    available_in,
    condition,
    first_to_go,
    from_template,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    owner_reference,
)

MANY = 2000  # pods that are looked at without others getting a turn
BURST = 500  # pods one plan may create or delete (upstream's burstReplicas)
GATHER_PER_POD = 0.0005  # seconds: a plan looks at every pod, and must not do so for each one's news
GATHER_MOST = 0.5
COUNTED = (OWNERS, LABELS, PHASE, READY, TERMINATING)  # what a plan reads of pods that are not to be deleted


@dataclass(frozen=True, slots=True)
class Flavour:
    """How the two kinds differ. ``plain_selector``: the selector is a map of labels."""

    resource: Resource
    api_version: str
    kind: str
    plain_selector: bool

    def selector(self, obj: Json) -> LabelSelector:
        raw = obj["spec"].get("selector") or {}
        return selector_of({"matchLabels": raw} if self.plain_selector else raw)


class Counts(NamedTuple):
    """Pods of an owner: those that count, of these with all labels of the template, ready and available; and those on their
    way out."""

    active: int
    labelled: int
    ready: int
    available: int
    leaving: int


def gather(resource: Resource) -> Callable[[View, str], float]:
    """How long the news of pods is gathered into one plan: the longer, the more pods a plan looks at."""

    def seconds(view: View, key: str) -> float:
        owner = view.key(resource, key)
        wanted = int(owner["spec"].get("replicas", 1)) if owner else 0
        held = int((owner.get("status") or {}).get("replicas", 0)) if owner else 0
        return min(max(wanted, held) * GATHER_PER_POD, GATHER_MOST)

    return seconds


def plan_replicas(flavour: Flavour, view: View, key: str, now: float) -> Plan | Thinking:
    """One reconciliation: adopt and release, create or delete, then the status. Of many pods that have to be looked at one by
    one, some at a time."""
    owner = view.get(flavour.resource, *split_key(key))
    if owner is None:
        return NOTHING
    wanted = int(owner["spec"].get("replicas", 1))
    counts = _counted(flavour, view, owner)
    if counts is not None and counts.active <= wanted:
        return _plan_counted(flavour, owner, counts, wanted, now)
    near = candidates(view, PODS, owner)
    thinking = _think(flavour, view, owner, near, wanted, now)
    return thinking if len(near) > MANY else at_once(thinking)


def _think(flavour: Flavour, view: View, owner: Json, near: list[Json], wanted: int, now: float) -> Thinking:
    draft = Draft()
    found = [p for p in near if is_active(p)]
    leaving = _leaving(flavour, owner, near)
    yield
    reference = owner_reference(owner, flavour.api_version, flavour.kind)
    pods, ops = claim(owner, reference, flavour.selector(owner), PODS, found)
    draft.add(*ops)
    difference = wanted - len(pods)
    if not is_terminating(owner):
        if difference > 0:
            draft.add(*_creates(flavour, owner, min(difference, BURST)))
        elif difference < 0:
            yield
            doomed = yield from _doomed(view, flavour, owner, pods, min(-difference, BURST), now)
            draft.add(*doomed)
    if wait := _min_ready(owner):
        waits = [w for w in (available_in(p, wait, now) for p in pods) if w]
        if waits:
            draft.look_again(min(waits) + 0.01)

    def then(failures: list[Failure]) -> Sequence[Step]:
        return _status(flavour, owner, _looked_at(owner, pods, leaving, now), difference, failures, now)

    return draft.plan(then)


def _plan_counted(flavour: Flavour, owner: Json, counts: Counts, wanted: int, now: float) -> Plan:
    """The same where no pod is adopted, released or deleted: how many there are is enough."""
    draft, difference = Draft(), wanted - counts.active
    if difference > 0 and not is_terminating(owner):
        draft.add(*_creates(flavour, owner, min(difference, BURST)))

    def then(failures: list[Failure]) -> Sequence[Step]:
        return _status(flavour, owner, counts, difference, failures, now)

    return draft.plan(then)


def _counted(flavour: Flavour, view: View, owner: Json) -> Counts | None:
    """The owner's pods by their number; None where pods have to be looked at one by one."""
    if _min_ready(owner):
        return None
    meta, selector, template = owner["metadata"], flavour.selector(owner), _template_labels(owner)
    active = ready = labelled = leaving = 0
    for pod, number in view.counted(PODS, meta["uid"]).items():
        labels = _labels(pod.labels)
        if pod.finished:
            continue
        if not selector.matches(labels):
            if pod.terminating:
                continue
            return None
        if pod.terminating:
            leaving += number
            continue
        active += number
        ready += number if pod.ready else 0
        labelled += number if template.items() <= labels.items() else 0
    if not is_terminating(owner) and not selector.everything:
        for pod in view.counted(PODS, f"-/{meta.get('namespace', '')}"):
            if not pod.finished and not pod.terminating and selector.matches(_labels(pod.labels)):
                return None
    return Counts(active, labelled, ready, ready, leaving)


@lru_cache(maxsize=8192)
def _labels(text: bytes) -> Json:
    found: Json = orjson.loads(text)
    return found


def _template_labels(owner: Json) -> Json:
    return ((owner["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}


def _looked_at(owner: Json, pods: list[Json], leaving: int, now: float) -> Counts:
    labels, wait = _template_labels(owner), _min_ready(owner)
    ready = [p for p in pods if is_ready(p)]
    labelled = sum(1 for p in pods if labels.items() <= (p["metadata"].get("labels") or {}).items())
    available = sum(1 for p in ready if available_in(p, wait, now) == 0) if wait else len(ready)
    return Counts(len(pods), labelled, len(ready), available, leaving)


def _min_ready(owner: Json) -> int:
    return int(owner["spec"].get("minReadySeconds") or 0)


def _creates(flavour: Flavour, owner: Json, count: int) -> list[Step]:
    pod = from_template(owner, owner["spec"]["template"], flavour.api_version, flavour.kind)

    def ok(answer: Json) -> list[Emit]:
        return [Emit(owner, "Normal", "SuccessfulCreate", f"Created pod: {answer['metadata']['name']}")]

    def failed(error: ApiError) -> list[Emit]:
        return [Emit(owner, "Warning", "FailedCreate", f"Error creating: {error.message}")]

    return [create(PODS, pod, ok=ok, failed=failed) for _ in range(count)]


def _doomed(
    view: View, flavour: Flavour, owner: Json, pods: list[Json], count: int, now: float
) -> Generator[None, None, list[Step]]:
    order = pods
    if count < len(pods):
        order = yield from first_to_go(pods, _related(view, flavour, owner, pods), now, count)
    return [pod_deletion(owner, pod) for pod in order[:count]]


def pod_deletion(owner: Json, pod: Json) -> Step:
    """Deletes a pod and says so in the owner's events."""
    name = pod["metadata"]["name"]

    def ok(answer: Json) -> list[Emit]:
        return [Emit(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {name}")]

    def failed(error: ApiError) -> list[Emit]:
        return [Emit(owner, "Warning", "FailedDelete", f"Error deleting: {error.message}")]

    return delete(PODS, pod, ok=ok, failed=failed)


def _related(view: View, flavour: Flavour, owner: Json, pods: list[Json]) -> list[Json]:
    """Pods of every set with the same owner: they count when nodes are compared by crowding."""
    ref = controller_of(owner)
    if ref is None:
        return pods
    related: list[Json] = []
    for sibling in view.by(flavour.resource, "controller", ref["uid"]):
        related += view.by(PODS, "controller", sibling["metadata"]["uid"])
    return related


def _leaving(flavour: Flavour, owner: Json, near: list[Json]) -> int:
    """How many of its pods are on their way out."""
    uid, selector = owner["metadata"]["uid"], flavour.selector(owner)
    return sum(
        1
        for p in near
        if is_terminating(p)
        and not is_finished(p)
        and (controller_of(p) or {}).get("uid") == uid
        and selector.matches_object(p)
    )


def _status(
    flavour: Flavour,
    owner: Json,
    counts: Counts,
    difference: int,
    failures: list[Failure],
    now: float,
) -> list[Step]:
    told = {
        "fullyLabeledReplicas": counts.labelled,
        "readyReplicas": counts.ready,
        "availableReplicas": counts.available,
    }
    old = owner.get("status") or {}
    status: Json = {"replicas": counts.active, **{k: v for k, v in told.items() if v}}
    if not flavour.plain_selector:
        status["terminatingReplicas"] = counts.leaving
    generation = owner["metadata"].get("generation")
    if generation:
        status["observedGeneration"] = generation
    conditions = [c for c in old.get("conditions") or () if c.get("type") != "ReplicaFailure"]
    held = condition(owner, "ReplicaFailure")
    real = [f for f in failures if f.op.resource == PODS and f.op.verb in ("create", "delete")]
    if real and difference:
        if held is None:
            held = {
                "type": "ReplicaFailure",
                "status": "True",
                "lastTransitionTime": rfc3339(now),
                "reason": "FailedCreate" if difference > 0 else "FailedDelete",
                "message": real[0].error.message,
            }
        conditions.append(held)
    elif held is not None and failures:
        conditions.append(held)
    if conditions:
        status["conditions"] = conditions
    return [] if status == old else [update_status(flavour.resource, owner, status)]
