"""Asks CSI drivers to attach the volumes of a node's pods, and to detach them when no pod there needs them.

The driver's attacher does the work and says so in the VolumeAttachment; the node's status tells its agent what is attached.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from portside.client.cache import View
from portside.client.protocol import Json, Resource
from portside.controllers.claimprotection import claims_of
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Draft, Emit, Plan, create, delete, patch
from portside.controllers.pods import FINISHED, NODE, PODS, is_finished, is_ready, is_terminating
from portside.controllers.volumematch import CLAIMS, VOLUMES

NODES: Resource = ("", "v1", "nodes")
ATTACHMENTS: Resource = ("storage.k8s.io", "v1", "volumeattachments")
DRIVERS: Resource = ("storage.k8s.io", "v1", "csidrivers")
MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
"""The annotation of nodes whose agents leave attaching to this controller; for others nothing is attached."""
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
UNMOUNT_SECONDS = 360.0  # an unready node has to say that it let go of a volume (upstream's maxWaitForUnmountDuration)
DETACHING = (
    "Volume is already exclusively attached to one node, waiting on detach before it can be attached to another node"
)
OURS = re.compile(r"csi-[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Wish:
    """A volume that has to be attached, and the pods that wait for it."""

    volume: str
    driver: str
    handle: str
    pods: tuple[str, ...] = ()

    @property
    def unique(self) -> str:
        """What the node's status calls it."""
        return f"kubernetes.io/csi/{self.driver}^{self.handle}"

    def attachment(self, node: str) -> str:
        return "csi-" + hashlib.sha256(f"{self.handle}{self.driver}{node}".encode()).hexdigest()


def attaches(view: View, driver: str) -> bool:
    """A driver that is not described is asked."""
    held = view.get(DRIVERS, "", driver)
    return held is None or (held.get("spec") or {}).get("attachRequired", True) is not False


def wishes(view: View, node: str) -> dict[str, Wish]:
    """By name of the attachment."""
    found: dict[str, Wish] = {}
    for pod in view.by(PODS, "node", node):
        if is_finished(pod):
            continue
        meta = pod["metadata"]
        for name in claims_of(pod):
            claim = view.get(CLAIMS, meta["namespace"], name)
            volume = view.get(VOLUMES, "", (claim or {}).get("spec", {}).get("volumeName") or "-")
            source = (volume or {}).get("spec", {}).get("csi")
            if volume is None or not source or not attaches(view, source["driver"]):
                continue
            wish = Wish(volume["metadata"]["name"], source["driver"], source["volumeHandle"])
            key = wish.attachment(node)
            pods = found[key].pods if key in found else ()
            found[key] = Wish(wish.volume, wish.driver, wish.handle, (*pods, f"{meta['namespace']}/{meta['name']}"))
    return found


class AttachDetach:
    """Remembers since when nobody wants a volume that a node still has mounted, and whom it told that it waits for another
    node."""

    def __init__(self) -> None:
        self._unwanted: dict[str, float] = {}
        self._told: set[str] = set()

    def plan(self, view: View, key: str, now: float) -> Plan:
        """Key: a node."""
        node = view.get(NODES, "", key)
        wanted = wishes(view, key)
        everything = view.all(ATTACHMENTS)
        held = {a["metadata"]["name"]: a for a in everything if a["spec"].get("nodeName") == key}
        if node is None and not held:
            return NOTHING
        draft = Draft()
        leaving = {n for n, a in held.items() if self._leaves(view, node, n, a, n in wanted, now, draft)}
        if node is not None:
            _tell(view, node, wanted, {n: a for n, a in held.items() if n not in leaving}, draft)
        for name in leaving:
            draft.add(delete(ATTACHMENTS, held[name]))
        managed = node is not None and MANAGED in (node["metadata"].get("annotations") or {})
        for name, wish in wanted.items():
            if name not in held and managed:
                self._attach(view, key, name, wish, everything, draft)
        return draft.plan()

    def _leaves(
        self, view: View, node: Json | None, name: str, attachment: Json, wanted: bool, now: float, draft: Draft
    ) -> bool:
        """To be detached: nobody wants it, and the node has let go of it, or will never say so."""
        if (wanted and node is not None) or not OURS.fullmatch(name) or is_terminating(attachment):
            self._unwanted.pop(name, None)
            return False
        if node is not None and _unique(view, attachment) in ((node.get("status") or {}).get("volumesInUse") or ()):
            left = self._unwanted.setdefault(name, now) + UNMOUNT_SECONDS - now
            out = any(t.get("key") == OUT_OF_SERVICE for t in (node.get("spec") or {}).get("taints") or ())
            if not out and (left > 0 or is_ready(node)):
                if left > 0:
                    draft.look_again(left + 0.01)
                return False
        self._unwanted.pop(name, None)
        return True

    def _attach(self, view: View, node: str, name: str, wish: Wish, everything: list[Json], draft: Draft) -> None:
        """Asks for it, unless the volume is another node's alone: then its pods are told, once."""
        volume = view.get(VOLUMES, "", wish.volume) or {}
        modes = set((volume.get("spec") or {}).get("accessModes") or ())
        alone = bool(modes) and not modes & {"ReadWriteMany", "ReadOnlyMany"}
        others = {a["spec"].get("nodeName", "") for a in everything if alone and _volume(a) == wish.volume} - {node}
        if not others:
            self._told.discard(name)
            draft.add(create(ATTACHMENTS, _body(name, wish, node), ignore=frozenset({409})))
        elif name not in self._told:
            self._told.add(name)
            draft.add(*_waits(view, wish, others))


