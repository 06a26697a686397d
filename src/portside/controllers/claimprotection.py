"""Lets a PersistentVolumeClaim that is being deleted go when no pod uses it any more."""

from __future__ import annotations

from collections.abc import Iterable

from portside.client.cache import View, split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Plan, patch
from portside.controllers.pods import PODS, is_finished, is_terminating

CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
FINALIZER = "kubernetes.io/pvc-protection"


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
    if claim is None or not is_terminating(claim) or FINALIZER not in (claim["metadata"].get("finalizers") or ()):
        return NOTHING
    for pod in view.in_namespace(PODS, namespace):
        bound = bool((pod.get("spec") or {}).get("nodeName"))
        if bound and not is_finished(pod) and name in claims_of(pod):
            return NOTHING
    meta = claim["metadata"]
    kept = [f for f in meta["finalizers"] if f != FINALIZER]
    body = {"metadata": {"finalizers": kept or None, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}}
    return Plan([patch(CLAIMS, claim, body, ignore=frozenset({404}))])


def _pod(view: View, pod: Json) -> Iterable[str]:
    return [f"{pod['metadata']['namespace']}/{name}" for name in claims_of(pod)]


CONTROLLER = Controller("pvc-protection-controller", CLAIMS, plan, watches={PODS: _pod}, workers=2)
