"""Evicts pods whose devices have NoExecute taints that their claims do not tolerate, and says on each DeviceTaintRule how
far that is. Taints come from drivers (in ResourceSlices) and from rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from portside.api.device_taints import selects, tolerates
from portside.api.podrefs import resource_claims
from portside.base.clock import parse_time, rfc3339
from portside.client.cache import View, controller_of, split_key
from portside.client.news import Fact
from portside.client.protocol import Json, Resource
from portside.controllers import conditions as cond
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Plan, delete, patch
from portside.controllers.pods import NODE, PODS, TERMINATING, is_terminating

NAME = "device-taint-eviction-controller"
EVENT = "DeviceTaintManagerEviction"
CONDITION = "EvictionInProgress"
GROUP = "resource.k8s.io"
CLAIMS: Resource = (GROUP, "v1", "resourceclaims")
SLICES: Resource = (GROUP, "v1", "resourceslices")
RULES: Resource = (GROUP, "v1", "devicetaintrules")
STATUS_SECONDS = 10.0  # between two writes of a rule's status, as upstream


@dataclass(frozen=True, slots=True)
class Eviction:
    """When a pod has to go, and the uids of the rules that ask for it."""

    when: float
    rules: frozenset[str]


def results(claim: Json) -> list[Json]:
    """The devices that a claim was given."""
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return (allocation.get("devices") or {}).get("results") or []


def _newest(view: View, driver: str, pool: str) -> list[Json]:
    """Specifications of a pool's slices, without outdated ones."""
    specs = [s["spec"] for s in view.by(SLICES, "pool", f"{driver}/{pool}")]
    newest = max((s["pool"].get("generation") or 0 for s in specs), default=0)
    return [s for s in specs if (s["pool"].get("generation") or 0) == newest]


def _taints(view: View, result: Json, rules: list[Json]) -> Iterable[tuple[Json, str]]:
    """(taint, uid of its rule or "") of everything that wants a device's users away."""
    driver, pool, device = result["driver"], result["pool"], result["device"]
    for spec in _newest(view, driver, pool):
        for held in spec.get("devices") or ():
            if held["name"] == device:
                yield from ((t, "") for t in held.get("taints") or () if t.get("effect") == "NoExecute")
    for rule in rules:
        if selects(rule, driver, pool, device):
            yield rule["spec"]["taint"], rule["metadata"]["uid"]


def _patience(result: Json, taint: Json) -> float | None:
    """Seconds that a device's user may stay: 0 not at all, None for ever."""
    taint = {**taint, "effect": "NoExecute"}  # also for a rule without an effect: what would be if it had one
    found = [t for t in result.get("tolerations") or () if t.get("effect") == "NoExecute" and tolerates(t, taint)]
    if not found:
        return 0.0
    limits = [t.get("tolerationSeconds") for t in found]
    return None if None in limits else min(max(float(s), 0.0) for s in limits if s is not None)


def eviction(view: View, pod: Json, rules: list[Json], now: float) -> Eviction | None:
    """Whether and when a pod has to go for its devices' sake. ``rules``: those that evict."""
    if not (pod.get("spec") or {}).get("nodeName"):
        return None
    meta, times, why = pod["metadata"], [], set()
    for name, own in resource_claims(pod):
        claim = view.get(CLAIMS, meta["namespace"], name)
        if claim is None or (own and (controller_of(claim) or {}).get("uid") != meta["uid"]):
            continue
        users = (claim.get("status") or {}).get("reservedFor") or ()
        if not any(u.get("uid") == meta["uid"] for u in users):
            continue
        for result in results(claim):
            for taint, rule in _taints(view, result, rules):
                seconds = _patience(result, taint)
                if seconds is not None:
                    added = parse_time(taint.get("timeAdded"))
                    times.append((now if added is None else added) + seconds)
                    why.add(rule)
    return Eviction(min(times), frozenset(why - {""})) if times else None


def _evicting(view: View) -> list[Json]:
    return [r for r in view.all(RULES) if r["spec"]["taint"].get("effect") == "NoExecute"]


