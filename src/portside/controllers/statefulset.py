"""The StatefulSet controller: pods with a number, a name and claims of their own, made and replaced in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from portside.api.status import ApiError
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.claim import GONE, candidates, claim, matching_owners, selector_of
from portside.controllers.claimowners import CONTESTED, claim_refs
from portside.controllers.harness import Controller
from portside.controllers.plan import (
    NOTHING,
    Draft,
    Emit,
    Failure,
    Op,
    Plan,
    Step,
    create,
    delete,
    patch,
    update_status,
)
from portside.controllers.pods import (
    PODS,
    available_in,
    from_template,
    is_ready,
    is_terminating,
    owner_reference,
    phase,
)
from portside.controllers.revisions import HASH, REVISIONS, history, surplus
from portside.controllers.rollout import scaled

SETS: Resource = ("apps", "v1", "statefulsets")
CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


def ordinal(owner: str, name: str) -> int | None:
    """The number behind the set's name."""
    found = re.fullmatch(re.escape(owner) + r"-(\d+)", name)
    return int(found.group(1)) if found else None


class Work:
    """One reconciliation of one StatefulSet."""

    def __init__(self, view: View, owner: Json, now: float) -> None:
        self.view, self.set, self.now = view, owner, now
        self.meta, self.spec = owner["metadata"], owner["spec"]
        self.draft = Draft()
        reference = owner_reference(owner, "apps/v1", "StatefulSet")
        name = self.meta["name"]
        pods, ops = claim(
            owner,
            reference,
            selector_of(self.spec.get("selector")),
            PODS,
            candidates(view, PODS, owner),
            may_adopt=lambda p: ordinal(name, p["metadata"]["name"]) is not None,
        )
        self.draft.add(*ops)
        self.old: Json = owner.get("status") or {}
        self.past = history(view, owner, "StatefulSet", collisions=int(self.old.get("collisionCount") or 0))
        self.draft.add(*self.past.ops)
        self.update = self.past.current_name
        names = {r["metadata"]["name"] for r in self.past.revisions}
        held = self.old.get("currentRevision", "")
        self.current: str = held if held in names else self.update
        self.pods = {o: p for p in pods if (o := ordinal(name, p["metadata"]["name"])) is not None}
        self.start = int((self.spec.get("ordinals") or {}).get("start") or 0)
        self.wanted = range(self.start, self.start + int(self.spec.get("replicas", 1)))
        self.ordered = self.spec.get("podManagementPolicy", "OrderedReady") == "OrderedReady"
        strategy = self.spec.get("updateStrategy") or {}
        self.rolling = strategy.get("type", "RollingUpdate") == "RollingUpdate"
        self.parameters = strategy.get("rollingUpdate") or {}
        self.partition = int(self.parameters.get("partition") or 0)

    # -- facts --------------------------------------------------------------------------------------------------------

    def revision(self, pod: Json) -> str:
        return str((pod["metadata"].get("labels") or {}).get(HASH, ""))

    def available(self, pod: Json) -> bool:
        wait = available_in(pod, int(self.spec.get("minReadySeconds") or 0), self.now)
        if wait:
            self.draft.look_again(wait + 0.01)
        return wait == 0 and phase(pod) == "Running"

    def healthy(self, pod: Json) -> bool:
        return phase(pod) == "Running" and is_ready(pod) and not is_terminating(pod)

    def _whole(self, pod: Json) -> bool:
        return self.healthy(pod) and self.available(pod)

    def revision_for(self, number: int) -> str:
        """Below the partition the current revision, above it the new one."""
        if not self.rolling:
            return self.update
        return self.current if number < self.start + self.partition else self.update

    def template(self, revision: str) -> Json:
        for found in self.past.revisions:
            if found["metadata"]["name"] == revision and revision != self.update:
                stored: Json = dict(found["data"]["spec"]["template"])
                stored.pop("$patch", None)
                return stored
        template: Json = self.spec["template"]
        return template

    # -- making -------------------------------------------------------------------------------------------------------

    def claims(self, number: int) -> list[tuple[str, Json]]:
        """(volume name, claim) of each claim template."""
        found: list[tuple[str, Json]] = []
        labels = (self.spec.get("selector") or {}).get("matchLabels") or {}
        for given in self.spec.get("volumeClaimTemplates") or ():
            meta = given["metadata"]
            made: Json = {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": f"{meta['name']}-{self.meta['name']}-{number}",
                    "namespace": self.meta["namespace"],
                    "labels": {**(meta.get("labels") or {}), **labels},
                },
                "spec": given["spec"],
            }
            if meta.get("annotations"):
                made["metadata"]["annotations"] = dict(meta["annotations"])
            found.append((meta["name"], made))
        return found

    def make(self, number: int) -> list[Step]:
        name = f"{self.meta['name']}-{number}"
        revision = self.revision_for(number)
        pod = from_template(self.set, self.template(revision), "apps/v1", "StatefulSet")
        labels = {**pod["metadata"].get("labels", {}), HASH: revision, POD_NAME: name, POD_INDEX: str(number)}
        pod["metadata"] |= {"name": name, "labels": labels}
        spec = dict(pod["spec"])
        spec["hostname"] = name
        if self.spec.get("serviceName"):
            spec["subdomain"] = self.spec["serviceName"]
        claims = self.claims(number)
        volumes = [{"name": n, "persistentVolumeClaim": {"claimName": c["metadata"]["name"]}} for n, c in claims]
        taken = {n for n, _ in claims}
        spec["volumes"] = volumes + [v for v in spec.get("volumes") or () if v.get("name") not in taken]
        if not spec["volumes"]:
            del spec["volumes"]
        pod["spec"] = spec
        return [*self._missing_claims(name, claims), create(PODS, pod, **self._told("create", name))]

    def _told(self, verb: str, pod: str) -> dict[str, Any]:
        """What a write to a pod says when it is done, and when it is refused."""
        word, place = verb.title(), f"Pod {pod} in StatefulSet {self.meta['name']}"
        good = Emit(self.set, "Normal", f"Successful{word}", f"{word} {place} successful")

        def failed(error: ApiError) -> list[Emit]:
            if error.reason == "AlreadyExists":
                return []  # somebody else's pod has the name, or the news of ours is late
            return [Emit(self.set, "Warning", f"Failed{word}", f"{word} {place} failed error: {error.message}")]

        return {"ok": _always(good), "failed": failed}

    def _missing_claims(self, pod: str, claims: list[tuple[str, Json]]) -> Iterable[Op]:
        place = f"StatefulSet {self.meta['name']}"
        for _, body in claims:
            name = body["metadata"]["name"]
            if self.view.get(CLAIMS, self.meta["namespace"], name) is None:
                text = f"Create Claim {name} Pod {pod} in {place} success"
                event = Emit(self.set, "Normal", "SuccessfulCreate", text)
                failed = self._claim_refused(name, f"Pod {pod} in {place} failed error:")
                yield create(CLAIMS, body, ok=_always(event), failed=failed, ignore=frozenset({409}))

    def _claim_refused(self, claim: str, place: str) -> Callable[[ApiError], Iterable[Emit]]:
        def failed(error: ApiError) -> list[Emit]:
            why = f"failed to create PVC {claim}: {error.message}"
            texts = (f"Create Claim {claim} for {place} {error.message}", f"Create {place} {why}")
            return [Emit(self.set, "Warning", "FailedCreate", text) for text in texts]

        return failed

    def held_up(self, number: int) -> bool:
        """An old claim of a pod that is to be made is about to go: with one that went with an earlier pod nothing is said."""
        pod = f"{self.meta['name']}-{number}"
        policy = self.spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for _, body in self.claims(number):
            name = body["metadata"]["name"]
            held = self.view.get(CLAIMS, self.meta["namespace"], name)
            if held is None:
                continue
            refs = held["metadata"].get("ownerReferences") or ()
            if policy.get("whenScaled") == "Delete" and any(
                (r.get("apiVersion"), r.get("kind"), r.get("name")) == ("v1", "Pod", pod) for r in refs
            ):
                return True
            if is_terminating(held):
                text = f"Create Pod {pod} in StatefulSet {self.meta['name']} failed error: pvc {name} is being deleted"
                self.draft.add(Emit(self.set, "Warning", "FailedCreate", text))
                return True
        return False

    def remove(self, pod: Json) -> Step:
        return delete(PODS, pod, **self._told("delete", pod["metadata"]["name"]))

    def name_again(self, number: int, pod: Json) -> Iterable[Step]:
        """The labels that tell which pod it is, where somebody took them away."""
        name = pod["metadata"]["name"]
        if (pod["metadata"].get("labels") or {}).get(POD_NAME) != name:
            meta = {"uid": pod["metadata"]["uid"], "labels": {POD_NAME: name, POD_INDEX: str(number)}}
            yield patch(PODS, pod, {"metadata": meta}, ok=self._told("update", name)["ok"], ignore=GONE)

    # -- the order of things ------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Replaces finished pods, makes missing ones from the lowest, removes surplus from the highest, then updates."""
        surplus_pods = sorted((o for o in self.pods if o not in self.wanted), reverse=True)
        for number in self.wanted:
            pod = self.pods.get(number)
            if pod is None:
                if not self.held_up(number):
                    self.draft.add(*self.make(number))
                if self.ordered:
                    return
            elif phase(pod) in ("Failed", "Succeeded"):
                if not is_terminating(pod):
                    self.draft.add(self.remove(pod))
                if self.ordered:
                    return
            else:
                if phase(pod) == "Pending":
                    self.draft.add(*self._missing_claims(pod["metadata"]["name"], self.claims(number)))
                if self.ordered and (not self.healthy(pod) or not self.available(pod)):
                    return
                self.draft.add(*self.name_again(number, pod))
        first = next((o for o in sorted(self.pods) if not self._whole(self.pods[o])), None)
        for number in surplus_pods:
            pod = self.pods[number]
            if self.ordered and (is_terminating(pod) or not (self._whole(pod) or number == first)):
                return  # one at a time, and a broken one only when none below it is broken
            if not is_terminating(pod):
                self.draft.add(self.remove(pod))
                if self.ordered:
                    return
        if self.rolling:
            self._roll()

    def _roll(self) -> None:
        """Replaces old pods from the highest down to the partition, as many as may be unavailable. In parallel those that
        are unavailable anyway go first, and take nothing from the others."""
        allowed = max(scaled(self.parameters.get("maxUnavailable", 1), len(self.wanted), up=False), 1)
        down = sum(1 for o in self.wanted if o not in self.pods or not self._whole(self.pods[o]))
        room = max(allowed - down, 0)
        old = [
            self.pods[o]
            for o in reversed(self.wanted)
            if o in self.pods and self.revision(self.pods[o]) != self.update and not is_terminating(self.pods[o])
        ]
        least = self.start + self.partition
        ripe = [p for p in old if (ordinal(self.meta["name"], p["metadata"]["name"]) or 0) >= least]
        if self.ordered:
            doomed = ripe[:room]
        else:
            broken = [p for p in ripe if not self._whole(p)]
            doomed = broken + [p for p in ripe if self._whole(p)][:room]
        self.draft.add(*(self.remove(p) for p in doomed))

    def claim_owners(self) -> None:
        """Claims belong to the set or the pod when the retention policy deletes them, to nobody otherwise."""
        if not self.spec.get("volumeClaimTemplates"):
            return
        policy = self.spec.get("persistentVolumeClaimRetentionPolicy") or {}
        for number, pod in self.pods.items():
            owner: Json | None = None
            if policy.get("whenScaled") == "Delete" and number not in self.wanted:
                owner = owner_reference(pod, "v1", "Pod")
            elif policy.get("whenDeleted") == "Delete":
                owner = owner_reference(self.set, "apps/v1", "StatefulSet")
            for _, body in self.claims(number):
                name = body["metadata"]["name"]
                held = self.view.get(CLAIMS, self.meta["namespace"], name)
                if held is None or is_terminating(held):
                    continue
                refs = held["metadata"].get("ownerReferences") or []
                deletes = "Delete" in (policy.get("whenScaled"), policy.get("whenDeleted"))
                found = claim_refs(refs, self.set, pod, owner, deletes=deletes)
                if found.contested:
                    self.draft.add(Emit(self.set, "Warning", "ConflictingController", CONTESTED.format(name)))
                if found.refs != refs:
                    meta = {
                        "ownerReferences": found.refs or None,
                        "uid": held["metadata"]["uid"],
                        "resourceVersion": held["metadata"]["resourceVersion"],
                    }
                    self.draft.add(patch(CLAIMS, held, {"metadata": meta}, ignore=frozenset({404})))

    # -- status -------------------------------------------------------------------------------------------------------

    def status(self, failures: list[Failure]) -> Sequence[Step]:
        pods = list(self.pods.values())
        standing = [p for p in pods if not is_terminating(p)]
        current = sum(1 for p in standing if self.revision(p) == self.current)
        updated = sum(1 for p in standing if self.revision(p) == self.update)
        running = [p for p in pods if phase(p) == "Running" and is_ready(p)]
        ready = len(running)
        status: Json = {
            "observedGeneration": self.meta.get("generation", 0),
            "replicas": len(pods),
            "availableReplicas": sum(1 for p in running if self.available(p)),
            "currentRevision": self.current,
            "updateRevision": self.update,
            "collisionCount": self.past.collisions,
        }
        everything = len(self.wanted)
        if updated == ready == len(pods) == everything:
            status["currentRevision"], current = self.update, updated
        status |= {
            k: v
            for k, v in {"readyReplicas": ready, "currentReplicas": current, "updatedReplicas": updated}.items()
            if v
        }
        if self.old.get("conditions"):
            status["conditions"] = self.old["conditions"]
        return [] if status == self.old else [update_status(SETS, self.set, status)]

    def clean_up(self) -> None:
        used = {self.revision(p) for p in self.pods.values()} | {self.current, self.update}
        limit = int(self.spec.get("revisionHistoryLimit", 10))
        self.draft.add(*surplus(self.past, used, limit, lambda r: str(r["metadata"]["name"])))


def _always(event: Emit) -> Callable[[Json], Iterable[Emit]]:
    return lambda _: [event]


def plan(view: View, key: str, now: float) -> Plan:
    """One step of a StatefulSet."""
    owner = view.get(SETS, *split_key(key))
    if owner is None or is_terminating(owner):
        return NOTHING
    work = Work(view, owner, now)
    work.claim_owners()
    work.act()
    work.clean_up()
    return work.draft.plan(work.status)


_OWN = matching_owners(SETS, "StatefulSet", "apps")


def _claims(view: View, body: Json) -> Iterable[str]:
    """A claim that went may be missing to its pod's set."""
    meta = body["metadata"]
    for owner in view.in_namespace(SETS, meta["namespace"]):
        for given in owner["spec"].get("volumeClaimTemplates") or ():
            if meta["name"].startswith(f"{given['metadata']['name']}-{owner['metadata']['name']}-"):
                yield f"{meta['namespace']}/{owner['metadata']['name']}"


CONTROLLER = Controller("statefulset-controller", SETS, plan, watches={PODS: _OWN, REVISIONS: _OWN, CLAIMS: _claims})
