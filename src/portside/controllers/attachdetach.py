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
from portside.controllers.pods import PODS, is_finished, is_terminating
from portside.controllers.volumematch import CLAIMS, VOLUMES

NODES: Resource = ("", "v1", "nodes")
ATTACHMENTS: Resource = ("storage.k8s.io", "v1", "volumeattachments")
DRIVERS: Resource = ("storage.k8s.io", "v1", "csidrivers")
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


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a node."""
    node = view.get(NODES, "", key)
    wanted = wishes(view, key)
    held = {a["metadata"]["name"]: a for a in view.all(ATTACHMENTS) if a["spec"].get("nodeName") == key}
    if node is None and not held:
        return NOTHING
    draft = Draft()
    for name, wish in wanted.items():
        if name not in held and node is not None:
            draft.add(create(ATTACHMENTS, _body(name, wish, key), ignore=frozenset({409})))
    status = (node or {}).get("status") or {}
    in_use = set(status.get("volumesInUse") or ())
    for name, attachment in held.items():
        gone = node is None or (name not in wanted and not _in_use(view, attachment, in_use))
        if gone and OURS.fullmatch(name) and not is_terminating(attachment):
            draft.add(delete(ATTACHMENTS, attachment))
    if node is not None:
        _tell(view, node, wanted, held, draft)
    return draft.plan()


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
    volume = view.get(VOLUMES, "", (attachment["spec"].get("source") or {}).get("persistentVolumeName") or "-")
    source = (volume or {}).get("spec", {}).get("csi") or {}
    return f"kubernetes.io/csi/{source.get('driver', '')}^{source.get('volumeHandle', '')}"


def _in_use(view: View, attachment: Json, in_use: set[str]) -> bool:
    """The node still has it mounted."""
    return _unique(view, attachment) in in_use


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
    return (attachment["spec"].get("nodeName", ""),)


def _mounted(old: Json | None, new: Json | None) -> bool:
    """Of a node only what it has mounted matters, and that it goes."""
    if old is None or new is None:
        return False
    return (old.get("status") or {}).get("volumesInUse") == (new.get("status") or {}).get("volumesInUse")


CONTROLLER = Controller(
    "attachdetach-controller",
    NODES,
    plan,
    watches={PODS: _node_of, ATTACHMENTS: _attached_to},
    relevant={PODS: lambda p: (is_finished(p), (p.get("spec") or {}).get("nodeName"))},
    reads=(CLAIMS, VOLUMES, DRIVERS),
    ignores=_mounted,
    workers=2,
)
