"""Jobs: what is made, counted, given up and said; each plan from a state that a crash may have left behind."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.job import JOBS, plan
from portside.controllers.jobbackoff import Record
from portside.controllers.jobindex import FAILURES, IGNORED, INDEX
from portside.controllers.jobpods import TRACKING
from portside.controllers.plan import Emit, Op, Plan
from portside.controllers.podgc import PodCollector

Json = dict[str, Any]
PODS = ("", "v1", "pods")
NOW = 1_790_000_000.0


def job(status: Json | None = None, **spec: Any) -> Json:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "j", "namespace": "ns", "uid": "j-uid", "resourceVersion": "1"},
        "spec": {
            "parallelism": 2,
            "completions": 2,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "podReplacementPolicy": "TerminatingOrFailed",
            "selector": {"matchLabels": {"job": "j"}},
            "template": {
                "metadata": {"labels": {"job": "j"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]},
            },
            **spec,
        },
        "status": status or {"startTime": rfc3339(NOW - 100)},
    }


def pod(
    name: str, phase: str = "Running", *, index: int | None = None, tracked: bool = True, ago: float = 0, code: int = 1
) -> Json:
    meta: Json = {
        "name": name,
        "namespace": "ns",
        "uid": name,
        "labels": {"job": "j"},
        "creationTimestamp": rfc3339(NOW - 50),
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "j-uid", "controller": True}],
        "annotations": {} if index is None else {INDEX: str(index), FAILURES: "0"},
    }
    if tracked:
        meta["finalizers"] = [TRACKING]
    status: Json = {"phase": phase}
    if phase in ("Failed", "Succeeded"):
        ended = {"exitCode": code if phase == "Failed" else 0, "finishedAt": rfc3339(NOW - ago)}
        status["containerStatuses"] = [{"name": "c", "state": {"terminated": ended}}]
    return {"metadata": meta, "spec": {}, "status": status}


def planned(owner: Json, *pods: Json, records: dict[str, Record] | None = None, now: float = NOW) -> Plan:
    return plan(View.of({JOBS: [owner], PODS: pods}), "ns/j", now, {} if records is None else records)


def ops(found: Plan, verb: str) -> list[Op]:
    return [s for s in found.steps if isinstance(s, Op) and s.verb == verb]


def status(found: Plan) -> Json:
    assert found.then is not None
    for step in found.then([]):
        if isinstance(step, Op):
            held: Json = step.body["status"]
            return held
    return {}


def told(found: Plan) -> list[str]:
    after = found.then([]) if found.then else []
    return [s.reason for s in [*found.steps, *after] if isinstance(s, Emit)]


def condition(found: Plan, name: str) -> str:
    return next((c.get("reason", "") for c in status(found).get("conditions") or () if c["type"] == name), "")


def test_as_many_pods_as_parallelism_and_what_is_left_allow() -> None:
    assert len(ops(planned(job()), "create")) == 2
    assert len(ops(planned(job(), pod("a")), "create")) == 1
    assert len(ops(planned(job({"startTime": rfc3339(NOW), "succeeded": 1})), "create")) == 1
    assert ops(planned(job(suspend=True)), "create") == []


def test_a_finished_pod_is_written_down_freed_and_counted_once() -> None:
    noted = planned(job(), pod("a", "Succeeded"), pod("b"))
    assert status(noted)["uncountedTerminatedPods"] == {"succeeded": ["a"]}
    assert ops(noted, "patch") == [], "the finalizer stays until the note is stored"
    held = {"startTime": rfc3339(NOW), "uncountedTerminatedPods": {"succeeded": ["a"]}}
    freed = planned(job(held), pod("a", "Succeeded"), pod("b"))
    assert [s.name for s in ops(freed, "patch")] == ["a"]
    counted = planned(job(held), pod("a", "Succeeded", tracked=False), pod("b"))
    assert (status(counted)["succeeded"], status(counted)["uncountedTerminatedPods"]) == (1, {})
    gone = planned(job(held), pod("b"))
    assert status(gone)["succeeded"] == 1, "a pod that vanished after the note counts too"


def test_a_job_completes_when_all_are_counted_and_none_runs() -> None:
    held = {"startTime": rfc3339(NOW), "succeeded": 2}
    done = planned(job(held))
    assert (condition(done, "Complete"), told(done)) == ("CompletionsReached", ["Completed"])
    still = planned(job(held), pod("late"))
    assert condition(still, "Complete") == "" and condition(still, "SuccessCriteriaMet") == "CompletionsReached"
    assert [s.name for s in ops(still, "delete")] == ["late"]


def test_without_completions_the_first_success_ends_it_and_the_rest_runs_on() -> None:
    owner = job({"startTime": rfc3339(NOW), "succeeded": 1}, parallelism=3)
    del owner["spec"]["completions"]
    running = planned(owner, pod("a"), pod("b"))
    assert not ops(running, "create") and not ops(running, "delete")
    assert condition(planned(owner), "Complete") == "CompletionsReached"


def test_failures_wait_longer_each_time_and_end_the_job_at_the_limit() -> None:
    early = planned(job(), pod("a", "Failed", ago=2))
    assert ops(early, "create") == [] and early.again is not None and 7 < early.again <= 8
    assert len(ops(planned(job(), pod("a", "Failed", ago=11)), "create")) == 2
    twice = planned(job(), pod("a", "Failed", ago=15), pod("b", "Failed", ago=15))
    assert ops(twice, "create") == []
    over = planned(job({"startTime": rfc3339(NOW), "failed": 7}), pod("x"))
    assert condition(over, "FailureTarget") == "BackoffLimitExceeded"
    assert [s.name for s in ops(over, "delete")] == ["x"]


def test_failures_are_remembered_when_their_pods_are_gone_and_forgotten_with_a_success() -> None:
    records: dict[str, Record] = {}
    owner = job(parallelism=1, completions=3)

    def counted(*pods: Json, now: float = NOW) -> Plan:
        found = planned(owner, *pods, records=records, now=now)
        assert found.then is not None
        for step in found.then([]):
            if isinstance(step, Op) and step.ok is not None:
                step.ok({})
        return found

    counted(pod("a", "Failed", ago=0))
    counted(pod("b", "Failed", ago=-10))
    early = planned(owner, records=records, now=NOW + 20)
    assert not ops(early, "create") and early.again == 10.0, "two in a row: 20 s after the second"
    assert ops(planned(owner, records=records, now=NOW + 30), "create")
    counted(pod("c", "Succeeded", ago=-40))
    assert ops(planned(owner, records=records, now=NOW + 40), "create"), "nothing is held against it any more"
    counted(pod("d", "Failed", ago=-50))
    assert planned(owner, records=records, now=NOW + 50).again == 10.0
    other = job(parallelism=1)
    other["metadata"]["uid"] = "another"
    assert ops(planned(other, records=records, now=NOW + 50), "create"), "a job of the same name begins anew"


def test_after_a_restart_the_failures_are_read_from_the_pods_that_are_there() -> None:
    seen = [pod("a", "Failed", tracked=False, ago=35), pod("b", "Failed", tracked=False, ago=5)]
    found = planned(job(parallelism=1), *seen)
    assert not ops(found, "create") and found.again == 15.0
    assert ops(planned(job(parallelism=1), *seen, pod("c", "Succeeded", tracked=False, ago=1)), "create")


def test_what_is_made_and_what_is_deleted_shows_in_the_status_at_once() -> None:
    assert status(planned(job()))["active"] == 2
    found = planned(job(activeDeadlineSeconds=1), pod("a"), pod("b"))
    assert len(ops(found, "delete")) == 2
    assert ("active" in status(found), status(found)["terminating"]) == (False, 2)


def test_pods_of_indexes_beyond_the_end_are_freed_and_not_counted() -> None:
    found = planned(job(completionMode="Indexed"), pod("a", "Failed", index=5), pod("b", "Failed", index=1))
    assert status(found)["uncountedTerminatedPods"] == {"failed": ["b"]}
    assert [o.name for o in ops(found, "patch")] == ["a"]


def test_the_deadline_counts_from_the_start() -> None:
    late = planned(job(activeDeadlineSeconds=60))
    assert condition(late, "Failed") == "DeadlineExceeded" and told(late) == ["DeadlineExceeded"]
    assert condition(planned(job(activeDeadlineSeconds=60, suspend=True)), "Failed") == ""


def test_suspension_removes_pods_and_resuming_starts_the_clock_again() -> None:
    off = planned(job(suspend=True), pod("a"))
    assert [s.name for s in ops(off, "delete")] == ["a"]
    assert condition(off, "Suspended") == "JobSuspended" and "startTime" not in status(off)
    held = {"conditions": [{"type": "Suspended", "status": "True", "reason": "JobSuspended"}]}
    on = planned(job(held))
    assert condition(on, "Suspended") == "JobResumed" and status(on)["startTime"] == rfc3339(NOW)


def indexed(status: Json | None = None, **spec: Any) -> Json:
    return job(status, completionMode="Indexed", **spec)


def test_indexes_are_filled_from_the_lowest_and_doubles_go() -> None:
    made = ops(planned(indexed(), pod("a", index=0)), "create")
    (body,) = [s.body for s in made]
    assert body["metadata"]["annotations"][INDEX] == "1" and body["spec"]["hostname"] == "j-1"
    double = planned(indexed(), pod("a", index=0), pod("b", index=0))
    assert [s.name for s in ops(double, "delete")] == ["b"]
    assert ops(double, "create") == [], "a plan that deletes makes nothing"
    done = planned(indexed(), pod("a", "Succeeded", index=0), pod("b", index=1))
    assert status(done)["completedIndexes"] == "0"


def test_a_failed_index_that_goes_on_is_counted_when_its_successor_carries_the_failure() -> None:
    owner = indexed(backoffLimitPerIndex=1, backoffLimit=2**31 - 1)
    waiting = planned(owner, pod("a", "Failed", index=0, ago=2), pod("b", index=1))
    assert status(waiting).get("failed") is None and "uncountedTerminatedPods" in status(waiting)
    assert waiting.again is not None and waiting.again <= 8.1
    (made,) = ops(planned(owner, pod("a", "Failed", index=0, ago=11), pod("b", index=1)), "create")
    assert made.body["metadata"]["annotations"] == {INDEX: "0", FAILURES: "1"}
    successor = pod("c", index=0)
    successor["metadata"]["annotations"][FAILURES] = "1"
    counted = planned(owner, pod("a", "Failed", index=0), successor, pod("b", index=1))
    assert status(counted)["uncountedTerminatedPods"] == {"failed": ["a"]}


def test_an_index_at_its_limit_fails_and_too_many_of_them_fail_the_job() -> None:
    owner = indexed(backoffLimitPerIndex=0, maxFailedIndexes=0, backoffLimit=2**31 - 1)
    found = planned(owner, pod("a", "Failed", index=0), pod("b", index=1))
    assert status(found)["failedIndexes"] == "0"
    assert condition(found, "FailureTarget") == "MaxFailedIndexesExceeded"


def test_rules_ignore_fail_the_index_or_fail_the_job() -> None:
    def rule(action: str) -> Json:
        codes = {"operator": "In", "values": [42]}
        return {"rules": [{"action": action, "onExitCodes": codes}]}

    def found(action: str, **spec: Any) -> Plan:
        owner = indexed(podFailurePolicy=rule(action), podReplacementPolicy="Failed", **spec)
        return planned(owner, pod("a", "Failed", index=0, code=42, ago=11), pod("b", index=1))

    assert condition(found("FailJob"), "FailureTarget") == "PodFailurePolicy"
    assert [s.name for s in ops(found("Ignore"), "patch")] == ["a"], "freed without being counted"
    limits = {"backoffLimitPerIndex": 3, "backoffLimit": 2**31 - 1}
    assert status(found("FailIndex", **limits))["failedIndexes"] == "0"
    (made,) = ops(found("Ignore", **limits), "create")
    assert made.body["metadata"]["annotations"] == {INDEX: "0", FAILURES: "0", IGNORED: "1"}


def test_a_failure_outweighs_a_success_policy_that_is_met_as_well() -> None:
    policy = {"rules": [{"succeededCount": 1}]}
    met = planned(indexed(successPolicy=policy), pod("a", "Succeeded", index=0), pod("b", index=1))
    assert condition(met, "SuccessCriteriaMet") == "SuccessPolicy"
    held = {"startTime": rfc3339(NOW), "failed": 7}
    both = planned(indexed(held, successPolicy=policy), pod("a", "Succeeded", index=0))
    assert condition(both, "FailureTarget") == "BackoffLimitExceeded"


def test_replacement_may_wait_until_the_old_pod_has_really_ended() -> None:
    leaving = pod("a")
    leaving["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert len(ops(planned(job(), leaving, pod("b")), "create")) == 0, "back-off, as it counts as failed"
    patient = planned(job(podReplacementPolicy="Failed"), leaving, pod("b"))
    assert ops(patient, "create") == [] and status(patient)["terminating"] == 1
    assert "failed" not in status(patient)["uncountedTerminatedPods"]


def test_a_job_of_another_controller_is_left_alone() -> None:
    assert planned(job(managedBy="example.com/other")).steps == ()


def test_a_pod_that_never_reached_a_node_is_marked_failed_when_it_goes() -> None:
    leaving = pod("a", "Pending")
    leaving["metadata"]["deletionTimestamp"] = rfc3339(NOW)
    assert PodCollector().plan(View.of({PODS: [leaving]}), "ns/a", NOW + 5).again == 15
    found = PodCollector().plan(View.of({PODS: [leaving]}), "ns/a", NOW + 20)
    assert [(s.verb, (s.body or {}).get("status")) for s in found.steps if isinstance(s, Op)] == [
        ("patch", {"phase": "Failed"}),
        ("delete", None),
    ]


def test_every_pod_of_a_missing_node_waits_out_a_quarantine_of_its_own() -> None:
    def lost(name: str, uid: str) -> Json:
        return {"metadata": {"namespace": "ns", "name": name, "uid": uid}, "spec": {"nodeName": "gone"}, "status": {}}

    collector = PodCollector()
    assert collector.plan(View.of({PODS: [lost("a", "1")]}), "ns/a", NOW).steps == ()
    both = View.of({PODS: [lost("a", "1"), lost("b", "2")]})
    assert [step.verb for step in collector.plan(both, "ns/a", NOW + 41).steps] == ["patch", "delete"]  # type: ignore[union-attr]
    assert collector.plan(both, "ns/b", NOW + 41).steps == ()  # bound by hand to the same name, later
    anew = View.of({PODS: [lost("a", "3")]})
    later = collector.plan(anew, "ns/a", NOW + 42)  # another pod of the old one's name
    assert later.steps == () and later.again is not None and 39 < later.again < 41
