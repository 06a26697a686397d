"""Validation of containers: common part, then what init, regular and ephemeral ones may have. Upstream's order and words."""

from __future__ import annotations

from typing import Any

from portside.api import names
from portside.api.field import FieldError, duplicate, forbidden_field, invalid_value, not_found_value, not_supported
from portside.api.field import required as required_field
from portside.api.rules.pod_env import validate_env, validate_env_from
from portside.api.rules.pod_probes import validate_lifecycle, validate_probes
from portside.api.rules.pod_resources import validate_requirements
from portside.api.rules.pod_security import descending_path, validate_container_context

Json = dict[str, Any]
Errors = list[FieldError]

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")
_EPHEMERAL_FORBIDDEN = (
    *("ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules"),
    *("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"),
)


class PodFacts:
    """What container validation needs to know of its pod."""

    __slots__ = ("claims", "grace", "host_users", "is_pod", "restart_policy", "volumes")

    def __init__(self, spec: Json, volumes: dict[str, Json], is_pod: bool) -> None:
        self.volumes = volumes
        self.grace = int(spec.get("terminationGracePeriodSeconds") or 0)
        self.restart_policy = spec.get("restartPolicy")
        self.host_users = spec.get("hostUsers") is not False
        self.claims = {c.get("name") for c in spec.get("resourceClaims") or ()}
        self.is_pod = is_pod


