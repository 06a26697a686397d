"""The Deployment controller: replica sets per template, rolled over step by step; revisions; progress conditions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import parse_time
from portside.client.cache import View, controller_of, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers import rollout
from portside.controllers.claim import candidates, claim, matching_owners, selector_of
from portside.controllers.harness import Controller, OfOwner
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, delete, update, update_status
from portside.controllers.pods import OWNERS, PHASE, PODS, TERMINATING, is_finished, is_terminating, owner_reference
from portside.controllers.rollout import Sizes, count, replicas
from portside.controllers.template_hash import LABEL, equal, hash_of

DEPLOYMENTS: Resource = ("apps", "v1", "deployments")
REPLICASETS: Resource = ("apps", "v1", "replicasets")
NO_DEADLINE = 2**31 - 1
LONGEST_NAME = 253  # characters of a replica set's name


class Rollout:
    """One reconciliation of one Deployment; collects the plan."""

    def __init__(self, view: View, deployment: Json, now: float) -> None:
        self.view, self.live, self.now = view, deployment, now
        self.draft = Draft()
        self.sizes = Sizes(deployment)
        self.conditions: list[Json] = list((deployment.get("status") or {}).get("conditions") or ())
        self.annotations = rollout.notes(deployment)
        self.collisions: int | None = (deployment.get("status") or {}).get("collisionCount")
        self.events_after: list[Step] = []
        self.created_name = ""
        reference = owner_reference(deployment, "apps/v1", "Deployment")
        selector = selector_of(deployment["spec"].get("selector"))
        self.sets, ops = claim(deployment, reference, selector, REPLICASETS, candidates(view, REPLICASETS, deployment))
        self.draft.add(*ops)
        template = deployment["spec"]["template"]
        same = [rs for rs in self.sets if equal(rs["spec"]["template"], template)]
        self.new: Json | None = min(same, key=rollout.created) if same else None
        self.old = [rs for rs in self.sets if rs is not self.new]

    # -- facts --------------------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> int | None:
        seconds = self.live["spec"].get("progressDeadlineSeconds")
        return None if seconds is None or seconds == NO_DEADLINE else int(seconds)

    @property
    def all(self) -> list[Json]:
        return [*self.old, *([self.new] if self.new else [])]

    def active(self, sets: Iterable[Json]) -> list[Json]:
        return [rs for rs in sets if self.sizes.of(rs) > 0]

    # -- writes -------------------------------------------------------------------------------------------------------

    def scale(self, rs: Json, size: int, *, refresh: bool = False) -> bool:
        """Resizes a set; ``refresh`` also renews its size annotations when the size stays."""
        held = self.sizes.of(rs)
        wanted = rollout.size_annotations(self.live)
        have = rollout.notes(rs)
        stale = any(have.get(k) != v for k, v in wanted.items())
        if held == size and not (refresh and stale):
            return False
        self.sizes.size[rs["metadata"]["name"]] = size
        body = _changed(rs, annotations={**have, **wanted}, replicas=size)
        word = "up" if size > held else "down"
        text = f"Scaled {word} replica set {rs['metadata']['name']} from {held} to {size}"
        event = Emit(self.live, "Normal", "ScalingReplicaSet", text)
        self.draft.add(update(REPLICASETS, body, ok=lambda _: [event] if size != held else []))
        return held != size

    def sync_revision(self, *, may_create: bool) -> bool:
        """Finds or makes the set of the present template. False when the plan must end here."""
        revision = max((rollout.number(rs, rollout.REVISION) for rs in self.old), default=0) + 1
        if self.new is not None:
            return self._renew(self.new, revision)
        return self._create(revision) if may_create else True

    def _renew(self, rs: Json, revision: int) -> bool:
        wanted = rollout.set_annotations(self.live, rs, revision, exists=True)
        seconds = self.live["spec"].get("minReadySeconds") or 0
        if wanted != rollout.notes(rs) or seconds != (rs["spec"].get("minReadySeconds") or 0):
            self.draft.add(update(REPLICASETS, _changed(rs, annotations=wanted, min_ready=int(seconds))))
            return False  # the answer brings us back
        self.annotations[rollout.REVISION] = wanted.get(rollout.REVISION, str(revision))
        if self.deadline is not None and cond.find(self.conditions, "Progressing") is None:
            self._progress("True", "FoundNewReplicaSet", f'Found new replica set "{rs["metadata"]["name"]}"')
        return True

    def _create(self, revision: int) -> bool:
        spec = self.live["spec"]
        meta = self.live["metadata"]
        code = hash_of(spec["template"], self.collisions)
        name = f"{meta['name'][: LONGEST_NAME - 1 - len(code)]}-{code}"
        if self.view.get(REPLICASETS, meta["namespace"], name) is not None:
            self.collisions = (self.collisions or 0) + 1
            return False
        given = spec["template"].get("metadata") or {}
        labels = {**(given.get("labels") or {}), LABEL: code}
        selector = dict(spec.get("selector") or {})
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), LABEL: code}
        body: Json = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": meta["namespace"],
                "labels": labels,
                "ownerReferences": [owner_reference(self.live, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": 0,
                "selector": selector,
                "template": {**spec["template"], "metadata": {**given, "labels": labels}},
            },
        }
        if spec.get("minReadySeconds"):
            body["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        self.sizes.size[name] = 0
        size = rollout.new_size(self.live, self.old, 0, self.sizes)
        self.sizes.size[name] = size
        body["spec"]["replicas"] = size
        body["metadata"]["annotations"] = rollout.set_annotations(self.live, body, revision, exists=False)
        text = f"Scaled up replica set {name} from 0 to {size}"
        event = Emit(self.live, "Normal", "ScalingReplicaSet", text)

        def failed(error: ApiError) -> list[Emit]:
            return (
                []
                if error.code == 409
                else [Emit(self.live, "Warning", "ReplicaSetCreateError", _refused(name, error))]
            )

        self.draft.add(create(REPLICASETS, body, ok=lambda _: [event] if size > 0 else [], failed=failed))
        self.new, self.created_name = body, name
        self.annotations[rollout.REVISION] = str(revision)
        if self.deadline is not None:
            self._progress("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
        return True

    def _progress(self, status: str, reason: str, message: str) -> None:
        new = cond.make("Progressing", status, reason, message, self.now, update_time=True)
        self.conditions = cond.put(self.conditions, new)

    # -- strategies ---------------------------------------------------------------------------------------------------

    def roll(self) -> None:
        if not self.sync_revision(may_create=True):
            return
        assert self.new is not None
        if not self.created_name and self._grow_new():
            return
        changed = False
        for name, size in rollout.old_sizes(self.live, self.new, self.old, self.sizes).items():
            rs = next(r for r in self.old if r["metadata"]["name"] == name)
            changed = self.scale(rs, size) or changed
        if not changed:
            self.clean_up()

    def _grow_new(self) -> bool:
        assert self.new is not None
        held, wanted = self.sizes.of(self.new), replicas(self.live)
        if held == wanted:
            return False
        size = wanted if held > wanted else rollout.new_size(self.live, self.all, held, self.sizes)
        return self.scale(self.new, size)

    def recreate(self) -> None:
        if not self.sync_revision(may_create=False):
            return
        scaled = [self.scale(rs, 0) for rs in self.active(self.old)]
        if any(scaled) or self._old_pods_running():
            return
        if self.new is None and not self.sync_revision(may_create=True):
            return
        assert self.new is not None
        if not self.created_name:
            self.scale(self.new, replicas(self.live))
        self.clean_up()

    def _old_pods_running(self) -> bool:
        return any(
            not is_finished(pod) for rs in self.old for pod in self.view.by(PODS, "controller", rs["metadata"]["uid"])
        )

    def scaling_event(self) -> bool:
        """The Deployment was resized since its sets were."""
        wanted = replicas(self.live)
        return any(
            rollout.DESIRED in rollout.notes(rs) and rollout.number(rs, rollout.DESIRED) != wanted
            for rs in self.active(self.all)
        )

    def resize(self) -> None:
        """Scales without rolling: paused, or a scaling in the middle of a rollout."""
        if not self.sync_revision(may_create=False):
            return
        wanted = replicas(self.live)
        active = self.active(self.all)
        if len(active) <= 1:
            chosen = active[0] if active else self.new or max(self.old, key=rollout.created, default=None)
            if chosen is not None:
                self.scale(chosen, wanted)
            return
        new = self.new
        full = (
            new is not None
            and replicas(new) == wanted
            and rollout.number(new, rollout.DESIRED) == wanted
            and count(new, "availableReplicas") == wanted
        )
        if full:
            for rs in self.active(self.old):
                self.scale(rs, 0)
        elif rollout.rolling(self.live):
            for name, size in rollout.proportional_sizes(self.live, active).items():
                self.scale(next(r for r in active if r["metadata"]["name"] == name), size, refresh=True)

    def clean_up(self, *, always: bool = False) -> None:
        """Deletes the oldest empty sets beyond the history limit, once the rollout is complete."""
        limit = self.live["spec"].get("revisionHistoryLimit")
        if limit is None or not (always or _complete(self.live, self.live.get("status") or {})):
            return
        old = [rs for rs in self.old if not is_terminating(rs)]
        old.sort(key=lambda rs: rollout.number(rs, rollout.REVISION))
        for rs in old[: max(len(old) - int(limit), 0)]:
            seen = count(rs, "observedGeneration") >= int(rs["metadata"].get("generation", 0))
            if replicas(rs) == 0 and count(rs, "replicas") == 0 and seen:
                self.draft.add(delete(REPLICASETS, rs))

    # -- status -------------------------------------------------------------------------------------------------------

    def pause_condition(self) -> None:
        held = cond.find(self.conditions, "Progressing")
        reason = held.get("reason") if held else None
        if self.deadline is None or reason == "ProgressDeadlineExceeded":
            return
        if self.live["spec"].get("paused") and reason != "DeploymentPaused":
            self._progress("Unknown", "DeploymentPaused", "Deployment is paused")
        elif not self.live["spec"].get("paused") and reason == "DeploymentPaused":
            self._progress("Unknown", "DeploymentResumed", "Deployment is resumed")

    def status(self) -> Json:
        sets = self.all
        available = sum(count(rs, "availableReplicas") for rs in sets)
        values: Json = {
            "observedGeneration": self.live["metadata"].get("generation", 0),
            "replicas": sum(count(rs, "replicas") for rs in sets),
            "updatedReplicas": count(self.new, "replicas") if self.new else 0,
            "readyReplicas": sum(count(rs, "readyReplicas") for rs in sets),
            "availableReplicas": available,
            "unavailableReplicas": max(sum(replicas(rs) for rs in sets) - available, 0),
        }
        status = {k: v for k, v in values.items() if v}
        leaving = [(rs.get("status") or {}).get("terminatingReplicas") for rs in sets]
        if None not in leaving:  # a set that has not been counted yet leaves the sum unknown
            status["terminatingReplicas"] = sum(leaving)
        if self.collisions is not None:
            status["collisionCount"] = self.collisions
        if available >= replicas(self.live) - rollout.fences(self.live)[1]:
            new = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        else:
            new = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        made = cond.make("Available", *new, self.now, update_time=True)
        status["conditions"] = self.conditions = cond.put(self.conditions, made)
        return status

    def rollout_status(self) -> Json:
        """The status with progress and failure conditions."""
        status = self.status()
        held = cond.find(self.conditions, "Progressing")
        old = self.live.get("status") or {}
        done = (
            status.get("replicas", 0) == status.get("updatedReplicas", 0)
            and held is not None
            and held.get("reason") == "NewReplicaSetAvailable"
        )
        if self.deadline is None:
            self.conditions = cond.without(self.conditions, "Progressing")
        elif not done:
            subject = (
                f'ReplicaSet "{self.new["metadata"]["name"]}"'
                if self.new
                else (f'Deployment "{self.live["metadata"]["name"]}"')
            )
            if _complete(self.live, status):
                self._progress("True", "NewReplicaSetAvailable", f"{subject} has successfully progressed.")
            elif _progressing(old, status):
                self._replace_progress(held, f"{subject} is progressing.")
            elif self._timed_out(held):
                self._progress("False", "ProgressDeadlineExceeded", f"{subject} has timed out progressing.")
        failure = self._failure()
        self.conditions = (
            cond.without(self.conditions, "ReplicaFailure") if failure is None else (cond.put(self.conditions, failure))
        )
        status["conditions"] = self.conditions
        self._watch_deadline(status)
        return status

    def _replace_progress(self, held: Json | None, message: str) -> None:
        new = cond.make("Progressing", "True", "ReplicaSetUpdated", message, self.now, update_time=True)
        if held is not None and held.get("status") == "True" and "lastTransitionTime" in held:
            new["lastTransitionTime"] = held["lastTransitionTime"]
        self.conditions = [*cond.without(self.conditions, "Progressing"), new]

    def _timed_out(self, held: Json | None) -> bool:
        if held is None or self.deadline is None or held.get("reason") == "NewReplicaSetAvailable":
            return False
        if held.get("reason") == "ProgressDeadlineExceeded":
            return True
        since = parse_time(held.get("lastUpdateTime"))
        return since is not None and since + self.deadline < self.now

    def _watch_deadline(self, status: Json) -> None:
        held = cond.find(self.conditions, "Progressing")
        if held is None or self.deadline is None or _complete(self.live, status):
            return
        if held.get("reason") in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
            return
        since = parse_time(held.get("lastUpdateTime"))
        if since is not None:
            self.draft.look_again(since + self.deadline - self.now + 1)

    def _failure(self) -> Json | None:
        ordered = [*([self.new] if self.new else []), *self.old]
        for rs in ordered:
            found = cond.find((rs.get("status") or {}).get("conditions") or [], "ReplicaFailure")
            if found is not None:
                stamp = found.get("lastTransitionTime")
                return {
                    "type": "ReplicaFailure",
                    "status": found["status"],
                    "lastUpdateTime": stamp,
                    "lastTransitionTime": stamp,
                    "reason": found.get("reason", ""),
                    "message": found.get("message", ""),
                }
        return None

    def status_steps(self, status: Json, failures: list[Failure]) -> Sequence[Step]:
        for failure in failures:
            if failure.op.name == self.created_name and self.created_name and failure.error.code != 409:
                status = self._creation_failed(failure.error)
        if any(f.error.code in (404, 409) for f in failures):
            return []
        old_meta = self.live["metadata"]
        if status == (self.live.get("status") or {}) and self.annotations == (old_meta.get("annotations") or {}):
            return []
        body = {**self.live, "metadata": {**old_meta, "annotations": self.annotations}}
        return [update_status(DEPLOYMENTS, body, status)]

    def _creation_failed(self, error: ApiError) -> Json:
        status = dict(self.live.get("status") or {})
        self.annotations = rollout.notes(self.live)
        if self.deadline is not None:
            text = _refused(self.created_name, error)
            self.conditions = list(status.get("conditions") or ())
            self._progress("False", "ReplicaSetCreateError", text)
            status["conditions"] = self.conditions
        return status


def _refused(name: str, error: ApiError) -> str:
    return f'Failed to create new replica set "{name}": {error.message}'


def _changed(
    rs: Json, *, annotations: dict[str, str], replicas: int | None = None, min_ready: int | None = None
) -> Json:
    spec = dict(rs["spec"])
    if replicas is not None:
        spec["replicas"] = replicas
    if min_ready is not None:
        spec.pop("minReadySeconds", None)
        if min_ready:
            spec["minReadySeconds"] = min_ready
    return {**rs, "metadata": {**rs["metadata"], "annotations": annotations}, "spec": spec}


def _complete(deployment: Json, status: Json) -> bool:
    wanted = replicas(deployment)
    names = ("updatedReplicas", "replicas", "availableReplicas")
    return all(int(status.get(n) or 0) == wanted for n in names) and int(status.get("observedGeneration") or 0) >= int(
        deployment["metadata"].get("generation", 0)
    )


def _progressing(old: Json, new: Json) -> bool:
    def at(status: Json, name: str) -> int:
        return int(status.get(name) or 0)

    return (
        at(new, "updatedReplicas") > at(old, "updatedReplicas")
        or at(new, "replicas") - at(new, "updatedReplicas") < at(old, "replicas") - at(old, "updatedReplicas")
        or at(new, "readyReplicas") > at(old, "readyReplicas")
        or at(new, "availableReplicas") > at(old, "availableReplicas")
    )


def plan(view: View, key: str, now: float) -> Plan:
    """One step of a Deployment towards its specification."""
    deployment = view.get(DEPLOYMENTS, *split_key(key))
    if deployment is None:
        return NOTHING
    if selector_of(deployment["spec"].get("selector")).everything:
        text = "This deployment is selecting all pods. A non-empty selector is required."
        return Plan([Emit(deployment, "Warning", "SelectingAll", text)])
    work = Rollout(view, deployment, now)
    if is_terminating(deployment):
        status: Json = work.status()
        return work.draft.plan(lambda failures: work.status_steps(status, failures))
    work.pause_condition()
    if deployment["spec"].get("paused"):
        work.resize()
        work.clean_up(always=True)
        status = work.status()
    elif work.scaling_event():
        work.resize()
        status = work.status()
    else:
        strategy: Any = work.roll if rollout.rolling(deployment) else work.recreate
        strategy()
        status = work.rollout_status()
    return work.draft.plan(lambda failures: work.status_steps(status, failures))


_SETS = matching_owners(DEPLOYMENTS, "Deployment", "apps")


def _pods(view: View, pod: Json) -> Iterable[str]:
    """A Deployment that recreates waits for the end of its old pods."""
    ref = controller_of(pod)
    if ref is None:
        return ()
    namespace = pod["metadata"].get("namespace", "")
    rs = view.get(REPLICASETS, namespace, ref["name"])
    owner = controller_of(rs) if rs is not None else None
    if owner is None or owner.get("kind") != "Deployment":
        return ()
    deployment = view.get(DEPLOYMENTS, namespace, owner["name"])
    if deployment is None or rollout.rolling(deployment):
        return ()
    return (f"{namespace}/{owner['name']}",)


CONTROLLER = Controller(
    "deployment-controller",
    DEPLOYMENTS,
    plan,
    watches={REPLICASETS: _SETS, PODS: OfOwner("ReplicaSet", "apps", _pods)},
    relevant={PODS: (OWNERS, PHASE, TERMINATING)},
)
