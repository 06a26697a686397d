"""The status of PodDisruptionBudgets: how many pods may be evicted now."""

from __future__ import annotations

from collections.abc import Iterable

from portside.base.clock import parse_time
from portside.client.cache import View, controller_of, split_key
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers import scales
from portside.controllers.claim import selector_of
from portside.controllers.goselector import go_selector
from portside.controllers.harness import Context, Controller, write
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, Step, update_status
from portside.controllers.pods import (
    FINISHED,
    LABELS,
    PODS,
    READY,
    TERMINATING,
    is_active,
    is_ready,
    is_terminating,
)
from portside.controllers.rollout import scaled
from portside.controllers.served import CRDS

BUDGETS: Resource = ("policy", "v1", "poddisruptionbudgets")
UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the "
    "PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set "
    '".spec.minAvailable" field of the PDB to an integer value.'
)
GRANTED_SECONDS = 120.0  # an eviction that was granted counts until its pod goes, or for this long
UNKNOWN_SECONDS = 60.0  # until a size that nobody knew is asked for again


def selected(view: View, budget: Json) -> list[Json]:
    """The budget's pods; no selector selects none, an empty one all."""
    raw = budget["spec"].get("selector")
    if raw is None:
        return []
    selector = selector_of(raw)
    found = view.in_namespace(PODS, budget["metadata"]["namespace"])
    return [p for p in found if selector.matches_object(p)]


def by_scale(budget: Json) -> bool:
    """It is about a share of all pods that there should be, or about how many may be missing of them."""
    spec = budget["spec"]
    return "maxUnavailable" in spec or isinstance(spec.get("minAvailable"), str)


def expected(view: View, budget: Json, pods: list[Json], answers: scales.Answers) -> tuple[int, int, list[str]]:
    """(expected pods, healthy pods wanted, names of pods without a controller). Raises ScaleUnknown."""
    spec = budget["spec"]
    lost: list[str] = []
    if not by_scale(budget):
        return (len(pods), int(spec["minAvailable"]), lost) if "minAvailable" in spec else (0, 0, lost)
    sizes: dict[str, int] = {}
    for pod in pods:
        ref = controller_of(pod)
        if ref is None:
            lost.append(pod["metadata"]["name"])
            continue
        if ref.get("uid") in sizes:
            continue
        found = scales.size(view, pod["metadata"]["namespace"], ref, answers)
        if found is None:
            raise scales.ScaleUnknown(f'found no controllers for pod "{pod["metadata"]["name"]}"')
        sizes[found[0]] = found[1]
    total = sum(sizes.values())
    if "maxUnavailable" in spec:
        return total, max(total - scaled(spec["maxUnavailable"], total, up=True), 0), lost
    return total, scaled(spec["minAvailable"], total, up=True), lost


def plan(view: View, key: str, now: float, answers: scales.Answers) -> Plan:
    """Key: a budget; ``answers``: what was asked about controllers that are none of ours."""
    budget = view.get(BUDGETS, *split_key(key))
    if budget is None or is_terminating(budget):
        return NOTHING
    pods = selected(view, budget)
    draft = Draft()
    old = budget.get("status") or {}
    if not pods:
        draft.add(Emit(budget, "Normal", "NoPods", "No matching pods found"))
    try:
        count, wanted, lost = expected(view, budget, pods, answers)
    except scales.ScaleUnknown as error:
        text = f"Failed to calculate the number of expected pods: {error}"
        draft.add(Emit(budget, "Warning", "CalculateExpectedPodCountFailed", text))
        draft.look_again(UNKNOWN_SECONDS)
        new = cond.make("DisruptionAllowed", "False", "SyncFailed", str(error), now)
        draft.add(*_write(budget, {**old, "disruptionsAllowed": 0}, new))
        return draft.plan()
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


def _write(budget: Json, status: Json, new: Json) -> list[Step]:
    new["observedGeneration"] = status.get("observedGeneration", 0)
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


class Disruption:
    """Remembers which pods it has said to be under several budgets."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    async def reconcile(self, context: Context, key: str) -> float | None:
        """One look at one budget: asks for the scales it needs, then does what is planned."""
        view = context.view
        budget = view.get(BUDGETS, *split_key(key))
        answers: dict[str, scales.Answer] = {}
        if budget is None:
            self._told.pop(key, None)
            return None
        pods = selected(view, budget)
        if by_scale(budget):
            for ref in scales.foreign(pods):
                answers[str(ref.get("uid"))] = await scales.ask(context.client, view, split_key(key)[0], ref)
        for event in self._several(view, budget, pods, key):
            context.emit(event)
        found = plan(view, key, context.clock.now(), answers)
        for step in found.steps:
            if isinstance(step, Emit):
                context.emit(step)
            else:
                await write(context, step)
        return found.again

    def _several(self, view: View, budget: Json, pods: list[Json], key: str) -> list[Emit]:
        """Pods that can't be evicted as several budgets select them; said once for each."""
        space, name = split_key(key)
        others = [
            (b["metadata"]["name"], selector_of(b["spec"]["selector"]))
            for b in view.in_namespace(BUDGETS, space)
            if b["metadata"]["name"] != name and b["spec"].get("selector") is not None
        ]
        text = 'Pod "{}"/"{}" matches multiple PodDisruptionBudgets.  Chose "{}" arbitrarily.'
        told = set().union(*self._told.values())
        self._told[key] = set()
        events: list[Emit] = []
        for pod in pods if others else ():
            names = [other for other, selector in others if selector.matches_object(pod)]
            meta = pod["metadata"]
            if not names or not is_active(pod):
                continue
            self._told[key].add(meta["uid"])
            if meta["uid"] not in told:
                said = text.format(space, meta["name"], min(name, *names))
                events.append(Emit(pod, "Warning", "MultiplePodDisruptionBudgets", said))
        return events


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "controllermanager",
        BUDGETS,
        reconcile=Disruption().reconcile,
        watches={PODS: _of_pod, **dict.fromkeys(scales.SCALED.values(), _of_owner)},
        relevant={
            PODS: (READY, TERMINATING, FINISHED, LABELS),
            **dict.fromkeys(scales.SCALED.values(), (Fact(lambda o: o["spec"].get("replicas"), "spec"),)),
        },
        reads=(CRDS,),
    )