class DeviceTaintEviction:
    """Remembers which pods wait for their eviction, and how many were evicted for each rule."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self.evicted: dict[str, int] = {}

    def plan_pod(self, view: View, key: str, now: float) -> Plan:
        """Key: a pod."""
        pod = view.get(PODS, *split_key(key))
        if pod is None or is_terminating(pod):
            self._waiting.discard(key)
            return NOTHING
        found = eviction(view, pod, _evicting(view), now)
        if found is None:
            if key not in self._waiting:
                return NOTHING
            self._waiting.discard(key)
            return Plan([Emit(pod, "Normal", EVENT, "Cancelling deletion")])
        self._waiting.add(key)
        if found.when > now:
            return Plan(again=found.when - now + 0.01)
        text = "Device Taint manager: deleting due to NoExecute taint"
        target = cond.make("DisruptionTarget", "True", "DeletionByDeviceTaintManager", text, now)
        body = {"metadata": {"uid": pod["metadata"]["uid"]}, "status": {"conditions": [target]}}
        gone = frozenset({404})

        def count(_: Json) -> Iterable[Emit]:
            for rule in found.rules:
                self.evicted[rule] = self.evicted.get(rule, 0) + 1
            return ()

        return Plan(
            [
                Emit(pod, "Normal", EVENT, "Marking for deletion"),
                patch(PODS, pod, body, patch_type="strategic", subresource="status", ignore=gone),
                delete(PODS, pod, ok=count),
            ]
        )

    def plan_rule(self, view: View, key: str, now: float) -> Plan:
        """Key: a rule. Its status is written at once for each generation, and then every ten seconds at most."""
        rule = view.get(RULES, "", key)
        if rule is None:
            return NOTHING
        meta = rule["metadata"]
        have = cond.find((rule.get("status") or {}).get("conditions") or [], CONDITION) or {}
        seen = have.get("observedGeneration") == meta.get("generation", 0)
        effect = rule["spec"]["taint"].get("effect")
        if seen and effect == "None":
            return NOTHING  # its message says that it is not counted again
        if seen and (left := (parse_time(have.get("lastTransitionTime")) or 0.0) + STATUS_SECONDS - now) > 0:
            return Plan(again=left + 0.01)
        pending = _pending(view, rule, now) if effect in ("NoExecute", "None") else []
        status, reason, message = self._said(view, rule, pending)
        wanted = {
            "type": CONDITION,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": meta.get("generation", 0),
        }
        again = STATUS_SECONDS if status == "True" else None
        if all(have.get(field) == value for field, value in wanted.items()):
            return Plan(again=again)
        wanted["lastTransitionTime"] = rfc3339(now)
        body = {
            "apiVersion": f"{GROUP}/v1",
            "kind": "DeviceTaintRule",
            "metadata": {"name": key, "uid": meta["uid"]},
            "status": {"conditions": [wanted]},
        }
        gone = frozenset({404})
        write = patch(RULES, rule, body, patch_type="apply", subresource="status", ignore=gone, manager=NAME)
        return Plan([write], again=again)

    def _said(self, view: View, rule: Json, pending: list[Json]) -> tuple[str, str, str]:
        """Status, reason and message of the condition, in upstream's words."""
        effect, done = rule["spec"]["taint"].get("effect"), self.evicted.get(rule["metadata"]["uid"], 0)
        spaces = len({p["metadata"]["namespace"] for p in pending})
        status, message = "False", ""
        where = "1 namespace" if spaces == 1 else f"{spaces} different namespaces"
        if effect == "NoExecute" and pending:
            status, reason = "True", "PodsPendingEviction"
            message = f"{_number(len(pending), 'pod needs', 'pods need')} to be evicted in {where}."
        elif effect == "NoExecute":
            reason = "Completed" if done else "NotStarted"
        elif effect == "None":
            reason = "NoEffect"
            published, given = _selected(view, rule)
            message = (
                f"{_number(published, 'published device', 'published devices')} selected. "
                f"{_number(given, 'allocated device', 'allocated devices')} selected. "
                f"{_number(len(pending), 'pod', 'pods')} would be evicted in {where} if the effect was NoExecute. "
                "This information will not be updated again. Recreate the DeviceTaintRule to trigger an update."
            )
        else:
            reason, message = "OtherEffect", "Eviction only happens for the NoExecute effect."
        if done:
            message += f"{' ' if message else ''}{_number(done, 'pod', 'pods')} evicted since starting the controller."
        return status, reason, message


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _pending(view: View, rule: Json, now: float) -> list[Json]:
    """Pods that this rule evicts, or would if that was its effect."""
    uid = rule["metadata"]["uid"]
    found = []
    for pod in view.all(PODS):
        if not is_terminating(pod) and resource_claims_of(pod):
            due = eviction(view, pod, [rule], now)
            if due is not None and uid in due.rules:
                found.append(pod)
    return found


