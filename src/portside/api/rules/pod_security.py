"""Validation of security contexts of pods and containers, in upstream's order and words."""

from __future__ import annotations

import re
from typing import Any

from portside.api import names
from portside.api.field import FieldError, forbidden_field, invalid_value, not_supported, required
from portside.api.rules.pod_shape import dump

Json = dict[str, Any]
Errors = list[FieldError]

_ID_TEXT = "must be between 0 and 2147483647, inclusive"
_SYSCTL = re.compile(r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?\Z")
_SYSCTL_TEXT = (
    r"must have at most 253 characters and match regex "
    r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
)
_IPC_SYSCTLS = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_IPC_EXACT = ("kernel.sem", "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni")
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_NETBIOS_BAD = set('\\/:*?"<>|')
_USER_BAD = set('"/\\:;|=,+*?<>@[]')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_DNS_DOMAIN = re.compile(
    r"(?=.{1,255}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?\Z"
)
# What Linux pods and containers may have and Windows ones may not, in upstream's order.
_POD_NOT_WINDOWS: tuple[str, ...] = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
)
_POD_NOT_WINDOWS += ("sysctls", "runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy")
_CONTAINER_NOT_WINDOWS: tuple[str, ...] = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
)
_CONTAINER_NOT_WINDOWS += ("privileged", "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup")


def _id(value: Any, path: str) -> Errors:
    if value is None or 0 <= value <= 2147483647:
        return []
    return [invalid_value(path, value, _ID_TEXT)]


def descending_path(value: str, path: str) -> Errors:
    """A relative path without ``..`` elements."""
    errors: Errors = []
    if value.startswith("/"):
        errors.append(invalid_value(path, value, "must be a relative path"))
    if ".." in value.split("/"):
        errors.append(invalid_value(path, value, "must not contain '..'"))
    return errors


def _seccomp(profile: Json | None, path: str) -> Errors:
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        return [required(f"{path}.type", "type is required when seccompProfile is set")]
    if kind == "Localhost":
        if local is None:
            return [required(f"{path}.localhostProfile", "must be set when seccomp type is Localhost")]
        return descending_path(local, f"{path}.localhostProfile")
    errors: Errors = []
    if local is not None:
        text = "can only be set when seccomp type is Localhost"
        errors.append(invalid_value(f"{path}.localhostProfile", dump(profile, "Profile"), text))
    if kind not in _PROFILES:
        errors.append(not_supported(f"{path}.type", kind, _PROFILES))
    return errors


def _app_armor(profile: Json | None, path: str) -> Errors:
    if profile is None:
        return []
    kind, local = profile.get("type") or "", profile.get("localhostProfile")
    if not kind:
        return [required(f"{path}.type", "type is required when appArmorProfile is set")]
    where = f"{path}.localhostProfile"
    if kind == "Localhost":
        if local is None:
            return [required(where, "must be set when AppArmor type is Localhost")]
        if local.strip() != local:
            return [invalid_value(where, local, "must not be padded with whitespace")]
        if not local:
            return [required(where, "must be set when AppArmor type is Localhost")]
        if len(local) > 4095:
            return [FieldError(where, "FieldValueTooLong", "Too long: may not be more than 4095 bytes")]
        return []
    if kind in _PROFILES:
        if local is not None:
            return [invalid_value(where, local, "can only be set when AppArmor type is Localhost")]
        return []
    return [not_supported(f"{path}.type", kind, _PROFILES)]


def _run_as_user_name(value: str, path: str) -> Errors:
    if not value:
        return [invalid_value(path, value, "runAsUserName cannot be an empty string")]
    errors: Errors = []
    if _CONTROL.search(value):
        errors.append(invalid_value(path, value, "runAsUserName cannot contain control characters"))
    parts = value.split("\\")
    if len(parts) > 2:
        return [*errors, invalid_value(path, value, "runAsUserName cannot contain more than one backslash")]
    domain, user = (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])
    if domain is not None:
        if not domain:
            errors.append(
                invalid_value(path, value, "runAsUserName's Domain doesn't match the NetBIOS nor the DNS format")
            )
        netbios = len(domain) <= 15 and not set(domain) & _NETBIOS_BAD and not domain.startswith(".")
        if domain and not netbios and not _DNS_DOMAIN.match(domain):
            errors.append(
                invalid_value(path, value, "runAsUserName's Domain doesn't match the NetBIOS nor the DNS format")
            )
    if not user:
        errors.append(invalid_value(path, value, "runAsUserName's User cannot be empty"))
    elif len(user) > 104:
        errors.append(invalid_value(path, value, "runAsUserName's User length must not be longer than 104 characters"))
    if user and not user.strip(". "):
        errors.append(invalid_value(path, value, "runAsUserName's User cannot contain only periods or spaces"))
    if set(user) & _USER_BAD:
        text = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]"
        errors.append(invalid_value(path, value, text))
    return errors


