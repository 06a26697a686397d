"""APIService."""

from __future__ import annotations

import base64
from typing import Any

from portside.api import names
from portside.api.field import FieldError, invalid_value, required
from portside.api.kinds import BY_KIND
from portside.api.rules.registry import STATUS_ONLY, Context, Rules

Json = dict[str, Any]
Errors = list[FieldError]
_LOCAL = "Local APIServices are always available"


def default(obj: Json) -> None:
    spec = obj.setdefault("spec", {})
    if spec.get("service") is not None and spec["service"].get("port") is None:
        spec["service"]["port"] = 443
    spec.setdefault("groupPriorityMinimum", 0)
    spec.setdefault("versionPriority", 0)
    obj.setdefault("status", {})


def available(now: str) -> Json:
    """The condition of a local APIService."""
    return {"type": "Available", "status": "True", "lastTransitionTime": now, "reason": "Local", "message": _LOCAL}


def _create(obj: Json, ctx: Context) -> None:
    obj["status"] = {}
    if obj["spec"].get("service") is None:
        obj["status"]["conditions"] = [available(ctx.now)]


def _update(obj: Json, old: Json, ctx: Context) -> None:
    obj["status"] = old.get("status") or {}


def _name(name: str, prefix: bool = False) -> list[str]:
    return names.path_segment(name, prefix)


def validate(obj: Json, ctx: Context) -> Errors:
    spec, name = obj.get("spec") or {}, obj["metadata"].get("name") or ""
    group, version = spec.get("group") or "", spec.get("version") or ""
    wanted, errors = f"{version}.{group}", []
    if name and name != wanted:
        errors.append(invalid_value("metadata.name", name, f'must be `spec.version+"."+spec.group`: "{wanted}"'))
    if group:
        errors += [invalid_value("spec.group", group, p) for p in names.is_subdomain(group)]
    elif version != "v1":
        errors.append(required("spec.group", "only v1 may have an empty group and it better be legacy kube"))
    errors += [invalid_value("spec.version", version, p) for p in names.is_label_1035(version)]
    for field, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        number = spec.get(field) or 0
        if not 0 < number <= most:
            errors.append(invalid_value(f"spec.{field}", number, f"must be positive and less than {most}"))
    return errors + _service(spec)


def _service(spec: Json) -> Errors:
    service, bundle, errors = spec.get("service"), spec.get("caBundle") or "", []
    if service is None:
        if bundle:
            size = len(base64.b64decode(bundle))
            text = "local APIServices may not have a caBundle"
            errors.append(invalid_value("spec.caBundle", f"{size} bytes", text))
        if spec.get("insecureSkipTLSVerify"):
            text = "local APIServices may not have insecureSkipTLSVerify"
            errors.append(invalid_value("spec.insecureSkipTLSVerify", True, text))
        return errors
    errors += [required(f"spec.service.{f}") for f in ("namespace", "name") if not service.get(f)]
    port = service.get("port")
    if port is not None:
        problems = names.port_number(port)
        errors += [invalid_value("spec.service.port", port, f"port is not valid: {p}") for p in problems]
    if spec.get("insecureSkipTLSVerify") and bundle:
        errors.append(invalid_value("spec.insecureSkipTLSVerify", True, "may not be true if caBundle is present"))
    return errors


RULES = {
    ("v1", "APIService"): Rules(
        BY_KIND["apiregistration.k8s.io", "v1", "APIService"],
        default=default,
        prepare_create=_create,
        prepare_update=_update,
        validate=validate,
        validate_update=lambda obj, old, ctx: validate(obj, ctx),
        name=_name,
        any_finalizer=True,
        subresources={"status": STATUS_ONLY},
    )
}
