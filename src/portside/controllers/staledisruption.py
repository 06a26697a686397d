"""Takes back the condition DisruptionTarget of pods that were to go and did not."""

from __future__ import annotations

from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, split_key
from portside.client.news import Fact
from portside.client.protocol import Json
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import PHASE, PODS, TERMINATING, condition, is_active

STALE_SECONDS = 120.0  # of a condition that came to nothing
TARGET = "DisruptionTarget"


def _marked(pod: Json) -> bool:
    """The kubelet may take as long as it likes to end a pod that it has marked."""
    found = condition(pod, TARGET)
    known = found is not None and found.get("status") == "True" and found.get("reason") != "TerminationByKubelet"
    return known and is_active(pod)


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a pod."""
    pod = view.get(PODS, *split_key(key))
    if pod is None or not _marked(pod):
        return NOTHING
    target = condition(pod, TARGET) or {}
    left = (parse_time(target.get("lastTransitionTime")) or 0.0) + STALE_SECONDS - now
    if left > 0:
        return Plan(again=left + 0.01)
    meta = {"uid": pod["metadata"]["uid"], "resourceVersion": pod["metadata"]["resourceVersion"]}
    new = {"type": TARGET, "status": "False", "lastTransitionTime": rfc3339(now), "reason": None, "message": None}
    body = {"metadata": meta, "status": {"conditions": [new]}}
    return Plan([patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404}))])


def _unmarked(old: Json | None, new: Json | None) -> bool:
    return new is None or not _marked(new)


CONTROLLER = Controller(
    "controllermanager",
    PODS,
    plan,
    minds=(PHASE, TERMINATING, Fact(lambda pod: condition(pod, TARGET), "status")),
    ignores=_unmarked,
    workers=2,
)
