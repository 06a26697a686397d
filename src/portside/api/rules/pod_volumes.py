"""Validation of volumes, one function per source, in upstream's order of sources and words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_supported, required
from portside.api.rules.pod_projected import (
    downward_files,
    file_mode,
    key_to_path,
    local_path,
    projected,
)
from portside.api.rules.pod_security import descending_path

Json = dict[str, Any]
Errors = list[FieldError]
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PATH_TYPES = ("", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket")


def _need(source: Json, path: str, *fields: str) -> Errors:
    return [required(f"{path}.{name}") for name in fields if not source.get(name)]


def _empty_dir(source: Json, path: str) -> Errors:
    size = source.get("sizeLimit")
    if size is not None and quantity.parse(size) < 0:
        return [forbidden_field(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")]
    return []


def _host_path(source: Json, path: str) -> Errors:
    where = source.get("path") or ""
    if not where:
        return [required(f"{path}.path")]
    errors: Errors = []
    if ".." in where.split("/"):
        errors.append(invalid_value(f"{path}.path", where, "must not contain '..'"))
    kind = source.get("type")
    if kind is not None and kind not in _PATH_TYPES:
        errors.append(not_supported(f"{path}.type", kind, _PATH_TYPES))
    return errors


def _git(source: Json, path: str) -> Errors:
    errors = _need(source, path, "repository")
    return errors + descending_path(source.get("directory") or "", f"{path}.directory")


def _partition(source: Json, path: str) -> Errors:
    number = source.get("partition") or 0
    if not 0 <= number <= 255:
        return [invalid_value(f"{path}.partition", number, "must be between 1 and 255, inclusive")]
    return []


def _aws(source: Json, path: str) -> Errors:
    return _need(source, path, "volumeID") + _partition(source, path)


def _gce(source: Json, path: str) -> Errors:
    path = path.removesuffix("gcePersistentDisk") + "persistentDisk"
    return _need(source, path, "pdName") + _partition(source, path)


def _items(source: Json, path: str, name: str) -> Errors:
    errors = _need(source, path, name) + file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    for i, item in enumerate(source.get("items") or ()):
        errors += key_to_path(item, f"{path}.items[{i}]")
    return errors


def _secret(source: Json, path: str) -> Errors:
    return _items(source, path, "secretName")


def _config_map(source: Json, path: str) -> Errors:
    return _items(source, path, "name")


def _downward(source: Json, path: str) -> Errors:
    errors = file_mode(source.get("defaultMode"), f"{path}.defaultMode")
    return errors + downward_files(source.get("items") or [], path)


def _nfs(source: Json, path: str) -> Errors:
    errors = _need(source, path, "server", "path")
    if not (source.get("path") or "").startswith("/"):
        errors.append(invalid_value(f"{path}.path", source.get("path") or "", "must be an absolute path"))
    return errors


def _iscsi(source: Json, path: str) -> Errors:
    errors = _need(source, path, "targetPortal")
    iqn = source.get("iqn") or ""
    if not iqn:
        errors.append(required(f"{path}.iqn"))
    elif not iqn.startswith(("iqn", "eui", "naa")):
        errors.append(invalid_value(f"{path}.iqn", iqn, "must be valid format starting with iqn, eui, or naa"))
    elif (
        (iqn.startswith("iqn") and not _IQN.match(iqn))
        or (iqn.startswith("eui") and not _EUI.match(iqn))
        or (iqn.startswith("naa") and not _NAA.match(iqn))
    ):
        errors.append(invalid_value(f"{path}.iqn", iqn, "must be valid format"))
    lun = source.get("lun") or 0
    if not 0 <= lun <= 255:
        errors.append(invalid_value(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    if (source.get("chapAuthDiscovery") or source.get("chapAuthSession")) and source.get("secretRef") is None:
        errors.append(required(f"{path}.secretRef"))
    if source.get("initiatorName") is not None and not _IQN.match(source["initiatorName"]):
        errors.append(invalid_value(f"{path}.initiatorname", source["initiatorName"], "must be valid format"))
    return errors


def _flocker(source: Json, path: str) -> Errors:
    name, uuid = source.get("datasetName") or "", source.get("datasetUUID") or ""
    errors: Errors = []
    if not name and not uuid:
        errors.append(required(path, "one of datasetName and datasetUUID is required"))
    if name and uuid:
        errors.append(
            invalid_value(path, "resource", "datasetName and datasetUUID can not be specified simultaneously")
        )
    if "/" in name:
        errors.append(invalid_value(f"{path}.datasetName", name, "must not contain '/'"))
    return errors


def _quobyte(source: Json, path: str) -> Errors:
    errors: Errors = []
    registry = source.get("registry") or ""
    if not registry:
        errors.append(required(f"{path}.registry", "must be a host:port pair or multiple pairs separated by commas"))
    elif len(source.get("tenant") or "") >= 65:
        errors.append(required(f"{path}.tenant", "must be a UUID and may not exceed a length of 64 characters"))
    else:
        for pair in registry.split(","):
            if ":" not in pair:
                text = "must be a host:port pair or multiple pairs separated by commas"
                errors.append(invalid_value(f"{path}.registry", pair, text))
    return errors + _need(source, path, "volume")


def _fc(source: Json, path: str) -> Errors:
    wwns, wwids, lun = source.get("targetWWNs") or [], source.get("wwids") or [], source.get("lun")
    text = "must specify either targetWWNs or wwids, but not both"
    if not wwns and not wwids:
        return [required(f"{path}.targetWWNs", text)]
    errors: Errors = []
    if wwns and wwids:
        errors.append(invalid_value(f"{path}.targetWWNs", wwns, text))
    if wwns:
        if lun is None:
            errors.append(required(f"{path}.lun", "lun is required if targetWWNs is specified"))
        elif not 0 <= lun <= 255:
            errors.append(invalid_value(f"{path}.lun", lun, "must be between 0 and 255, inclusive"))
    return errors


def _azure_disk(source: Json, path: str) -> Errors:
    errors = _need(source, path, "diskName", "diskURI")
    caching, kind, uri = source.get("cachingMode"), source.get("kind"), source.get("diskURI") or ""
    if caching is not None and caching not in ("None", "ReadOnly", "ReadWrite"):
        errors.append(not_supported(f"{path}.cachingMode", caching, ("None", "ReadOnly", "ReadWrite")))
    if kind is not None and kind not in ("Dedicated", "Managed", "Shared"):
        errors.append(not_supported(f"{path}.kind", kind, ("Dedicated", "Managed", "Shared")))
    if kind is not None and kind != "Managed" and not uri.startswith("https://"):
        form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
        errors.append(not_supported(f"{path}.diskURI", uri, (form,)))
    if kind == "Managed" and not uri.startswith("/subscriptions"):
        form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"
        errors.append(not_supported(f"{path}.diskURI", uri, (form,)))
    return errors


def _storageos(source: Json, path: str) -> Errors:
    errors: Errors = []
    name = source.get("volumeName")
    if not name:
        errors.append(required(f"{path}.volumeName"))
    else:
        errors += [invalid_value(f"{path}.volumeName", name, p) for p in names.is_label(name)]
    space = source.get("volumeNamespace")
    if space:
        errors += [invalid_value(f"{path}.volumeNamespace", space, p) for p in names.is_label(space)]
    if source.get("secretRef") is not None and not source["secretRef"].get("name"):
        errors.append(required(f"{path}.secretRef.name"))
    return errors


def _csi(source: Json, path: str) -> Errors:
    driver = source.get("driver") or ""
    errors: Errors = []
    if not driver:
        errors.append(required(f"{path}.driver"))
    else:
        if len(driver) > 63:
            errors.append(FieldError(f"{path}.driver", "FieldValueTooLong", "Too long: may not be more than 63 bytes"))
        errors += [invalid_value(f"{path}.driver", driver, p) for p in names.is_subdomain(driver.lower())]
        if driver != driver.lower() and not errors:
            pass  # upstream compares in lower case
    ref = source.get("nodePublishSecretRef")
    if ref is not None:
        name = ref.get("name") or ""
        if not name:
            errors.append(required(f"{path}.nodePublishSecretRef.name"))
        else:
            errors += [invalid_value(f"{path}.name", name, p) for p in names.is_subdomain(name)]
    return errors


def _ephemeral(source: Json, path: str) -> Errors:
    from portside.api.rules.claim_template import validate_claim_template

    template = source.get("volumeClaimTemplate")
    if template is None:
        return [required(f"{path}.volumeClaimTemplate")]
    return validate_claim_template(template, f"{path}.volumeClaimTemplate")


def _image(source: Json, path: str) -> Errors:
    errors: Errors = []
    reference = source.get("reference") or ""
    if not reference:
        errors.append(required(f"{path}.reference"))
    policy = source.get("pullPolicy")
    if policy not in PULL_POLICIES:
        errors.append(
            not_supported(f"{path}.pullPolicy", policy, PULL_POLICIES) if policy else required(f"{path}.pullPolicy")
        )
    return errors


def _plain(*fields: str) -> Callable[[Json, str], Errors]:
    return lambda source, path: _need(source, path, *fields)


def _glusterfs(source: Json, path: str) -> Errors:
    return _need(source, path, "endpoints", "path")


def _projected(source: Json, path: str) -> Errors:
    return projected(source, path)


_IQN = __import__("re").compile(r"iqn\.\d{4}-\d{2}\.([a-zA-Z0-9-.]+)(:[^,;*&$|\s]+)\Z")
_EUI = __import__("re").compile(r"eui.[0-9A-Fa-f]{16}\Z")
_NAA = __import__("re").compile(r"naa.[0-9A-Fa-f]{32}\Z")
# In the order upstream looks at them; the second one found is "more than 1".
_SOURCES: dict[str, Callable[[Json, str], Errors]] = {
    "emptyDir": _empty_dir,
    "hostPath": _host_path,
    "gitRepo": _git,
    "gcePersistentDisk": _gce,
    "awsElasticBlockStore": _aws,
    "secret": _secret,
    "nfs": _nfs,
    "iscsi": _iscsi,
    "glusterfs": _glusterfs,
    "flocker": _flocker,
    "persistentVolumeClaim": _plain("claimName"),
    "rbd": _plain("monitors", "image"),
    "cinder": _plain("volumeID"),
    "cephfs": _plain("monitors"),
    "quobyte": _quobyte,
    "downwardAPI": _downward,
    "fc": _fc,
    "flexVolume": _plain("driver"),
    "configMap": _config_map,
    "azureFile": _plain("secretName", "shareName"),
    "vsphereVolume": _plain("volumePath"),
    "photonPersistentDisk": _plain("pdID"),
    "portworxVolume": _plain("volumeID"),
    "azureDisk": _azure_disk,
    "storageos": _storageos,
    "projected": _projected,
    "scaleIO": _plain("gateway", "system", "volumeName"),
    "csi": _csi,
    "ephemeral": _ephemeral,
    "image": _image,
}


def _source(volume: Json, path: str) -> Errors:
    errors: Errors = []
    found = 0
    for kind, validate in _SOURCES.items():
        source = volume.get(kind)
        if source is None:
            continue
        found += 1
        where = f"{path}.{kind}"
        if found > 1:
            errors.append(forbidden_field(where, "may not specify more than 1 volume type"))
        else:
            errors += validate(source, where)
    if not found:
        errors.append(required(path, "must specify a volume type"))
    return errors


def validate_volumes(volumes: list[Json], path: str, pod_name: str = "") -> tuple[Errors, dict[str, Json]]:
    """All errors, and the faultless volumes by name: only those can be mounted."""
    errors: Errors = []
    seen: set[str] = set()
    good: dict[str, Json] = {}
    for i, volume in enumerate(volumes):
        where = f"{path}[{i}]"
        own = _source(volume, where)
        name = volume.get("name") or ""
        if not name:
            own.append(required(f"{where}.name"))
        else:
            own += [invalid_value(f"{where}.name", name, p) for p in names.is_label(name)]
        if name in seen:
            own.append(duplicate(f"{where}.name", name))
        if own:
            errors += own
        else:
            seen.add(name)
            good[name] = volume
        if not own and "ephemeral" in volume and pod_name:
            claim = f"{pod_name}-{name}"
            errors += [
                invalid_value(f"{where}.name", claim, f'PVC name "{claim}": {p}') for p in names.is_subdomain(claim)
            ]
    return errors, good


__all__ = ["local_path", "validate_volumes"]
