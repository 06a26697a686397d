"""Stories of volumes, claims, attachments and devices."""

from __future__ import annotations

from typing import Any

from tests.unit.controllers.ordeal.workloads import COLLECTING, ended
from tests.unit.controllers.ordeal.world import NODES, PODS, Json, Scenario, World

from portside.client.protocol import Resource

CLAIMS: Resource = ("", "v1", "persistentvolumeclaims")
VOLUMES: Resource = ("", "v1", "persistentvolumes")
CLASSES: Resource = ("storage.k8s.io", "v1", "storageclasses")
ATTACHMENTS: Resource = ("storage.k8s.io", "v1", "volumeattachments")
ATTRIBUTES: Resource = ("storage.k8s.io", "v1", "volumeattributesclasses")
DEVICE_CLAIMS: Resource = ("resource.k8s.io", "v1", "resourceclaims")
SLICES: Resource = ("resource.k8s.io", "v1", "resourceslices")
TAINT_RULES: Resource = ("resource.k8s.io", "v1", "devicetaintrules")
TEMPLATES: Resource = ("resource.k8s.io", "v1", "resourceclaimtemplates")
LOCAL = "portside.io/local-path"


def claim(name: str = "data", **spec: Any) -> Json:
    size = {"requests": {"storage": "1Gi"}}
    return {"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": size, **spec}}


def volume(**spec: Any) -> Json:
    given = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
    }
    return {"metadata": {"name": "disk"}, "spec": {**given, **spec}}


def pod(name: str = "user", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "a"}], **spec}}


def using(name: str = "data") -> list[Json]:
    return [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]


def _phase(world: World, kind: str) -> str:
    found = world.of_kind(kind)
    return str((found[0].get("status") or {}).get("phase")) if found else ""


async def _bind(world: World) -> None:
    await world.create(VOLUMES, volume(hostPath={"path": "/data"}), namespace="")
    await world.create(CLAIMS, claim(storageClassName=""))
    await world.until(lambda: _phase(world, "PersistentVolumeClaim") == "Bound")
    await world.create(PODS, pod(volumes=using()))
    await world.until(lambda: _phase(world, "Pod") == "Running")
    await world.delete(CLAIMS, "data")
    await world.delete(PODS, "user")
    await world.until(lambda: _phase(world, "PersistentVolume") == "Released")
    await world.delete(VOLUMES, "disk", namespace="")
    await world.until(lambda: not world.of_kind("PersistentVolume"))


