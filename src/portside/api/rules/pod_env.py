"""Validation of environment variables and of references to fields, resources and keys."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names, quantity
from portside.api.field import FieldError, invalid_value, not_found_value, not_supported, required

Json = dict[str, Any]
Errors = list[FieldError]

_SUBSCRIPT = re.compile(r"(.*)\['(.*)'\]\Z", re.DOTALL)
_PLAIN_PATHS = frozenset(
    {
        *("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"),
        *("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName", "status.phase"),
        *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs", "spec.host"),
    }
)
ENV_PATHS = (
    *("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName"),
    *("status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"),
)
VOLUME_PATHS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_RESOURCES: tuple[str, ...] = ("limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu")
_RESOURCES += ("requests.ephemeral-storage", "requests.memory")
_SIZES = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_SOURCES = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def _convert_problem(version: str, path: str) -> str:
    """Why a downward path cannot be converted; empty if it can."""
    if version != "v1":
        return f"unsupported pod version: {version}"
    match = _SUBSCRIPT.match(path)
    if match:
        if match[1] in ("metadata.annotations", "metadata.labels"):
            return ""
        return f"field label does not support subscript: {path}"
    return "" if path in _PLAIN_PATHS else f"field label not supported: {path}"


def validate_field_ref(ref: Json, supported: tuple[str, ...], path: str) -> Errors:
    version, field_path = ref.get("apiVersion") or "", ref.get("fieldPath") or ""
    if not version:
        return [required(f"{path}.apiVersion")]
    if not field_path:
        return [required(f"{path}.fieldPath")]
    problem = _convert_problem(version, field_path)
    if problem:
        return [invalid_value(f"{path}.fieldPath", field_path, f"error converting fieldPath: {problem}")]
    match = _SUBSCRIPT.match(field_path)
    if match:
        key = match[2].lower() if match[1] == "metadata.annotations" else match[2]
        return [invalid_value(path, match[2], p) for p in names.qualified_name(key)]
    if field_path not in supported:
        return [not_supported(f"{path}.fieldPath", field_path, supported)]
    return []


def validate_resource_ref(ref: Json, path: str, volume: bool) -> Errors:
    resource = ref.get("resource") or ""
    if volume and not ref.get("containerName"):
        return [required(f"{path}.containerName")]
    if not resource:
        return [required(f"{path}.resource")]
    huge = resource.startswith(("limits.hugepages-", "requests.hugepages-"))
    if resource not in _RESOURCES and not huge:
        return [not_supported(f"{path}.resource", resource, _RESOURCES)]
    divisor = str(ref.get("divisor") or "0")
    if quantity.parse(divisor) == 0:
        return []
    kind = resource.partition(".")[2]
    if kind == "cpu":
        allowed: tuple[str, ...] = ("1m", "1")
        text = "only divisor's values 1m and 1 are supported with the cpu resource"
    else:
        allowed = _SIZES
        what = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(kind, "hugepages")
        text = f"only divisor's values {', '.join(_SIZES)} are supported with the {what} resource"
    if quantity.canonical(divisor) not in allowed:
        return [invalid_value(f"{path}.divisor", resource, text)]
    return []


def _key_ref(ref: Json, path: str) -> Errors:
    name, key = ref.get("name") or "", ref.get("key") or ""
    errors = [invalid_value(f"{path}.name", name, p) for p in names.is_subdomain(name)]
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid_value(f"{path}.key", key, p) for p in names.config_key(key)]
    return errors


def _file_ref(ref: Json, path: str) -> Errors:
    errors: Errors = []
    key, volume, where = ref.get("key") or "", ref.get("volumeName") or "", ref.get("path") or ""
    if not key:
        errors.append(required(f"{path}.key"))
    else:
        errors += [invalid_value(f"{path}.key", key, p) for p in names.env_name(key)]
    if not volume:
        errors.append(required(f"{path}.volumeName"))
    if not where:
        errors.append(required(f"{path}.path"))
    elif ".." in where.split("/"):
        errors.append(invalid_value(f"{path}.path", where, "must not contain '..'"))
    return errors


def _value_from(variable: Json, path: str) -> Errors:
    source = variable["valueFrom"]
    errors: Errors = []
    found = [kind for kind in _SOURCES if source.get(kind) is not None]
    for kind in found:
        where, ref = f"{path}.{kind}", source[kind]
        if kind == "fieldRef":
            errors += validate_field_ref(ref, ENV_PATHS, where)
        elif kind == "resourceFieldRef":
            errors += validate_resource_ref(ref, where, volume=False)
        elif kind == "fileKeyRef":
            errors += _file_ref(ref, where)
        else:
            errors += _key_ref(ref, where)
    if not found:
        listed = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        errors.append(invalid_value(path, "", f"must specify one of: {listed}"))
    elif variable.get("value"):
        errors.append(invalid_value(path, "", "may not be specified when `value` is not empty"))
    elif len(found) > 1:
        errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors


def validate_env(env: list[Json], volumes: dict[str, Json], path: str) -> Errors:
    """All variables, then the volumes that file references name."""
    errors: Errors = []
    files: Errors = []
    for i, variable in enumerate(env):
        name = variable.get("name")
        if not name:
            errors.append(required(f"{path}[{i}].name"))
        else:
            problems = names.env_name(name)
            if problems:
                errors += [invalid_value(f"{path}[{i}].name", name, p) for p in problems]
        source = variable.get("valueFrom")
        if source is None:
            continue
        errors += _value_from(variable, f"{path}[{i}].valueFrom")
        ref = source.get("fileKeyRef")
        if ref is not None:
            volume, where = ref.get("volumeName") or "", f"{path}[{i}].valueFrom.fileKeyRef.volumeName"
            if volume not in volumes:
                files.append(not_found_value(where, volume))
            elif "emptyDir" not in volumes[volume]:
                text = "referenced volume must be of type emptyDir"
                files.append(invalid_value(where, volume, text))
    return errors + files


def validate_env_from(sources: list[Json], path: str) -> Errors:
    errors: Errors = []
    for i, source in enumerate(sources):
        where = f"{path}[{i}]"
        prefix = source.get("prefix")
        if prefix:
            errors += [invalid_value(f"{where}.prefix", prefix, p) for p in names.env_name(prefix)]
        found = [kind for kind in ("configMapRef", "secretRef") if source.get(kind) is not None]
        for kind in found:
            name = source[kind].get("name")
            if not name:
                errors.append(required(f"{where}.{kind}.name"))
            else:
                errors += [invalid_value(f"{where}.{kind}.name", name, p) for p in names.is_subdomain(name)]
        if not found:
            errors.append(invalid_value(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(found) > 1:
            errors.append(invalid_value(path, "", "may not have more than one field specified at a time"))
    return errors
