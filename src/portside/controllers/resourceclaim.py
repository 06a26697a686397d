"""ResourceClaims of pods: made from templates, reserved, released and deallocated when their pods are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from portside.api.podrefs import resource_claims
from portside.api.status import ApiError
from portside.client.cache import View, controller_of, key_of, split_key
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Failure, Plan, Step, create, delete, patch
from portside.controllers.pods import PODS, is_finished, is_terminating, owner_reference

NAME = "resource_claim"
GROUP, VERSION = "resource.k8s.io", "v1"
CLAIMS: Resource = (GROUP, VERSION, "resourceclaims")
TEMPLATES: Resource = (GROUP, VERSION, "resourceclaimtemplates")
POD_CLAIM = "resource.kubernetes.io/pod-claim-name"
FINALIZER = "resource.kubernetes.io/delete-protection"
GONE = frozenset({404})
LONGEST_PREFIX = 57  # of a generated name: the rest is the server's


def wanted(pod: Json) -> list[Json]:
    """The claims a pod names, directly or by template."""
    return (pod.get("spec") or {}).get("resourceClaims") or []


def is_done(pod: Json) -> bool:
    """It will not use its claims any more."""
    return is_finished(pod) or (is_terminating(pod) and not (pod.get("spec") or {}).get("nodeName"))


def names_of(pod: Json) -> dict[str, str | None]:
    """Name in the pod -> name of the claim; None while it has to be made."""
    made = {s["name"]: s.get("resourceClaimName") for s in (pod.get("status") or {}).get("resourceClaimStatuses") or ()}
    return {c["name"]: c.get("resourceClaimName") or made.get(c["name"]) for c in wanted(pod)}


# -- pods -------------------------------------------------------------------------------------------------------------


def plan_pod(view: View, key: str, now: float) -> Plan:
    """Key: a pod."""
    pod = view.get(PODS, *split_key(key))
    if pod is None or is_terminating(pod) or is_finished(pod) or not wanted(pod):
        return NOTHING
    draft = Draft()
    names = names_of(pod)
    found = {n: c["metadata"]["name"] for n, c in _made(view, pod).items()}
    for wish in wanted(pod):
        name = wish["name"]
        template = wish.get("resourceClaimTemplateName")
        if template and names[name] is None and name not in found:
            draft.add(_make(view, pod, name, template))
    statuses = [
        {"name": w["name"], "resourceClaimName": names[w["name"]] or found[w["name"]]}
        for w in wanted(pod)
        if w.get("resourceClaimTemplateName") and (names[w["name"]] or w["name"] in found)
    ]
    held = (pod.get("status") or {}).get("resourceClaimStatuses") or []
    if statuses and statuses != held:
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"resourceClaimStatuses": statuses}}
        draft.add(patch(PODS, pod, body, subresource="status", ignore=GONE))
    draft.add(*_reserve(view, pod, names))
    return draft.plan()


def _made(view: View, pod: Json) -> dict[str, Json]:
    """The pod's own claims, by their name in the pod."""
    return {
        str((c["metadata"].get("annotations") or {}).get(POD_CLAIM)): c
        for c in view.by(CLAIMS, "controller", pod["metadata"]["uid"])
    }


def _make(view: View, pod: Json, name: str, template: str) -> Step:
    meta = pod["metadata"]
    held = view.get(TEMPLATES, meta["namespace"], template)
    if held is None:
        why = f'resource claim template "{template}": resourceclaimtemplate.{GROUP} "{template}" not found'
        return _failure(pod, name, why)
    given = held["spec"].get("metadata") or {}
    made: Json = {
        "generateName": f"{meta['name']}-{name}-"[-LONGEST_PREFIX:].lstrip("-."),
        "namespace": meta["namespace"],
        "annotations": {**(given.get("annotations") or {}), POD_CLAIM: name},
        "ownerReferences": [owner_reference(pod, "v1", "Pod", blocks=False)],
    }
    if given.get("labels"):
        made["labels"] = dict(given["labels"])
    body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ResourceClaim", "metadata": made, "spec": held["spec"]["spec"]}
    return create(CLAIMS, body, failed=_failed(pod, name))


def _failure(pod: Json, name: str, why: str) -> Emit:
    return Emit(pod, "Warning", "FailedResourceClaimCreation", f"PodResourceClaim {name}: {why}")


