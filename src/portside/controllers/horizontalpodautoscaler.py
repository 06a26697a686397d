"""The HorizontalPodAutoscaler controller: reads scales and metrics, decides by pure rules, scales.

A conversation, so ``reconcile``: the scale subresource and the metrics are asked for each time. ``hpareplicas`` and
``hpabehavior`` decide; what they remember of the past lives here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from portside.api.selector import LabelSelector, parse_labels
from portside.api.status import ApiError
from portside.base.clock import rfc3339
from portside.client.cache import split_key
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Context, Controller
from portside.controllers.hpabehavior import Memory, normalize
from portside.controllers.hpaproposal import FAILED, Proposal, Proposer, outer, resource_of
from portside.controllers.hpareplicas import NoProposal
from portside.controllers.plan import Emit
from portside.controllers.pods import PODS
from portside.controllers.served import CRDS

AUTOSCALERS: Resource = ("autoscaling", "v2", "horizontalpodautoscalers")
PERIOD = 15.0  # seconds between looks


CONFLICTS = 5  # attempts to write a size that others write as well
ASLEEP = ("True", "ScaledToZero", "the HPA controller scaled the workload to zero")
AWAKE = ("False", "NotScaledToZero", "the HPA controller did not scale the workload to zero")


class Invalid(Exception):
    """The metrics give no size; the condition says why."""


def set_condition(conditions: list[Json], name: str, status: str, reason: str, message: str, now: float) -> None:
    """Changes the condition in place, or appends it; its time is that of the last change of status."""
    held = next((c for c in conditions if c["type"] == name), None)
    if held is None:
        held = {"type": name}
        conditions.append(held)
    if held.get("status") != status:
        held["lastTransitionTime"] = rfc3339(now)
    held |= {"status": status, "reason": reason, "message": message}


@dataclass(slots=True)
class Look:
    """One look at one autoscaler."""

    context: Context
    hpa: Json
    memory: Memory
    now: float
    conditions: list[Json] = field(default_factory=list)
    statuses: list[Json] | None = None

    def __post_init__(self) -> None:
        self.conditions = [dict(c) for c in (self.hpa.get("status") or {}).get("conditions") or ()]

    def condition(self, name: str, status: str, reason: str, message: str) -> None:
        set_condition(self.conditions, name, status, reason, message, self.now)

    def event(self, kind: str, reason: str, message: str) -> None:
        self.context.emit(Emit(self.hpa, kind, reason, message))

    @property
    def at_zero(self) -> bool:
        """It was we who took the last pod away."""
        return any(c["type"] == "ScaledToZero" and c.get("status") == "True" for c in self.conditions)

    @property
    def sees_nothing(self) -> bool:
        """A metric that has a value without any pod of the target."""
        return any(m["type"] in ("Object", "External") for m in self.hpa["spec"].get("metrics") or ())

    @property
    def namespace(self) -> str:
        return str(self.hpa["metadata"]["namespace"])

    # -- metrics ------------------------------------------------------------------------------------------------------

    def _selector(self, text: str, others: dict[str, LabelSelector], key: str) -> list[Json]:
        """The target's pods. Raises Invalid when they can't be told, or belong to another autoscaler as well."""
        if not text:
            self.event("Warning", "SelectorRequired", "selector is required")
            why = "the HPA target's scale is missing a selector"
            self.condition("ScalingActive", "False", "InvalidSelector", why)
            raise Invalid("selector is required")
        try:
            selector = parse_labels(text)
        except ValueError as error:
            why = f"couldn't convert selector into a corresponding internal selector object: {error}"
            self.event("Warning", "InvalidSelector", why)
            self.condition("ScalingActive", "False", "InvalidSelector", why)
            raise Invalid(why) from error
        others[key] = selector
        pods = [p for p in self.context.view.in_namespace(PODS, self.namespace) if selector.matches_object(p)]
        rivals = sorted(
            k
            for k, s in others.items()
            if k.startswith(f"{self.namespace}/") and any(s.matches_object(p) for p in pods)
        )
        if len(rivals) > 1:
            why = f"pods by selector {text} are controlled by more than one HPA (e.g. [{' '.join(rivals[:2])}])"
            self.event("Warning", "AmbiguousSelector", why)
            self.condition("ScalingActive", "False", "AmbiguousSelector", why)
            raise Invalid(why)
        return pods

    async def propose(self, scale: Json, others: dict[str, LabelSelector], key: str) -> tuple[int, str]:
        """(size, name of the metric that asks for it). Raises Invalid."""
        status = scale.get("status") or {}
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        pods = self._selector(str(status.get("selector") or ""), others, key)
        metrics = self.hpa["spec"].get("metrics") or []
        asking = Proposer(self.context.client, self.context.view, self.hpa, scale, pods, self.now)
        self.statuses = []
        best: Proposal | None = None
        trouble: list[tuple[str, str, str]] = []
        for metric in metrics:
            try:
                found = await asking.propose(metric)
            except NoProposal as error:
                reason = FAILED.get(metric["type"], "InvalidMetricSourceType")
                self.event("Warning", reason, str(error))
                trouble.append((reason, str(error), outer(metric)))
                self.statuses.append({"type": ""})
                continue
            self.statuses.append(found.status)
            if best is None or found.size > best.size:
                best = found
        if best is None or (trouble and best.size < current):
            reason, why, wrap = trouble[0] if trouble else ("InvalidMetricSourceType", "no metrics", "")
            unable = f"the HPA was unable to compute the replica count: {why}"
            self.condition("ScalingActive", "False", reason, unable)
            head = f"invalid metrics ({len(trouble)} invalid out of {len(metrics)}), first error is: "
            raise Invalid(head + wrap + why)
        valid = f"the HPA was able to successfully calculate a replica count from {best.name}"
        self.condition("ScalingActive", "True", "ValidMetricFound", valid)
        return best.size, best.name

    # -- status -------------------------------------------------------------------------------------------------------

    async def write(self, current: int | None, desired: int | None, *, rescaled: bool = False) -> None:
        """The status, if it changed. ``None`` keeps what was said before."""
        old = self.hpa.get("status") or {}
        status: Json = {
            "currentReplicas": old.get("currentReplicas") if current is None else current,
            "desiredReplicas": old.get("desiredReplicas", 0) if desired is None else desired,
            "currentMetrics": (old.get("currentMetrics") if current is None else self.statuses) or None,
            "conditions": self.conditions,
        }
        seen = old.get("observedGeneration") if current is None else self.hpa["metadata"].get("generation")
        if seen is not None:
            status["observedGeneration"] = seen
        stamp = rfc3339(self.now) if rescaled else old.get("lastScaleTime")
        if stamp:
            status["lastScaleTime"] = stamp
        seen = old.get("observedGeneration") if current is None else self.hpa["metadata"].get("generation")
        if seen:
            status["observedGeneration"] = seen
        if not status["currentReplicas"]:
            del status["currentReplicas"]
        if status != old:
            body = {**self.hpa, "status": status}
            answer = await self.context.client.update(AUTOSCALERS, body, namespace=self.namespace, subresource="status")
            self.context.informers.informer(AUTOSCALERS).observe(answer)


class Autoscaling:
    """Remembers what each autoscaler recommended, and which pods it selects."""

    def __init__(self) -> None:
        self.memories: dict[str, Memory] = {}
        self.selectors: dict[str, LabelSelector] = {}

    async def reconcile(self, context: Context, key: str) -> float | None:
        """One look; again after a period."""
        hpa = context.view.get(AUTOSCALERS, *split_key(key))
        if hpa is None:
            self.memories.pop(key, None)
            self.selectors.pop(key, None)
            return None
        if hpa["metadata"].get("deletionTimestamp"):
            return None
        look = Look(context, hpa, self.memories.setdefault(key, Memory()), context.clock.now())
        try:
            await self._look(look, key)
        except ApiError as error:
            if error.code not in (404, 409):
                raise
        return PERIOD

    async def _look(self, look: Look, key: str) -> None:
        ref, client = look.hpa["spec"]["scaleTargetRef"], look.context.client
        try:
            target = resource_of(look.context.view, ref)
            scale = await client.get(target, ref["name"], namespace=look.namespace, subresource="scale")
        except (ApiError, NoProposal) as error:
            why = error.message if isinstance(error, ApiError) else str(error)
            look.event("Warning", "FailedGetScale", why)
            text = f"the HPA controller was unable to get the target's current scale: {why}"
            look.condition("AbleToScale", "False", "FailedGetScale", text)
            await look.write(None, None)
            return
        text = "the HPA controller was able to get the target's current scale"
        look.condition("AbleToScale", "True", "SucceededGetScale", text)
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        look.memory.begin(look.now, current)
        try:
            desired, reason = await self._decide(look, scale, current, key)
        except Invalid as error:
            await look.write(current, None)
            look.event("Warning", "FailedComputeMetricsReplicas", str(error))
            return
        rescale = desired != current
        if rescale and not await self._scale(look, target, scale, current, desired, reason):
            return
        await look.write(current, desired, rescaled=rescale)

    async def _decide(self, look: Look, scale: Json, current: int, key: str) -> tuple[int, str]:
        """(size, why)."""
        spec = look.hpa["spec"]
        low, high = int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])
        back = current == 0 and low != 0 and look.at_zero  # the least was raised while nothing ran
        if current == 0 and not (look.at_zero and (low != 0 or look.sees_nothing)):
            text = "scaling is disabled since the replica count of the target is zero"
            look.condition("ScalingActive", "False", "ScalingDisabled", text)
            return 0, ""
        if current > high:
            return high, "Current number of replicas above Spec.MaxReplicas"
        if current < low and not back:
            return low, "Current number of replicas below Spec.MinReplicas"
        desired, name = await look.propose(scale, self.selectors, key)
        reason = f"{name} above target" if desired > current else "All metrics below target"
        found = normalize(look.memory, spec, current, desired, look.now)
        look.condition("AbleToScale", "True", *found.able)
        look.condition("ScalingLimited", "True" if found.limited else "False", *found.limit)
        if back and found.size < low:
            return low, reason if desired > current else "Current number of replicas below Spec.MinReplicas"
        return found.size, reason

    async def _scale(self, look: Look, target: Resource, scale: Json, current: int, desired: int, reason: str) -> bool:
        try:
            await self._update_scale(look, target, scale, desired)
        except ApiError as error:
            text = f"New size: {desired}; reason: {reason}; error: {error.message}"
            look.event("Warning", "FailedRescale", text)
            why = f"the HPA controller was unable to update the target scale: {error.message}"
            look.condition("AbleToScale", "False", "FailedUpdateScale", why)
            await look.write(current, None)
            return False
        text = f"the HPA controller was able to update the target scale to {desired}"
        look.condition("AbleToScale", "True", "SucceededRescale", text)
        look.event("Normal", "SuccessfulRescale", f"New size: {desired}; reason: {reason}")
        look.memory.record(look.now, current, desired)
        asleep = current > 0 and desired == 0 and look.sees_nothing
        look.condition("ScaledToZero", *(ASLEEP if asleep else AWAKE))
        return True

    async def _update_scale(self, look: Look, target: Resource, scale: Json, desired: int) -> None:
        """Conflicts are tried again with what is there now: the size alone is ours. Raises ApiError."""
        for left in reversed(range(CONFLICTS)):
            body: dict[str, Any] = {**scale, "spec": {**(scale.get("spec") or {}), "replicas": desired}}
            try:
                await look.context.client.update(target, body, namespace=look.namespace, subresource="scale")
                return
            except ApiError as error:
                if error.code != 409 or not left:
                    raise
            name = look.hpa["spec"]["scaleTargetRef"]["name"]
            scale = await look.context.client.get(target, name, namespace=look.namespace, subresource="scale")


def _unchanged(old: Json | None, new: Json | None) -> bool:
    """Our own status is no news."""
    return old is not None and new is not None and old.get("spec") == new.get("spec")


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "horizontal-pod-autoscaler",
        AUTOSCALERS,
        reconcile=Autoscaling().reconcile,
        reads=(PODS, CRDS),
        ignores=_unchanged,
    )