async def _folder(world: World) -> None:
    """It is made, grows, and is emptied."""
    given = {"provisioner": LOCAL, "volumeBindingMode": "WaitForFirstConsumer", "reclaimPolicy": "Delete"}
    body = {"metadata": {"name": "local"}, **given, "allowVolumeExpansion": True}
    await world.create(CLASSES, body, namespace="")
    await world.create(CLAIMS, claim(storageClassName="local"))
    chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
    await world.patch(CLAIMS, "data", chosen)
    await world.until(lambda: _phase(world, "PersistentVolumeClaim") == "Bound")
    await world.patch(CLAIMS, "data", {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
    two = {"storage": "2Gi"}
    await world.until(lambda: world.of_kind("PersistentVolumeClaim")[0]["status"]["capacity"] == two)
    assert world.of_kind("PersistentVolume")[0]["spec"]["capacity"] == two
    await world.delete(CLAIMS, "data")
    await world.until(lambda: not world.of_kind("PersistentVolume"))
    await world.until(lambda: not world.of_kind("Pod"))


async def _attach(world: World) -> None:
    await world.create(VOLUMES, volume(csi={"driver": "d.example", "volumeHandle": "h"}), namespace="")
    await world.create(CLAIMS, claim(storageClassName="", volumeName="disk"))
    await world.until(lambda: _phase(world, "PersistentVolumeClaim") == "Bound")
    await world.create(PODS, pod(volumes=using()))
    await world.until(lambda: world.of_kind("VolumeAttachment"))
    (made,) = world.of_kind("VolumeAttachment")
    name = made["metadata"]["name"]
    await world.patch(ATTACHMENTS, name, {"status": {"attached": True}}, subresource="status", namespace="")

    def attached() -> bool:
        return any((n.get("status") or {}).get("volumesAttached") for n in world.of_kind("Node"))

    await world.until(attached)
    await world.delete(PODS, "user")
    await world.until(lambda: not world.of_kind("VolumeAttachment") and not attached())


async def _forced(world: World) -> None:
    """A node that fell silent with a volume loses it, and the pod's successor elsewhere gets it."""
    await world.join("n2")
    source = {"driver": "d.example", "volumeHandle": "h"}
    await world.create(VOLUMES, volume(csi=source), namespace="")
    await world.create(CLAIMS, claim(storageClassName="", volumeName="disk"))
    await world.until(lambda: _phase(world, "PersistentVolumeClaim") == "Bound")
    await world.create(PODS, pod(volumes=using()))
    await world.until(lambda: world.of_kind("VolumeAttachment"))
    name = world.of_kind("VolumeAttachment")[0]["metadata"]["name"]
    await world.patch(ATTACHMENTS, name, {"status": {"attached": True}}, subresource="status", namespace="")
    silent = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    said = {"status": {"volumesInUse": ["kubernetes.io/csi/d.example^h"], "conditions": [silent]}}
    await world.patch(NODES, "n1", said, subresource="status", patch_type="strategic", namespace="")
    await world.delete(PODS, "user")
    successor = pod(volumes=using(), nodeName="n2")
    await world.create(PODS, {**successor, "metadata": {"name": "next"}})
    await world.until(lambda: [a["spec"]["nodeName"] for a in world.of_kind("VolumeAttachment")] == ["n2"])


async def _attributes(world: World) -> None:
    body = {"metadata": {"name": "fast"}, "driverName": "d.example", "parameters": {"iops": "9"}}
    await world.create(ATTRIBUTES, body, namespace="")
    await world.create(CLAIMS, claim(storageClassName="", volumeAttributesClassName="fast"))
    await world.until(lambda: world.of_kind("VolumeAttributesClass")[0]["metadata"].get("finalizers"))
    await world.delete(ATTRIBUTES, "fast", namespace="")
    await world.delete(CLAIMS, "data")
    await world.until(lambda: not world.of_kind("VolumeAttributesClass"))


async def _ephemeral(world: World) -> None:
    spec = claim()["spec"]
    await world.create(PODS, pod(volumes=[{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}]))
    await world.until(lambda: len(world.of_kind("PersistentVolumeClaim")) == 1)


async def _devices(world: World) -> None:
    wanted = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    await world.create(TEMPLATES, {"metadata": {"name": "gpu"}, "spec": {"spec": wanted}})
    gated = pod(
        resourceClaims=[{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
        schedulingGates=[{"name": "example.org/wait"}],
    )
    await world.create(PODS, gated)
    await world.until(lambda: (world.of_kind("Pod")[0].get("status") or {}).get("resourceClaimStatuses"))
    (made,) = world.of_kind("ResourceClaim")
    name, user = made["metadata"]["name"], world.of_kind("Pod")[0]
    result = {"request": "r", "driver": "d.example", "pool": "n1", "device": "g0"}
    held = {"resource": "pods", "name": "user", "uid": user["metadata"]["uid"]}
    status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [held]}
    await world.patch(DEVICE_CLAIMS, name, {"metadata": {"finalizers": ["resource.kubernetes.io/delete-protection"]}})
    await world.patch(DEVICE_CLAIMS, name, {"status": status}, subresource="status")
    await world.patch(PODS, "user", {"spec": {"schedulingGates": None}})
    await world.until(lambda: not world.of_kind("ResourceClaim"))


async def _tainted_devices(world: World) -> None:
    """By a rule one pod goes at once, one after its patience; by the driver's own taint the last goes."""
    pool = {"name": "n1", "generation": 1, "resourceSliceCount": 1}
    names = ("now", "later", "never")
    given = {"driver": "d.example", "pool": pool, "nodeName": "n1", "devices": [{"name": n} for n in names]}
    await world.create(SLICES, {"metadata": {"name": "n1"}, "spec": given}, namespace="")
    toleration = {"key": "broken", "operator": "Exists", "effect": "NoExecute"}
    borne = {"now": [], "later": [{**toleration, "tolerationSeconds": 40}], "never": [toleration]}
    wanted = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}
    for name, tolerations in borne.items():
        user = await world.create(PODS, pod(name, resourceClaims=[{"name": "gpu", "resourceClaimName": name}]))
        await world.create(DEVICE_CLAIMS, {"metadata": {"name": name}, "spec": wanted})
        result = {"request": "r", "driver": "d.example", "pool": "n1", "device": name}
        if tolerations:
            result["tolerations"] = tolerations
        held = {"resource": "pods", "name": name, "uid": user["metadata"]["uid"]}
        status = {"allocation": {"devices": {"results": [result]}}, "reservedFor": [held]}
        await world.patch(DEVICE_CLAIMS, name, {"status": status}, subresource="status")
    await world.until(lambda: all((p.get("status") or {}).get("phase") == "Running" for p in world.of_kind("Pod")))
    taint = {"key": "broken", "effect": "NoExecute"}
    rule = {"metadata": {"name": "rule"}, "spec": {"deviceSelector": {"driver": "d.example"}, "taint": taint}}
    await world.create(TAINT_RULES, rule, namespace="")
    await world.until(lambda: [p["metadata"]["name"] for p in world.of_kind("Pod")] == ["never"])
    await world.until(lambda: world.of_kind("DeviceTaintRule")[0]["status"].get("conditions"))
    await world.delete(TAINT_RULES, "rule", namespace="")
    worse = {"devices": [{"name": "never", "taints": [{"key": "gone", "effect": "NoExecute"}]}]}
    await world.patch(SLICES, "n1", {"spec": worse}, namespace="")
    await world.until(lambda: not world.of_kind("Pod"))


BINDING = (
    "persistentvolume-controller of persistentvolumeclaims",
    "persistentvolume-controller of persistentvolumes",
    "pvc-protection-controller of persistentvolumeclaims",
    "pv-protection-controller of persistentvolumes",
)

FOLDERS = (
    f"{LOCAL} of persistentvolumeclaims",
    f"{LOCAL} of persistentvolumes",
    "volume_expand of persistentvolumeclaims",
)

SCENARIOS = (
    Scenario("a claim and its volume", BINDING, _bind),
    Scenario(
        "a folder on a node",
        (*BINDING, *FOLDERS),
        _folder,
        ended,
    ),
    Scenario("an attached volume", (*BINDING, "attachdetach-controller of nodes"), _attach),
    Scenario("a volume of a silent node", (*BINDING, "attachdetach-controller of nodes"), _forced),
    Scenario(
        "a class of attributes", ("vac-protection-controller of volumeattributesclasses", BINDING[2]), _attributes
    ),
    Scenario("an ephemeral claim", ("ephemeral-volume-controller of pods",), _ephemeral),
    Scenario("a device", ("resource_claim of pods", "resource_claim of resourceclaims", COLLECTING), _devices, ended),
    Scenario(
        "tainted devices",
        ("device-taint-eviction-controller of pods", "device-taint-eviction-controller of devicetaintrules"),
        _tainted_devices,
    ),
)