def _ports(ports: list[Json], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, port in enumerate(ports):
        where = f"{path}[{i}]"
        name = port.get("name")
        if name:
            problems = names.port_name(name)
            if problems:
                errors += [invalid_value(f"{where}.name", name, p) for p in problems]
            elif name in seen:
                errors.append(duplicate(f"{where}.name", name))
            else:
                seen.add(name)
        number = port.get("containerPort") or 0
        if not number:
            errors.append(required_field(f"{where}.containerPort"))
        elif not 1 <= number <= 65535:
            errors += [invalid_value(f"{where}.containerPort", number, p) for p in names.port_number(number)]
        host = port.get("hostPort")
        if host and not 1 <= host <= 65535:
            errors += [invalid_value(f"{where}.hostPort", host, p) for p in names.port_number(host)]
        protocol = port.get("protocol")
        if not protocol:
            errors.append(required_field(f"{where}.protocol"))
        elif protocol not in _PROTOCOLS:
            errors.append(not_supported(f"{where}.protocol", protocol, _PROTOCOLS))
    return errors


def host_port_conflicts(containers: list[Json], path: str) -> Errors:
    """Two containers of one pod that want the same port of the host."""
    errors: Errors = []
    seen: set[str] = set()
    for c, container in enumerate(containers):
        for i, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
            if key in seen:
                errors.append(duplicate(f"{path}[{c}].ports[{i}].hostPort", key))
            seen.add(key)
    return errors


def _propagation(mount: Json, container: Json, path: str) -> Errors:
    value = mount.get("mountPropagation")
    if value is None:
        return []
    errors: Errors = []
    if value not in _PROPAGATION:
        errors.append(not_supported(path, value, _PROPAGATION))
    if value == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
        text = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(forbidden_field(path, text))
    return errors


def _recursive(mount: Json, path: str) -> Errors:
    value = mount.get("recursiveReadOnly")
    if value is None or value == "Disabled":
        return []
    if value not in _RECURSIVE:
        return [not_supported(path, value, _RECURSIVE)]
    errors: Errors = []
    if not mount.get("readOnly"):
        errors.append(forbidden_field(path, "may only be specified when readOnly is true"))
    if mount.get("mountPropagation") not in (None, "None"):
        text = "may only be specified when mountPropagation is None or not specified"
        errors.append(forbidden_field(path, text))
    return errors


def _mounts(container: Json, volumes: dict[str, Json], path: str) -> Errors:
    errors: Errors = []
    paths: set[str] = set()
    devices = container.get("volumeDevices") or ()
    device_names = {d.get("name") for d in devices}
    device_paths = {d.get("devicePath") for d in devices}
    for i, mount in enumerate(container["volumeMounts"]):
        where = f"{path}[{i}]"
        name, target = mount.get("name") or "", mount.get("mountPath") or ""
        if not name:
            errors.append(required_field(f"{where}.name"))
        if name not in volumes:
            errors.append(not_found_value(f"{where}.name", name))
        if not target:
            errors.append(required_field(f"{where}.mountPath"))
        if target in paths:
            errors.append(invalid_value(f"{where}.mountPath", target, "must be unique"))
        paths.add(target)
        if name in device_names:
            errors.append(invalid_value(f"{where}.name", name, "must not already exist in volumeDevices"))
        if target in device_paths:
            text = "must not already exist as a path in volumeDevices"
            errors.append(invalid_value(f"{where}.mountPath", target, text))
        if mount.get("subPath"):
            errors += descending_path(mount["subPath"], f"{path}.subPath")
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                text = "subPathExpr and subPath are mutually exclusive"
                errors.append(invalid_value(f"{path}.subPathExpr", mount["subPathExpr"], text))
            errors += descending_path(mount["subPathExpr"], f"{path}.subPathExpr")
        if "mountPropagation" in mount:
            errors += _propagation(mount, container, f"{path}.mountPropagation")
        if "recursiveReadOnly" in mount:
            errors += _recursive(mount, f"{path}.recursiveReadOnly")
    return errors


def _devices(container: Json, volumes: dict[str, Json], path: str) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    paths: set[str] = set()
    mounts = container.get("volumeMounts") or ()
    mount_names = {m.get("name") for m in mounts}
    mount_paths = {m.get("mountPath") for m in mounts}
    for i, device in enumerate(container["volumeDevices"]):
        where = f"{path}[{i}]"
        name, target = device.get("name") or "", device.get("devicePath") or ""
        if not name:
            errors.append(required_field(f"{where}.name"))
        if name in seen:
            errors.append(invalid_value(f"{where}.name", name, "must be unique"))
        volume = volumes.get(name)
        if volume is None:
            errors.append(not_found_value(f"{where}.name", name))
        elif not ("persistentVolumeClaim" in volume or "ephemeral" in volume):
            text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(invalid_value(f"{where}.name", name, text))
        if not target:
            errors.append(required_field(f"{where}.devicePath"))
        if target in paths:
            errors.append(invalid_value(f"{where}.devicePath", target, "must be unique"))
        if ".." in target.split("/"):
            errors.append(invalid_value(f"{where}.devicePath", target, "can not contain backsteps ('..')"))
        else:
            paths.add(target)
        if name in mount_names:
            errors.append(invalid_value(f"{where}.name", name, "must not already exist in volumeMounts"))
        if target in mount_paths:
            text = "must not already exist as a path in volumeMounts"
            errors.append(invalid_value(f"{where}.devicePath", target, text))
        seen.add(name)
    return errors


def _resize_policy(policies: list[Json], path: str, restart_policy: str | None) -> Errors:
    errors: Errors = []
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            errors.append(duplicate(f"{path}[{i}]", name))
        seen.add(name)
        if not name:
            errors.append(required_field(path))
        elif name not in ("cpu", "memory"):
            errors.append(not_supported(path, name, ("cpu", "memory")))
        if not restart:
            errors.append(required_field(path))
        elif restart not in ("NotRequired", "RestartContainer"):
            errors.append(not_supported(path, restart, ("NotRequired", "RestartContainer")))
        if restart_policy == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when `restartPolicy` is 'Never'"
            errors.append(invalid_value(path, restart, text))
    return errors


def _restart_rules(container: Json, path: str) -> Errors:
    errors: Errors = []
    rules = container.get("restartPolicyRules") or []
    policy = container.get("restartPolicy")
    if rules and policy is None:
        errors.append(required_field(f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"))
    if len(rules) > 20:
        text = f"Too many: {len(rules)}: must have at most 20 items"
        errors.append(FieldError(f"{path}.restartPolicyRules", "FieldValueTooMany", text))
    for i, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{i}]"
        actions = ("Restart", "RestartAllContainers")
        action = rule.get("action") or ""
        if not action:
            errors.append(required_field(f"{where}.action"))
        elif action not in actions:
            errors.append(not_supported(f"{where}.action", action, actions))
        codes = rule.get("exitCodes")
        if codes is None:
            errors.append(required_field(f"{where}.exitCodes", "must be specified"))
            continue
        operator = codes.get("operator") or ""
        if not operator:
            errors.append(required_field(f"{where}.exitCodes.operator", "must be specified"))
        elif operator not in ("In", "NotIn"):
            errors.append(not_supported(f"{where}.exitCodes.operator", operator, ("In", "NotIn")))
        if len(codes.get("values") or ()) > 255:
            text = f"Too many: {len(codes['values'])}: must have at most 255 items"
            errors.append(FieldError(f"{where}.exitCodes.values", "FieldValueTooMany", text))
    return errors


def _common(container: Json, facts: PodFacts, path: str) -> Errors:
    errors: Errors = []
    name = container.get("name")
    if not name:
        errors.append(required_field(f"{path}.name"))
    elif problems := names.is_label(name):
        errors += [invalid_value(f"{path}.name", name, p) for p in problems]
    image = container.get("image")
    if not image:
        errors.append(required_field(f"{path}.image"))
    elif facts.is_pod and image != image.strip():
        errors.append(invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace"))
    policy = container.get("terminationMessagePolicy")
    if policy not in ("File", "FallbackToLogsOnError"):
        supported = ("File", "FallbackToLogsOnError")
        errors.append(not_supported(f"{path}.terminationMessagePolicy", policy, supported))
    if "ports" in container:
        errors += _ports(container["ports"], f"{path}.ports")
    if "env" in container:
        errors += validate_env(container["env"], facts.volumes, f"{path}.env")
    if "envFrom" in container:
        errors += validate_env_from(container["envFrom"], f"{path}.envFrom")
    if "volumeMounts" in container:
        errors += _mounts(container, facts.volumes, f"{path}.volumeMounts")
    if "volumeDevices" in container:
        errors += _devices(container, facts.volumes, f"{path}.volumeDevices")
    pull = container.get("imagePullPolicy")
    if pull not in PULL_POLICIES:
        where = f"{path}.imagePullPolicy"
        errors.append(not_supported(where, pull, PULL_POLICIES) if pull else required_field(where))
    if container.get("resources"):
        errors += validate_requirements(container["resources"], f"{path}.resources", facts.claims)
    if "resizePolicy" in container:
        errors += _resize_policy(container["resizePolicy"], f"{path}.resizePolicy", facts.restart_policy)
    if container.get("securityContext"):
        errors += validate_container_context(container["securityContext"], f"{path}.securityContext", facts.host_users)
    return errors


def _restart_policy(container: Json, path: str) -> Errors:
    policy = container.get("restartPolicy")
    if policy is None and not container.get("restartPolicyRules"):
        return []
    errors: Errors = []
    if policy is not None and policy not in ("Always", "Never", "OnFailure"):
        errors.append(not_supported(f"{path}.restartPolicy", policy, ("Always", "Never", "OnFailure")))
    return errors + _restart_rules(container, path)


def validate_init_containers(containers: list[Json], taken: set[str], facts: PodFacts, path: str) -> Errors:
    """``taken``: names of the regular containers; init containers' are added."""
    errors: Errors = []
    for i, container in enumerate(containers):
        where = f"{path}[{i}]"
        errors += _common(container, facts, where)
        errors += _restart_policy(container, where)
        name = container.get("name") or ""
        if name in taken:
            errors.append(duplicate(f"{where}.name", name))
        elif name:
            taken.add(name)
        errors += host_port_conflicts([container], path)
        if container.get("restartPolicy") == "Always":
            if container.get("lifecycle"):
                errors += validate_lifecycle(container["lifecycle"], facts.grace, f"{where}.lifecycle")
            errors += validate_probes(container, facts.grace, where)
            continue
        text = "may not be set for init containers without restartPolicy=Always"
        for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
            if container.get(key) is not None:
                errors.append(forbidden_field(f"{where}.{key}", text))
        if container.get("resizePolicy"):
            text = "must not be set for init containers"
            errors.append(invalid_value(f"{where}.resizePolicy", container["resizePolicy"], text))
    return errors


def validate_containers(containers: list[Json], facts: PodFacts, path: str) -> tuple[Errors, set[str]]:
    """The regular containers' errors, and their names."""
    seen: set[str] = set()
    if not containers:
        return [required_field(path)], seen
    errors: Errors = []
    ports = 0
    for i, container in enumerate(containers):
        where = f"{path}[{i}]"
        errors += _common(container, facts, where)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{where}.name", name))
        elif name:
            seen.add(name)
        if container.get("lifecycle"):
            errors += validate_lifecycle(container["lifecycle"], facts.grace, f"{where}.lifecycle")
        errors += validate_probes(container, facts.grace, where)
        if "restartPolicy" in container or "restartPolicyRules" in container:
            errors += _restart_policy(container, where)
        ports += "ports" in container
    if ports:
        errors += host_port_conflicts(containers, path)
    return errors, seen


def validate_ephemeral_containers(containers: list[Json], spec: Json, facts: PodFacts, path: str) -> Errors:
    """Debug containers: few fields, no ports or probes, names that nobody else has."""
    errors: Errors = []
    others = {c.get("name") for k in ("initContainers", "containers") for c in spec.get(k) or ()}
    targets = {c.get("name") for c in spec.get("containers") or ()}
    targets |= {c.get("name") for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    seen: set[Any] = set(others)
    for i, container in enumerate(containers):
        where = f"{path}[{i}]"
        errors += _common(container, facts, where)
        name = container.get("name") or ""
        if name in seen:
            errors.append(duplicate(f"{where}.name", name))
        elif name:
            seen.add(name)
        target = container.get("targetContainerName")
        if target and target not in targets:
            errors.append(not_found_value(f"{where}.targetContainerName", target))
        for key in _EPHEMERAL_FORBIDDEN:
            if container.get(key):
                errors.append(forbidden_field(f"{where}.{key}", "cannot be set for an Ephemeral Container"))
        for m, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    text = "cannot be set for an Ephemeral Container"
                    errors.append(forbidden_field(f"{where}.volumeMounts[{m}].{key}", text))
    return errors
