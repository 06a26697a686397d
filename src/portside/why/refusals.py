"""Why a workload's pods can't even be created: what admission answered to the controller that tried."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from portside.why.finding import Cause, Fact, Find, Finding, condition, said, seen, space, title
from portside.why.world import World, last_seen

Json = dict[str, Any]
KINDS = ("deployments", "replicasets", "replicationcontrollers", "statefulsets", "daemonsets", "jobs", "cronjobs")
MADE = ("SuccessfulCreate",)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A kind of answer, told by its words: the cause's name, what it means, and what to do.

    ``says`` and ``todo`` may name groups of the pattern.
    """

    name: str
    pattern: str
    says: str
    todo: tuple[str, ...]
    means: str
    objects: str = ""  # the plural of namespaced objects that show the rule
    paths: tuple[tuple[str, ...], ...] = ()


REFUSALS: tuple[Refusal, ...] = (
    Refusal(
        "quota-exceeded",
        r"exceeded quota: (?P<quota>[^,]+), requested: (?P<asked>.+?), used: (?P<used>.+?), limited: (?P<most>.+)",
        "the quota {quota} is used up: {asked} asked for, {used} used, {most} at most",
        ("kubectl describe resourcequota {quota}{space}", "end what is not needed, ask for less, or raise the quota"),
        "a ResourceQuota is used up",
        "resourcequotas",
        (("status", "hard"), ("status", "used")),
    ),
    Refusal(
        "quota-needs-requests",
        r"failed quota: (?P<quota>[^:]+): must specify (?P<what>.+)",
        "the quota {quota} wants every pod to say {what}",
        ("set resources.requests and limits in the pod template", "or give defaults to the namespace by a LimitRange"),
        "a ResourceQuota counts what the pods do not say",
        "resourcequotas",
        (("spec", "hard"),),
    ),
    Refusal(
        "limit-range",
        r"(?P<what>(?:maximum|minimum) \S+ usage per \S+ is .+|\S+ max limit to request ratio per \S+ is .+)",
        "a LimitRange forbids the pods: {what}",
        ("change resources in the pod template", "kubectl describe limitrange{space}"),
        "a LimitRange forbids what the containers ask for",
        "limitranges",
        (("spec", "limits"),),
    ),
    Refusal(
        "pod-security",
        r'violates PodSecurity "(?P<level>[^"]+)": (?P<what>.+)',
        "the namespace enforces Pod Security {level}, and the pods do not keep to it: {what}",
        (
            "mend securityContext in the pod template as it says",
            "or: kubectl label namespace {namespace} --overwrite pod-security.kubernetes.io/enforce=LEVEL",
        ),
        "the namespace's Pod Security level forbids the pods",
    ),
    Refusal(
        "webhook-refused",
        r'admission webhook "(?P<hook>[^"]+)" denied the request:? ?(?P<what>.*)',
        "the admission webhook {hook} refuses the pods: {what}",
        (
            "do as it says, or ask whoever runs it",
            "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations",
        ),
        "an admission webhook denies the pods",
    ),
    Refusal(
        "webhook-unreachable",
        r'failed calling webhook "(?P<hook>[^"]+)": (?P<what>.+)',
        "the admission webhook {hook} can't be asked, and nothing is admitted without it: {what}",
        (
            "bring its server up, or correct clientConfig and caBundle",
            "or let requests pass without it: failurePolicy: Ignore in its configuration",
        ),
        "an admission webhook does not answer and its failure policy is Fail",
    ),
    Refusal(
        "policy-refused",
        r"(?:ValidatingAdmissionPolicy|MutatingAdmissionPolicy|policy) '(?P<policy>[^']+)'"
        r"(?: with binding '(?P<binding>[^']+)')? denied request: (?P<what>.+)",
        "the admission policy {policy} refuses the pods: {what}",
        ("do as it says", "kubectl get validatingadmissionpolicy {policy} -o yaml"),
        "a ValidatingAdmissionPolicy denies the pods",
    ),
    Refusal(
        "serviceaccount-missing",
        r'error looking up service account [^/]+/(?P<name>[^:]+): serviceaccount "[^"]+" not found',
        "the ServiceAccount {name} does not exist in namespace {namespace}",
        ("kubectl create serviceaccount {name}{space}", "or correct serviceAccountName in the pod template"),
        "the pods' ServiceAccount does not exist",
    ),
    Refusal(
        "priorityclass-missing",
        r"no PriorityClass with name (?P<name>\S+) was found",
        "the PriorityClass {name} does not exist",
        ("kubectl create priorityclass {name} --value=1000", "or correct priorityClassName in the pod template"),
        "the pods' PriorityClass does not exist",
    ),
    Refusal(
        "runtimeclass-missing",
        r'RuntimeClass "(?P<name>[^"]+)" not found',
        "the RuntimeClass {name} does not exist",
        ("kubectl get runtimeclasses", "create it, or correct runtimeClassName in the pod template"),
        "the pods' RuntimeClass does not exist",
    ),
    Refusal(
        "create-refused",
        r"(?P<what>.+)",
        "the pods can't be created: {what}",
        ("correct the pod template",),
        "the API refuses the pods for another reason",
    ),
)


