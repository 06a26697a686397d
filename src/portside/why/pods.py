"""Causes that lie between a pod and its node: missing references, volumes, sandboxes, refusals, lost nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from portside.why.finding import Cause, Fact, Finding, Role, condition, describe, said, seen, space, title
from portside.why.world import World

Json = dict[str, Any]
SETTLED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Reference:
    """A ConfigMap or Secret that a pod needs, ``key`` one entry of it; "" for the whole."""

    plural: str
    name: str
    key: str
    fact: Fact
    optional: bool


KINDS = {"configMap": "configmaps", "secret": "secrets"}


def references(pod: Json) -> Iterator[Reference]:
    """All of a pod, in the order of its fields."""
    for family in ("initContainers", "containers"):
        for container in pod["spec"].get(family) or ():
            base = ("spec", family, container["name"])
            for number, source in enumerate(container.get("envFrom") or ()):
                for field in ("configMap", "secret"):
                    if ref := source.get(f"{field}Ref"):
                        fact = seen(pod, *base, "envFrom", number, f"{field}Ref", "name")
                        yield _reference(field, ref, "", fact)
            for variable in container.get("env") or ():
                for field in ("configMap", "secret"):
                    if ref := (variable.get("valueFrom") or {}).get(f"{field}KeyRef"):
                        fact = seen(pod, *base, "env", variable["name"], "valueFrom", f"{field}KeyRef")
                        yield _reference(field, ref, ref.get("key", ""), fact)
    for volume in pod["spec"].get("volumes") or ():
        base = ("spec", "volumes", volume["name"])
        yield from _of_source(pod, volume, base)
        for number, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            yield from _of_source(pod, source, (*base, "projected", "sources", number))


def _of_source(pod: Json, source: Json, base: tuple[str | int, ...]) -> Iterator[Reference]:
    for field, name in (("configMap", "name"), ("secret", "secretName"), ("secret", "name")):
        ref = source.get(field) or {}
        if name not in ref:
            continue
        ref = {"name": ref[name], **ref}
        yield _reference(field, ref, "", seen(pod, *base, field, name))
        for number, item in enumerate(ref.get("items") or ()):
            yield _reference(field, ref, item["key"], seen(pod, *base, field, "items", number, "key"))


def _reference(field: str, ref: Json, key: str, fact: Fact) -> Reference:
    return Reference(KINDS[field], str(ref.get("name", "")), key, fact, bool(ref.get("optional")))


def waits_for_start(pod: Json) -> bool:
    """It has a node, and not all of its containers were ever started."""
    status = pod.get("status") or {}
    return bool(pod["spec"].get("nodeName")) and status.get("phase", "Pending") == "Pending"


def missing(plural: str, kind: str) -> Any:
    def find(world: World, pod: Json) -> Finding | None:
        if (pod.get("status") or {}).get("phase") in SETTLED or not unstarted(pod):
            return None
        namespace = pod["metadata"].get("namespace", "")
        for ref in references(pod):
            if ref.plural == plural and not ref.optional and world.missing(plural, ref.name, namespace):
                how = "secret generic" if plural == "secrets" else "configmap"
                event = world.event(pod, "FailedMount", "Failed", holding=ref.name)
                return Finding(
                    f"the {kind} {ref.name} does not exist in namespace {namespace}",
                    (ref.fact, *world.told(pod, event)),
                    (f"kubectl create {how} {ref.name}{space(pod)} --from-literal=KEY=VALUE, or correct the name",),
                )
        return None

    return find


def unstarted(pod: Json) -> bool:
    """A container waits for something; running pods may do without what came and went."""
    status = pod.get("status") or {}
    states = [
        s
        for family in ("initContainerStatuses", "containerStatuses")
        for s in status.get(family) or ()
        if s.get("state")
    ]
    return waits_for_start(pod) or any("waiting" in s["state"] for s in states)


def key_missing(world: World, pod: Json) -> Finding | None:
    if (pod.get("status") or {}).get("phase") in SETTLED or not unstarted(pod):
        return None
    namespace = pod["metadata"].get("namespace", "")
    for ref in references(pod):
        held = world.get(ref.plural, ref.name, namespace) if ref.key and not ref.optional else None
        if held is None:
            continue
        keys = {*(held.get("data") or ()), *(held.get("binaryData") or ())}
        if ref.key not in keys:
            kind = str(held["kind"])
            has = Fact(title(held), "data has the keys", ", ".join(sorted(keys)) or "(none)")
            return Finding(
                f"the {kind} {ref.name} has no key {ref.key}",
                (ref.fact, has),
                (f"kubectl edit {title(held)}{space(held)} to add the key, or correct its name in the pod",),
            )
    return None


def volume_not_mounted(world: World, pod: Json) -> Finding | None:
    event = world.event(pod, "FailedMount", "FailedAttachVolume", "FailedMapVolume")
    if event is None or not waits_for_start(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    return Finding(
        f"a volume can't be mounted: {event.get('message', '')}",
        (seen(pod, "spec", "nodeName"), *world.told(pod, event)),
        ("correct the volume it names, or make what it needs on the node", describe(pod)),
    )


def sandbox_refused(world: World, pod: Json) -> Finding | None:
    event = world.event(pod, "FailedCreatePodSandBox")
    if event is None or not waits_for_start(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    return Finding(
        f"the node can't make the pod's sandbox: {event.get('message', '')}",
        (seen(pod, "spec", "nodeName"), *world.told(pod, event)),
        ("look at the node's network plugins and runtime: portside logs agent", describe(pod)),
    )


def node_refused(world: World, pod: Json) -> Finding | None:
    """Failed by the node: admission, eviction, or a deadline. The reason is the kubelet's own word."""
    status = pod.get("status") or {}
    reason = status.get("reason")
    if status.get("phase") != "Failed" or not reason or reason == "DeadlineExceeded":
        return None
    did = "put the pod out" if reason in ("Evicted", "Preempting", "Terminated") else "refused the pod"
    return Finding(
        f"the node {did} ({reason}): {status.get('message', '')}",
        tuple(seen(pod, *p) for p in (("spec", "nodeName"), ("status", "reason"), ("status", "message"))),
        (
            f"kubectl describe node {pod['spec'].get('nodeName', '')}",
            f"kubectl delete {title(pod)}{space(pod)} once it is understood; a pod that failed stays failed",
        ),
    )


