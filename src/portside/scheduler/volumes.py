"""Volumes as the scheduler sees them: which nodes a pod's claims allow, and what must be bound once a node is chosen.

Pure: reads caches, decides, and remembers volumes it has promised (assumed) until the API says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from portside.api.quantity import value
from portside.scheduler.disks import clash
from portside.scheduler.filters import Refusal, matches_term
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.snapshot import Mask, Snapshot
from portside.scheduler.terms import NodeTerm, canonical, label_selector

Json = dict[str, Any]
Read = Callable[[str], Mapping[str, Json]]
SELECTED_NODE = "volume.kubernetes.io/selected-node"
BOUND_BY_US = "pv.kubernetes.io/bound-by-controller"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
ZONE_LABELS = (
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
)
NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NO_VOLUME = "node(s) didn't find available persistent volumes to bind"
NO_SPACE = "node(s) did not have enough free storage"
DISK_TAKEN = "node(s) had no available disk"
NO_SUCH_VOLUME = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"
ZONE_CONFLICT = "node(s) had no available volume zone"
TOO_MANY = "node(s) exceed max volume count"
ONE_POD = (
    "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod"
)


@dataclass(frozen=True, slots=True)
class Binding:
    """What to write before the pod is bound: a volume for the claim, or (volume "") a node to provision on."""

    claim: str
    volume: str
    node: str


class Volumes:
    """``read(plural)`` gives a cache: claims by ``namespace/name``, volumes, classes and CSI nodes by name."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.promised: dict[str, str] = {}  # volume -> claim key

    # Before any node is looked at

    def problem(self, pod: PodInfo) -> str:
        """Why no node at all can take this pod's claims, "" when there is no such reason."""
        claims = self.read("persistentvolumeclaims")
        for name in pod.claims:
            claim = claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                if self._ephemeral(pod, name):
                    return f'waiting for ephemeral volume controller to create the persistentvolumeclaim "{name}"'
                return f'persistentvolumeclaim "{name}" not found'
            volume = claim["spec"].get("volumeName")
            if (claim.get("status") or {}).get("phase") == "Lost":
                return f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume "{volume or ""}"'
            if claim["metadata"].get("deletionTimestamp"):
                return f'persistentvolumeclaim "{name}" is being deleted'
            if not bound(claim) and not self._waits(claim):
                return "pod has unbound immediate PersistentVolumeClaims"
        return ""

    @staticmethod
    def _ephemeral(pod: PodInfo, claim: str) -> bool:
        volumes = pod.object["spec"].get("volumes") or ()
        return any("ephemeral" in v and f"{pod.name}-{v['name']}" == claim for v in volumes)

    def _waits(self, claim: Json) -> bool:
        if claim["spec"].get("volumeName"):
            return False
        found = self.read("storageclasses").get(claim["spec"].get("storageClassName") or "")
        return found is not None and found.get("volumeBindingMode") == "WaitForFirstConsumer"

    # Filters

    def restrictions(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        """A ReadWriteOncePod claim has one pod in the whole cluster; a disk has no second user on a node."""
        return [*self._single(pod, snapshot), *_clashes(pod, snapshot)]

    def _single(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        claims = self.read("persistentvolumeclaims")
        single = {
            n
            for n in pod.claims
            if "ReadWriteOncePod"
            in ((claims.get(f"{pod.namespace}/{n}") or {}).get("spec") or {}).get("accessModes", ())
        }
        if not single:
            return []
        for other, _ in snapshot.pods.values():
            if (
                other.claims
                and other.uid != pod.uid
                and other.namespace == pod.namespace
                and single & set(other.claims)
            ):
                return [Refusal(ONE_POD, snapshot.live, True)]
        return []

    def limits(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        """Nodes whose CSI driver attaches no more volumes."""
        wanted = self._attachments(pod)
        if not wanted:
            return []
        mask = np.zeros(snapshot.size, bool)
        for name, node in self.read("csinodes").items():
            row = snapshot.row_of.get(name)
            if row is None:
                continue
            for driver in (node.get("spec") or {}).get("drivers") or ():
                most = (driver.get("allocatable") or {}).get("count")
                mine = {v for d, v in wanted if d == driver["name"]}
                if most is None or not mine:
                    continue
                held = {
                    v
                    for other in snapshot.on_row[row].values()
                    if other.claims
                    for d, v in self._attachments(other)
                    if d == driver["name"]
                }
                if mine - held and len(held | mine) > int(most):
                    mask[row] = True
        return [Refusal(TOO_MANY, mask, True)] if mask.any() else []

    def _attachments(self, pod: PodInfo) -> set[tuple[str, str]]:
        """(driver, handle) of the pod's CSI volumes; a claim still to be provisioned counts as one of its class."""
        claims, volumes = self.read("persistentvolumeclaims"), self.read("persistentvolumes")
        found = set()
        for name in pod.claims:
            key = f"{pod.namespace}/{name}"
            claim = claims.get(key)
            if claim is None:
                continue
            volume = volumes.get(claim["spec"].get("volumeName") or "")
            if volume is not None:
                if csi := volume["spec"].get("csi"):
                    found.add((csi["driver"], csi.get("volumeHandle", "")))
            else:
                provisioner = (self.read("storageclasses").get(claim["spec"].get("storageClassName") or "") or {}).get(
                    "provisioner", ""
                )
                found.add((provisioner, key))
        return found

    def binding(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        """Nodes that bound volumes' node affinity leaves out, and those without a volume for unbound claims."""
        claims, volumes = self.read("persistentvolumeclaims"), self.read("persistentvolumes")
        conflict, gone = np.zeros(snapshot.size, bool), np.zeros(snapshot.size, bool)
        waiting = []
        for name in pod.claims:
            claim = claims.get(f"{pod.namespace}/{name}")
            if claim is None:
                continue
            if not bound(claim):
                waiting.append(claim)
                continue
            volume = volumes.get(claim["spec"]["volumeName"])
            if volume is None:
                gone |= snapshot.live
            else:
                conflict |= ~reachable(volume, snapshot)
        refusals = []
        if gone.any():
            refusals.append(Refusal(NO_SUCH_VOLUME, gone, False))
        if conflict.any():
            refusals.append(Refusal(NODE_CONFLICT, conflict & ~gone, False))
        if waiting:
            lacking: dict[str, Mask] = {}
            for row in np.flatnonzero(snapshot.live & ~conflict & ~gone).tolist():
                if isinstance(why := self._choose(waiting, snapshot, row), str):
                    lacking.setdefault(why, np.zeros(snapshot.size, bool))[row] = True
            refusals += [Refusal(why, rows, False) for why, rows in lacking.items()]
        return refusals

    def zones(self, pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
        """Volumes with zone labels are for nodes of those zones (``__`` separates several)."""
        claims, volumes = self.read("persistentvolumeclaims"), self.read("persistentvolumes")
        mask = np.zeros(snapshot.size, bool)
        for name in pod.claims:
            claim = claims.get(f"{pod.namespace}/{name}") or {"spec": {}}
            labels = ((volumes.get(claim["spec"].get("volumeName") or "") or {}).get("metadata") or {}).get(
                "labels"
            ) or {}
            for key in ZONE_LABELS:
                if key in labels:
                    allowed = set(str(labels[key]).split("__"))
                    for row in snapshot.row_of.values():
                        mask[row] |= snapshot.node_labels[row].get(key) not in allowed
        return [Refusal(ZONE_CONFLICT, mask, False)] if mask.any() else []

    # Once a node is chosen

    def plan(self, pod: PodInfo, snapshot: Snapshot, node: str) -> list[Binding]:
        """What to bind for a pod on its node; the volumes are promised to it from now on."""
        claims = self.read("persistentvolumeclaims")
        waiting = [c for n in pod.claims if (c := claims.get(f"{pod.namespace}/{n}")) is not None and not bound(c)]
        if not waiting:
            return []
        chosen = self._choose(waiting, snapshot, snapshot.row_of[node])
        found = []
        if isinstance(chosen, str):
            chosen = []
        for claim, volume in zip(waiting, chosen or [""] * len(waiting), strict=True):
            key = f"{pod.namespace}/{claim['metadata']['name']}"
            if volume:
                self.promised[volume] = key
            found.append(Binding(key, volume, node))
        return found

    def forget(self, bindings: Iterable[Binding]) -> None:
        """The promise did not stand, or the API knows by now."""
        for made in bindings:
            self.promised.pop(made.volume, None)

    def _choose(self, claims: list[Json], snapshot: Snapshot, row: int) -> list[str] | str:
        """A volume (or "" for provisioning) for each claim on a node; why not, when one gets neither."""
        taken: set[str] = set()
        chosen = []
        for claim in sorted(claims, key=lambda c: value(_size(c))):
            volume = self._volume_for(claim, snapshot, row, taken)
            if volume is None and (why := self._unprovisionable(claim, snapshot, row)):
                return why
            if volume is not None:
                taken.add(volume)
            chosen.append((claim["metadata"]["name"], volume or ""))
        found = dict(chosen)
        return [found[c["metadata"]["name"]] for c in claims]

    def _volume_for(self, claim: Json, snapshot: Snapshot, row: int, taken: set[str]) -> str | None:
        """The smallest available volume that fits the claim and reaches the node."""
        key = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
        if (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE):
            return None  # being provisioned already
        best: tuple[int, str] | None = None
        for name, volume in self.read("persistentvolumes").items():
            if name in taken or self.promised.get(name, key) != key or not suits(volume, claim):
                continue
            if not reachable(volume, snapshot)[row]:
                continue
            size = value(volume["spec"]["capacity"]["storage"])
            if best is None or (size, name) < best:
                best = (size, name)
        return best[1] if best else None

    def _unprovisionable(self, claim: Json, snapshot: Snapshot, row: int) -> str:
        """Why no volume can be made for a claim on a node, "" when one can."""
        selected = (claim["metadata"].get("annotations") or {}).get(SELECTED_NODE)
        if selected and selected != snapshot.names[row]:
            return NO_VOLUME
        name = claim["spec"].get("storageClassName") or ""
        found = self.read("storageclasses").get(name)
        if found is None or found.get("provisioner") == NO_PROVISIONER:
            return NO_VOLUME
        topologies = found.get("allowedTopologies") or ()
        labels = snapshot.node_labels[row]
        if topologies and not any(
            all(labels.get(e["key"]) in e["values"] for e in t.get("matchLabelExpressions") or ()) for t in topologies
        ):
            return NO_VOLUME
        return "" if self._space(claim, name, str(found.get("provisioner")), labels) else NO_SPACE

    def _space(self, claim: Json, storage_class: str, provisioner: str, node: Mapping[str, str]) -> bool:
        """Whether a driver that tells its capacities (CSIDriver.spec.storageCapacity) has room that the node reaches."""
        driver = self.read("csidrivers").get(provisioner)
        if driver is None or not (driver.get("spec") or {}).get("storageCapacity"):
            return True
        size = value(_size(claim))
        for told in self.read("csistoragecapacities").values():
            most = told.get("maximumVolumeSize") or told.get("capacity")
            reached = told.get("nodeTopology") is not None and label_selector(canonical(told["nodeTopology"]))(node)
            if told.get("storageClassName") == storage_class and reached and most is not None and value(most) >= size:
                return True
        return False


def _clashes(pod: PodInfo, snapshot: Snapshot) -> list[Refusal]:
    """Nodes where another pod has a disk of this one."""
    if not pod.disks:
        return []
    mask = np.zeros(snapshot.size, bool)
    for other, row in snapshot.pods.values():
        if other.disks and other.uid != pod.uid and clash(pod.disks, other.disks):
            mask[row] = True
    return [Refusal(DISK_TAKEN, mask, True)] if mask.any() else []


def bound(claim: Json) -> bool:
    """Whether the claim controller has finished binding it."""
    annotations = claim["metadata"].get("annotations") or {}
    return bool(claim["spec"].get("volumeName")) and "pv.kubernetes.io/bind-completed" in annotations


def _size(claim: Json) -> str:
    return str(((claim["spec"].get("resources") or {}).get("requests") or {}).get("storage", "0"))


def reachable(volume: Json, snapshot: Snapshot) -> Mask:
    """Rows that the volume's node affinity allows."""
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    if not required:
        return snapshot.live
    mask = np.zeros(snapshot.size, bool)
    for term in required.get("nodeSelectorTerms") or ():
        mask |= matches_term(NodeTerm.of(term), snapshot)
    return mask


def suits(volume: Json, claim: Json) -> bool:
    """Whether an available volume answers a claim: class, mode, access, size, selector, or a reservation for it."""
    spec, wanted = volume["spec"], claim["spec"]
    if volume["metadata"].get("deletionTimestamp"):
        return False
    if (spec.get("volumeMode") or "Filesystem") != (wanted.get("volumeMode") or "Filesystem"):
        return False
    if value((spec.get("capacity") or {}).get("storage", "0")) < value(_size(claim)):
        return False
    holder = spec.get("claimRef")
    if holder:
        meta = claim["metadata"]
        same = holder.get("name") == meta["name"] and holder.get("namespace") == meta["namespace"]
        return same and holder.get("uid") in (None, "", meta.get("uid"))
    if (volume.get("status") or {}).get("phase") not in ("Available", "Pending", None, ""):
        return False
    if (spec.get("storageClassName") or "") != (wanted.get("storageClassName") or ""):
        return False
    if not set(wanted.get("accessModes") or ()) <= set(spec.get("accessModes") or ()):
        return False
    selector = wanted.get("selector")
    return selector is None or label_selector(canonical(selector))(volume["metadata"].get("labels") or {})
