"""What a pod refers to: the secrets, config maps, claims and account by which a node may read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
# volume source -> (field of the reference, may name another namespace)
_SECRET_SOURCES = {
    "azureFile": "secretName",
    "cephfs": "secretRef",
    "cinder": "secretRef",
    "csi": "nodePublishSecretRef",
    "flexVolume": "secretRef",
    "iscsi": "secretRef",
    "rbd": "secretRef",
    "scaleIO": "secretRef",
    "secret": "secretName",
    "storageos": "secretRef",
}


def references(pod: Json) -> Iterator[tuple[str, str]]:
    """(plural, name) of every object in the pod's namespace that the pod's node needs."""
    spec = pod["spec"]
    yield "serviceaccounts", spec.get("serviceAccountName") or "default"
    yield from (("secrets", name) for name in secret_names(spec))
    yield from (("configmaps", name) for name in config_map_names(spec))
    yield from (("persistentvolumeclaims", name) for name in claim_names(pod))
    yield from (("resourceclaims", name) for name, _ in resource_claims(pod))


def resource_claims(pod: Json) -> Iterator[tuple[str, bool]]:
    """(name, whether it was made for this pod) of every resource claim of a pod that is known by now."""
    status = pod.get("status") or {}
    made = {s["name"]: s.get("resourceClaimName") for s in status.get("resourceClaimStatuses") or ()}
    for claim in pod["spec"].get("resourceClaims") or ():
        if claim.get("resourceClaimName"):
            yield claim["resourceClaimName"], False
        elif name := made.get(claim["name"]):
            yield name, True
    if name := (status.get("extendedResourceClaimStatus") or {}).get("resourceClaimName"):
        yield name, True


def secret_names(spec: Json) -> Iterator[str]:
    """Secrets by pull secrets, environment and volumes."""
    for ref in spec.get("imagePullSecrets") or ():
        if ref.get("name"):
            yield ref["name"]
    yield from _environment(spec, "secretRef", "secretKeyRef")
    for volume in spec.get("volumes") or ():
        for source, field in _SECRET_SOURCES.items():
            if (found := (volume.get(source) or {}).get(field)) is not None:
                name = found.get("name") if isinstance(found, dict) else found
                if name:
                    yield name
        yield from _projected(volume, "secret")


def config_map_names(spec: Json) -> Iterator[str]:
    """Config maps by environment and volumes."""
    yield from _environment(spec, "configMapRef", "configMapKeyRef")
    for volume in spec.get("volumes") or ():
        if name := (volume.get("configMap") or {}).get("name"):
            yield name
        yield from _projected(volume, "configMap")


def claim_names(pod: Json) -> Iterator[str]:
    """Claims by name, and those made for ephemeral volumes."""
    for volume in pod["spec"].get("volumes") or ():
        if name := (volume.get("persistentVolumeClaim") or {}).get("claimName"):
            yield name
        elif "ephemeral" in volume:
            yield f"{pod['metadata'].get('name', '')}-{volume['name']}"


def _environment(spec: Json, whole: str, key: str) -> Iterator[str]:
    for field in CONTAINERS:
        for container in spec.get(field) or ():
            for source in container.get("envFrom") or ():
                if name := (source.get(whole) or {}).get("name"):
                    yield name
            for variable in container.get("env") or ():
                if name := ((variable.get("valueFrom") or {}).get(key) or {}).get("name"):
                    yield name


def _projected(volume: Json, field: str) -> Iterator[str]:
    for source in (volume.get("projected") or {}).get("sources") or ():
        if name := (source.get(field) or {}).get("name"):
            yield name
