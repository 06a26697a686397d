"""ConfigMap and Secret: keys, size, kinds of secrets, and what ``immutable`` forbids."""

from __future__ import annotations

import base64
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, required, too_long
from portside.api.gojson import json_problem
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
LIMIT = 1024 * 1024
_SET = "field is immutable when `immutable` is set"
_REDACTED = "<secret contents redacted>"
_ACCOUNT = "kubernetes.io/service-account.name"
# type -> keys that must be there
_NEEDED = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


def _bytes(value: str) -> bytes:
    try:
        return base64.b64decode(value)
    except ValueError:
        return b""


def _frozen(obj: Json, old: Json, fields: tuple[str, ...]) -> Errors:
    if not old.get("immutable"):
        return []
    errors = [] if obj.get("immutable") else [forbidden_field("immutable", _SET)]
    return errors + [forbidden_field(f, _SET) for f in fields if (obj.get(f) or {}) != (old.get(f) or {})]


def default_configmap(obj: Json) -> None:
    for name in ("data", "binaryData"):
        if name in obj and not obj[name]:
            del obj[name]


def validate_configmap(obj: Json, ctx: Context) -> Errors:
    errors: Errors = []
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in sorted(data):
        errors += [invalid_value(f"data[{key}]", key, p) for p in names.config_key(key)]
        if key in binary:
            errors.append(invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData"))
    for key in sorted(binary):
        errors += [invalid_value(f"binaryData[{key}]", key, p) for p in names.config_key(key)]
    size = sum(len(v.encode()) for v in data.values()) + sum(len(_bytes(v)) for v in binary.values())
    if size > LIMIT:
        errors.append(too_long("[]", LIMIT))
    return errors


def validate_configmap_update(obj: Json, old: Json, ctx: Context) -> Errors:
    return _frozen(obj, old, ("data", "binaryData")) + validate_configmap(obj, ctx)


def default_secret(obj: Json) -> None:
    if not obj.get("type"):
        obj["type"] = "Opaque"
    data = obj.get("data") or {}
    for key, value in data.items():
        if isinstance(value, str) and ("\n" in value or "\r" in value):
            data[key] = value.replace("\n", "").replace("\r", "")
    for key, value in (obj.pop("stringData", None) or {}).items():
        data[key] = base64.b64encode(value.encode()).decode()
    if data:
        obj["data"] = data
    else:
        obj.pop("data", None)


def validate_secret(obj: Json, ctx: Context) -> Errors:
    data: Json = obj.get("data") or {}
    errors: Errors = []
    for key in sorted(data):
        errors += [invalid_value(f"data[{key}]", key, p) for p in names.config_key(key)]
    if sum(len(_bytes(v)) for v in data.values()) > LIMIT:
        errors.append(too_long("data", LIMIT))
    return errors + _of_type(obj, data)


def _of_type(obj: Json, data: Json) -> Errors:
    type_ = obj.get("type") or ""
    if type_ == "kubernetes.io/service-account-token":
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        return [] if annotations.get(_ACCOUNT) else [required(f"metadata.annotations[{_ACCOUNT}]")]
    if type_ == "kubernetes.io/basic-auth":
        pair = ("username", "password")
        return [] if any(k in data for k in pair) else [required(f"data[{k}]") for k in pair]
    if type_ == "kubernetes.io/ssh-auth":
        return [] if data.get("ssh-privatekey") else [required("data[ssh-privatekey]")]
    errors = [required(f"data[{k}]") for k in _NEEDED.get(type_, ()) if k not in data]
    if not errors and type_.startswith("kubernetes.io/dockerc"):
        key = _NEEDED[type_][0]
        problem = json_problem(_bytes(data[key]).decode(errors="replace"))
        errors += [invalid_value(f"data[{key}]", _REDACTED, problem)] if problem else []
    return errors


def validate_secret_update(obj: Json, old: Json, ctx: Context) -> Errors:
    errors: Errors = []
    if obj.get("type") != old.get("type"):
        errors.append(invalid_value("type", obj.get("type"), "field is immutable"))
    return errors + _frozen(obj, old, ("data",)) + validate_secret(obj, ctx)


def warn_secret(obj: Json, old: Json | None, ctx: Context) -> list[str]:
    """A TLS secret whose pair cannot be read is stored all the same."""
    if obj.get("type") != "kubernetes.io/tls":
        return []
    data = obj.get("data") or {}
    for key, what in (("tls.crt", "certificate"), ("tls.key", "key")):
        if b"-----BEGIN" not in _bytes(data.get(key, "")):
            return [f"tls: failed to find any PEM data in {what} input"]
    return []


CONFIGMAP = Rules(
    BY_KIND["", "v1", "ConfigMap"],
    default=default_configmap,
    validate=validate_configmap,
    validate_update=validate_configmap_update,
)
SECRET = Rules(
    BY_KIND["", "v1", "Secret"],
    default=default_secret,
    validate=validate_secret,
    validate_update=validate_secret_update,
    warnings=warn_secret,
)
