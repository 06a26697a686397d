"""The Job controller: pods until enough have succeeded, counted exactly once with the help of a finalizer.

A finished pod is first written down in ``status.uncountedTerminatedPods``, then loses its finalizer, then is counted:
whatever crashes in between, no pod is counted twice or forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from portside.api.status import ApiError
from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.claim import GONE, candidates, claim, matching_owners, selector_of
from portside.controllers.harness import Controller
from portside.controllers.jobindex import FAILURES, INDEX, failures_of, format_indexes, index_of, parse_indexes
from portside.controllers.jobpolicy import judge, success_rule
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, delete, patch, update_status
from portside.controllers.pods import (
    PODS,
    condition,
    created,
    deletion_order,
    from_template,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
    owner_reference,
    phase,
)

JOBS: Resource = ("batch", "v1", "jobs")
TRACKING = "batch.kubernetes.io/job-tracking"
OURS = "kubernetes.io/job-controller"
BURST = 500  # pods one plan may create
BACKOFF, MAX_BACKOFF = 10.0, 600.0  # seconds before a failed pod is replaced; doubles with each failure in a row
REACHED = ("CompletionsReached", "Reached expected number of succeeded pods")
MANY_UNCOUNTED = 500  # uids written down at a time


def finished(job: Json) -> bool:
    return any(
        c.get("status") == "True" and c.get("type") in ("Complete", "Failed")
        for c in (job.get("status") or {}).get("conditions") or ()
    )


class Work:
    """One reconciliation of one Job."""

    def __init__(self, view: View, job: Json, now: float) -> None:
        self.job, self.now, self.spec = job, now, job["spec"]
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
        self.suspended = bool(self.spec.get("suspend"))

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
        for pod in sorted(self.pods, key=created):
            if self.tracked(pod) and pod["metadata"]["uid"] not in noted and len(noted) < MANY_UNCOUNTED:
                self._note(pod)
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
        given_up = cond.find(self.conditions, "FailureTarget") is not None or finished(self.job)
        if not self._has_failed(pod) and not (given_up and is_terminating(pod)):
            return
        if phase(pod) != "Failed" and cond.find(self.conditions, "SuccessCriteriaMet") is not None:
            self.draft.add(self._untrack(pod))  # no longer needed, so no failure either
            return
        if phase(pod) == "Failed" and self.spec.get("podFailurePolicy"):
            verdict = judge(self.spec["podFailurePolicy"], pod)
            if verdict.action == "FailJob" and self.failing is None:
                self.failing = ("PodFailurePolicy", verdict.message)
            elif verdict.action == "FailIndex" and index is not None and self.per_index is not None:
                self.failed_indexes.add(index)
            elif verdict.action == "Ignore":
                self.draft.add(self._untrack(pod))
                return
        if self.per_index is not None and index is not None and failures_of(pod) >= self.per_index:
            self.failed_indexes.add(index)
        self.uncounted["failed"].append(uid)

    def _has_failed(self, pod: Json) -> bool:
        if phase(pod) == "Failed":
            return True
        if self.spec.get("podReplacementPolicy") == "Failed" or self.spec.get("podFailurePolicy"):
            return False
        return is_terminating(pod)

    @property
    def failures(self) -> int:
        return self.failed + len(self.uncounted["failed"])

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
        if self.indexed and self.spec.get("successPolicy"):
            text = success_rule(self.spec["successPolicy"], self.done_indexes)
            if text is not None:
                return True, "SuccessPolicy", text
        limit = int(self.spec.get("backoffLimit", 6))
        if self.failures > limit or self._restarts_exceed(limit):
            return False, "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        if self._past_deadline():
            return False, "DeadlineExceeded", "Job was active longer than specified deadline"
        if self.per_index is not None:
            found = self._index_verdict()
            if found is not None:
                return found
        if self.completions is None:
            complete = self.successes > 0 and not self.active
        else:
            complete = self.successes >= self.completions
        return (True, *REACHED) if complete and not self.suspended else None

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
            for pod in deletion_order(rest, rest, self.now)[: len(rest) - wanted]:
                doomed[pod["metadata"]["uid"]] = pod
        for pod in doomed.values():
            if self.tracked(pod):
                self.draft.add(self._untrack(pod))
        self.draft.add(*(self._delete(p) for p in doomed.values()))
        self.active = [p for p in self.active if p["metadata"]["uid"] not in doomed]
        missing = wanted - len(self.active)
        if self.spec.get("podReplacementPolicy") == "Failed":
            missing -= len(self.terminating)
        if missing > 0 and not self.suspended:
            wait = self._backoff()
            if wait > 0:
                self.draft.look_again(wait)
            else:
                self.draft.add(*self._creates(min(missing, BURST)))

    def _wanted(self) -> int:
        if self.suspended:
            return 0
        parallelism = int(self.spec.get("parallelism", 1))
        if self.completions is None:
            return min(len(self.active), parallelism) if self.successes > 0 else parallelism
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

    def _delete(self, pod: Json) -> Step:
        event = Emit(self.job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")
        return delete(PODS, pod, ok=_always(event))

    def _backoff(self) -> float:
        """Seconds until failed pods may be replaced."""
        ends = sorted(((_ended(p), phase(p) == "Succeeded") for p in self.pods if is_finished(p)), key=lambda e: e[0])
        in_a_row = 0
        for _, good in reversed(ends):
            if good:
                break
            in_a_row += 1
        if not in_a_row:
            return 0.0
        delay = min(BACKOFF * 2.0 ** min(in_a_row - 1, 10), MAX_BACKOFF)
        return float(max(ends[-1][0] + delay - self.now, 0.0))

    def _creates(self, count: int) -> list[Step]:
        def made(answer: Json) -> list[Emit]:
            return [Emit(self.job, "Normal", "SuccessfulCreate", f"Created pod: {answer['metadata']['name']}")]

        def failed(error: ApiError) -> list[Emit]:
            return [Emit(self.job, "Warning", "FailedCreate", f"Error creating: {error.message}")]

        indexes: list[int | None] = [None] * count
        if self.indexed:
            busy = {index_of(p) for p in self.active} | self.done_indexes | self.failed_indexes
            if self.spec.get("podReplacementPolicy") == "Failed":
                busy |= {index_of(p) for p in self.terminating}
            free = [i for i in range(self.completions or 0) if i not in busy]
            indexes = list(free[:count])
        return [create(PODS, self._pod(i), ok=made, failed=failed) for i in indexes]

    def _pod(self, index: int | None) -> Json:
        pod = from_template(self.job, self.spec["template"], "batch/v1", "Job")
        meta = pod["metadata"]
        meta["finalizers"] = [*meta.get("finalizers", ()), TRACKING]
        if index is None:
            return pod
        name = self.job["metadata"]["name"]
        meta["generateName"] = f"{name}-{index}-"
        meta["labels"] = {**meta.get("labels", {}), INDEX: str(index)}
        meta["annotations"] = {**meta.get("annotations", {}), INDEX: str(index)}
        if self.per_index is not None:
            earlier = [failures_of(p) + 1 for p in self.pods if index_of(p) == index and phase(p) == "Failed"]
            meta["annotations"][FAILURES] = str(max(earlier, default=0))
        pod["spec"] = _with_index(pod["spec"], f"{name}-{index}")
        return pod

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
        for pod in self.active:
            self.draft.add(self._delete(pod))
        waiting = self.uncounted["succeeded"] or self.uncounted["failed"]
        if self.active or self.terminating or waiting:
            return
        self._condition("Complete" if success else "Failed", "True", reason, message)
        if success:
            self.events.append(Emit(self.job, "Normal", "Completed", "Job completed"))
        else:
            self.events.append(Emit(self.job, "Warning", reason, message))

    def status_steps(self, failures: list[Failure]) -> Sequence[Step]:
        status: Json = {
            "startTime": self._start(),
            "completionTime": self.old.get("completionTime"),
            "active": len(self.active) or None,
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
            return self.events
        return [update_status(JOBS, self.job, status), *self.events]

    def _start(self) -> str | None:
        if self.suspended:
            return None
        held: str | None = self.old.get("startTime")
        return held or rfc3339(self.now)


def _always(event: Emit) -> Callable[[Json], Iterable[Emit]]:
    return lambda _: [event]


def _with_index(spec: Json, hostname: str) -> Json:
    """The pod knows its index by host name and environment."""
    path = f"metadata.labels['{INDEX}']"
    variable = {"name": "JOB_COMPLETION_INDEX", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    changed = {**spec, "hostname": hostname}
    for field in ("containers", "initContainers"):
        if spec.get(field):
            changed[field] = [
                c if any(e.get("name") == variable["name"] for e in c.get("env") or ()) else _add_env(c, variable)
                for c in spec[field]
            ]
    return changed


def _add_env(container: Json, variable: Json) -> Json:
    return {**container, "env": [*(container.get("env") or ()), variable]}


def _ended(pod: Json) -> float:
    ends: list[float] = []
    for found in (pod.get("status") or {}).get("containerStatuses") or ():
        at = parse_time(((found.get("state") or {}).get("terminated") or {}).get("finishedAt"))
        if at is not None:
            ends.append(at)
    if ends:
        return max(ends)
    ready: Any = condition(pod, "Ready")
    return parse_time((ready or {}).get("lastTransitionTime")) or created(pod)


def plan(view: View, key: str, now: float) -> Plan:
    """One step of a Job towards its end."""
    job = view.get(JOBS, *split_key(key))
    if job is None or job["spec"].get("managedBy", OURS) != OURS:
        return NOTHING
    work = Work(view, job, now)
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


CONTROLLER = Controller("job-controller", JOBS, plan, watches={PODS: matching_owners(JOBS, "Job", "batch")})
