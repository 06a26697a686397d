"""Deletes finished Jobs after their ttlSecondsAfterFinished."""

from __future__ import annotations

from portside.base.clock import parse_time
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, delete
from portside.controllers.pods import condition, is_terminating

JOBS: Resource = ("batch", "v1", "jobs")


def finished_at(job: Json) -> float | None:
    """When the job completed or failed."""
    for name in ("Complete", "Failed"):
        found = condition(job, name)
        if found is not None and found.get("status") == "True":
            return parse_time(found.get("lastTransitionTime"))
    return None


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a job."""
    job = view.get(JOBS, *split_key(key))
    if job is None or is_terminating(job):
        return NOTHING
    seconds, at = job["spec"].get("ttlSecondsAfterFinished"), finished_at(job)
    if seconds is None or at is None:
        return NOTHING
    left = at + seconds - now
    return Plan(again=left + 0.01) if left > 0 else Plan([delete(JOBS, job, policy="Foreground")])


CONTROLLER = Controller("ttl-after-finished-controller", JOBS, plan, workers=2)
