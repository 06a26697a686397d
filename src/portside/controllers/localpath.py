"""Folders on nodes as volumes: the provisioner behind the storage class that ``up`` gives to a cluster with real nodes.

A claim whose pod has been placed gets a volume on that node; the node's agent makes the folder at the first mount. When
the claim is gone and the class says Delete, a pod on that node empties it. Size is not enforced.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath

from portside.client.cache import View, split_key
from portside.client.events import reference
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Controller
from portside.controllers.plan import NOTHING, Emit, Plan, Step, create, delete, patch
from portside.controllers.pods import PHASE, PODS, created, is_terminating, phase
from portside.controllers.volumematch import (
    BIND_COMPLETED,
    CLAIMS,
    CLASSES,
    PROVISIONED_BY,
    PROVISIONERS,
    SELECTED_NODE,
    VOLUMES,
    class_of,
    mode_of,
    notes,
    phase_of,
    requested,
)

PROVISIONER = "portside.io/local-path"
NODES: Resource = ("", "v1", "nodes")
HOSTNAME = "kubernetes.io/hostname"
SIMULATED = "kwok.x-k8s.io/node"
DEFAULT_PATH = "/var/lib/portside/volumes"
MODES = ("ReadWriteOnce", "ReadWriteOncePod")
NAMESPACE = "kube-system"
IMAGE = "docker.io/portside/busybox:1"  # made on every node by its agent
CLEANER_SECONDS = 300  # a cleaner that takes longer is given up and tried again
RETRY = 60.0


def refusal(claim: Json, held: Json) -> str | None:
    """Why no folder can serve this claim."""
    if held.get("volumeBindingMode") != "WaitForFirstConsumer":
        return "a folder is on one node, so the class needs volumeBindingMode WaitForFirstConsumer"
    if mode_of(claim) != "Filesystem":
        return "a folder is no block device: use volumeMode Filesystem"
    if claim["spec"].get("selector") is not None:
        return "claim Selector is not supported"
    strange = [m for m in claim["spec"].get("accessModes") or () if m not in MODES]
    return f"a folder is on one node, so access mode {strange[0]} can't be given" if strange else None


def plan(view: View, key: str, now: float) -> Plan:
    """Key: a claim."""
    claim = view.get(CLAIMS, *split_key(key))
    if claim is None or is_terminating(claim) or BIND_COMPLETED in notes(claim) or claim["spec"].get("volumeName"):
        return NOTHING
    held = view.get(CLASSES, "", class_of(claim))
    if held is None or held["provisioner"] != PROVISIONER or notes(claim).get(PROVISIONERS[1]) != PROVISIONER:
        return NOTHING
    why = refusal(claim, held)
    if why is not None:
        return Plan([Emit(claim, "Warning", "ProvisioningFailed", why)])
    name = notes(claim).get(SELECTED_NODE)
    if not name:
        return NOTHING
    node = view.get(NODES, "", name)
    if node is None:
        meta = {"uid": claim["metadata"]["uid"], "annotations": {SELECTED_NODE: None}}
        text = f'node "{name}" is gone; another one has to be chosen'
        return Plan([Emit(claim, "Warning", "ProvisioningFailed", text), patch(CLAIMS, claim, {"metadata": meta})])
    volume = _volume(claim, held, node)
    if view.get(VOLUMES, "", volume["metadata"]["name"]) is not None:
        return NOTHING
    begun = f'External provisioner is provisioning volume for claim "{key}"'
    done = Emit(
        claim, "Normal", "ProvisioningSucceeded", f"Successfully provisioned volume {volume['metadata']['name']}"
    )
    steps: list[Step] = [Emit(claim, "Normal", "Provisioning", begun)]
    return Plan([*steps, create(VOLUMES, volume, ok=lambda _: [done], ignore=frozenset({409}))])


def _volume(claim: Json, held: Json, node: Json) -> Json:
    name = f"pvc-{claim['metadata']['uid']}"
    base = (held.get("parameters") or {}).get("path") or DEFAULT_PATH
    labels = node["metadata"].get("labels") or {}
    term = {"key": HOSTNAME, "operator": "In", "values": [labels.get(HOSTNAME, node["metadata"]["name"])]}
    spec: Json = {
        "capacity": {"storage": requested(claim)},
        "accessModes": claim["spec"].get("accessModes") or [],
        "volumeMode": "Filesystem",
        "persistentVolumeReclaimPolicy": held.get("reclaimPolicy", "Delete"),
        "storageClassName": class_of(claim),
        "hostPath": {"path": str(PurePosixPath(base) / name), "type": "DirectoryOrCreate"},
        "claimRef": reference(claim),
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [term]}]}},
    }
    if held.get("mountOptions"):
        spec["mountOptions"] = held["mountOptions"]
    meta: Json = {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": meta, "spec": spec}


# -- removal ----------------------------------------------------------------------------------------------------------


def plan_removal(view: View, key: str, now: float) -> Plan:
    """Key: a volume."""
    volume = view.get(VOLUMES, "", key)
    if volume is None:
        left = view.get(PODS, NAMESPACE, _cleaner(key))
        return Plan([delete(PODS, left, grace=0)]) if left is not None else NOTHING
    if notes(volume).get(PROVISIONED_BY) != PROVISIONER or is_terminating(volume):
        return NOTHING
    spec = volume["spec"]
    if phase_of(volume) not in ("Released", "Failed") or spec.get("persistentVolumeReclaimPolicy") != "Delete":
        return NOTHING
    path = PurePosixPath((spec.get("hostPath") or {}).get("path") or "/")
    if path.name != key or not key.startswith("pvc-") or ".." in path.parts:
        text = f"{path} is not a folder that was made for this volume, so it is left alone"
        return Plan([Emit(volume, "Warning", "VolumeFailedDelete", text)], again=RETRY * 10)
    node = _node_of(view, volume)
    pod = view.get(PODS, NAMESPACE, _cleaner(key))
    if node is None or notes(node).get(SIMULATED) == "fake":
        return Plan([delete(VOLUMES, volume)])  # nothing is left to empty
    if pod is None:
        body = _pod(key, path, node["metadata"]["name"])
        return Plan([create(PODS, body, ignore=frozenset({409}))], again=CLEANER_SECONDS)
    if phase(pod) == "Succeeded":
        return Plan([delete(VOLUMES, volume), delete(PODS, pod, grace=0)])
    if phase(pod) == "Failed" or created(pod) + CLEANER_SECONDS < now:
        text = f"{path} could not be removed by pod {NAMESPACE}/{pod['metadata']['name']}"
        return Plan([Emit(volume, "Warning", "VolumeFailedDelete", text), delete(PODS, pod, grace=0)], again=RETRY)
    return Plan(again=CLEANER_SECONDS)


def _node_of(view: View, volume: Json) -> Json | None:
    terms = ((volume["spec"].get("nodeAffinity") or {}).get("required") or {}).get("nodeSelectorTerms") or ()
    wanted = {v for t in terms for e in t.get("matchExpressions") or () for v in e.get("values") or ()}
    for node in view.all(NODES):
        meta = node["metadata"]
        if (meta.get("labels") or {}).get(HOSTNAME, meta["name"]) in wanted:
            return node
    return None


def _cleaner(volume: str) -> str:
    return f"remove-{volume}"


def _pod(volume: str, path: PurePosixPath, node: str) -> Json:
    container = {
        "name": "remove",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["rm", "-rf", "--", f"/volumes/{volume}"],
        "volumeMounts": [{"name": "volumes", "mountPath": "/volumes"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": _cleaner(volume), "namespace": NAMESPACE, "labels": {"app": "local-path"}},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            "containers": [container],
            "volumes": [{"name": "volumes", "hostPath": {"path": str(path.parent), "type": "DirectoryOrCreate"}}],
        },
    }


def _volume_of(view: View, pod: Json) -> Iterable[str]:
    name = pod["metadata"]["name"]
    if pod["metadata"].get("namespace") == NAMESPACE and name.startswith("remove-pvc-"):
        yield name.removeprefix("remove-")


CONTROLLERS = (
    Controller(PROVISIONER, CLAIMS, plan, reads=(CLASSES, NODES, VOLUMES), workers=2),
    Controller(
        PROVISIONER,
        VOLUMES,
        plan_removal,
        watches={PODS: _volume_of},
        relevant={PODS: (PHASE,)},
        reads=(NODES,),
        workers=2,
    ),
)
