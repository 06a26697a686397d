"""Causes of Jobs, CronJobs and autoscalers: limits they ran into, and wishes that keep them from running."""

from __future__ import annotations

from typing import Any

from portside.why.finding import Cause, Fact, Find, Finding, Grade, Role, condition, describe, said, seen, space, title
from portside.why.world import World, seconds

Json = dict[str, Any]
# Reasons of a Job's Failed condition: the cause's name, what it says, the field that sets the limit, what to do.
FAILURES: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "job-backoff-limit",
        "BackoffLimitExceeded",
        "its pods failed more often than backoffLimit allows, so the Job gave up",
        "backoffLimit",
        "mend what makes the pods fail, then delete the Job and create it anew: a failed Job stays failed",
    ),
    (
        "job-deadline",
        "DeadlineExceeded",
        "the Job ran longer than activeDeadlineSeconds, and its pods were ended",
        "activeDeadlineSeconds",
        "raise activeDeadlineSeconds, or find out what took so long; then create the Job anew",
    ),
    (
        "job-failure-policy",
        "PodFailurePolicy",
        "a pod ended in a way for which podFailurePolicy says FailJob",
        "podFailurePolicy",
        "mend what makes the pods fail, or the policy; then create the Job anew",
    ),
    (
        "job-failed-indexes",
        "FailedIndexes",
        "indexes failed more often than backoffLimitPerIndex allows",
        "backoffLimitPerIndex",
        "mend what makes these indexes fail, then create the Job anew",
    ),
)


def failed_by(reason: str, says: str, field: str, todo: str) -> Find:
    def find(world: World, job: Json) -> Finding | None:
        held = condition(job, "Failed")
        if held.get("status") != "True" or held.get("reason") != reason:
            return None
        pods = [p for p in world.owned(job) if (p.get("status") or {}).get("phase") == "Failed"]
        read = f"read what its pods said: kubectl logs {pods[-1]['metadata']['name']}{space(job)}" if pods else ""
        return Finding(
            says,
            (seen(job, "spec", field), *said(job, "Failed"), seen(job, "status", "failed")),
            (read or describe(job), todo),
        )

    return find


def suspended(world: World, obj: Json) -> Finding | None:
    if not obj["spec"].get("suspend"):
        return None
    patch = f'kubectl patch {title(obj)}{space(obj)} -p \'{{"spec":{{"suspend":false}}}}\''
    what = "no new Jobs are made" if obj["kind"] == "CronJob" else "it has no pods"
    return Finding(f"it is suspended, so {what}", (seen(obj, "spec", "suspend"), *said(obj, "Suspended")[:2]), (patch,))


def forbids(world: World, cronjob: Json) -> Finding | None:
    """A run was left out because the one before still goes on."""
    active = (cronjob.get("status") or {}).get("active") or ()
    event = world.event(cronjob, "JobAlreadyActive")
    if cronjob["spec"].get("concurrencyPolicy") != "Forbid" or not active or event is None:
        return None
    names = ", ".join(r["name"] for r in active)
    return Finding(
        f"a run is left out while the one before ({names}) still goes on: concurrencyPolicy is Forbid",
        (
            seen(cronjob, "spec", "concurrencyPolicy"),
            Fact(title(cronjob), "status.active", names),
            *world.told(cronjob, event),
        ),
        (
            f"see what it does: portside why job/{active[0]['name']}{space(cronjob)}",
            "or set concurrencyPolicy: Replace",
        ),
    )


def not_started(world: World, cronjob: Json) -> Finding | None:
    """What the controller says of a schedule it can't keep, as long as nothing has run since."""
    reasons = ("MissSchedule", "UnknownTimeZone", "UnparseableSchedule", "InvalidSchedule", "TooManyMissedTimes")
    event = world.event(cronjob, *reasons)
    last = seconds((cronjob.get("status") or {}).get("lastScheduleTime"))
    told = seconds((event or {}).get("lastTimestamp")) or 0.0
    if event is None or (last is not None and last > told):
        return None
    spec = cronjob["spec"]
    fields = [f for f in ("schedule", "timeZone", "startingDeadlineSeconds") if spec.get(f) is not None]
    return Finding(
        f"its schedule is not kept: {event.get('message', '')}",
        (*(seen(cronjob, "spec", f) for f in fields), *world.told(cronjob, event)),
        ("correct schedule or timeZone, or raise startingDeadlineSeconds",),
    )


def no_target(world: World, autoscaler: Json) -> Finding | None:
    if condition(autoscaler, "AbleToScale").get("reason") != "FailedGetScale":
        return None
    target = autoscaler["spec"]["scaleTargetRef"]
    return Finding(
        f"it can't find what it is to scale: {target['kind'].lower()}/{target['name']}",
        (seen(autoscaler, "spec", "scaleTargetRef"), *said(autoscaler, "AbleToScale")),
        (f"kubectl get {target['kind'].lower()}{space(autoscaler)}", "correct spec.scaleTargetRef"),
    )


def no_metrics(world: World, autoscaler: Json) -> Finding | None:
    held = condition(autoscaler, "ScalingActive")
    if held.get("status") != "False" or held.get("reason") == "ScalingDisabled":
        return None
    message = str(held.get("message", ""))
    if "missing request for" in message:
        todo = "set resources.requests in the pod template: a share of nothing can't be worked out"
    elif "metrics.k8s.io" in message or "the server could not find" in message:
        todo = "nobody serves that metrics API: portside up without --simulate does, or install one (kubectl get apiservices)"
    else:
        todo = "see whether figures are there: kubectl top pods; metrics of pods that have just started take a minute"
    return Finding(
        f"it can't read its metrics: {message}",
        (seen(autoscaler, "spec", "metrics"), *said(autoscaler, "ScalingActive")[:2]),
        (todo, describe(autoscaler)),
    )


def scaling_off(world: World, autoscaler: Json) -> Finding | None:
    if condition(autoscaler, "ScalingActive").get("reason") != "ScalingDisabled":
        return None
    target = autoscaler["spec"]["scaleTargetRef"]
    return Finding(
        f"{target['kind'].lower()}/{target['name']} is scaled to zero, which turns the autoscaler off",
        (seen(autoscaler, "spec", "scaleTargetRef"), *said(autoscaler, "ScalingActive")),
        (f"kubectl scale {target['kind'].lower()}/{target['name']}{space(autoscaler)} --replicas=1",),
    )


AUTOSCALERS = ("horizontalpodautoscalers",)
CAUSES: tuple[Cause, ...] = (
    *(
        Cause(
            name,
            ("jobs",),
            failed_by(reason, says, field, todo),
            says.replace("its pods", "a Job's pods"),
            ("pods",),
            role=Role.LINK,
        )
        for name, reason, says, field, todo in FAILURES
    ),
    Cause("suspended", ("jobs", "cronjobs"), suspended, "a Job or CronJob is suspended", grade=Grade.NOTE),
    Cause(
        "run-forbidden",
        ("cronjobs",),
        forbids,
        "the run before goes on, and the policy forbids a second",
        grade=Grade.WAITS,
    ),
    Cause(
        "schedule-not-kept", ("cronjobs",), not_started, "a CronJob's schedule, zone or deadline keeps it from running"
    ),
    Cause("autoscaler-without-target", AUTOSCALERS, no_target, "an autoscaler's target does not exist"),
    Cause("autoscaler-without-metrics", AUTOSCALERS, no_metrics, "an autoscaler can't read its metrics"),
    Cause("autoscaler-off", AUTOSCALERS, scaling_off, "an autoscaler's target is scaled to zero", grade=Grade.NOTE),
)
