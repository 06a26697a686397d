"""Why something stays in Terminating: finalizers, grace, lost nodes, what still uses it."""

from __future__ import annotations

from typing import Any

from portside.api.selector import from_object
from portside.why.finding import Cause, Fact, Finding, Grade, Role, condition, describe, said, seen, space, title
from portside.why.reach import consumers, guarded
from portside.why.world import World, seconds

Json = dict[str, Any]
ANY = ("*",)  # every kind, custom ones included
CLAIM_PROTECTION, VOLUME_PROTECTION = "kubernetes.io/pvc-protection", "kubernetes.io/pv-protection"
OWN = (CLAIM_PROTECTION, VOLUME_PROTECTION, "foregroundDeletion", "orphan", "kubernetes")
OVERDUE = 10.0  # seconds beyond its grace after which a pod's end counts as stuck
SETTLING = 5.0  # seconds that finalizers have before they are told


def leaving(obj: Json) -> bool:
    return bool(obj["metadata"].get("deletionTimestamp"))


def silent(world: World, name: str) -> Json | None:
    """The node, when it is known not to be ready."""
    node = world.get("nodes", name)
    return node if node is not None and condition(node, "Ready").get("status") != "True" else None


def finalizers(world: World, obj: Json) -> Finding | None:
    held = [f for f in obj["metadata"].get("finalizers") or () if f not in OWN]
    asked = seconds(obj["metadata"].get("deletionTimestamp"))
    if asked is None or not held or world.now - asked < SETTLING:
        return None
    return Finding(
        f"it is deleted, but waits for whoever set the finalizer{'s' if len(held) > 1 else ''} {', '.join(held)}",
        (seen(obj, "metadata", "deletionTimestamp"), seen(obj, "metadata", "finalizers")),
        (
            f"see that the controller behind {held[0].split('/')[0]} runs; it clears up and takes its finalizer away",
            "only when it is gone for good, and nothing is left to clear up:",
            f'kubectl patch {title(obj)}{space(obj)} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\'',
        ),
    )


def dependents(world: World, obj: Json) -> Finding | None:
    """Foreground deletion waits for what the object owns."""
    if not leaving(obj) or "foregroundDeletion" not in (obj["metadata"].get("finalizers") or ()):
        return None
    owned = world.owned(obj)
    names = ", ".join(title(o) for o in owned[:5]) or "what it owns"
    return Finding(
        f"it is deleted in the foreground, so it waits until {names} {'are' if len(owned) > 1 else 'is'} gone",
        (
            seen(obj, "metadata", "finalizers"),
            *(seen(o, "metadata", "finalizers") for o in owned[:3] if o["metadata"].get("finalizers")),
        ),
        (f"portside why {title(owned[0])}{space(owned[0])}" if owned else describe(obj),),
    )


def in_use(world: World, obj: Json) -> Finding | None:
    """A claim that pods mount, or a volume that a claim is bound to, stays until they are gone."""
    held = obj["metadata"].get("finalizers") or ()
    if not leaving(obj):
        return None
    if obj["kind"] == "PersistentVolumeClaim" and CLAIM_PROTECTION in held:
        users = consumers(world, obj)
        facts = tuple(seen(p, "spec", "volumes") for p in users[:3])
    elif obj["kind"] == "PersistentVolume" and VOLUME_PROTECTION in held and obj["spec"].get("claimRef"):
        ref = obj["spec"]["claimRef"]
        claim = world.get("persistentvolumeclaims", ref.get("name", ""), ref.get("namespace", ""))
        users, facts = [claim] if claim else [], (seen(obj, "spec", "claimRef", "name"),)
    else:
        return None
    if not users:
        return None
    names = ", ".join(title(u) for u in users[:5])
    return Finding(
        f"it is deleted, but {names} still use{'s' if len(users) == 1 else ''} it",
        (seen(obj, "metadata", "finalizers"), *facts),
        (f"kubectl delete {title(users[0])}{space(users[0])}, when its data is not needed any more",),
    )


def namespace_stuck(world: World, namespace: Json) -> Finding | None:
    if not leaving(namespace):
        return None
    kinds = ("NamespaceFinalizersRemaining", "NamespaceContentRemaining", "NamespaceDeletionContentFailure",
             "NamespaceDeletionDiscoveryFailure", "NamespaceDeletionGroupVersionParsingFailure")  # fmt: skip
    bad = [k for k in kinds if condition(namespace, k).get("status") == "True"]
    own = [f for f in lookup_finalizers(namespace) if f != "kubernetes"]
    if not bad and not own:
        return None
    text = str(condition(namespace, bad[0]).get("message", "")) if bad else f"finalizers {', '.join(own)}"
    facts = [f for k in bad for f in said(namespace, k)[1:]]
    todo = ["see what is left: kubectl api-resources --verbs=list --namespaced -o name | "
            f"xargs -n1 kubectl get -n {namespace['metadata']['name']} --ignore-not-found -o name"]  # fmt: skip
    if "NamespaceDeletionDiscoveryFailure" in bad:
        todo = ["mend or delete the APIService that does not answer: portside why"]
    if own:
        facts.append(seen(namespace, "spec", "finalizers"))
    return Finding(
        f"the namespace can't end: {text}",
        (seen(namespace, "metadata", "deletionTimestamp"), *facts),
        (*todo, f"and why it does not go: portside why KIND/NAME -n {namespace['metadata']['name']}"),
    )