def _selected(view: View, rule: Json) -> tuple[int, int]:
    """Devices that a rule selects: in the newest slices, and given to claims."""
    pools = {(s["spec"]["driver"], s["spec"]["pool"]["name"]) for s in view.all(SLICES)}
    published = sum(
        selects(rule, driver, pool, device["name"])
        for driver, pool in pools
        for spec in _newest(view, driver, pool)
        for device in spec.get("devices") or ()
    )
    return published, sum(_about(rule, r) for c in view.all(CLAIMS) for r in results(c))


def _about(rule: Json, result: Json) -> bool:
    return selects(rule, result["driver"], result["pool"], result["device"])


# -- news -------------------------------------------------------------------------------------------------------------


def resource_claims_of(pod: Json) -> list[str]:
    """Names of a pod's claims, as far as they are known."""
    return [name for name, _ in resource_claims(pod)]


def _users(view: View, claim: Json) -> Iterable[str]:
    namespace = claim["metadata"]["namespace"]
    for user in (claim.get("status") or {}).get("reservedFor") or ():
        if not user.get("apiGroup") and user.get("resource") == "pods":
            yield f"{namespace}/{user['name']}"


def _users_of_pool(view: View, piece: Json) -> Iterable[str]:
    spec = piece["spec"]
    for claim in view.by(CLAIMS, "pool", f"{spec['driver']}/{spec['pool']['name']}"):
        yield from _users(view, claim)


def _users_by_rule(view: View, rule: Json) -> Iterable[str]:
    for claim in view.all(CLAIMS):
        if any(_about(rule, r) for r in results(claim)):
            yield from _users(view, claim)


def _rules_about(view: View, claim: Json) -> Iterable[str]:
    held = results(claim)
    return [r["metadata"]["name"] for r in _evicting(view) if any(_about(r, x) for x in held)]


def _rules_of_pod(view: View, pod: Json) -> Iterable[str]:
    for name in resource_claims_of(pod):
        if (claim := view.get(CLAIMS, pod["metadata"]["namespace"], name)) is not None:
            yield from _rules_about(view, claim)


def _made(pod: Json) -> tuple[object, object]:
    """The claims that were made for a pod; those it names itself never change."""
    status = pod.get("status") or {}
    return status.get("resourceClaimStatuses"), status.get("extendedResourceClaimStatus")


def _without(old: Json | None, new: Json | None) -> bool:
    pod = new or old or {}
    return not (pod.get("spec") or {}).get("resourceClaims") and not any(_made(pod))


MOVED = (NODE, TERMINATING, Fact(_made, "status"))
SPEC = Fact(lambda rule: rule.get("spec"), "spec")


def _tainted(piece: Json) -> object:
    taints = [(d["name"], d["taints"]) for d in piece["spec"].get("devices") or () if d.get("taints")]
    return piece["spec"]["pool"].get("generation"), taints


def controllers() -> tuple[Controller, Controller]:
    """Two controllers with a memory of their own in common."""
    shared = DeviceTaintEviction()
    evicts = Controller(
        NAME,
        PODS,
        shared.plan_pod,
        watches={CLAIMS: _users, SLICES: _users_of_pool, RULES: _users_by_rule},
        relevant={SLICES: (Fact(_tainted, "spec"),), RULES: (SPEC,)},
        minds=MOVED,
        ignores=_without,
        workers=2,
    )
    tells = Controller(
        NAME,
        RULES,
        shared.plan_rule,
        watches={CLAIMS: _rules_about, PODS: _rules_of_pod},
        reads=(SLICES,),
        relevant={PODS: MOVED},
        minds=(SPEC,),
        settle=STATUS_SECONDS,
        workers=1,
    )
    return evicts, tells
