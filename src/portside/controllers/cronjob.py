"""The CronJob controller: a Job at every time its schedule names, as its policies allow, and a history of few.

A Job's name is made from its time, so a plan that is made twice makes one Job; what is active is read from the Jobs.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from portside.api.rules.cron_schedule import Schedule, ScheduleError, next_time, parse
from portside.api.status import ApiError
from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, split_key
from portside.client.events import reference
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller, owned
from portside.controllers.job import JOBS
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, delete, update_status
from portside.controllers.pods import condition, created, is_terminating, owner_reference

CRONJOBS: Resource = ("batch", "v1", "cronjobs")
SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
DELTA = 0.1  # seconds after a scheduled time at which we look
MANY_MISSED = 100
TOO_MANY = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
ALREADY_ACTIVE = "Not starting job because prior execution is running and concurrency policy is Forbid"


@lru_cache(maxsize=256)
def zone_of(name: str) -> tzinfo:
    """Raises ZoneInfoNotFoundError, ValueError or OSError for a zone that is not known (any more)."""
    return zoneinfo.ZoneInfo(name) if name else UTC


def ended_as(job: Json) -> str:
    """Complete, Failed, or nothing while the job goes on."""
    for name in ("Complete", "Failed"):
        found = condition(job, name)
        if found is not None and found.get("status") == "True":
            return name
    return ""


class Times:
    """The times a schedule names, seen from a moment."""

    def __init__(self, cronjob: Json, now: float, schedule: Schedule, zone: tzinfo) -> None:
        self.cronjob, self.now, self.schedule, self.zone = cronjob, now, schedule, zone

    def after(self, moment: float) -> float:
        """The next time; ScheduleError when there never is one."""
        found = next_time(self.schedule, moment, self.zone)
        if found is None:
            raise ScheduleError("time difference between two schedules is less than 1 second")
        return found

    def latest(self, *, deadline: bool) -> tuple[float, float | None, int]:
        """(from when on we count, the last time until now that was not started, how many were missed, roughly)."""
        earliest = created(self.cronjob)
        last = parse_time((self.cronjob.get("status") or {}).get("lastScheduleTime"))
        if last is not None:
            earliest = last
        seconds = self.cronjob["spec"].get("startingDeadlineSeconds")
        if deadline and seconds is not None:
            earliest = max(earliest, self.now - seconds)
        first = self.after(earliest)
        if self.now < first:
            return earliest, None, 0
        second = self.after(first)
        if self.now < second:
            return earliest, first, 0
        between = round(second - first)
        missed = int(self.now - first) // between + 1
        found: float | None = None
        at = self.after(first + (missed - 2) * between)
        while at <= self.now:
            found, at = at, self.after(at)
        return earliest, found, missed

    def due(self) -> tuple[float | None, bool]:
        """(the time to start now, whether very many were missed before it)."""
        _, found, missed = self.latest(deadline=True)
        return found, found is not None and missed > MANY_MISSED

    def wait(self) -> float:
        """Seconds until the next time."""
        try:
            earliest, found, missed = self.latest(deadline=False)
            start = found if found is not None else earliest if missed == 0 else self.now
        except ScheduleError:
            start = self.now
        return max(self.after(start) + DELTA - self.now, DELTA)


class Work:
    """One reconciliation of one CronJob."""

    def __init__(self, view: View, cronjob: Json, now: float) -> None:
        self.view, self.cronjob, self.now = view, cronjob, now
        self.meta, self.spec = cronjob["metadata"], cronjob["spec"]
        self.draft = Draft()
        self.old: Json = cronjob.get("status") or {}
        self.status: Json = dict(self.old)
        self.active: list[Json] = list(self.old.get("active") or ())
        self.jobs = view.by(JOBS, "controller", self.meta["uid"])
        self.deleted: set[str] = set()

    def emit(self, kind: str, reason: str, message: str) -> None:
        self.draft.add(Emit(self.cronjob, kind, reason, message))

    def _drop(self, uid: str) -> None:
        self.active = [r for r in self.active if r.get("uid") != uid]

    # -- what became of earlier jobs ----------------------------------------------------------------------------------

    def observe(self) -> None:
        """Follows the jobs there are: started, ended, gone."""
        known = {r.get("uid") for r in self.active}
        for job in sorted(self.jobs, key=created):
            uid, end, name = job["metadata"]["uid"], ended_as(job), job["metadata"]["name"]
            at = self._scheduled(job)
            if at is not None and (parse_time(self.status.get("lastScheduleTime")) or 0.0) < at:
                self.status["lastScheduleTime"] = rfc3339(at)
                if not end and uid not in known:
                    self.active.append(reference(job))
            elif uid not in known and not end:
                text = f"Saw a job that the controller did not create or forgot: {name}"
                self.emit("Warning", "UnexpectedJob", text)
            elif uid in known and end:
                self._drop(uid)
                self.emit("Normal", "SawCompletedJob", f"Saw completed job: {name}, condition: {end}")
            if end == "Complete":
                self._succeeded(job)
        there = {j["metadata"]["uid"] for j in self.jobs}
        for ref in list(self.active):
            if ref.get("uid") not in there:
                self.emit("Normal", "MissingJob", f"Active job went missing: {ref.get('name', '')}")
                self._drop(ref.get("uid", ""))

    def _succeeded(self, job: Json) -> None:
        at = (job.get("status") or {}).get("completionTime")
        if at and (parse_time(at) or 0.0) > (parse_time(self.status.get("lastSuccessfulTime")) or 0.0):
            self.status["lastSuccessfulTime"] = at

    def _scheduled(self, job: Json) -> float | None:
        """The time a job of ours was made for; None for those that people made."""
        at = parse_time((job["metadata"].get("annotations") or {}).get(SCHEDULED))
        return at if at is not None and job["metadata"]["name"] == self._name(at) else None

    def clean_up(self) -> None:
        """Deletes the oldest ended jobs beyond the limits."""
        limits = {"Complete": "successfulJobsHistoryLimit", "Failed": "failedJobsHistoryLimit"}
        for end, field in limits.items():
            limit = self.spec.get(field)
            if limit is None:
                continue
            found = sorted((j for j in self.jobs if ended_as(j) == end and not is_terminating(j)), key=_started)
            for job in found[: max(len(found) - int(limit), 0)]:
                self._delete(job)

    def _delete(self, job: Json) -> None:
        name, uid = job["metadata"]["name"], job["metadata"]["uid"]
        event = Emit(self.cronjob, "Normal", "SuccessfulDelete", f"Deleted job {name}")

        def failed(error: ApiError) -> list[Emit]:
            return [Emit(self.cronjob, "Warning", "FailedDelete", f"Deleted job: {error.message}")]

        self.draft.add(delete(JOBS, job, policy="Background", ok=_always(event), failed=failed))
        self._drop(uid)
        self.deleted.add(uid)

    # -- the next job -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Makes the job that is due, if any, and says when to look again."""
        found = self._times()
        if found is None:
            return
        try:
            at, many = found.due()
        except ScheduleError as error:
            text = f"invalid schedule: {self.spec['schedule']} : {error}"
            self.emit("Warning", "InvalidSchedule", text)
            return
        if many:
            self.emit("Warning", "TooManyMissedTimes", TOO_MANY)
        self.draft.look_again(found.wait())
        if at is None or not self._may_start(at):
            return
        if self.spec.get("concurrencyPolicy") == "Replace":
            running = {r.get("uid") for r in self.active}
            for job in self.jobs:
                if job["metadata"]["uid"] in running:
                    self._delete(job)
        self.draft.add(self._create(at))

    def _times(self) -> Times | None:
        schedule = self.spec["schedule"]
        name = self.spec.get("timeZone") or ""
        try:
            zone = zone_of(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            self.emit("Warning", "UnknownTimeZone", f'invalid timeZone: "{name}": unknown time zone {name}')
            return None
        if self.spec.get("suspend"):
            return None
        try:
            return Times({**self.cronjob, "status": self.status}, self.now, parse(schedule), zone)
        except ScheduleError as error:
            self.emit("Warning", "UnparseableSchedule", f'unparseable schedule: "{schedule}" : {error}')
            return None

    def _may_start(self, at: float) -> bool:
        seconds = self.spec.get("startingDeadlineSeconds")
        if seconds is not None and at + seconds < self.now:
            stamp = datetime.fromtimestamp(at, UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
            self.emit("Warning", "MissSchedule", f"Missed scheduled time to start a job: {stamp}")
            return False
        if at == parse_time(self.status.get("lastScheduleTime")):
            return False
        if any(r.get("name") == self._name(at) for r in self.active):
            return False
        if self.spec.get("concurrencyPolicy") == "Forbid" and self.active:
            self.emit("Normal", "JobAlreadyActive", ALREADY_ACTIVE)
            return False
        return True

    def _name(self, at: float) -> str:
        return f"{self.meta['name']}-{int(at) // 60}"

    def _create(self, at: float) -> Step:
        given = self.spec["jobTemplate"]
        more = given.get("metadata") or {}
        stamp = datetime.fromtimestamp(at, zone_of(self.spec.get("timeZone") or "")).isoformat()
        meta: Json = {
            "name": self._name(at),
            "namespace": self.meta["namespace"],
            "annotations": {**(more.get("annotations") or {}), SCHEDULED: stamp.replace("+00:00", "Z")},
            "ownerReferences": [owner_reference(self.cronjob, "batch/v1", "CronJob")],
        }
        if more.get("labels"):
            meta["labels"] = dict(more["labels"])
        body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": given.get("spec") or {}}

        def made(answer: Json) -> list[Emit]:
            return [Emit(self.cronjob, "Normal", "SuccessfulCreate", f"Created job {answer['metadata']['name']}")]

        def failed(error: ApiError) -> list[Emit]:
            return [Emit(self.cronjob, "Warning", "FailedCreate", f"Error creating job: {error.message}")]

        return create(JOBS, body, ok=made, failed=failed, ignore=frozenset({409}))

    def status_steps(self, failures: list[Failure]) -> Sequence[Step]:
        if self.active:
            self.status["active"] = self.active
        else:
            self.status.pop("active", None)
        return [] if self.status == self.old else [update_status(CRONJOBS, self.cronjob, self.status)]


def _started(job: Json) -> Any:
    at = parse_time((job.get("status") or {}).get("startTime"))
    return at is None, at or 0.0, job["metadata"]["name"]


def _always(event: Emit) -> Callable[[Json], Iterable[Emit]]:
    return lambda _: [event]


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a CronJob."""
    cronjob = view.get(CRONJOBS, *split_key(key))
    if cronjob is None:
        return NOTHING
    work = Work(view, cronjob, now)
    work.observe()
    work.clean_up()
    if not is_terminating(cronjob):
        work.start()
    return work.draft.plan(work.status_steps)


CONTROLLER = Controller("cronjob-controller", CRONJOBS, plan, watches={JOBS: owned("CronJob", "batch")}, workers=5)