def lookup_finalizers(namespace: Json) -> list[str]:
    return list((namespace.get("spec") or {}).get("finalizers") or ())


def grace_runs(world: World, pod: Json) -> Finding | None:
    until = seconds(pod["metadata"].get("deletionTimestamp"))
    if until is None or not pod["spec"].get("nodeName"):
        return None
    if world.now > until + (0.0 if pod["metadata"].get("finalizers") else OVERDUE):
        return None
    left = max(0, round(until - world.now))
    return Finding(
        "it was told to end, and still has its grace to do so",
        (
            seen(pod, "metadata", "deletionTimestamp"),
            seen(pod, "metadata", "deletionGracePeriodSeconds"),
            Fact(title(pod), "seconds left", str(left)),
        ),
        (
            "wait; a program that does not end on TERM uses all of its grace",
            f"at once: kubectl delete {title(pod)}{space(pod)} --grace-period=0 --force",
        ),
    )


def node_silent(world: World, pod: Json) -> Finding | None:
    name = pod["spec"].get("nodeName", "")
    node = silent(world, name)
    until = seconds(pod["metadata"].get("deletionTimestamp"))
    if until is None or node is None:
        return None
    return Finding(
        f"it is deleted, but node {name} does not answer, so nobody can say that its containers ended",
        (
            seen(pod, "metadata", "deletionTimestamp"),
            seen(pod, "spec", "nodeName"),
            *said(node, "Ready")[:2],
        ),
        (
            "bring the node back, or, when the machine is off for good: "
            f"kubectl delete {title(pod)}{space(pod)} --grace-period=0 --force",
            f"portside node remove {name}",
        ),
    )


def drain_blocked(world: World, node: Json) -> Finding | None:
    """A cordoned node that keeps pods whose disruption budget allows no eviction."""
    if not node["spec"].get("unschedulable") or not world.knows("poddisruptionbudgets"):
        return None
    name = node["metadata"]["name"]
    for budget in world.all("poddisruptionbudgets"):
        status = budget.get("status") or {}
        if status.get("disruptionsAllowed", 0) > 0 or not status.get("expectedPods"):
            continue
        here = [p for p in guarded(world, budget) if p["spec"].get("nodeName") == name and not leaving(p)]
        if not here:
            continue
        wanted = from_object(budget["spec"].get("selector"))
        names = ", ".join(title(p) for p in here[:3])
        return Finding(
            f"draining it waits for {names}: the budget {title(budget)} allows no eviction",
            (
                seen(node, "spec", "unschedulable"),
                *(seen(budget, "status", f) for f in ("currentHealthy", "desiredHealthy", "disruptionsAllowed")),
                Fact(title(budget), "spec.selector", str(wanted) or "(everything)"),
            ),
            (
                "run more replicas, so that one may go; or lower minAvailable",
                f"portside why {title(budget)}{space(budget)}",
            ),
        )
    return None


def being_deleted(world: World, obj: Json) -> Finding | None:
    if not leaving(obj):
        return None
    return Finding(
        "it is being deleted",
        (seen(obj, "metadata", "deletionTimestamp"), seen(obj, "metadata", "finalizers")),
        (describe(obj),),
    )


PODS = ("pods",)
CAUSES: tuple[Cause, ...] = (
    Cause("node-does-not-answer", PODS, node_silent, "a pod is deleted, and its node is silent", ("nodes",)),
    Cause("grace-runs", PODS, grace_runs, "a pod still has its grace to end", grade=Grade.WAITS),
    Cause(
        "still-in-use",
        ("persistentvolumeclaims", "persistentvolumes"),
        in_use,
        "a claim or volume is deleted while something uses it",
        ("pods", "persistentvolumeclaims"),
        grade=Grade.WAITS,
    ),
    Cause("finalizers", ANY, finalizers, "a finalizer keeps an object that is deleted"),
    Cause(
        "waits-for-dependents",
        ANY,
        dependents,
        "a deletion in the foreground waits for what the object owns",
        role=Role.LINK,
        grade=Grade.WAITS,
    ),
    Cause(
        "namespace-stuck",
        ("namespaces",),
        namespace_stuck,
        "what is in a namespace keeps it from ending",
        role=Role.LINK,
    ),
    Cause(
        "drain-blocked",
        ("nodes",),
        drain_blocked,
        "a disruption budget keeps pods on a node that is drained",
        ("pods", "poddisruptionbudgets"),
        grade=Grade.WAITS,
    ),
    Cause("being-deleted", ANY, being_deleted, "an object is being deleted", role=Role.SYMPTOM),
)
