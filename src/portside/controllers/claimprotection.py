"""Guards PersistentVolumeClaims while pods use them, and tells since when none does (condition Unused)."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import FINISHED, NODE, PODS, is_finished, is_terminating

CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
FINALIZER = "kubernetes.io/pvc-protection"
STATES = {
    True: ("True", "NoPodsUsingPVC", "No pods are currently referencing this PVC"),
    False: ("False", "PodUsingPVC", "One or more pods are currently referencing this PVC"),
}


def claims_of(pod: Json) -> Iterable[str]:
    """Names of the claims a pod mounts, those made for its ephemeral volumes included."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if volume.get("persistentVolumeClaim"):
            yield volume["persistentVolumeClaim"]["claimName"]
        elif volume.get("ephemeral") is not None:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a claim."""
    namespace, name = split_key(key)
    claim = view.get(CLAIMS, namespace, name)
    if claim is None:
        return NOTHING
    users = [p for p in view.in_namespace(PODS, namespace) if not is_finished(p) and name in claims_of(p)]
    meta = claim["metadata"]
    kept: list[str] = list(meta.get("finalizers") or ())
    if not is_terminating(claim):
        if FINALIZER not in kept:
            return _finalizers(claim, [*kept, FINALIZER])
        return _unused(claim, not users, now)
    if FINALIZER not in kept or any((p.get("spec") or {}).get("nodeName") for p in users):
        return NOTHING
    return _finalizers(claim, [f for f in kept if f != FINALIZER])


def _finalizers(claim: Json, kept: list[str]) -> Plan:
    meta = claim["metadata"]
    body = {"metadata": {"finalizers": kept or None, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(CLAIMS, claim, body, ignore=frozenset({404}))])


def _unused(claim: Json, unused: bool, now: float) -> Plan:
    """Only bound claims are judged; pods that wait for a node count as users."""
    status = claim.get("status") or {}
    conditions = list(status.get("conditions") or ())
    held = cond.find(conditions, "Unused")
    if status.get("phase") != "Bound" or (held is not None and held.get("status") == STATES[unused][0]):
        return NOTHING
    new = cond.make("Unused", *STATES[unused], now)
    body = {
        "metadata": {"uid": claim["metadata"]["uid"], "resourceVersion": claim["metadata"]["resourceVersion"]},
        "status": {"conditions": [*cond.without(conditions, "Unused"), new]},
    }
    return Plan([patch(CLAIMS, claim, body, subresource="status", ignore=frozenset({404}))])


def _pod(view: View, pod: Json) -> Iterable[str]:
    return [f"{pod['metadata']['namespace']}/{name}" for name in claims_of(pod)]


CONTROLLER = Controller(
    "pvc-protection-controller", CLAIMS, plan, watches={PODS: _pod}, relevant={PODS: (FINISHED, NODE)}, workers=2
)
