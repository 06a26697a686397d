"""Makes the PersistentVolumeClaims of pods' ephemeral volumes; they belong to their pod and go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from portside.api.status import ApiError
from portside.client.cache import View, split_key
from portside.client.protocol import Json
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, create
from portside.controllers.pods import PODS, is_terminating, owner_reference
from portside.controllers.volumematch import CLAIMS


def ephemeral(pod: Json) -> list[Json]:
    """The pod's volumes that bring a claim of their own."""
    return [v for v in (pod.get("spec") or {}).get("volumes") or () if v.get("ephemeral") is not None]


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a pod."""
    pod = view.get(PODS, *split_key(key))
    if pod is None or is_terminating(pod):
        return NOTHING
    draft, meta = Draft(), pod["metadata"]
    for volume in ephemeral(pod):
        name = f"{meta['name']}-{volume['name']}"
        held = view.get(CLAIMS, meta["namespace"], name)
        if held is None:
            draft.add(create(CLAIMS, _claim(pod, volume, name), failed=_failed(pod, volume["name"], name)))
        elif not _of(held, pod):
            text = f"PVC {meta['namespace']}/{name} was not created for pod {key} (pod is not owner)"
            draft.add(Emit(pod, "Warning", "FailedBinding", f"ephemeral volume {volume['name']}: {text}"))
    return draft.plan()


def _of(claim: Json, pod: Json) -> bool:
    refs = claim["metadata"].get("ownerReferences") or ()
    return any(r.get("uid") == pod["metadata"]["uid"] and r.get("controller") for r in refs)


def _claim(pod: Json, volume: Json, name: str) -> Json:
    template = volume["ephemeral"].get("volumeClaimTemplate") or {}
    given = template.get("metadata") or {}
    meta: Json = {
        "name": name,
        "namespace": pod["metadata"]["namespace"],
        **{f: dict(given[f]) for f in ("labels", "annotations") if given.get(f)},
        "ownerReferences": [owner_reference(pod, "v1", "Pod")],
    }
    spec = template.get("spec") or {}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}


def _failed(pod: Json, volume: str, claim: str) -> Callable[[ApiError], Iterable[Emit]]:
    def failed(error: ApiError) -> list[Emit]:
        text = f"ephemeral volume {volume}: create PVC {claim}: {error.message}"
        return [Emit(pod, "Warning", "FailedBinding", text)]

    return failed


def _without(old: Json | None, new: Json | None) -> bool:
    return not ephemeral(new or old or {})


def _pod(view: View, claim: Json) -> Iterable[str]:
    for ref in claim["metadata"].get("ownerReferences") or ():
        if ref.get("controller") and ref.get("kind") == "Pod":
            yield f"{claim['metadata']['namespace']}/{ref['name']}"


CONTROLLER = Controller(
    "ephemeral-volume-controller",
    PODS,
    plan,
    watches={CLAIMS: _pod},
    minds=(),  # a pod's volumes never change
    ignores=_without,
    relevant={CLAIMS: ()},
)
