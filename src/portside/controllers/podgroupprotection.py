"""Lets a PodGroup that is being deleted go when none of its pods is left that may still run."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import FINISHED, PODS, is_finished, is_terminating

GROUPS: Resource = ("scheduling.k8s.io", "v1beta1", "podgroups")
FINALIZER = "scheduling.k8s.io/podgroup-protection"


def group_of(pod: Json) -> str:
    """The name of the pod's group, "" when it has none."""
    return str(((pod.get("spec") or {}).get("schedulingGroup") or {}).get("podGroupName") or "")


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a group."""
    namespace, name = split_key(key)
    group = view.get(GROUPS, namespace, name)
    if group is None or not is_terminating(group):
        return NOTHING
    meta = group["metadata"]
    kept = [f for f in meta.get("finalizers") or () if f != FINALIZER]
    if len(kept) == len(meta.get("finalizers") or ()):
        return NOTHING
    if any(group_of(p) == name and not is_finished(p) for p in view.in_namespace(PODS, namespace)):
        return NOTHING
    body = {"metadata": {"finalizers": kept or None, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(GROUPS, group, body, ignore=frozenset({404}))])


def _group(view: View, pod: Json) -> Iterable[str]:
    name = group_of(pod)
    return (f"{pod['metadata']['namespace']}/{name}",) if name else ()


CONTROLLER = Controller(
    "podgroup-protection-controller",
    GROUPS,
    plan,
    watches={PODS: _group},
    relevant={PODS: (FINISHED,)},
    workers=1,
)
