"""Files that volumes project: keys, modes, downward items, and the sources of a projected volume."""

from __future__ import annotations

import re
from typing import Any

from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.rules.pod_affinity import validate_label_selector
from portside.api.rules.pod_env import VOLUME_PATHS, validate_field_ref, validate_resource_ref
from portside.api.rules.pod_security import descending_path
from portside.api.rules.pod_shape import dump

Json = dict[str, Any]
Errors = list[FieldError]

_MODE = "must be a number between 0 and 0777 (octal), both inclusive"
_TWICE = "conflicting duplicate paths"
_KEY_TYPES = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_SIGNER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+/[^\s]+\Z")
_SIGNER_TEXT = "must be a fully qualified domain and path of the form 'example.com/signer-name'"


def file_mode(mode: int | None, path: str) -> Errors:
    return [] if mode is None or 0 <= mode <= 0o777 else [invalid_value(path, mode, _MODE)]


def local_path(value: str, path: str) -> Errors:
    """A relative path that neither leaves its directory nor starts with ``..``."""
    errors = descending_path(value, path)
    if value.startswith("..") and not any("must not contain" in e.detail_text for e in errors):
        errors.append(invalid_value(path, value, "must not start with '..'"))
    return errors


def key_to_path(item: Json, path: str) -> Errors:
    errors: Errors = []
    if not item.get("key"):
        errors.append(required(f"{path}.key"))
    where = item.get("path") or ""
    if not where:
        errors.append(required(f"{path}.path"))
    errors += local_path(where, f"{path}.path")
    return errors + file_mode(item.get("mode"), f"{path}.mode")


def downward_files(items: list[Json], path: str) -> Errors:
    """Paths of these errors have no index, as upstream's."""
    errors: Errors = []
    for item in items:
        where = item.get("path") or ""
        if not where:
            errors.append(required(f"{path}.path"))
        errors += local_path(where, f"{path}.path")
        field, resource = item.get("fieldRef"), item.get("resourceFieldRef")
        if field is not None:
            errors += validate_field_ref(field, VOLUME_PATHS, f"{path}.fieldRef")
            if resource is not None:
                text = "fieldRef and resourceFieldRef can not be specified simultaneously"
                errors.append(invalid_value(path, "resource", text))
        elif resource is not None:
            errors += validate_resource_ref(resource, f"{path}.resourceFieldRef", volume=True)
        else:
            errors.append(required(path, "one of fieldRef and resourceFieldRef is required"))
        errors += file_mode(item.get("mode"), f"{path}.mode")
    return errors


def _keyed(source: Json, paths: set[str], where: str, path: str) -> Errors:
    errors: Errors = []
    if not source.get("name"):
        errors.append(required(f"{where}.name"))
    for i, item in enumerate(source.get("items") or ()):
        errors += key_to_path(item, f"{where}.items[{i}]")
        target = item.get("path") or ""
        if target:
            if target in paths:
                errors.append(invalid_value(path, source.get("name") or "", _TWICE))
            paths.add(target)
    return errors


def _downward(source: Json, paths: set[str], where: str, path: str) -> Errors:
    errors = downward_files(source.get("items") or [], where)
    for item in source.get("items") or ():
        errors += _claim_path(item.get("path") or "", paths, path)
    return errors


def _claim_path(target: str, paths: set[str], path: str) -> Errors:
    if not target:
        return []
    if target in paths:
        return [invalid_value(path, target, _TWICE)]
    paths.add(target)
    return []


def _token(source: Json, paths: set[str], where: str, path: str) -> Errors:
    errors: Errors = []
    seconds = source.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        text = "may not specify a duration less than 10 minutes"
        errors.append(invalid_value(f"{where}.expirationSeconds", seconds, text))
    if seconds is not None and seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        errors.append(invalid_value(f"{where}.expirationSeconds", seconds, text))
    target = source.get("path") or ""
    if not target:
        return [*errors, required(f"{path}.path")]
    return errors + local_path(target, f"{path}.path")


def _bundle(source: Json, paths: set[str], where: str, path: str) -> Errors:
    errors: Errors = []
    name, signer, target = source.get("name"), source.get("signerName"), source.get("path") or ""
    if name is not None and signer is not None:
        errors.append(invalid_value(where, dump(source, "TrustBundle"), "only one of name and signerName may be used"))
    elif name is not None:
        if not name:
            errors.append(required(f"{where}.name", "must be a valid object name"))
        if source.get("labelSelector") is not None:
            text = "labelSelector must be unset if name is specified"
            errors.append(invalid_value(f"{where}.labelSelector", source["labelSelector"], text))
    elif signer is not None:
        if not signer:
            errors.append(required(f"{where}.signerName", "must be a valid signer name"))
        elif not _SIGNER.match(signer):
            errors.append(invalid_value(f"{where}.signerName", signer, _SIGNER_TEXT))
        errors += validate_label_selector(source.get("labelSelector"), f"{where}.labelSelector")
    else:
        errors.append(required(where, "either name or signerName must be specified"))
    if not target:
        return [*errors, required(f"{where}.path")]
    errors += local_path(target, f"{where}.path")
    return errors + _claim_path(target, paths, path)


def _certificate(source: Json, paths: set[str], where: str, path: str) -> Errors:
    errors: Errors = []
    signer, key, seconds = (
        source.get("signerName") or "",
        source.get("keyType") or "",
        source.get("maxExpirationSeconds"),
    )
    if not signer:
        errors.append(required(f"{where}.signerName"))
    elif not _SIGNER.match(signer):
        errors.append(invalid_value(f"{where}.signerName", signer, _SIGNER_TEXT))
    if key not in _KEY_TYPES:
        errors.append(not_supported(f"{where}.keyType", key, _KEY_TYPES))
    if seconds is not None:
        low = 3600
        high = (91 if not signer.startswith("kubernetes.io/") else 1) * 24 * 3600
        if seconds < low:
            text = f"if provided, maxExpirationSeconds must be >= {low}"
            errors.append(invalid_value(f"{where}.maxExpirationSeconds", seconds, text))
        elif seconds > high:
            text = f"if provided, maxExpirationSeconds must be <= {high}"
            errors.append(invalid_value(f"{where}.maxExpirationSeconds", seconds, text))
    found = 0
    for name in ("credentialBundlePath", "keyPath", "certificateChainPath"):
        target = source.get(name) or ""
        if target:
            found += 1
            errors += local_path(target, f"{where}.{name}")
            errors += _claim_path(target, paths, path)
    if not found:
        text = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath"
        errors.append(required(where, text))
    return errors


_KINDS = {
    "secret": _keyed,
    "configMap": _keyed,
    "downwardAPI": _downward,
    "serviceAccountToken": _token,
    "clusterTrustBundle": _bundle,
    "podCertificate": _certificate,
}


def projected(volume: Json, path: str) -> Errors:
    """A projected volume: its mode, then its sources, whose paths must not meet."""
    errors = file_mode(volume.get("defaultMode"), f"{path}.defaultMode")
    paths: set[str] = set()
    for i, source in enumerate(volume.get("sources") or ()):
        where = f"{path}.sources[{i}]"
        found = 0
        for kind, check in _KINDS.items():
            part = source.get(kind)
            if part is None:
                continue
            found += 1
            if found > 1:
                errors.append(forbidden_field(where, "may not specify more than 1 volume type per source"))
            else:
                errors += check(part, paths, f"{where}.{kind}", path)
    return errors