def pod_deadline(world: World, pod: Json) -> Finding | None:
    if (pod.get("status") or {}).get("reason") != "DeadlineExceeded":
        return None
    return Finding(
        f"the pod ran longer than its {pod['spec'].get('activeDeadlineSeconds')} s and was ended",
        (seen(pod, "spec", "activeDeadlineSeconds"), seen(pod, "status", "reason")),
        ("raise spec.activeDeadlineSeconds, or find out what took so long",),
    )


def readiness_gate(world: World, pod: Json) -> Finding | None:
    ready = condition(pod, "ContainersReady").get("status") == "True"
    gates = [g["conditionType"] for g in pod["spec"].get("readinessGates") or ()]
    shut = [g for g in gates if condition(pod, g).get("status") != "True"]
    if not shut or not ready:
        return None
    return Finding(
        f"the containers are ready, but nobody has set the condition {', '.join(shut)} to True",
        (seen(pod, "spec", "readinessGates"), *said(pod, "Ready"), *(f for g in shut for f in said(pod, g))),
        (f"find out who is to set it; {shut[0].split('/')[0]} may name the controller",),
    )


def node_gone(world: World, pod: Json) -> Finding | None:
    name = pod["spec"].get("nodeName")
    if not name or (pod.get("status") or {}).get("phase") in SETTLED or not world.missing("nodes", name):
        return None
    return Finding(
        f"the pod belongs to node {name}, which does not exist",
        (seen(pod, "spec", "nodeName"),),
        (f"kubectl delete {title(pod)}{space(pod)} --grace-period=0 --force",),
    )


def not_ready(world: World, pod: Json) -> Finding | None:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    if phase == "Succeeded" or condition(pod, "Ready").get("status") == "True":
        return None
    return Finding(
        f"the pod is not ready (phase {phase})",
        (seen(pod, "status", "phase"), seen(pod, "spec", "nodeName"), *said(pod, "Ready")),
        (describe(pod),),
    )


PODS = ("pods",)
CAUSES: tuple[Cause, ...] = (
    Cause(
        "configmap-missing",
        PODS,
        missing("configmaps", "ConfigMap"),
        "a ConfigMap that a pod needs does not exist",
        ("configmaps",),
    ),
    Cause(
        "secret-missing", PODS, missing("secrets", "Secret"), "a Secret that a pod needs does not exist", ("secrets",)
    ),
    Cause(
        "key-missing",
        PODS,
        key_missing,
        "a ConfigMap or Secret lacks the key that a pod needs",
        ("configmaps", "secrets"),
    ),
    Cause("node-gone", PODS, node_gone, "the pod is bound to a node that does not exist", ("nodes",)),
    Cause("volume-not-mounted", PODS, volume_not_mounted, "a volume can't be attached or mounted on the node"),
    Cause("sandbox-refused", PODS, sandbox_refused, "the node can't make the pod's sandbox or its network"),
    Cause("node-refused", PODS, node_refused, "the node refused the pod, or put it out (eviction)"),
    Cause("pod-deadline", PODS, pod_deadline, "the pod ran longer than its activeDeadlineSeconds"),
    Cause("readiness-gate", PODS, readiness_gate, "a readiness gate's condition is not True"),
    Cause("pod-not-ready", PODS, not_ready, "a pod is not ready", role=Role.SYMPTOM),
)