def _volume(attachment: Json) -> str:
    return str((attachment["spec"].get("source") or {}).get("persistentVolumeName") or "")


def _waits(view: View, wish: Wish, others: set[str]) -> Iterable[Emit]:
    """Which pods have the volume elsewhere; those of other namespaces are counted only."""
    users = [p for n in sorted(others) for p in view.by(PODS, "node", n) if wish.volume in _volumes(view, p)]
    for key in wish.pods:
        pod = view.key(PODS, key)
        if pod is None:
            continue
        space = pod["metadata"]["namespace"]
        near = [p["metadata"]["name"] for p in users if p["metadata"]["namespace"] == space]
        far = len(users) - len(near)
        if not users:
            text = f'Waiting for detach for volume "{wish.volume}" {DETACHING}'
        elif near:
            rest = f" and {far} pod(s) in different namespaces" if far else ""
            text = f'Multi-Attach error for volume "{wish.volume}" Volume is already used by pod(s) {", ".join(near)}{rest}'
        else:
            used = f"Volume is already used by {far} pod(s) in different namespaces"
            text = f'Multi-Attach error for volume "{wish.volume}" {used}'
        yield Emit(pod, "Warning", "FailedAttachVolume", text)


def _volumes(view: View, pod: Json) -> set[str]:
    if is_finished(pod):
        return set()
    space = pod["metadata"]["namespace"]
    claims = [view.get(CLAIMS, space, name) for name in claims_of(pod)]
    return {str((c["spec"] or {}).get("volumeName") or "") for c in claims if c is not None}


def _body(name: str, wish: Wish, node: str) -> Json:
    source = {"persistentVolumeName": wish.volume}
    spec = {"attacher": wish.driver, "nodeName": node, "source": source}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": spec,
    }


def _unique(view: View, attachment: Json) -> str:
    volume = view.get(VOLUMES, "", _volume(attachment) or "-")
    source = (volume or {}).get("spec", {}).get("csi") or {}
    return f"kubernetes.io/csi/{source.get('driver', '')}^{source.get('volumeHandle', '')}"


def _tell(view: View, node: Json, wanted: dict[str, Wish], held: dict[str, Json], draft: Draft) -> None:
    """Which volumes are attached, in the node's status; and to the pods, that theirs now is."""
    attached = {n: a for n, a in held.items() if (a.get("status") or {}).get("attached") and not is_terminating(a)}
    names = sorted(_unique(view, a) for a in attached.values())
    told = [v["name"] for v in (node.get("status") or {}).get("volumesAttached") or ()]
    ours = [n for n in told if n.startswith("kubernetes.io/csi/")]
    if names != sorted(ours):
        others = [v for v in (node.get("status") or {}).get("volumesAttached") or () if v["name"] not in ours]
        listed = [*others, *({"name": n, "devicePath": ""} for n in names)]
        body = {"metadata": {"uid": node["metadata"]["uid"]}, "status": {"volumesAttached": listed or None}}
        draft.add(patch(NODES, node, body, subresource="status", ignore=frozenset({404})))
    for name, wish in wanted.items():
        problem = ((held.get(name) or {}).get("status") or {}).get("attachError")
        if name in attached and wish.unique not in ours:
            text = f'AttachVolume.Attach succeeded for volume "{wish.volume}" '
            draft.add(*_events(view, wish, "Normal", "SuccessfulAttachVolume", text))
        elif problem and name not in attached:
            text = f'AttachVolume.Attach failed for volume "{wish.volume}" : {problem.get("message", "")}'
            draft.add(*_events(view, wish, "Warning", "FailedAttachVolume", text))


def _events(view: View, wish: Wish, kind: str, reason: str, text: str) -> Iterable[Emit]:
    for key in wish.pods:
        pod = view.key(PODS, key)
        if pod is not None:
            yield Emit(pod, kind, reason, text)


def _node_of(view: View, pod: Json) -> Iterable[str]:
    name = (pod.get("spec") or {}).get("nodeName")
    return (name,) if name and any(True for _ in claims_of(pod)) else ()


def _attached_to(view: View, attachment: Json) -> Iterable[str]:
    """Its node, and those that wait for the volume."""
    yield attachment["spec"].get("nodeName", "")
    volume = view.get(VOLUMES, "", _volume(attachment) or "-")
    ref: Json = (volume or {}).get("spec", {}).get("claimRef") or {}
    for pod in view.in_namespace(PODS, ref["namespace"]) if ref.get("namespace") else ():
        if pod["spec"].get("nodeName") and str(ref.get("name")) in claims_of(pod):
            yield pod["spec"]["nodeName"]


def _seen(node: Json) -> object:
    """What matters of a node: what it has mounted, and whether it can be asked about it."""
    taints = (node.get("spec") or {}).get("taints") or ()
    out = any(t.get("key") == OUT_OF_SERVICE for t in taints)
    return (node.get("status") or {}).get("volumesInUse"), is_ready(node), out


def _unchanged(old: Json | None, new: Json | None) -> bool:
    return old is not None and new is not None and _seen(old) == _seen(new)


def controller() -> Controller:
    """A controller with a memory of its own."""
    return Controller(
        "attachdetach-controller",
        NODES,
        AttachDetach().plan,
        watches={PODS: _node_of, ATTACHMENTS: _attached_to},
        relevant={PODS: (FINISHED, NODE)},
        reads=(CLAIMS, VOLUMES, DRIVERS),
        ignores=_unchanged,
        workers=1,
    )
