"""From a pod's spec to what the runtime is asked for: sandbox and container specs, identity, confinement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from portside.agent import names
from portside.agent.dns import Resolver, full_name, hostname
from portside.agent.environment import ConfigProblem, expand
from portside.agent.plan import spec_hash
from portside.agent.resources import cgroup_parent, container_limits
from portside.agent.runtime import (
    ContainerSpec,
    Image,
    Mount,
    Namespaces,
    PortMapping,
    SandboxSpec,
    Security,
)

Json = dict[str, Any]
MASKED = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
MAX_NAME = 64  # the kernel's limit of a host name
READONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


def log_folder(root: Path, pod: Json) -> Path:
    """Where the runtime writes the pod's logs: NAMESPACE_NAME_UID."""
    meta = pod["metadata"]
    return root / f"{meta['namespace']}_{meta['name']}_{meta['uid']}"


def _profile(profile: Json | None, *, default: str, root: Path | None = None) -> str:
    """A profile for the runtime; those of type Localhost are files below ``root``, or names when there is none."""
    if not profile:
        return default
    kind = profile.get("type", "")
    if kind != "Localhost":
        return str(kind)
    name = str(profile.get("localhostProfile") or "")
    if not name:  # none at all would be no confinement
        raise ConfigProblem("localhostProfile must be set if seccompProfile type is Localhost.")
    if name.startswith("/") or ".." in name.split("/"):
        raise ConfigProblem(f"localhostProfile {name} is not below the folder of profiles")
    return f"Localhost:{root / name if root is not None else name}"


def _groups(pod: Json) -> tuple[int, ...]:
    context = pod["spec"].get("securityContext") or {}
    groups = list(context.get("supplementalGroups") or ())
    if context.get("fsGroup") is not None:
        groups.append(context["fsGroup"])
    return tuple(groups)


def own_name(pod: Json, domain: str) -> str:
    """The name the pod calls itself: the short one, or with setHostnameAsFQDN the full one. Raises ConfigProblem."""
    full = full_name(pod, domain)
    if not (pod["spec"].get("setHostnameAsFQDN") and full):
        return hostname(pod)
    if len(full) > MAX_NAME:
        raise ConfigProblem(
            f"failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long "
            f"({MAX_NAME} characters is the max, {len(full)} characters requested)"
        )
    return full


def namespaces(pod: Json, target: str = "") -> Namespaces:
    spec = pod["spec"]
    return Namespaces(
        bool(spec.get("hostNetwork")),
        bool(spec.get("hostPID")),
        bool(spec.get("hostIPC")),
        bool(spec.get("shareProcessNamespace")),
        target,
    )


def sandbox_spec(
    pod: Json, *, attempt: int, logs: Path, resolver: Resolver, profiles: Path | None = None, domain: str = ""
) -> SandboxSpec:
    """The sandbox of a pod. ``profiles``: the folder of seccomp profiles. Raises ConfigProblem."""
    meta, spec = pod["metadata"], pod["spec"]
    context = spec.get("securityContext") or {}
    everyone = (*spec["containers"], *(spec.get("initContainers") or ()))
    privileged = any((c.get("securityContext") or {}).get("privileged") for c in everyone)
    own = {names.POD_NAME: meta["name"], names.POD_NAMESPACE: meta["namespace"], names.POD_UID: meta["uid"]}
    ports = tuple(
        PortMapping(port.get("protocol", "TCP"), port["containerPort"], port["hostPort"], port.get("hostIP", ""))
        for container in everyone
        for port in container.get("ports") or ()
        if port.get("hostPort") and not spec.get("hostNetwork")
    )
    return SandboxSpec(
        meta["name"],
        meta["namespace"],
        meta["uid"],
        attempt,
        hostname="" if spec.get("hostNetwork") else own_name(pod, domain),
        log_directory=str(log_folder(logs, pod)),
        labels=(meta.get("labels") or {}) | own,
        annotations=meta.get("annotations") or {},
        dns_servers=resolver.servers,
        dns_searches=resolver.searches,
        dns_options=resolver.options,
        cgroup_parent=cgroup_parent(pod),
        namespaces=namespaces(pod),
        security=Security(
            user=context.get("runAsUser"),
            group=context.get("runAsGroup") if context.get("runAsUser") is not None else None,
            groups=_groups(pod),
            privileged=privileged,
            seccomp=_profile(context.get("seccompProfile"), default="RuntimeDefault", root=profiles),
        ),
        sysctls={s["name"]: s["value"] for s in context.get("sysctls") or ()},
        ports=ports,
    )