def _windows(options: Json | None, path: str) -> Errors:
    if options is None:
        return []
    errors: Errors = []
    name = options.get("gmsaCredentialSpecName")
    if name is not None:
        where = f"{path}.gmsaCredentialSpecName"
        errors += [invalid_value(where, name, p) for p in names.is_subdomain(name)]
    spec = options.get("gmsaCredentialSpec")
    if spec is not None:
        where = f"{path}.gmsaCredentialSpec"
        if not spec:
            errors.append(invalid_value(where, spec, "gmsaCredentialSpec cannot be an empty string"))
        elif len(spec) > 64 * 1024:
            errors.append(invalid_value(where, spec, "gmsaCredentialSpec size must be under 64 KiB"))
    user = options.get("runAsUserName")
    if user is not None:
        errors += _run_as_user_name(user, f"{path}.runAsUserName")
    return errors


def validate_container_context(context: Json, path: str, host_users: bool) -> Errors:
    """A container's securityContext. ``host_users``: the pod runs in the host's user namespace."""
    errors = _id(context.get("runAsUser"), f"{path}.runAsUser") + _id(context.get("runAsGroup"), f"{path}.runAsGroup")
    mount = context.get("procMount")
    if mount is not None:
        if mount not in ("Default", "Unmasked"):
            errors.append(not_supported(f"{path}.procMount", mount, ("Default", "Unmasked")))
        elif mount == "Unmasked" and host_users:
            text = "`hostUsers` must be false to use `Unmasked`"
            errors.append(invalid_value(f"{path}.procMount", mount, text))
    errors += _seccomp(context.get("seccompProfile"), f"{path}.seccompProfile")
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(invalid_value(path, dump(context, "SecurityContext"), text))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(invalid_value(path, dump(context, "SecurityContext"), text))
    errors += _windows(context.get("windowsOptions"), f"{path}.windowsOptions")
    return errors + _app_armor(context.get("appArmorProfile"), f"{path}.appArmorProfile")


