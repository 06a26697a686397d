"""PersistentVolume and PersistentVolumeClaim."""

from __future__ import annotations

import copy
from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.kinds import BY_KIND
from portside.api.rules import pod_defaults, pod_volumes, resources
from portside.api.rules.pod_affinity import validate_node_selector
from portside.api.rules.pod_shape import dump
from portside.api.rules.pod_update import shape_diff
from portside.api.rules.registry import STATUS_ONLY, Context, Rules, SubRules
from portside.api.selector import validate_object

Json = dict[str, Any]
Errors = list[FieldError]
MODES = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
POLICIES = ("Delete", "Recycle", "Retain")
VOLUME_MODES = ("Block", "Filesystem")
CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_CLASS_WARNING = (
    f'metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use "storageClassName" attribute instead'
)
_RECYCLE = (
    "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is "
    "to use dynamic provisioning."
)
_DEAD = {
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
}
_SPEC_TEXT = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"
)


def _need(source: Json, path: str, *fields: str) -> Errors:
    return [required(f"{path}.{f}") for f in fields if not source.get(f)]


def _secret_refs(source: Json, path: str, *refs: str) -> Errors:
    return [e for r in refs if source.get(r) is not None for e in _need(source[r], f"{path}.{r}", "name", "namespace")]


def _csi(source: Json, path: str) -> Errors:
    driver, errors = source.get("driver") or "", []
    if not driver:
        errors.append(required(f"{path}.driver"))
    else:
        errors += [invalid_value(f"{path}.driver", driver, p) for p in names.is_subdomain(driver.lower())]
    errors += _need(source, path, "volumeHandle")
    refs = ("controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")
    return errors + _secret_refs(source, path, *refs)


def _cinder(source: Json, path: str) -> Errors:
    return _need(source, path, "volumeID") + _secret_refs(source, path, "secretRef")


def _azure_file(source: Json, path: str) -> Errors:
    errors = _need(source, path, "secretName", "shareName")
    if source.get("secretNamespace") == "":
        errors.append(required(f"{path}.secretNamespace"))
    return errors


def _local(source: Json, path: str) -> Errors:
    where = source.get("path") or ""
    if not where:
        return [required(f"{path}.path")]
    return [invalid_value(f"{path}.path", where, "must not contain '..'")] if ".." in where.split("/") else []