def lacks(world: World, obj: Json) -> bool:
    """Whether the workload has fewer pods (or runs) than it is to have."""
    spec, status = obj["spec"], obj.get("status") or {}
    kind = obj["kind"]
    if kind == "DaemonSet":
        return int(status.get("currentNumberScheduled", 0)) < int(status.get("desiredNumberScheduled", 0))
    if kind == "Job":
        ended = any(
            c["type"] in ("Complete", "Failed") and c["status"] == "True" for c in status.get("conditions") or ()
        )
        return not ended and not spec.get("suspend") and not status.get("active")
    if kind == "CronJob":
        return True
    return int(status.get("replicas", 0)) < int(spec.get("replicas", 1))


def answer(world: World, obj: Json) -> tuple[str, tuple[Fact, ...]]:
    """The newest refusal with its evidence; ("", ()) when what it tried last went well or nothing lacks."""
    if obj["kind"] == "Deployment":  # what its ReplicaSets are refused is theirs to tell
        held = condition(obj, "Progressing")
        failed_set = held.get("reason") == "ReplicaSetCreateError"
        return (str(held.get("message", "")), said(obj, "Progressing")) if failed_set else ("", ())
    if not lacks(world, obj):
        return "", ()
    events = world.events(obj, "FailedCreate", *MADE)
    failed = next((e for e in events if e["reason"] == "FailedCreate"), None)
    made = next((e for e in events if e["reason"] in MADE), None)
    failure = condition(obj, "ReplicaFailure")
    if failure.get("status") == "True" and failure.get("reason") == "FailedCreate":
        return str(failure.get("message", "")), said(obj, "ReplicaFailure")[1:]
    if failed is None or (made is not None and last_seen(made) > last_seen(failed)):
        return "", ()
    return str(failed.get("message", "")), world.told(obj, failed)


def refused(refusal: Refusal) -> Find:
    def find(world: World, obj: Json) -> Finding | None:
        message, facts = answer(world, obj)
        found = re.search(refusal.pattern, message, re.DOTALL) if message else None
        if not found or classify(message) is not refusal:
            return None
        namespace = obj["metadata"].get("namespace", "")
        words = {k: (v or "").strip() for k, v in found.groupdict().items()} | {
            "namespace": namespace,
            "space": space(obj),
        }
        if refusal.objects:
            named = words.get("quota")
            rules = [o for o in world.all(refusal.objects, namespace) if named in (None, o["metadata"]["name"])]
            facts = (*facts, *(seen(o, *path) for o in rules[:3] for path in refusal.paths))
        count = seen(obj, "status", "replicas") if "replicas" in (obj.get("status") or {}) else None
        return Finding(
            refusal.says.format(**words).rstrip(": "),
            (*((count,) if count else ()), *facts),
            (*(t.format(**words) for t in refusal.todo), f"kubectl describe {title(obj)}{space(obj)}"),
        )

    return find


def classify(message: str) -> Refusal:
    """The first kind of refusal whose words the message has; the last has all."""
    return next(r for r in REFUSALS if re.search(r.pattern, message, re.DOTALL) or r is REFUSALS[-1])


CAUSES: tuple[Cause, ...] = tuple(
    Cause(r.name, KINDS, refused(r), r.means, (r.objects,) if r.objects else ()) for r in REFUSALS
)
