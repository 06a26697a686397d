"""Frees pods of Jobs that are gone from the tracking finalizer, which nobody else would take away."""

from __future__ import annotations

from portside.client.cache import View, controller_of, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import FINALIZERS, OWNERS, PODS

JOBS: Resource = ("batch", "v1", "jobs")
TRACKING = "batch.kubernetes.io/job-tracking"


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a pod."""
    pod = view.get(PODS, *split_key(key))
    if pod is None or TRACKING not in (pod["metadata"].get("finalizers") or ()):
        return NOTHING
    ref = controller_of(pod)
    if ref is not None and ref.get("kind") == "Job":
        job = view.get(JOBS, pod["metadata"]["namespace"], ref["name"])
        if job is not None and job["metadata"]["uid"] == ref["uid"]:
            return NOTHING
    kept = [f for f in pod["metadata"]["finalizers"] if f != TRACKING]
    body = {"metadata": {"finalizers": kept or None, "uid": pod["metadata"]["uid"]}}
    return Plan([patch(PODS, pod, body, ignore=frozenset({404, 422}))])


def _untracked(old: Json | None, new: Json | None) -> bool:
    return new is None or TRACKING not in (new["metadata"].get("finalizers") or ())


def _pods_of(view: View, job: Json) -> list[str]:
    found = view.by(PODS, "controller", job["metadata"]["uid"])
    return [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found]


CONTROLLER = Controller(
    "job-controller", PODS, plan, watches={JOBS: _pods_of}, minds=(OWNERS, FINALIZERS), ignores=_untracked, workers=2
)