def _fc(source: Json, path: str) -> Errors:
    wwns, wwids, lun = source.get("targetWWNs") or [], source.get("wwids") or [], source.get("lun")
    errors: Errors = []
    if not wwns and not wwids:
        text = "must specify either targetWWNs or wwids, but not both"
        errors.append(required(f"{path}.targetWWNs", text))
    if wwns and wwids:
        text = "targetWWNs and wwids can not be specified simultaneously"
        errors.append(invalid_value(f"{path}.targetWWNs", wwns, text))
    if wwns and lun is None:
        errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
    elif lun is not None and not 0 <= lun <= 255:
        errors.append(invalid_value(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    return errors


_OWN = {"fc": _fc, "csi": _csi, "cinder": _cinder, "azureFile": _azure_file, "local": _local}
SOURCES = (
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
)


def _sources(spec: Json) -> Errors:
    errors, found = [], 0
    for kind in SOURCES:
        source = spec.get(kind)
        if source is None:
            continue
        found += 1
        if found > 1:
            where = "cephFS" if kind == "cephfs" else kind
            errors.append(forbidden_field(f"spec.{where}", "may not specify more than 1 volume type"))
            continue
        errors += (_OWN.get(kind) or pod_volumes._SOURCES[kind])(source, f"spec.{kind}")
        if kind == "local" and spec.get("nodeAffinity") is None:
            errors.append(required("spec.nodeAffinity", "Local volume requires node affinity"))
    return errors if found else [required("spec", "must specify a volume type")]


def default_volume(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    obj.setdefault("status", {}).setdefault("phase", "Pending")
    resources.canonicalize(spec.get("capacity"))
    spec.setdefault("persistentVolumeReclaimPolicy", "Retain")
    spec.setdefault("volumeMode", "Filesystem")
    for kind in SOURCES:
        source = spec.get(kind)
        if isinstance(source, dict):
            for field, value in pod_defaults._VOLUME.get(kind, {}).items():
                source.setdefault(field, value)


def _modes(modes: list[str]) -> Errors:
    errors = [not_supported("spec.accessModes", m, MODES) for m in modes if m not in MODES]
    if "ReadWriteOncePod" in modes and len(modes) > 1:
        text = "may not use ReadWriteOncePod with other access modes"
        errors.append(forbidden_field("spec.accessModes", text))
    return errors


def _class_and_mode(spec: Json) -> Errors:
    name, mode, attributes = (spec.get(f) for f in ("storageClassName", "volumeMode", "volumeAttributesClassName"))
    errors: Errors = []
    if name:
        errors += [invalid_value("spec.storageClassName", name, p) for p in names.dns_subdomain(name)]
    if mode is not None and mode not in VOLUME_MODES:
        errors.append(not_supported("spec.volumeMode", mode, VOLUME_MODES))
    if attributes:
        errors += [
            invalid_value("spec.volumeAttributesClassName", attributes, p) for p in names.dns_subdomain(attributes)
        ]
    return errors


def validate_volume(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    capacity, errors = spec.get("capacity") or {}, []
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes"))
    errors += _modes(spec.get("accessModes") or [])
    if not capacity:
        errors.append(required("spec.capacity"))
    if "storage" not in capacity or len(capacity) > 1:
        errors.append(not_supported("spec.capacity", dict(sorted(capacity.items())) or None, ("storage",)))
    else:
        size = capacity["storage"]
        if quantity.parse(size) < 0:
            text = "must be a valid resource quantity"
            errors.append(invalid_value("spec.capacity[storage]", quantity.value(size), text))
        if quantity.parse(size) <= 0:
            errors.append(invalid_value("spec.capacity[storage]", resources.shown(size), "must be greater than zero"))
    policy = spec.get("persistentVolumeReclaimPolicy")
    if policy and policy not in POLICIES:
        errors.append(not_supported("spec.persistentVolumeReclaimPolicy", policy, POLICIES))
    affinity = spec.get("nodeAffinity")
    if affinity is not None and affinity.get("required") is None:
        errors.append(required("spec.nodeAffinity.required", "must specify required node constraints"))
    elif affinity is not None:
        errors += validate_node_selector(affinity["required"], "spec.nodeAffinity.required")
    errors += _sources(spec)
    if (spec.get("hostPath") or {}).get("path") == "/" and policy == "Recycle":
        text = "may not be 'recycle' for a hostPath mount of '/'"
        errors.append(forbidden_field("spec.persistentVolumeReclaimPolicy", text))
    return errors + _class_and_mode(spec)


def _internal_affinity(affinity: Json | None) -> Json | None:
    if affinity is None:
        return None
    inner = {"key": "Key", "operator": "Operator", "values": "Values"}
    terms = [
        {
            name: [{i: e.get(f) for f, i in inner.items()} for e in term[field]] if term.get(field) else None
            for field, name in (("matchExpressions", "MatchExpressions"), ("matchFields", "MatchFields"))
        }
        for term in (affinity.get("required") or {}).get("nodeSelectorTerms") or ()
    ]
    return {"Required": {"NodeSelectorTerms": terms}}


def update_volume(obj: Json, old: Json, ctx: Context) -> Errors:
    spec, before = obj.get("spec") or {}, old.get("spec") or {}
    errors = validate_volume(obj, ctx)
    if any(spec.get(k) != before.get(k) for k in SOURCES if k != "csi") or _csi_changed(spec, before):
        shown = [dump(s, "PersistentVolumeSource") for s in (before, spec)]
        text = f"spec.persistentvolumesource is immutable after creation\n{shape_diff(*shown)}"
        errors.append(forbidden_field("spec.persistentvolumesource", text))
    if spec.get("volumeMode") != before.get("volumeMode"):
        errors.append(invalid_value("volumeMode", spec.get("volumeMode"), "field is immutable"))
    if before.get("nodeAffinity") is not None and spec.get("nodeAffinity") != before["nodeAffinity"]:
        text = "field is immutable, except for updating from beta label to GA"
        errors.append(invalid_value("nodeAffinity", _internal_affinity(spec.get("nodeAffinity")), text))
    return errors


def _csi_changed(spec: Json, before: Json) -> bool:
    """Secrets for expansion may be added to a CSI source later."""
    new, old = dict(spec.get("csi") or {}), dict(before.get("csi") or {})
    for ref in ("controllerExpandSecretRef", "nodeExpandSecretRef"):
        if ref not in old:
            new.pop(ref, None)
    return new != old


def warn_volume(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    spec = obj.get("spec") or {}
    found = [_CLASS_WARNING] if CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}) else []
    if spec.get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(_RECYCLE)
    return found + [f"spec.{kind}: {text}" for kind, text in _DEAD.items() if spec.get(kind) is not None]


def _create_volume(obj: Json, ctx: Context) -> None:
    obj["status"] = {"phase": "Pending", "lastPhaseTransitionTime": ctx.now}


def _keep_status(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def default_claim(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("volumeMode", "Filesystem")
    spec.setdefault("resources", {})
    for kind in ("requests", "limits"):
        resources.canonicalize(spec["resources"].get(kind))
    status = obj.setdefault("status", {})
    status.setdefault("phase", "Pending")
    for field in ("capacity", "allocatedResources"):
        resources.canonicalize(status.get(field))
    for source in ("dataSource", "dataSourceRef"):
        if spec.get(source) is not None:
            spec[source].setdefault("apiGroup", None)
    for condition in status.get("conditions") or ():
        for field, value in (("lastProbeTime", None), ("lastTransitionTime", None), ("status", "")):
            condition.setdefault(field, value)


def _known_source(source: Json) -> bool:
    group, kind = source.get("apiGroup") or "", source.get("kind")
    return (group, kind) in (("", "PersistentVolumeClaim"), ("snapshot.storage.k8s.io", "VolumeSnapshot"))


def _create_claim(obj: Json, ctx: Context) -> None:
    obj["status"] = {"phase": "Pending"}
    spec = obj["spec"]
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    if source is not None and ref is None and not _known_source(source):
        del spec["dataSource"]
    elif source is not None and ref is None:
        spec["dataSourceRef"] = copy.deepcopy(source)
    elif ref is not None and source is None and not ref.get("namespace"):
        spec["dataSource"] = copy.deepcopy(ref)


def _source(source: Json | None, path: str) -> Errors:
    if source is None:
        return []
    errors = _need(source, path, "name", "kind")
    group, kind = source.get("apiGroup") or "", source.get("kind") or ""
    if not group and kind != "PersistentVolumeClaim":
        text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        errors.append(invalid_value(path, kind, text))
    return errors + ([invalid_value(f"{path}.apiGroup", group, p) for p in names.is_subdomain(group)] if group else [])


def validate_claim(obj: Json, ctx: Context) -> Errors:
    spec = obj.get("spec") or {}
    errors: Errors = []
    if not spec.get("accessModes"):
        errors.append(required("spec.accessModes", "at least 1 access mode is required"))
    errors += validate_object(spec.get("selector"), "spec.selector")
    errors += _modes(spec.get("accessModes") or [])
    size, path = ((spec.get("resources") or {}).get("requests") or {}).get("storage"), "spec.resources[storage]"
    if size is None:
        errors.append(required(path))
    elif quantity.parse(size) <= 0:
        errors.append(invalid_value(path, resources.shown(size), "must be greater than zero"))
    errors += _class_and_mode({k: v for k, v in spec.items() if k != "volumeAttributesClassName"})
    source, ref = spec.get("dataSource"), spec.get("dataSourceRef")
    errors += _source(source, "spec.dataSource") + _source(ref, "spec.dataSourceRef")
    if source is not None and ref is not None and not ref.get("namespace"):
        keys = ("apiGroup", "kind", "name")
        if [source.get(k) or "" for k in keys] != [ref.get(k) or "" for k in keys]:
            errors.append(invalid_value("spec", {}, "must match dataSourceRef"))
    return errors + _class_and_mode({"volumeAttributesClassName": spec.get("volumeAttributesClassName")})


def _storage(spec: Json) -> Any:
    return ((spec.get("resources") or {}).get("requests") or {}).get("storage")


def update_claim(obj: Json, old: Json, ctx: Context) -> Errors:
    errors = validate_claim(obj, ctx)
    spec, before = copy.deepcopy(obj.get("spec") or {}), old.get("spec") or {}
    if not before.get("volumeName"):
        spec.pop("volumeName", None)
    if before.get("storageClassName") is None and CLASS_ANNOTATION not in (old["metadata"].get("annotations") or {}):
        spec.pop("storageClassName", None)
    if (obj.get("status") or {}).get("phase") == "Bound":
        if _storage(spec) is not None and _storage(before) is not None:
            spec["resources"]["requests"]["storage"] = _storage(before)
        if "volumeAttributesClassName" in spec:
            spec.pop("volumeAttributesClassName")
            before = {k: v for k, v in before.items() if k != "volumeAttributesClassName"}
    if spec != {k: v for k, v in before.items() if k != "volumeName" or v}:
        errors.append(forbidden_field("spec", _SPEC_TEXT))
    size, had = _storage(obj.get("spec") or {}), _storage(before)
    if size is not None and had is not None and quantity.compare(size, had) < 0:
        held = ((old.get("status") or {}).get("capacity") or {}).get("storage")
        if held is None or quantity.compare(size, held) <= 0:
            text = "field can not be less than status.capacity"
            errors.append(forbidden_field("spec.resources.requests.storage", text))
    mode = (obj.get("spec") or {}).get("volumeMode")
    if mode != (old.get("spec") or {}).get("volumeMode"):
        errors.append(invalid_value("volumeMode", mode, "field is immutable"))
    return errors


def warn_claim(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    found = [_CLASS_WARNING] if CLASS_ANNOTATION in (obj["metadata"].get("annotations") or {}) else []
    for kind in ("requests", "limits"):
        size = (((obj.get("spec") or {}).get("resources") or {}).get(kind) or {}).get("storage")
        if size is not None and quantity.parse(size) % 1 != 0:
            text = f'fractional byte value "{resources.shown(size)}" is invalid, must be an integer'
            found.append(f"spec.resources.{kind}[storage]: {text}")
    return found


VOLUME = Rules(
    BY_KIND["", "v1", "PersistentVolume"],
    default=default_volume,
    prepare_create=_create_volume,
    prepare_update=_keep_status,
    validate=validate_volume,
    validate_update=update_volume,
    warnings=warn_volume,
    subresources={"status": SubRules(STATUS_ONLY.prepare_update)},
    returns_object_on_delete=True,
)
CLAIM = Rules(
    BY_KIND["", "v1", "PersistentVolumeClaim"],
    default=default_claim,
    prepare_create=_create_claim,
    prepare_update=_keep_status,
    validate=validate_claim,
    validate_update=update_claim,
    warnings=warn_claim,
    subresources={"status": SubRules(STATUS_ONLY.prepare_update)},
    returns_object_on_delete=True,
)