def security(pod: Json, container: Json, image: Image, profiles: Path | None = None) -> Security:
    """Effective identity and confinement. Raises ConfigProblem when runAsNonRoot can't be kept."""
    outer = pod["spec"].get("securityContext") or {}
    own = container.get("securityContext") or {}

    def pick(key: str) -> Any:
        return own[key] if own.get(key) is not None else outer.get(key)

    user, group = pick("runAsUser"), pick("runAsGroup")
    user_name = ""
    if user is None:
        user, user_name = image.user, image.user_name
    if pick("runAsNonRoot"):
        where = f'(pod: "{names.pod_text(pod)}", container: {container["name"]})'
        if pick("runAsUser") == 0:
            raise ConfigProblem(f"container's runAsUser breaks non-root policy {where}")
        if pick("runAsUser") is None and image.user_name:
            raise ConfigProblem(
                f"container has runAsNonRoot and image has non-numeric user ({image.user_name}), "
                f"cannot verify user is non-root {where}"
            )
        if not user and not user_name:
            raise ConfigProblem(f"container has runAsNonRoot and image will run as root {where}")
    capabilities = own.get("capabilities") or {}
    privileged = bool(own.get("privileged"))
    unmasked = privileged or own.get("procMount") == "Unmasked"
    return Security(
        user=user,
        group=group if user is not None or user_name else None,
        user_name=user_name,
        groups=_groups(pod),
        privileged=privileged,
        read_only_root=bool(own.get("readOnlyRootFilesystem")),
        no_new_privileges=own.get("allowPrivilegeEscalation") is False,
        add_capabilities=tuple(capabilities.get("add") or ()),
        drop_capabilities=tuple(capabilities.get("drop") or ()),
        seccomp="" if privileged else _profile(pick("seccompProfile"), default="Unconfined", root=profiles),
        apparmor="" if privileged else _profile(pick("appArmorProfile"), default=""),
        masked_paths=() if unmasked else MASKED,
        readonly_paths=() if unmasked else READONLY,
        strict_groups=outer.get("supplementalGroupsPolicy") == "Strict",
    )


def container_spec(
    pod: Json,
    container: Json,
    *,
    restarts: int,
    image: Image,
    env: Mapping[str, str],
    mounts: Sequence[Mount],
    memory_capacity: int,
    target: str = "",
    profiles: Path | None = None,
) -> ContainerSpec:
    """One container of a pod. Raises ConfigProblem."""
    meta, name = pod["metadata"], container["name"]
    lookup = env.get
    return ContainerSpec(
        name,
        image.id,
        restarts,
        command=tuple(expand(text, lookup) for text in container.get("command") or ()),
        args=tuple(expand(text, lookup) for text in container.get("args") or ()),
        working_dir=container.get("workingDir", ""),
        env=tuple(env.items()),
        mounts=tuple(mounts),
        labels={
            names.POD_NAME: meta["name"],
            names.POD_NAMESPACE: meta["namespace"],
            names.POD_UID: meta["uid"],
            names.CONTAINER_NAME: name,
        },
        annotations={
            names.RESTART_COUNT: str(restarts),
            names.SPEC_HASH: spec_hash(container),
            names.MESSAGE_PATH: container.get("terminationMessagePath", "/dev/termination-log"),
            names.MESSAGE_POLICY: container.get("terminationMessagePolicy", "File"),
            names.POD_GRACE: str(pod["spec"].get("terminationGracePeriodSeconds", 30)),
        },
        log_path=f"{name}/{restarts}.log",
        stdin=bool(container.get("stdin")),
        stdin_once=bool(container.get("stdinOnce")),
        tty=bool(container.get("tty")),
        limits=container_limits(pod, container, memory_capacity),
        security=security(pod, container, image, profiles),
        namespaces=namespaces(pod, target),
        image_name=container["image"],
    )
