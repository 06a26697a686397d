"""The status of PodDisruptionBudgets: how many pods may be evicted now."""

from __future__ import annotations

from collections.abc import Iterable

from portside.base.clock import parse_time
from portside.client.cache import View, controller_of, split_key
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.claim import selector_of
from portside.controllers.goselector import go_selector
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, Step, patch, update_status
from portside.controllers.pods import PODS, condition, is_active, is_finished, is_ready, is_terminating
from portside.controllers.rollout import scaled
from portside.controllers.served import all_served

BUDGETS: Resource = ("policy", "v1", "poddisruptionbudgets")
REPLICASETS: Resource = ("apps", "v1", "replicasets")
SCALED: dict[tuple[str, str], Resource] = {
    ("ReplicaSet", "apps"): REPLICASETS,
    ("Deployment", "apps"): ("apps", "v1", "deployments"),
    ("StatefulSet", "apps"): ("apps", "v1", "statefulsets"),
    ("ReplicationController", ""): ("", "v1", "replicationcontrollers"),
}
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the "
    "PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set "
    '".spec.minAvailable" field of the PDB to an integer value.'
)
GRANTED_SECONDS = 120.0  # an eviction that was granted counts until its pod goes, or for this long
STALE_TARGET_SECONDS = 120.0  # after this a DisruptionTarget that came to nothing is taken back


class SyncFailed(Exception):
    """The expected number of pods can't be found out."""


def selected(view: View, budget: Json) -> list[Json]:
    """The budget's pods; no selector selects none, an empty one all."""
    raw = budget["spec"].get("selector")
    if raw is None:
        return []
    selector = selector_of(raw)
    found = view.in_namespace(PODS, budget["metadata"]["namespace"])
    return [p for p in found if selector.matches_object(p)]


def _scale_of(view: View, namespace: str, ref: Json) -> tuple[str, int] | None:
    """The uid and size of what the pod's controller scales; None when it is gone. A replica set's Deployment counts."""
    group = str(ref.get("apiVersion", "")).rpartition("/")[0]
    resource = SCALED.get((str(ref.get("kind")), group))
    if resource is None:
        served = next((s for s in all_served(view) if s.kind == ref.get("kind") and s.group == group), None)
        plural = served.resource[2] if served else str(ref.get("kind", "")).lower()
        name = f"{plural}.{group}" if group else plural
        raise SyncFailed(f"{name} does not implement the scale subresource")
    owner = view.get(resource, namespace, ref["name"])
    if owner is None or owner["metadata"]["uid"] != ref["uid"]:
        return None
    above = controller_of(owner)
    if resource == REPLICASETS and above is not None and above.get("kind") == "Deployment":
        return _scale_of(view, namespace, above)
    return owner["metadata"]["uid"], int(owner["spec"].get("replicas", 1))


