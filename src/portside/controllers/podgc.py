"""Removes pods that nobody will: of nodes that are gone, terminating ones that were never bound, too many finished."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from portside.api.status import ApiError
from portside.base.clock import parse_time
from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Context, Controller, write
from portside.controllers.plan import NOTHING, Op, Plan, delete, patch
from portside.controllers.pods import NODE, PODS, TERMINATING, created, is_finished, is_ready, is_terminating
from portside.controllers.taints import TAINTS

log = logging.getLogger(__name__)
NODES: Resource = ("", "v1", "nodes")
QUARANTINE = 40.0  # seconds a node must be gone before its pods are removed
CHECK_SECONDS = 20.0
FINISHED_KEPT = 12500  # finished pods kept in the whole cluster
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


def removal(pod: Json, reason: str, now: float) -> list[Op]:
    """Marks the pod Failed, with the reason of the disruption if it is one, then deletes it without grace.

    A Job that only replaces failed pods, and holds them by its finalizer, waits for the mark.
    """
    steps: list[Op] = []
    if not is_finished(pod):
        status: Json = {"phase": "Failed"}
        if reason:
            status["conditions"] = [cond.make("DisruptionTarget", "True", "DeletionByPodGC", f"PodGC: {reason}", now)]
        body = {"status": status}
        steps.append(patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404})))
    return [*steps, delete(PODS, pod, grace=0)]


class PodCollector:
    """Remembers since when a pod's node is missing, so that each pod gets the whole quarantine, whoever was on that node before."""

    def __init__(self) -> None:
        self._missing: dict[str, tuple[str, float]] = {}  # pod -> (uid, time)

    def plan(self, view: View, key: str, now: float) -> Plan:
        """Key: a pod."""
        pod = view.get(PODS, *split_key(key))
        if pod is None:
            self._missing.pop(key, None)
            return NOTHING
        name = (pod.get("spec") or {}).get("nodeName")
        if not name:
            return _unscheduled(pod, now) if is_terminating(pod) else NOTHING
        node = view.get(NODES, "", name)
        if node is None:
            uid = pod["metadata"]["uid"]
            known, since = self._missing.get(key, ("", now))
            if known != uid:
                known, since = self._missing[key] = uid, now
            if now - since < QUARANTINE:
                return Plan(again=since + QUARANTINE - now + 0.01)
            return Plan(removal(pod, "node no longer exists", now))
        self._missing.pop(key, None)
        taints = (node.get("spec") or {}).get("taints") or ()
        if is_terminating(pod) and not is_ready(node) and any(t.get("key") == OUT_OF_SERVICE for t in taints):
            return Plan(removal(pod, "", now))
        return NOTHING


def _unscheduled(pod: Json, now: float) -> Plan:
    """Nobody else ends it; but a controller that holds it may want to see it going first."""
    left = (parse_time(pod["metadata"]["deletionTimestamp"]) or now) + CHECK_SECONDS - now
    return Plan(again=left) if left > 0 else Plan(removal(pod, "", now))


def surplus(view: View, kept: int) -> list[Json]:
    """The finished pods beyond the number kept: evicted ones first, then the oldest."""
    finished = sorted((p for p in view.all(PODS) if is_finished(p)), key=_first_to_go)
    return finished[: max(len(finished) - kept, 0)]


def _first_to_go(pod: Json) -> tuple[bool, float, str]:
    return (pod.get("status") or {}).get("reason") != "Evicted", created(pod), pod["metadata"]["name"]


async def thin_out(context: Context, kept: int = FINISHED_KEPT) -> None:
    """Removes finished pods beyond the number kept, now and then. Until cancelled."""
    while True:
        await context.clock.sleep(CHECK_SECONDS)
        cache = context.view.cache(PODS)
        if cache is None or cache.number(lambda pod: pod.finished) <= kept:
            continue
        for pod in surplus(context.view, kept):
            try:
                await write(context, delete(PODS, pod, grace=0))
            except (ApiError, OSError, TimeoutError) as error:
                if not isinstance(error, ApiError) or error.code != 404:
                    log.debug("%s: %s", pod["metadata"]["name"], error)


def _pods(view: View, node: Json) -> Iterable[str]:
    found = view.by(PODS, "node", node["metadata"]["name"])
    return [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in found]


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "pod-garbage-collector-controller",
        PODS,
        PodCollector().plan,
        watches={NODES: _pods},
        relevant={NODES: (TAINTS,)},
        minds=(NODE, TERMINATING),
    )


THINNING = Controller("pod-garbage-collector-controller", PODS, service=thin_out)
