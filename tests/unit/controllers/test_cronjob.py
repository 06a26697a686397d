"""CronJobs: times, zones, deadlines, concurrency, history; each plan made from what is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from portside.api.rules.cron_schedule import next_time, parse
from portside.client.cache import View
from portside.controllers.cronjob import CRONJOBS, SCHEDULED, plan
from portside.controllers.job import JOBS
from portside.controllers.plan import Emit, Op, Plan

T0 = datetime(2026, 11, 25, 10, 0, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def cronjob(schedule: str = "*/5 * * * *", status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": "ns", "uid": "c", "creationTimestamp": "2026-11-25T10:00:00Z"},
        "spec": {
            "schedule": schedule,
            "concurrencyPolicy": "Allow",
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}},
            **spec,
        },
        "status": status or {},
    }


def job(stamp: str, end: str = "", **more: Any) -> dict[str, Any]:
    name = f"tick-{int(at(stamp)) // 60}"
    status: dict[str, Any] = {"startTime": stamp}
    if end:
        status["conditions"] = [{"type": end, "status": "True"}]
        if end == "Complete":
            status["completionTime"] = stamp
    meta = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "creationTimestamp": stamp,
        "annotations": {SCHEDULED: stamp},
        "ownerReferences": [{"kind": "CronJob", "name": "tick", "uid": "c", "controller": True}],
        **more,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "status": status}


def planned(owner: dict[str, Any], now: float, *jobs: dict[str, Any]) -> Plan:
    return plan(View.of({CRONJOBS: [owner], JOBS: jobs}), "ns/tick", now)


def created(found: Plan) -> list[str]:
    return [s.name for s in found.steps if isinstance(s, Op) and s.verb == "create"]


def deleted(found: Plan) -> list[str]:
    return [s.name for s in found.steps if isinstance(s, Op) and s.verb == "delete"]


def reasons(found: Plan) -> list[str]:
    return [s.reason for s in found.steps if isinstance(s, Emit)]


def status(found: Plan) -> dict[str, Any]:
    assert found.then is not None
    (step,) = found.then([])
    assert isinstance(step, Op)
    held: dict[str, Any] = step.body["status"]
    return held


def test_nothing_is_due_before_the_first_time_and_the_next_look_is_just_after_it() -> None:
    found = planned(cronjob(), T0 + 60)
    assert created(found) == []
    assert found.again is not None and abs(found.again - 240.1) < 0.01


def test_a_due_time_makes_one_job_named_after_it() -> None:
    found = planned(cronjob(), T0 + 301)
    (step,) = [s for s in found.steps if isinstance(s, Op)]
    assert step.name == f"tick-{int(T0 + 300) // 60}"
    assert step.body["metadata"]["labels"] == {"a": "b"}
    assert step.body["metadata"]["annotations"] == {SCHEDULED: "2026-11-25T10:05:00Z"}


def test_the_made_job_is_noted_and_its_time_is_not_started_again() -> None:
    found = planned(cronjob(), T0 + 301, job("2026-11-25T10:05:00Z"))
    assert created(found) == []
    assert status(found)["lastScheduleTime"] == "2026-11-25T10:05:00Z"
    assert [r["name"] for r in status(found)["active"]] == [f"tick-{int(T0 + 300) // 60}"]


def test_an_ended_job_leaves_the_active_list_with_an_event() -> None:
    done = job("2026-11-25T10:05:00Z", "Complete")
    name = done["metadata"]["name"]
    held = {"lastScheduleTime": "2026-11-25T10:05:00Z", "active": [{"uid": name, "name": name}]}
    found = planned(cronjob(status=held), T0 + 320, done)
    assert reasons(found) == ["SawCompletedJob"]
    assert "active" not in status(found)
    assert status(found)["lastSuccessfulTime"] == "2026-11-25T10:05:00Z"


def test_forbid_waits_replace_deletes_allow_adds() -> None:
    running = job("2026-11-25T10:05:00Z")
    name = running["metadata"]["name"]
    held = {"lastScheduleTime": "2026-11-25T10:05:00Z", "active": [{"uid": name, "name": name}]}
    forbidden = planned(cronjob(status=held, concurrencyPolicy="Forbid"), T0 + 601, running)
    assert created(forbidden) == [] and reasons(forbidden) == ["JobAlreadyActive"]
    replaced = planned(cronjob(status=held, concurrencyPolicy="Replace"), T0 + 601, running)
    assert deleted(replaced) == [name] and len(created(replaced)) == 1
    allowed = planned(cronjob(status=held), T0 + 601, running)
    assert deleted(allowed) == [] and len(created(allowed)) == 1


def test_a_suspended_cronjob_starts_nothing_but_follows_its_jobs() -> None:
    found = planned(cronjob(suspend=True), T0 + 900, job("2026-11-25T10:05:00Z"))
    assert created(found) == [] and found.again is None
    assert status(found)["active"]


def test_a_time_missed_by_more_than_the_deadline_is_not_made_up() -> None:
    assert created(planned(cronjob("0 * * * *", startingDeadlineSeconds=60), T0 + 3600 + 61)) == []
    assert len(created(planned(cronjob("0 * * * *", startingDeadlineSeconds=60), T0 + 3600 + 59))) == 1


def test_of_many_missed_times_only_the_last_is_made_up_with_a_warning() -> None:
    found = planned(cronjob("* * * * *"), T0 + 3 * 3600 + 5)
    assert created(found) == [f"tick-{int(T0 + 3 * 3600) // 60}"]
    assert reasons(found) == ["TooManyMissedTimes"]


def test_the_history_keeps_the_newest_jobs_of_each_kind() -> None:
    good = [job(f"2026-11-25T10:{m:02}:00Z", "Complete") for m in (5, 10, 15, 20, 25)]
    bad = [job(f"2026-11-25T10:{m:02}:00Z", "Failed") for m in (30, 35)]
    held = {"lastScheduleTime": "2026-11-25T10:35:00Z"}
    found = planned(cronjob(status=held), T0 + 36 * 60, *good, *bad)
    assert deleted(found) == [j["metadata"]["name"] for j in (*good[:2], bad[0])]


def test_jobs_of_others_and_jobs_that_went_are_reported() -> None:
    manual = job("2026-11-25T10:05:00Z", annotations={"cronjob.kubernetes.io/instantiate": "manual"})
    held = {"active": [{"uid": "gone", "name": "gone"}]}
    found = planned(cronjob(status=held), T0 + 200, manual)
    assert reasons(found) == ["UnexpectedJob", "MissingJob"]


def test_schedules_follow_the_wall_clock_of_their_zone() -> None:
    owner = cronjob("0 12 * * *", timeZone="America/New_York")
    found = planned(owner, at("2026-11-25T17:00:01Z"))
    (step,) = [s for s in found.steps if isinstance(s, Op)]
    assert step.body["metadata"]["annotations"][SCHEDULED] == "2026-11-25T12:00:00-05:00"


def test_an_hour_skipped_by_the_clock_has_no_times_and_a_repeated_one_has_them_twice() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    daily = parse("30 2 * * *")
    spring = next_time(daily, at("2026-03-28T12:00:00+01:00"), berlin)
    assert spring == at("2026-03-30T02:30:00+02:00")
    first = next_time(daily, at("2026-10-24T12:00:00+02:00"), berlin)
    assert first == at("2026-10-25T02:30:00+02:00")
    assert next_time(daily, first, berlin) == at("2026-10-25T02:30:00+01:00")


def test_a_schedule_that_never_comes_says_so() -> None:
    assert reasons(planned(cronjob("0 0 31 2 *"), T0 + 60)) == ["InvalidSchedule"]