def _failed(pod: Json, name: str) -> Callable[[ApiError], Iterable[Emit]]:
    return lambda error: [_failure(pod, name, error.message)]


def _reserve(view: View, pod: Json, names: dict[str, str | None]) -> Iterable[Step]:
    """A pod that came to its node past the scheduler still needs its allocated claims reserved."""
    meta = pod["metadata"]
    if not (pod.get("spec") or {}).get("nodeName"):
        return
    for name in names.values():
        claim = view.get(CLAIMS, meta["namespace"], name) if name else None
        status = (claim or {}).get("status") or {}
        users = status.get("reservedFor") or []
        if claim is None or not status.get("allocation") or any(u.get("uid") == meta["uid"] for u in users):
            continue
        user = {"resource": "pods", "name": meta["name"], "uid": meta["uid"]}
        kept = {f: claim["metadata"][f] for f in ("uid", "resourceVersion")}
        body = {"metadata": kept, "status": {"reservedFor": [*users, user]}}
        yield patch(CLAIMS, claim, body, subresource="status", ignore=GONE)


# -- claims -----------------------------------------------------------------------------------------------------------


def plan_claim(view: View, key: str, now: float) -> Plan:
    """Key: a claim."""
    claim = view.get(CLAIMS, *split_key(key))
    if claim is None:
        return NOTHING
    status = claim.get("status") or {}
    users = status.get("reservedFor") or []
    valid = [u for u in users if _still(view, claim, u)]
    held = FINALIZER in (claim["metadata"].get("finalizers") or ())
    freed = held and not valid and (len(users) > 0 or is_terminating(claim))
    steps: list[Step] = []
    body: Json = {}
    if len(valid) < len(users):
        body["reservedFor"] = valid or None
    if freed and status.get("allocation"):
        body["allocation"] = None
    if body:
        kept = {f: claim["metadata"][f] for f in ("uid", "resourceVersion")}
        steps.append(patch(CLAIMS, claim, {"metadata": kept, "status": body}, subresource="status", ignore=GONE))

    def then(failures: list[Failure]) -> Sequence[Step]:
        if failures:
            return []
        more: list[Step] = []
        if freed:
            left = [f for f in claim["metadata"]["finalizers"] if f != FINALIZER]
            meta = {"uid": claim["metadata"]["uid"], "finalizers": left or None}
            more.append(patch(CLAIMS, claim, {"metadata": meta}, ignore=GONE))
        if not valid and not is_terminating(claim) and _owner_done(view, claim):
            more.append(delete(CLAIMS, claim))
        return more

    return Plan(steps, then)


def _still(view: View, claim: Json, user: Json) -> bool:
    if user.get("apiGroup") or user.get("resource") != "pods":
        return True  # somebody else's to judge
    pod = view.get(PODS, claim["metadata"]["namespace"], user.get("name", ""))
    return pod is not None and pod["metadata"]["uid"] == user.get("uid") and not is_done(pod)


def _owner_done(view: View, claim: Json) -> bool:
    ref = controller_of(claim)
    if ref is None or ref.get("kind") != "Pod":
        return False
    pod = view.get(PODS, claim["metadata"]["namespace"], ref["name"])
    return pod is not None and (pod["metadata"]["uid"] != ref["uid"] or is_done(pod))


# -- news -------------------------------------------------------------------------------------------------------------


def _pod_of(view: View, claim: Json) -> Iterable[str]:
    ref = controller_of(claim)
    if ref is not None and ref.get("kind") == "Pod":
        yield f"{claim['metadata']['namespace']}/{ref['name']}"


def _pods_of(view: View, template: Json) -> Iterable[str]:
    meta = template["metadata"]
    for pod in view.in_namespace(PODS, meta["namespace"]):
        if any(w.get("resourceClaimTemplateName") == meta["name"] for w in wanted(pod)):
            yield key_of(pod)


def _claims_of(view: View, pod: Json) -> Iterable[str]:
    return [f"{pod['metadata']['namespace']}/{n}" for n, _ in resource_claims(pod)]


def _without(old: Json | None, new: Json | None) -> bool:
    return not wanted(new or old or {})


CONTROLLERS = (
    Controller(NAME, PODS, plan_pod, watches={CLAIMS: _pod_of, TEMPLATES: _pods_of}, ignores=_without, workers=2),
    Controller(NAME, CLAIMS, plan_claim, watches={PODS: _claims_of}, relevant={PODS: (Fact(is_done),)}, workers=2),
)
