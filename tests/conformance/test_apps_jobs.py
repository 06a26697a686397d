"""The conformance names of CronJob, Job and PodDisruptionBudget. Where a pod's end matters, the test plays its kubelet."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import NOWHERE, Ground, ground, pod, template, workload
from tests.conformance.names import conformance

__all__ = ["ground"]
Json = dict[str, Any]
JOB = "batch.kubernetes.io/job-completion-index"


def job(name: str = "j", *, here: bool = False, restart: str = "Never", **spec: Any) -> Json:
    """``here``: its pods run on simulated nodes, and succeed."""
    more = {} if here else {"nodeSelector": NOWHERE}
    return {"metadata": {"name": name}, "spec": {"template": template("job", restartPolicy=restart, **more), **spec}}


def pods(g: Ground, count: int) -> list[Json]:
    """Waits for that many that are not going."""

    def live() -> list[Json]:
        return [p for p in g.pods("app=job") if "deletionTimestamp" not in p["metadata"]]

    def enough() -> list[Json] | None:
        there = live()
        return there if len(there) == count else None

    found: list[Json] = g.until(enough)
    return sorted(found, key=lambda p: int(p["metadata"].get("annotations", {}).get(JOB, 0)))


def end(g: Ground, found: Json, code: int) -> None:
    g.says(found["metadata"]["name"], "Failed" if code else "Succeeded", code)


# -- CronJob ----------------------------------------------------------------------------------------------------------


def cronjob(name: str = "tick", schedule: str = "* * * * *", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}, **spec}}


def overdue(g: Ground, name: str, body: Json, *, suspend: bool = False) -> None:
    """A cron job whose time of today has just passed: one that resumes has one job to make, and no other before tomorrow."""
    g.create("cronjobs", body | {"spec": body["spec"] | {"suspend": True}})
    due = datetime.now(UTC) - timedelta(minutes=2)
    before = (due - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:00Z")
    g.patch("cronjobs", name, {"status": {"lastScheduleTime": before}}, "status")
    g.patch("cronjobs", name, {"spec": {"schedule": f"{due.minute} {due.hour} * * *", "suspend": suspend}})


def jobs(g: Ground) -> list[str]:
    return [j["metadata"]["name"] for j in g.all("jobs")]


def told(g: Ground, name: str, reason: str) -> None:
    """Waits until the controller has said so of a cron job."""
    events = g.path("events", fieldSelector=f"involvedObject.name={name},reason={reason}")
    g.until(lambda: g.api.send("GET", events)["items"])


@conformance("ControllerRevision, CronJob", "CronJob suspended makes no jobs")
def test_cronjob_makes_a_job_for_a_minute_that_passed_and_none_while_suspended(ground: Ground) -> None:
    overdue(ground, "off", cronjob("off"), suspend=True)
    overdue(ground, "tick", cronjob())
    (made,) = ground.until(lambda: jobs(ground))
    assert made.startswith("tick-"), "the other had its turn before"
    active = ground.until(lambda: ground.get("cronjobs", "tick")["status"].get("active"))
    assert [r["name"] for r in active] == [made]
    assert jobs(ground) == [made]


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        pytest.param("Forbid", "same", marks=conformance("ControllerRevision, CronJob", "CronJob Forbid")),
        pytest.param("Replace", "new", marks=conformance("ControllerRevision, CronJob", "CronJob Replace")),
        pytest.param(
            "Allow", "both", marks=conformance("ControllerRevision, CronJob", "CronJob Allow, several at once")
        ),
    ],
)
def test_cronjob_concurrency(ground: Ground, policy: str, left: str) -> None:
    overdue(ground, "tick", cronjob(concurrencyPolicy=policy))
    (first,) = ground.until(lambda: jobs(ground))
    ground.until(lambda: ground.get("cronjobs", "tick")["status"].get("active"))
    # The same again, as if the job had been that of an earlier minute.
    ground.patch("cronjobs", "tick", {"spec": {"suspend": True}})
    held = ground.get("jobs", first)["metadata"]
    ref = {"apiVersion": "batch/v1", "kind": "Job", "namespace": ground.name}
    ground.delete("jobs", first, propagationPolicy="Background")
    ground.until(lambda: ground.gone("jobs", first))
    told(ground, "tick", "MissingJob")
    earlier = job("tick-1")
    earlier["metadata"] |= {"ownerReferences": held["ownerReferences"], "annotations": {"note": "running"}}
    made = ground.create("jobs", earlier)
    told(ground, "tick", "UnexpectedJob")  # the controller knows it
    past = {
        "lastScheduleTime": "2026-01-01T00:00:00Z",
        "active": [ref | {"name": "tick-1", "uid": made["metadata"]["uid"]}],
    }
    ground.patch("cronjobs", "tick", {"status": past}, "status")
    ground.patch("cronjobs", "tick", {"spec": {"suspend": False}})
    if left == "same":
        told(ground, "tick", "JobAlreadyActive")
        assert jobs(ground) == ["tick-1"]
    elif left == "new":
        ground.until(lambda: len(jobs(ground)) == 1 and "tick-1" not in jobs(ground))
    else:
        ground.until(lambda: len(jobs(ground)) == 2)


@conformance("ControllerRevision, CronJob", "CronJob API + status")
def test_cronjob_api_and_status(ground: Ground) -> None:
    made = ground.create("cronjobs", cronjob(schedule="0 0 1 1 *", suspend=True))  # the controller has nothing to say
    assert made["metadata"]["generation"] == 1
    ground.patch("cronjobs", "tick", {"metadata": {"annotations": {"patched": "true"}}})
    made = ground.change("cronjobs", "tick", lambda held: held["spec"].update(schedule="0 1 1 1 *"))
    assert made["metadata"]["generation"] == 2
    status = {"lastScheduleTime": "2026-01-01T00:00:00Z"}
    assert ground.patch("cronjobs", "tick", {"status": status}, "status")["status"] == status
    later = {"lastScheduleTime": "2026-01-02T00:00:00Z"}
    ground.change("cronjobs", "tick", lambda held: held["status"].update(later), "status")
    assert ground.get("cronjobs", "tick", "status")["status"]["lastScheduleTime"] == "2026-01-02T00:00:00Z"
    assert "tick" in ground.kubectl("get", "cronjob")
    ground.delete("cronjobs", "tick")
    assert ground.gone("cronjobs", "tick")


# -- Job --------------------------------------------------------------------------------------------------------------


@conformance("Job", "adopts matching orphans, releases non-matching")
def test_job_adopts_orphans_and_releases_what_no_longer_matches(ground: Ground) -> None:
    ground.create("jobs", job(parallelism=2, completions=4))
    first = pods(ground, 2)[0]["metadata"]
    ground.patch("pods", first["name"], {"metadata": {"ownerReferences": None}})
    ground.until(lambda: ground.get("pods", first["name"])["metadata"].get("ownerReferences"))
    labels = dict.fromkeys(first["labels"], None)
    ground.patch("pods", first["name"], {"metadata": {"labels": labels}})
    ground.until(lambda: not ground.get("pods", first["name"])["metadata"].get("ownerReferences"))


@conformance("Job", "podFailurePolicy ignores DisruptionTarget", "podFailurePolicy on exit code fails the job early")
def test_job_policy_ignores_disruptions_and_fails_early_on_an_exit_code(ground: Ground) -> None:
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
    ground.create("jobs", job(backoffLimit=0, podFailurePolicy={"rules": rules}))
    (first,) = pods(ground, 1)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "lastTransitionTime": stamp,
    }
    ground.patch("pods", first["metadata"]["name"], {"status": {"conditions": [target]}}, "status")
    end(ground, first, 1)
    again = ground.until(lambda: [p for p in ground.pods("app=job") if p["status"]["phase"] == "Pending"])
    assert (ground.get("jobs", "j")["status"].get("failed") or 0) == 0
    end(ground, again[0], 42)
    failed = ground.condition("jobs", "j", "Failed")
    assert (
        failed["reason"] == "PodFailurePolicy" and "exit code 42 matching FailJob rule at index 1" in failed["message"]
    )


@conformance("Job", "status patch, update, read")
def test_job_status_patch_update_read(ground: Ground) -> None:
    ground.create("jobs", job(here=True, parallelism=2, completions=2))
    ground.condition("jobs", "j", "Complete")
    ground.create("jobs", job("k", suspend=True))
    ground.condition("jobs", "k", "Suspended")
    ground.patch("jobs", "k", {"metadata": {"annotations": {"patchedstatus": "true"}}, "status": {}}, "status")
    mine = {"type": "Mine", "status": "True", "lastProbeTime": None, "lastTransitionTime": None}
    ground.change("jobs", "k", lambda held: held["status"]["conditions"].append(mine), "status")
    assert ground.condition("jobs", "k", "Mine")


@conformance("Job", "Indexed: index annotation, env, hostname")
def test_indexed_job_tells_each_pod_its_index(ground: Ground) -> None:
    ground.create("jobs", job(completionMode="Indexed", completions=3, parallelism=3))
    found = pods(ground, 3)
    assert [p["metadata"]["annotations"][JOB] for p in found] == ["0", "1", "2"]
    assert [p["spec"]["hostname"] for p in found] == ["j-0", "j-1", "j-2"]
    assert [p["metadata"]["labels"][JOB] for p in found] == ["0", "1", "2"]
    env = {e["name"]: e for e in found[0]["spec"]["containers"][0]["env"]}
    assert env["JOB_COMPLETION_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{JOB}']"
    for p in found:
        end(ground, p, 0)
    ground.condition("jobs", "j", "Complete")
    assert ground.get("jobs", "j")["status"]["completedIndexes"] == "0-2"


@conformance("Job", "delete with active pods")
def test_job_deleted_with_active_pods_takes_them_along(ground: Ground) -> None:
    ground.create("jobs", job(parallelism=2, completions=4))
    pods(ground, 2)
    ground.kubectl("delete", "job", "j", "--timeout=60s")
    ground.until(lambda: not ground.pods("app=job"))


def per_index(**spec: Any) -> Json:
    return job(completionMode="Indexed", completions=2, parallelism=2, **{"backoffLimitPerIndex": 0, **spec})


@conformance("Job", "backoffLimitPerIndex runs every index")
def test_job_limit_per_index_runs_every_index_and_then_fails(ground: Ground) -> None:
    ground.create("jobs", per_index())
    zero, one = pods(ground, 2)
    end(ground, zero, 1)
    end(ground, one, 0)
    assert ground.condition("jobs", "j", "Failed")["reason"] == "FailedIndexes"
    status = ground.get("jobs", "j")["status"]
    assert (status["failedIndexes"], status["completedIndexes"], status["failed"]) == ("0", "1", 1)


@conformance("Job", "maxFailedIndexes ends the job")
def test_job_ends_early_when_too_many_indexes_fail(ground: Ground) -> None:
    ground.create("jobs", per_index(maxFailedIndexes=0))
    end(ground, pods(ground, 2)[0], 1)
    assert ground.condition("jobs", "j", "Failed")["reason"] == "MaxFailedIndexesExceeded"


@conformance("Job", "FailIndex action")
def test_job_rule_fails_an_index_without_using_up_its_limit(ground: Ground) -> None:
    rule = {"action": "FailIndex", "onExitCodes": {"operator": "In", "values": [42]}}
    ground.create("jobs", per_index(backoffLimitPerIndex=1, podFailurePolicy={"rules": [rule]}))
    zero, one = pods(ground, 2)
    end(ground, zero, 42)
    end(ground, one, 0)
    assert ground.condition("jobs", "j", "Failed")["reason"] == "FailedIndexes"
    assert ground.get("jobs", "j")["status"]["failedIndexes"] == "0"


@conformance("Job", "suspended job lifecycle, patch, replace, deletecollection")
def test_job_suspended_resumed_patched_replaced_and_collected(ground: Ground) -> None:
    ground.create("jobs", job(suspend=True, parallelism=1, completions=1))
    ground.condition("jobs", "j", "Suspended")
    assert not ground.pods("app=job")
    ground.patch("jobs", "j", {"metadata": {"labels": {"e2e": ground.name}}, "spec": {"suspend": False}})
    (first,) = pods(ground, 1)
    ground.change("jobs", "j", lambda held: held["metadata"].setdefault("annotations", {}).update(updated="true"))
    end(ground, first, 0)
    ground.condition("jobs", "j", "Complete")
    assert len(ground.all("jobs", f"e2e={ground.name}", everywhere=True)) == 1
    ground.clear("jobs", f"e2e={ground.name}")
    ground.until(lambda: ground.gone("jobs", "j"))


def test_a_suspended_job_may_change_what_its_pods_ask_for_also_after_it_had_started(ground: Ground) -> None:
    def asks(cpu: str, **more: Any) -> Json:
        own = {"name": name, "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}
        return {"spec": {"template": {"spec": {"containers": [own | more]}}}}

    def change(body: Json) -> None:
        ground.kubectl("patch", "job", "j", "--type=strategic", "-p", json.dumps(body))

    made = ground.create("jobs", job(suspend=True, parallelism=1, completions=1))
    name = made["spec"]["template"]["spec"]["containers"][0]["name"]
    ground.condition("jobs", "j", "Suspended")
    change(asks("20m"))
    with pytest.raises(AssertionError, match=r"spec.template.spec: Invalid value.*field is immutable"):
        change(asks("30m", image="registry.example.com/other:1"))
    change({"spec": {"suspend": False}})
    (first,) = pods(ground, 1)
    assert first["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "20m"
    with pytest.raises(AssertionError, match=r"spec.template: Invalid value.*field is immutable"):
        change(asks("40m"))
    change({"spec": {"suspend": True}})
    ground.until(lambda: not ground.pods("app=job") and not ground.get("jobs", "j")["status"].get("startTime"))
    ground.until(lambda: not ground.get("jobs", "j")["status"].get("active"))
    change(asks("40m"))
    change({"spec": {"suspend": False}})
    (second,) = pods(ground, 1)
    assert second["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "40m"


@conformance("Job", "completes when tasks fail and restart locally")
def test_job_completes_when_its_tasks_fail_and_restart_locally(ground: Ground) -> None:
    ground.create("jobs", job(restart="OnFailure", parallelism=1, completions=1, backoffLimit=3))
    (only,) = pods(ground, 1)
    held = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 2, "state": {"running": {}}}
    ground.patch(
        "pods", only["metadata"]["name"], {"status": {"phase": "Running", "containerStatuses": [held]}}, "status"
    )
    end(ground, only, 0)
    ground.condition("jobs", "j", "Complete")
    ground.create("jobs", job("k", restart="OnFailure", backoffLimit=1))
    restarted = ground.until(lambda: ground.pods("job-name=k"))[0]["metadata"]["name"]
    ground.patch("pods", restarted, {"status": {"phase": "Running", "containerStatuses": [held]}}, "status")
    assert ground.condition("jobs", "k", "Failed")["reason"] == "BackoffLimitExceeded"


@pytest.mark.parametrize(
    ("rule", "good"),
    [
        pytest.param({"succeededCount": 1}, [1], marks=conformance("Job", "successPolicy succeededCount")),
        pytest.param({"succeededIndexes": "0"}, [0], marks=conformance("Job", "successPolicy succeededIndexes")),
        ({"succeededIndexes": "0,1", "succeededCount": 1}, [1]),
        pytest.param(
            {"succeededIndexes": "0-2"}, [0, 1, 2], marks=conformance("Job", "successPolicy, all indexes succeeded")
        ),
    ],
)
def test_job_success_policy(ground: Ground, rule: Json, good: list[int]) -> None:
    body = job(completionMode="Indexed", completions=3, parallelism=3, successPolicy={"rules": [rule]})
    ground.create("jobs", body)
    found = pods(ground, 3)
    for index in good:
        end(ground, found[index], 0)
    done = ground.condition("jobs", "j", "Complete")
    assert (done["reason"], done["message"]) == ("SuccessPolicy", "Matched rules at index 0")
    status = ground.get("jobs", "j")["status"]
    assert status["succeeded"] == len(good) and not status.get("failed")
    ground.until(lambda: len(ground.pods("app=job")) == len(good))


# -- PodDisruptionBudget ----------------------------------------------------------------------------------------------


def budget(name: str = "b", **spec: Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"b": name}},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


@conformance("PodDisruptionBudget", "create, update, patch, delete", "list in all namespaces + deletecollection")
def test_budget_create_update_patch_list_and_delete(ground: Ground) -> None:
    ground.create("poddisruptionbudgets", budget(minAvailable=1))
    ground.create("poddisruptionbudgets", budget("c", minAvailable="1%"))
    ground.status("poddisruptionbudgets", "b", desiredHealthy=1)
    held = ground.change("poddisruptionbudgets", "b", lambda held: held["spec"].update(minAvailable=2))
    assert held["metadata"]["generation"] == 2
    ground.patch("poddisruptionbudgets", "b", {"spec": {"minAvailable": "3%"}})
    ground.status("poddisruptionbudgets", "b", observedGeneration=3)
    listed = ground.all("poddisruptionbudgets", "b in (b, c)", everywhere=True)
    assert {b["metadata"]["name"] for b in listed if b["metadata"]["namespace"] == ground.name} == {"b", "c"}
    ground.clear("poddisruptionbudgets", "b=c")
    ground.until(lambda: ground.gone("poddisruptionbudgets", "c"))
    ground.delete("poddisruptionbudgets", "b")
    assert ground.gone("poddisruptionbudgets", "b")


def evict(g: Ground, name: str) -> int:
    try:
        g.create("pods", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}, name, "eviction")
    except Refused as refused:
        return refused.code
    return 201


@conformance("PodDisruptionBudget", "eviction blocked (429) until the PDB allows it")
def test_eviction_waits_for_the_budget(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=3))
    ground.status("deployments", "web", availableReplicas=3)
    ground.create("poddisruptionbudgets", budget(minAvailable=3))
    status = ground.status("poddisruptionbudgets", "b", currentHealthy=3, expectedPods=3)["status"]
    assert status["disruptionsAllowed"] == 0
    name = ground.pods("app=web")[0]["metadata"]["name"]
    assert evict(ground, name) == 429
    ground.patch("poddisruptionbudgets", "b", {"spec": {"minAvailable": 2}})
    ground.status("poddisruptionbudgets", "b", disruptionsAllowed=1)
    assert evict(ground, name) == 201
    ground.until(lambda: ground.gone("pods", name))
    ground.status("poddisruptionbudgets", "b", currentHealthy=3)
    ground.patch("poddisruptionbudgets", "b", {"spec": {"minAvailable": None, "maxUnavailable": "34%"}})
    ground.status("poddisruptionbudgets", "b", disruptionsAllowed=2, desiredHealthy=1)


def test_a_pod_under_two_budgets_is_told_and_stays(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=1))
    ground.status("deployments", "web", availableReplicas=1)
    name = ground.pods("app=web")[0]["metadata"]["name"]
    for budget_name in ("c", "b"):
        ground.create("poddisruptionbudgets", budget(budget_name, minAvailable=0))
        ground.status("poddisruptionbudgets", budget_name, disruptionsAllowed=1)
    text = f'Pod "{ground.name}"/"{name}" matches multiple PodDisruptionBudgets.  Chose "b" arbitrarily.'

    def said() -> bool:
        events = [e for e in ground.all("events") if e["reason"] == "MultiplePodDisruptionBudgets"]
        return [(e["involvedObject"]["name"], e["message"]) for e in events] == [(name, text)]

    ground.until(said)
    assert evict(ground, name) == 500


@conformance("PodDisruptionBudget", "status observed from the controller", "status update and patch")
def test_budget_status_is_observed_and_can_be_written(ground: Ground) -> None:
    ground.create("poddisruptionbudgets", budget(minAvailable=1))
    ground.create("pods", pod("one"))
    ground.status("poddisruptionbudgets", "b", currentHealthy=1)
    long_ago = {"disruptedPods": {"one": "2026-01-01T00:00:00Z"}}
    held = ground.change("poddisruptionbudgets", "b", lambda held: held["status"].update(long_ago), "status")
    assert held["status"]["disruptedPods"]
    ground.until(lambda: not ground.get("poddisruptionbudgets", "b")["status"].get("disruptedPods"))
    patched = ground.patch("poddisruptionbudgets", "b", {"status": long_ago}, "status")
    assert patched["status"]["disruptedPods"] == long_ago["disruptedPods"]