def _sysctls(sysctls: list[Json], spec: Json, path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, sysctl in enumerate(sysctls):
        where = f"{path}[{i}].name"
        name = sysctl.get("name") or ""
        if not name:
            errors.append(required(where))
            continue
        if len(name) > 253 or not _SYSCTL.match(name):
            errors.append(invalid_value(where, name, _SYSCTL_TEXT))
        elif name in seen:
            errors.append(FieldError(where, "FieldValueDuplicate", f'Duplicate value: "{name}"'))
        dotted = (
            name
            if "/" not in name or (name.find(".") < name.find("/") != -1 and "." in name)
            else name.replace("/", ".")
        )
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(invalid_value(where, name, "may not be specified when 'hostNetwork' is true"))
        if spec.get("hostIPC") and (dotted in _IPC_EXACT or dotted.startswith(_IPC_SYSCTLS)):
            errors.append(invalid_value(where, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)
    return errors


def validate_pod_context(spec: Json, path: str) -> Errors:
    """The pod's securityContext with the host namespace fields; ``path`` is the spec's."""
    context = spec.get("securityContext") or {}
    errors: Errors = []
    where = f"{path}.securityContext"
    if context:
        errors += _id(context.get("fsGroup"), f"{where}.fsGroup")
        errors += _id(context.get("runAsUser"), f"{where}.runAsUser")
        errors += _id(context.get("runAsGroup"), f"{where}.runAsGroup")
        for i, group in enumerate(context.get("supplementalGroups") or ()):
            errors += _id(group, f"{where}.supplementalGroups[{i}]")
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(invalid_value(f"{path}.shareProcessNamespace", True, text))
    if not context:
        return errors
    errors += _sysctls(context.get("sysctls") or [], spec, f"{where}.sysctls")
    for key, supported in (
        ("fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        ("seccompProfile", ()),
        ("windowsOptions", ()),
        ("appArmorProfile", ()),
        ("supplementalGroupsPolicy", ("Merge", "Strict")),
        ("seLinuxChangePolicy", ("MountOption", "Recursive")),
    ):
        value = context.get(key)
        if value is None:
            continue
        if supported and value not in supported:
            errors.append(not_supported(f"{where}.{key}", value, supported))
        elif key == "seccompProfile":
            errors += _seccomp(value, f"{where}.{key}")
        elif key == "windowsOptions":
            errors += _windows(value, f"{where}.{key}")
        elif key == "appArmorProfile":
            errors += _app_armor(value, f"{where}.{key}")
    return errors


def validate_host_users(spec: Json, path: str) -> Errors:
    """A user namespace of its own excludes the host's other namespaces. Two paths in capitals are upstream's."""
    if spec.get("hostUsers") is not False:
        return []
    shown = (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC"))
    return [forbidden_field(f"{path}.{name}", "when `hostUsers` is false") for key, name in shown if spec.get(key)]


def all_containers(spec: Json, path: str) -> list[tuple[Json, str]]:
    """Init, regular and ephemeral containers with their paths, in upstream's visiting order."""
    found: list[tuple[Json, str]] = []
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for i, container in enumerate(spec.get(kind) or ()):
            found.append((container, f"{path}.{kind}[{i}]"))
    return found


def validate_host_process(spec: Json, path: str) -> Errors:
    """Windows host process containers: all or none, and on the host's network."""
    errors: Errors = []
    holders = [spec, *(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    if not any(h.get("securityContext") for h in holders):
        return errors
    pod_level = ((spec.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    values: list[bool] = []
    for container, where in all_containers(spec, path):
        own = ((container.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
        if pod_level is not None and own is not None and own != pod_level:
            errors.append(
                invalid_value(
                    f"{where}.securityContext.windowsOptions.hostProcess",
                    own,
                    f"pod hostProcess value must be identical if both are specified, was {str(pod_level).lower()}",
                )
            )
        values.append(bool(own if own is not None else pod_level))
    if any(values):
        if not all(values):
            text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
            errors.append(invalid_value(path, "", text))
        if not spec.get("hostNetwork"):
            text = "hostNetwork must be true if pod contains any hostProcess containers"
            errors.append(invalid_value(f"{path}.hostNetwork", False, text))
    return errors


def validate_os(spec: Json, path: str) -> Errors:
    """Fields that the pod's operating system cannot have."""
    os_name = spec["os"].get("name") or ""
    if not os_name:
        return [required(f"{path}.os.name", "cannot be empty")]
    if os_name not in ("linux", "windows"):
        return [not_supported(f"{path}.os", os_name, ("linux", "windows"))]
    errors: Errors = []
    context = spec.get("securityContext") or {}
    if os_name == "linux":
        text = "windows options cannot be set for a linux pod"
        if context.get("windowsOptions") is not None:
            errors.append(forbidden_field(f"{path}.securityContext.windowsOptions", text))
        for container, where in all_containers(spec, path):
            if (container.get("securityContext") or {}).get("windowsOptions") is not None:
                errors.append(forbidden_field(f"{where}.securityContext.windowsOptions", text))
        return errors
    text = "cannot be set for a windows pod"
    for key in _POD_NOT_WINDOWS:
        if context.get(key) is not None:
            errors.append(forbidden_field(f"{path}.securityContext.{key}", text))
    if spec.get("hostUsers") is not None:
        errors.append(forbidden_field(f"{path}.hostUsers", text))
    for key in ("hostPID", "hostIPC"):
        if spec.get(key):
            errors.append(forbidden_field(f"{path}.{key}", text))
    if spec.get("shareProcessNamespace") is not None:
        errors.append(forbidden_field(f"{path}.shareProcessNamespace", text))
    for container, where in all_containers(spec, path):
        own = container.get("securityContext") or {}
        for key in _CONTAINER_NOT_WINDOWS:
            if own.get(key) is not None:
                errors.append(forbidden_field(f"{where}.securityContext.{key}", text))
    return errors