def expected(view: View, budget: Json, pods: list[Json]) -> tuple[int, int, list[str]]:
    """(expected pods, healthy pods wanted, names of pods without a controller)."""
    spec = budget["spec"]
    lost: list[str] = []
    if "maxUnavailable" not in spec and isinstance(spec.get("minAvailable"), int):
        return len(pods), int(spec["minAvailable"]), lost
    sizes: dict[str, int] = {}
    for pod in pods:
        ref = controller_of(pod)
        if ref is None:
            lost.append(pod["metadata"]["name"])
            continue
        found = _scale_of(view, pod["metadata"]["namespace"], ref)
        if found is None:
            raise SyncFailed(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        sizes[found[0]] = found[1]
    total = sum(sizes.values())
    if "maxUnavailable" in spec:
        return total, max(total - scaled(spec["maxUnavailable"], total, up=True), 0), lost
    return total, scaled(spec.get("minAvailable", 1), total, up=True), lost


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a budget."""
    budget = view.get(BUDGETS, *split_key(key))
    if budget is None or is_terminating(budget):
        return NOTHING
    pods = selected(view, budget)
    draft = Draft()
    _take_back(pods, now, draft)
    old = budget.get("status") or {}
    if not pods:
        draft.add(Emit(budget, "Normal", "NoPods", "No matching pods found"))
    try:
        count, wanted, lost = expected(view, budget, pods)
    except SyncFailed as error:
        text = f"Failed to calculate the number of expected pods: {error}"
        draft.add(Emit(budget, "Warning", "CalculateExpectedPodCountFailed", text))
        new = cond.make("DisruptionAllowed", "False", "SyncFailed", str(error), now)
        return Plan([*draft.steps, *_write(budget, {**old, "disruptionsAllowed": 0}, new)], again=draft.again)
    if lost:
        text = UNMANAGED.format(go_selector(budget["spec"].get("selector")))
        draft.add(Emit(budget, "Warning", "UnmanagedPods", text))
    granted = _granted(budget, pods, now, draft)
    healthy = sum(1 for p in pods if is_ready(p) and not is_terminating(p) and p["metadata"]["name"] not in granted)
    allowed = max(healthy - wanted, 0) if count > 0 else 0
    status: Json = {
        "observedGeneration": budget["metadata"].get("generation", 0),
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": wanted,
        "expectedPods": count,
    }
    if granted:
        status["disruptedPods"] = granted
    if old.get("conditions"):
        status["conditions"] = old["conditions"]
    state = ("True", "SufficientPods") if allowed > 0 else ("False", "InsufficientPods")
    draft.add(*_write(budget, status, cond.make("DisruptionAllowed", *state, "", now)))
    return draft.plan()


def _granted(budget: Json, pods: list[Json], now: float, draft: Draft) -> dict[str, str]:
    """Evictions granted by the server whose pods are still there, for as long as they are expected to go."""
    live = {p["metadata"]["name"]: p for p in pods if not is_terminating(p)}
    found: dict[str, str] = {}
    for name, at in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        ends = (parse_time(at) or 0.0) + GRANTED_SECONDS
        if name in live and ends > now:
            found[name] = at
            draft.look_again(ends - now + 0.01)
        elif name in live:
            meta = budget["metadata"]
            text = f"Pod was expected by PDB {meta['namespace']}/{meta['name']} to be deleted but it wasn't"
            draft.add(Emit(live[name], "Warning", "NotDeleted", text))
    return found


def _take_back(pods: list[Json], now: float, draft: Draft) -> None:
    for pod in pods:
        target = condition(pod, "DisruptionTarget")
        if target is None or target.get("status") != "True" or not is_active(pod):
            continue
        if target.get("reason") in ("DeletionByTaintManager", "EvictionByEvictionAPI", "PreemptionByScheduler"):
            left = (parse_time(target.get("lastTransitionTime")) or now) + STALE_TARGET_SECONDS - now
            if left > 0:
                draft.look_again(left + 0.01)
                continue
            new = cond.make("DisruptionTarget", "False", "", "", now)
            body = {"status": {"conditions": [new]}}
            draft.add(patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=frozenset({404})))


def _write(budget: Json, status: Json, new: Json) -> list[Step]:
    generation = budget["metadata"].get("generation", 0)
    new["observedGeneration"] = generation
    conditions = list(status.get("conditions") or ())
    held = cond.find(conditions, new["type"])
    if held is not None and held.get("status") == new["status"]:
        new["lastTransitionTime"] = held.get("lastTransitionTime", new["lastTransitionTime"])
    status = {**status, "conditions": [*cond.without(conditions, new["type"]), new]}
    return [] if status == budget.get("status") else [update_status(BUDGETS, budget, status)]


def _of_pod(view: View, pod: Json) -> Iterable[str]:
    namespace = pod["metadata"]["namespace"]
    for budget in view.in_namespace(BUDGETS, namespace):
        raw = budget["spec"].get("selector")
        if raw is not None and selector_of(raw).matches_object(pod):
            yield f"{namespace}/{budget['metadata']['name']}"


def _of_owner(view: View, owner: Json) -> Iterable[str]:
    namespace = owner["metadata"]["namespace"]
    labels = ((owner["spec"].get("template") or {}).get("metadata") or {}).get("labels") or {}
    for budget in view.in_namespace(BUDGETS, namespace):
        raw = budget["spec"].get("selector")
        if raw is not None and selector_of(raw).matches(labels):
            yield f"{namespace}/{budget['metadata']['name']}"


CONTROLLER = Controller(
    "controllermanager",
    BUDGETS,
    plan,
    watches={PODS: _of_pod, **dict.fromkeys(SCALED.values(), _of_owner)},
    relevant={
        PODS: lambda p: (is_ready(p), is_terminating(p), is_finished(p), p["metadata"].get("labels")),
        **dict.fromkeys(SCALED.values(), lambda o: o["spec"].get("replicas")),
    },
)
