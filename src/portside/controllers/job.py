"""The Job controller: pods until enough have succeeded, counted exactly once with the help of a finalizer.

A finished pod is first written down in ``status.uncountedTerminatedPods``, then loses its finalizer, then is counted:
whatever crashes in between, no pod is counted twice or forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

from portside.api.status import ApiError
from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.claim import GONE, candidates, claim, matching_owners, selector_of
from portside.controllers.harness import Controller
from portside.controllers.jobbackoff import Record, ended, remaining
from portside.controllers.jobindex import (
    failures_of,
    format_indexes,
    ignored_of,
    index_of,
    parse_indexes,
)
from portside.controllers.jobpods import TRACKING, pod_of
from portside.controllers.jobpolicy import COUNTED, judge, success_rule
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, patch, update
from portside.controllers.pods import (
    PODS,
    created,
    deletion_order,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    owner_reference,
    phase,
)
from portside.controllers.replicas import pod_deletion

JOBS: Resource = ("batch", "v1", "jobs")
OURS = "kubernetes.io/job-controller"
BURST = 500  # pods one plan may create
REACHED = ("CompletionsReached", "Reached expected number of succeeded pods")
TOO_MANY = "Too many succeeded pods running after completion count reached"
GATHER = 1.0  # seconds of changes to pods that make one plan (upstream's SyncJobBatchPeriod)
MANY_UNCOUNTED = 500  # uids written down at a time


def finished(job: Json) -> bool:
    return any(
        c.get("status") == "True" and c.get("type") in ("Complete", "Failed")
        for c in (job.get("status") or {}).get("conditions") or ()
    )


class Work:
    """One reconciliation of one Job."""

    def __init__(self, view: View, key: str, job: Json, now: float, records: dict[str, Record]) -> None:
        self.job, self.now, self.spec, self.key, self.records = job, now, job["spec"], key, records
        self.draft = Draft()
        self.old: Json = job.get("status") or {}
        self.conditions: list[Json] = list(self.old.get("conditions") or ())
        self.events: list[Step] = []
        reference = owner_reference(job, "batch/v1", "Job")
        self.pods, ops = claim(
            job,
            reference,
            selector_of(self.spec.get("selector")),
            PODS,
            candidates(view, PODS, job),
            more={"finalizers": [TRACKING]},
        )
        self.draft.add(*ops)
        self.indexed = self.spec.get("completionMode") == "Indexed"
        self.completions: int | None = self.spec.get("completions")
        self.active = [p for p in self.pods if is_active(p)]
        self.terminating = [p for p in self.pods if is_terminating(p) and not is_finished(p)]
        self.succeeded = int(self.old.get("succeeded") or 0)
        self.failed = int(self.old.get("failed") or 0)
        uncounted = self.old.get("uncountedTerminatedPods") or {}
        self.uncounted: dict[str, list[str]] = {n: list(uncounted.get(n) or ()) for n in ("succeeded", "failed")}
        self.done_indexes = parse_indexes(self.old.get("completedIndexes"), self.completions) if self.indexed else set()
        self.failed_indexes = parse_indexes(self.old.get("failedIndexes"), self.completions)
        self.per_index: int | None = self.spec.get("backoffLimitPerIndex")
        self.failing: tuple[str, str] | None = None
        self.failures_seen: list[tuple[Json, bool]] = []  # failed pods, and whether they count
        self.replaced: dict[int, Json] = {}  # index -> the failed pod that is to have a successor
        self.suspended = bool(self.spec.get("suspend"))
        self.made = 0  # pods that this plan makes
        self.ended = False  # this plan deletes what is active
        held = records.get(key)
        self.record = held if held is not None and held.uid == job["metadata"]["uid"] else self._recalled()

    def _recalled(self) -> Record:
        """What the counted pods that are still there tell, where nothing is remembered of the job."""
        counted = [p for p in self.pods if not self.tracked(p)]
        good = [p for p in counted if phase(p) == "Succeeded"]
        return Record(str(self.job["metadata"]["uid"])).after(good, [p for p in counted if phase(p) == "Failed"])

    # -- counting -----------------------------------------------------------------------------------------------------

    def tracked(self, pod: Json) -> bool:
        return TRACKING in (pod["metadata"].get("finalizers") or ())

    def count(self) -> None:
        """Moves what lost its finalizer to the counters, and notes what has finished since."""
        by_uid = {p["metadata"]["uid"]: p for p in self.pods}
        for name in ("succeeded", "failed"):
            kept: list[str] = []
            for uid in self.uncounted[name]:
                pod = by_uid.get(uid)
                if pod is not None and self.tracked(pod):
                    kept.append(uid)
                    self.draft.add(self._untrack(pod))
                elif name == "failed":
                    self.failed += 1
                elif not self.indexed:
                    self.succeeded += 1
            self.uncounted[name] = kept
        noted = {*self.uncounted["succeeded"], *self.uncounted["failed"]}
        fresh: list[Json] = []
        for pod in sorted(self.pods, key=created):
            if sum(map(len, self.uncounted.values())) + len(self.failures_seen) >= MANY_UNCOUNTED:
                break
            if self.tracked(pod) and pod["metadata"]["uid"] not in noted:
                self._note(pod)
                fresh.append(pod)
        self.record = self.record.after(
            (p for p in fresh if phase(p) == "Succeeded"), (p for p, _ in self.failures_seen if self._has_failed(p))
        )
        self._count_failures()
        if self.indexed:
            self.succeeded = len(self.done_indexes)

    def _untrack(self, pod: Json) -> Step:
        kept = [f for f in pod["metadata"].get("finalizers") or () if f != TRACKING]
        meta = {"finalizers": kept or None, "uid": pod["metadata"]["uid"]}
        return patch(PODS, pod, {"metadata": meta}, ignore=GONE)

    def _note(self, pod: Json) -> None:
        uid, index = pod["metadata"]["uid"], index_of(pod)
        if phase(pod) == "Succeeded":
            if not self.indexed:
                self.uncounted["succeeded"].append(uid)
            elif index is not None and (self.completions is None or index < self.completions):
                self.done_indexes.add(index)
                self.uncounted["succeeded"].append(uid)
            else:
                self.draft.add(self._untrack(pod))
            return
        if self.indexed and (index is None or index >= (self.completions or 0)):
            if self._has_failed(pod):
                self.draft.add(self._untrack(pod))  # of an index that is not wanted any more
            return
        given_up = cond.find(self.conditions, "FailureTarget") is not None or finished(self.job)
        if not self._has_failed(pod) and not (given_up and is_terminating(pod)):
            return
        if phase(pod) != "Failed" and cond.find(self.conditions, "SuccessCriteriaMet") is not None:
            self.draft.add(self._untrack(pod))  # no longer needed, so no failure either
            return
        verdict = COUNTED
        if phase(pod) == "Failed" and self.spec.get("podFailurePolicy"):
            verdict = judge(self.spec["podFailurePolicy"], pod)
        if verdict.action == "FailJob" and self.failing is None:
            self.failing = ("PodFailurePolicy", verdict.message)
        if self.per_index is not None and index is not None:
            spent = verdict.action != "Ignore" and failures_of(pod) >= self.per_index
            if spent or verdict.action == "FailIndex":
                self.failed_indexes.add(index)
        self.failures_seen.append((pod, verdict.action != "Ignore"))

    def _count_failures(self) -> None:
        """Counts failed pods, but keeps the last one of an index that goes on: its successor reads the failures from it."""
        decided = any(cond.find(self.conditions, n) is not None for n in ("FailureTarget", "SuccessCriteriaMet"))
        if self.per_index is not None and not decided:
            busy = {index_of(p) for p in self.active} | self.done_indexes | self.failed_indexes
            for pod, _ in self.failures_seen:
                index = index_of(pod)
                held = self.replaced.get(index) if index is not None else None
                if index is not None and index not in busy and (held is None or _rank(pod) >= _rank(held)):
                    self.replaced[index] = pod
        for pod, counted in self.failures_seen:
            if any(pod is kept for kept in self.replaced.values()):
                continue
            if counted:
                self.uncounted["failed"].append(pod["metadata"]["uid"])
            else:
                self.draft.add(self._untrack(pod))

    def _has_failed(self, pod: Json) -> bool:
        if phase(pod) == "Failed":
            return True
        if self.spec.get("podReplacementPolicy") == "Failed" or self.spec.get("podFailurePolicy"):
            return False
        return is_terminating(pod)

    @property
    def failures(self) -> int:
        kept = sum(1 for p, counted in self.failures_seen if counted and any(p is r for r in self.replaced.values()))
        return self.failed + len(self.uncounted["failed"]) + kept

    @property
    def successes(self) -> int:
        return self.succeeded if self.indexed else self.succeeded + len(self.uncounted["succeeded"])

    # -- verdicts -----------------------------------------------------------------------------------------------------

    def verdict(self) -> tuple[bool, str, str] | None:
        """(success, reason, message) when the job is decided."""
        for name, good in (("FailureTarget", False), ("SuccessCriteriaMet", True)):
            held = cond.find(self.conditions, name)
            if held is not None and held.get("status") == "True":
                return good, held.get("reason", ""), held.get("message", "")
        if self.failing is not None:
            return False, *self.failing
        limit = int(self.spec.get("backoffLimit", 6))
        if self.failures > limit or self._restarts_exceed(limit):
            return False, "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if self._past_deadline():
            return False, "DeadlineExceeded", "Job was active longer than specified deadline"
        if self.per_index is not None:
            found = self._index_verdict()
            if found is not None:
                return found
        if self.indexed and self.spec.get("successPolicy"):
            text = success_rule(self.spec["successPolicy"], self.done_indexes)
            if text is not None:
                return True, "SuccessPolicy", text
        if self.completions is None:
            complete = self.successes > 0 and not self.active
        else:
            complete = self.successes >= self.completions
        return (True, *REACHED) if complete else None

    def _index_verdict(self) -> tuple[bool, str, str] | None:
        most = self.spec.get("maxFailedIndexes")
        if most is not None and len(self.failed_indexes) > most:
            text = "Job has exceeded the specified maximal number of failed indexes"
            return False, "MaxFailedIndexesExceeded", text
        if self.failed_indexes and len(self.failed_indexes | self.done_indexes) >= (self.completions or 0):
            return False, "FailedIndexes", "Job has failed indexes"
        return None

    def _restarts_exceed(self, limit: int) -> bool:
        if (self.spec["template"].get("spec") or {}).get("restartPolicy") != "OnFailure":
            return False
        total = 0
        for pod in self.pods:
            if phase(pod) in ("Running", "Pending"):
                status = pod.get("status") or {}
                listed = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
                total += sum(int(c.get("restartCount") or 0) for c in listed)
        return total > 0 if limit == 0 else total >= limit

    def _past_deadline(self) -> bool:
        seconds, start = self.spec.get("activeDeadlineSeconds"), parse_time(self.old.get("startTime"))
        if seconds is None or start is None or self.suspended:
            return False
        left = start + float(seconds) - self.now
        if left > 0:
            self.draft.look_again(left + 0.01)
        return left <= 0

    # -- pods ---------------------------------------------------------------------------------------------------------

    def manage(self) -> None:
        """Creates and deletes pods of a job that is undecided."""
        wanted = self._wanted()
        doomed = self._out_of_place()
        rest = [p for p in self.active if p["metadata"]["uid"] not in doomed]
        if len(rest) > wanted:
            for pod in deletion_order(rest, (), self.now)[: len(rest) - wanted]:
                doomed[pod["metadata"]["uid"]] = pod
        for pod in doomed.values():
            if self.tracked(pod):
                self.draft.add(self._untrack(pod))
        self.draft.add(*(pod_deletion(self.job, p) for p in doomed.values()))
        self.active = [p for p in self.active if p["metadata"]["uid"] not in doomed]
        missing = wanted - len(self.active)
        if self.spec.get("podReplacementPolicy") == "Failed":
            missing -= len(self.terminating)
        if missing > 0 and not self.suspended and not doomed:
            indexes, wait = self._next(min(missing, BURST))
            if wait > 0:
                self.draft.look_again(wait)
            else:
                self.draft.add(*self._creates(indexes))

    def _next(self, count: int) -> tuple[list[int | None], float]:
        """(indexes of the pods to make, seconds until one may be made). Back-off is per index where limits are."""
        if not self.indexed:
            return [None] * count, self.record.left(self.now)
        busy = {index_of(p) for p in self.active} | self.done_indexes | self.failed_indexes
        if self.spec.get("podReplacementPolicy") == "Failed":
            busy |= {index_of(p) for p in self.terminating}
        free = [i for i in range(self.completions or 0) if i not in busy][:count]
        if self.per_index is None:
            return list(free), self.record.left(self.now)
        waits = {i: self._index_backoff(i) for i in free}
        now = [i for i in free if waits[i] <= 0]
        if now or not waits:
            return list(now), 0.0
        return [], min(waits.values())

    def _index_backoff(self, index: int) -> float:
        last = self.replaced.get(index)
        if last is None:
            return 0.0
        return remaining(failures_of(last) + ignored_of(last) + 1, ended(last), self.now)

    def _wanted(self) -> int:
        if self.suspended:
            return 0
        parallelism = int(self.spec.get("parallelism", 1))
        if self.completions is None:
            return len(self.active) if self.successes > 0 else parallelism
        left = self.completions - self.successes - (len(self.failed_indexes) if self.per_index is not None else 0)
        return max(min(left, parallelism), 0)

    def _out_of_place(self) -> dict[str, Json]:
        """Active pods whose index is done, failed, doubled or beyond the end."""
        if not self.indexed:
            return {}
        found: dict[str, Json] = {}
        seen: set[int] = set()
        for pod in sorted(self.active, key=created):
            index = index_of(pod)
            beyond = index is None or (self.completions is not None and index >= self.completions)
            if beyond or index in seen or index in self.done_indexes or index in self.failed_indexes:
                found[pod["metadata"]["uid"]] = pod
            elif index is not None:
                seen.add(index)
        return found

    def _creates(self, indexes: list[int | None]) -> list[Step]:
        def made(answer: Json) -> list[Emit]:
            return [Emit(self.job, "Normal", "SuccessfulCreate", f"Created pod: {answer['metadata']['name']}")]

        def failed(error: ApiError) -> list[Emit]:
            return [Emit(self.job, "Warning", "FailedCreate", f"Error creating: {error.message}")]

        self.made = len(indexes)
        return [create(PODS, self._pod(i), ok=made, failed=failed) for i in indexes]

    def _pod(self, index: int | None) -> Json:
        last = self.replaced.get(index) if index is not None else None
        counted = next((c for p, c in self.failures_seen if p is last), True)
        return pod_of(self.job, index, last, counted=counted)

    # -- status -------------------------------------------------------------------------------------------------------

    def suspension(self) -> None:
        """The Suspended condition and the start time."""
        held = cond.find(self.conditions, "Suspended")
        if self.suspended:
            if held is None or held.get("status") != "True":
                self._condition("Suspended", "True", "JobSuspended", "Job suspended")
                self.events.append(Emit(self.job, "Normal", "Suspended", "Job suspended"))
        elif held is not None and held.get("status") == "True":
            self._condition("Suspended", "False", "JobResumed", "Job resumed")
            self.events.append(Emit(self.job, "Normal", "Resumed", "Job resumed"))

    def _condition(self, name: str, status: str, reason: str, message: str) -> None:
        made = cond.make(name, status, reason, message, self.now)
        made["lastProbeTime"] = made["lastTransitionTime"]
        held = cond.find(self.conditions, name)
        if held is None:
            self.conditions = [*self.conditions, made]
        else:
            self.conditions = [made if c is held else c for c in self.conditions]

    def decide(self, success: bool, reason: str, message: str) -> None:
        """First the intention; the final condition when no pod is left uncounted or running."""
        first = "SuccessCriteriaMet" if success else "FailureTarget"
        held = cond.find(self.conditions, first)
        if held is None:
            self._condition(first, "True", reason, message)
        self.draft.add(*(pod_deletion(self.job, pod) for pod in self.active))
        self.ended = bool(self.active)
        waiting = self.uncounted["succeeded"] or self.uncounted["failed"]
        if self.active or self.terminating or waiting:
            return
        self._condition("Complete" if success else "Failed", "True", reason, message)
        if success:
            if self.completions is not None and self.succeeded > self.completions:
                self.events.append(Emit(self.job, "Warning", "TooManySucceededPods", TOO_MANY))
            self.events.append(Emit(self.job, "Normal", "Completed", "Job completed"))
        else:
            self.events.append(Emit(self.job, "Warning", reason, message))

    def status_steps(self, failures: list[Failure]) -> Sequence[Step]:
        if self.ended and not failures:
            self.terminating, self.active = [*self.terminating, *self.active], []
        status: Json = {
            "startTime": self._start(),
            "completionTime": self.old.get("completionTime"),
            "active": len(self.active) + (0 if failures else self.made) or None,
            "succeeded": self.succeeded or None,
            "failed": self.failed or None,
            "ready": sum(1 for p in self.active if is_ready(p)),
            "terminating": len(self.terminating),
            "uncountedTerminatedPods": {k: v for k, v in self.uncounted.items() if v},
            "conditions": self.conditions or None,
            "completedIndexes": format_indexes(self.done_indexes) or None,
        }
        if self.per_index is not None:
            status["failedIndexes"] = format_indexes(self.failed_indexes)
        complete = cond.find(self.conditions, "Complete")
        if complete is not None and not status["completionTime"]:
            status["completionTime"] = rfc3339(self.now)
        status = {k: v for k, v in status.items() if v is not None}
        if status == self.old:
            if not failures:
                self._keep(status)
            return self.events
        return [update(JOBS, {**self.job, "status": status}, subresource="status", ok=self._keep), *self.events]

    def _keep(self, answer: Json) -> list[Emit]:
        """What was counted is remembered; what was not is counted again."""
        self.records[self.key] = self.record
        return []

    def _start(self) -> str | None:
        if self.suspended:
            return None
        held: str | None = self.old.get("startTime")
        return held or rfc3339(self.now)


def _rank(pod: Json) -> tuple[int, float]:
    return failures_of(pod) + ignored_of(pod), ended(pod)


def plan(view: View, key: str, now: float, records: dict[str, Record]) -> Plan:
    """One step of a Job towards its end; ``records``: its failures, and those of others, by key."""
    job = view.get(JOBS, *split_key(key))
    if job is None or finished(job):
        records.pop(key, None)
    if job is None or job["spec"].get("managedBy", OURS) != OURS:
        return NOTHING
    work = Work(view, key, job, now, records)
    if finished(job) or is_terminating(job):
        work.draft.add(*(work._untrack(p) for p in work.pods if work.tracked(p)))
        return work.draft.plan()
    work.count()
    verdict = work.verdict()
    if verdict is not None:
        work.decide(*verdict)
    else:
        work.suspension()
        work.manage()
    return work.draft.plan(work.status_steps)


def controller() -> Controller:
    """A controller with a memory of its own: the failures of each job."""
    records: dict[str, Record] = {}
    return Controller(
        "job-controller",
        JOBS,
        lambda view, key, now: plan(view, key, now, records),
        watches={PODS: matching_owners(JOBS, "Job", "batch")},
        settle=GATHER,
    )
