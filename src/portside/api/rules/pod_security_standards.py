"""Pod Security Standards: what a pod violates of a level at a version. Pure; admission decides what follows.

Checks are in upstream's order (by name, baseline before restricted) and word their findings as upstream's do. A check
belongs to the versions since its row's minor; a later row of the same name replaces it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Json = dict[str, Any]
Finding = tuple[str, str]
Check = Callable[[Json, Json, int], Finding | None]

LATEST = 1 << 30
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_CAPABILITIES = frozenset(
    {
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    }
)
# Sysctl -> first minor version that allows it.
_SYSCTLS = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
}
_SELINUX_TYPES = {"": 0, "container_t": 0, "container_init_t": 0, "container_kvm_t": 0, "container_engine_t": 31}
_VOLUMES = frozenset(
    {
        *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
        "image",
    }
)
# Since this minor a pod in a user namespace of its own may be root inside, and unmask /proc.
_USER_NAMESPACES = 35


def parse_version(text: str) -> int:
    """Minor version of ``v1.N``; LATEST for anything else."""
    minor = text.removeprefix("v1.")
    return int(minor) if minor != text and minor.isdigit() else LATEST


def _containers(spec: Json) -> list[Json]:
    return [c for k in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(k) or ()]


def _context(holder: Json) -> Json:
    return holder.get("securityContext") or {}


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(f'"{v}"' for v in values)


def _plural(one: str, many: str, count: int) -> str:
    return one if count == 1 else many


def _named(containers: Sequence[str]) -> str:
    return f"{_plural('container', 'containers', len(containers))} {_quoted(containers)}"


def _setters(pod: bool, containers: Sequence[str]) -> str:
    parts = ["pod"] if pod else []
    if containers:
        parts.append(_named(containers))
    return " and ".join(parts)


def _windows(spec: Json) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def _own_users(spec: Json, minor: int) -> bool:
    return minor >= _USER_NAMESPACES and spec.get("hostUsers") is False


def _app_armor(meta: Json, spec: Json, minor: int) -> Finding | None:
    def bad(holder: Json) -> str | None:
        profile = _context(holder).get("appArmorProfile")
        kind = profile.get("type") or "" if profile else None
        return None if kind in (None, "RuntimeDefault", "Localhost") else kind

    setters: list[str] = []
    values: set[str] = set()
    pod = bad(spec)
    if pod is not None:
        setters.append("pod")
        values.add(pod)
    for container in _containers(spec):
        kind = bad(container)
        if kind is not None:
            setters.append(f'container "{container.get("name", "")}"')
            values.add(kind)
    listed = sorted(values)
    notes = sorted(
        f'{k}="{v}"'
        for k, v in (meta.get("annotations") or {}).items()
        if k.startswith(_APP_ARMOR) and v not in ("", "runtime/default") and not v.startswith("localhost/")
    )
    if notes:
        listed += notes
        setters.append(_plural("annotation", "annotations", len(notes)))
    if not setters:
        return None
    reason = _plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(listed))
    return reason, f"{' and '.join(setters)} must not set AppArmor profile type to {_quoted(listed)}"


def _added(spec: Json, allowed: Iterable[str]) -> tuple[list[str], list[str]]:
    """Containers that add capabilities beyond ``allowed``, and those capabilities."""
    holders: list[str] = []
    found: set[str] = set()
    for container in _containers(spec):
        extra = set((_context(container).get("capabilities") or {}).get("add") or ()) - set(allowed)
        if extra:
            holders.append(container.get("name", ""))
            found |= extra
    return holders, sorted(found)


def _capabilities_baseline(meta: Json, spec: Json, minor: int) -> Finding | None:
    holders, extra = _added(spec, _CAPABILITIES)
    if not holders:
        return None
    detail = f"{_named(holders)} must not include {_quoted(extra)} in securityContext.capabilities.add"
    return "non-default capabilities", detail


def _host_namespaces(meta: Json, spec: Json, minor: int) -> Finding | None:
    found = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(found)) if found else None


def _host_paths(meta: Json, spec: Json, minor: int) -> Finding | None:
    found = [v.get("name", "") for v in spec.get("volumes") or () if v.get("hostPath") is not None]
    return ("hostPath volumes", f"{_plural('volume', 'volumes', len(found))} {_quoted(found)}") if found else None


def _host_ports(meta: Json, spec: Json, minor: int) -> Finding | None:
    holders: list[str] = []
    ports: set[int] = set()
    for container in _containers(spec):
        own = {p["hostPort"] for p in container.get("ports") or () if p.get("hostPort")}
        if own:
            holders.append(container.get("name", ""))
            ports |= own
    if not holders:
        return None
    word = _plural("hostPort", "hostPorts", len(ports))
    listed = ", ".join(sorted(str(p) for p in ports))
    return word, f"{_named(holders)} {_plural('uses', 'use', len(holders))} {word} {listed}"


def _probe_hosts(meta: Json, spec: Json, minor: int) -> Finding | None:
    holders: list[str] = []
    hosts: set[str] = set()
    for container in _containers(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(k) for k in ("livenessProbe", "readinessProbe", "startupProbe")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        own = {(h.get(k) or {}).get("host") for h in handlers if h for k in ("httpGet", "tcpSocket")}
        named = {str(host) for host in own if host not in (None, "", "127.0.0.1", "::1")}
        if named:
            holders.append(container.get("name", ""))
            hosts |= named
    if not holders:
        return None
    word = _plural("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    return (
        "probe or lifecycle host",
        f"{_named(holders)} {_plural('uses', 'use', len(holders))} {word} {_quoted(sorted(hosts))}",
    )


def _privileged(meta: Json, spec: Json, minor: int) -> Finding | None:
    found = [c.get("name", "") for c in _containers(spec) if _context(c).get("privileged")]
    return ("privileged", f"{_named(found)} must not set securityContext.privileged=true") if found else None


def _proc_mount(meta: Json, spec: Json, minor: int) -> Finding | None:
    if _own_users(spec, minor):
        return None
    found: list[str] = []
    values: set[str] = set()
    for container in _containers(spec):
        mount = _context(container).get("procMount")
        if mount not in (None, "Default"):
            found.append(container.get("name", ""))
            values.add(mount)
    if not found:
        return None
    return "procMount", f"{_named(found)} must not set securityContext.procMount to {_quoted(sorted(values))}"


def _selinux(meta: Json, spec: Json, minor: int) -> Finding | None:
    types: set[str] = set()
    user = role = False

    def bad(holder: Json) -> bool:
        nonlocal user, role
        options = _context(holder).get("seLinuxOptions")
        if not options:
            return False
        kind = options.get("type") or ""
        wrong = kind not in _SELINUX_TYPES or _SELINUX_TYPES[kind] > minor
        if wrong:
            types.add(kind)
        user = user or bool(options.get("user"))
        role = role or bool(options.get("role"))
        return wrong or bool(options.get("user")) or bool(options.get("role"))

    pod = bad(spec)
    found = [c.get("name", "") for c in _containers(spec) if bad(c)]
    if not pod and not found:
        return None
    data = [f"{_plural('type', 'types', len(types))} {_quoted(sorted(types))}"] if types else []
    data += ["user may not be set"] if user else []
    data += ["role may not be set"] if role else []
    detail = f"{_setters(pod, found)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}"
    return "seLinuxOptions", detail


def _seccomp_annotations(meta: Json, spec: Json, minor: int) -> Finding | None:
    notes = meta.get("annotations") or {}
    keys = [_SECCOMP_POD, *(_SECCOMP_CONTAINER + c.get("name", "") for c in _containers(spec))]
    bad = sorted(
        f'{k}="{notes[k]}"'
        for k in keys
        if k in notes
        and notes[k] not in ("", "runtime/default", "docker/default")
        and not notes[k].startswith("localhost/")
    )
    if not bad:
        return None
    return "seccompProfile", f"forbidden {_plural('annotation', 'annotations', len(bad))} {', '.join(bad)}"


def _seccomp_set(spec: Json) -> tuple[bool, list[str], list[str]]:
    """Whether the pod sets a bad type, the containers that do, and the bad types."""

    def kind(holder: Json) -> str | None:
        profile = _context(holder).get("seccompProfile")
        return profile.get("type") or "" if profile else None

    good = (None, "RuntimeDefault", "Localhost")
    pod = kind(spec) not in good
    found = [c for c in _containers(spec) if kind(c) not in good]
    values = {str(kind(h)) for h in [*found, *([spec] if pod else [])]}
    return pod, [c.get("name", "") for c in found], sorted(values)


def _seccomp_baseline(meta: Json, spec: Json, minor: int) -> Finding | None:
    if minor < 19:
        return _seccomp_annotations(meta, spec, minor)
    pod, found, values = _seccomp_set(spec)
    if not pod and not found:
        return None
    detail = f"{_setters(pod, found)} must not set securityContext.seccompProfile.type to {_quoted(values)}"
    return "seccompProfile", detail


def _sysctl(meta: Json, spec: Json, minor: int) -> Finding | None:
    bad = [
        name
        for name in (s.get("name", "") for s in _context(spec).get("sysctls") or ())
        if name not in _SYSCTLS or _SYSCTLS[name] > minor
    ]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def _host_process(meta: Json, spec: Json, minor: int) -> Finding | None:
    def bad(holder: Json) -> bool:
        return bool((_context(holder).get("windowsOptions") or {}).get("hostProcess"))

    found = [c.get("name", "") for c in _containers(spec) if bad(c)]
    if not found and not bad(spec):
        return None
    detail = f"{_setters(bad(spec), found)} must not set securityContext.windowsOptions.hostProcess=true"
    return "hostProcess", detail


def _escalation(meta: Json, spec: Json, minor: int) -> Finding | None:
    if minor >= 25 and _windows(spec):
        return None
    found = [c.get("name", "") for c in _containers(spec) if _context(c).get("allowPrivilegeEscalation") is not False]
    if not found:
        return None
    detail = f"{_named(found)} must set securityContext.allowPrivilegeEscalation=false"
    return "allowPrivilegeEscalation != false", detail


def _capabilities_restricted(meta: Json, spec: Json, minor: int) -> Finding | None:
    if minor >= 25 and _windows(spec):
        return None
    missing = [
        c.get("name", "")
        for c in _containers(spec)
        if "ALL" not in ((_context(c).get("capabilities") or {}).get("drop") or ())
    ]
    holders, extra = _added(spec, ("NET_BIND_SERVICE",))
    details = [f'{_named(missing)} must set securityContext.capabilities.drop=["ALL"]'] if missing else []
    if holders:
        details.append(f"{_named(holders)} must not include {_quoted(extra)} in securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(details)) if details else None


def _volumes(meta: Json, spec: Json, minor: int) -> Finding | None:
    bad: list[str] = []
    kinds: set[str] = set()
    for volume in spec.get("volumes") or ():
        sources = [k for k, v in volume.items() if k != "name" and v is not None]
        wrong = [k for k in sources if k not in _VOLUMES]
        if wrong:
            bad.append(volume.get("name", ""))
            kinds |= set(wrong)
    if not bad:
        return None
    use = _plural("uses", "use", len(bad))
    word = _plural("restricted volume type", "restricted volume types", len(kinds))
    detail = f"{_plural('volume', 'volumes', len(bad))} {_quoted(bad)} {use} {word} {_quoted(sorted(kinds))}"
    return "restricted volume types", detail


def _non_root(meta: Json, spec: Json, minor: int) -> Finding | None:
    if _own_users(spec, minor):
        return None
    whole = _context(spec).get("runAsNonRoot")
    reason = "runAsNonRoot != true"
    values = [(c.get("name", ""), _context(c).get("runAsNonRoot")) for c in _containers(spec)]
    wrong = [name for name, value in values if value is False]
    unset = [name for name, value in values if value is None]
    # The pod's false is harmless when every container says otherwise only if nothing inherits it: upstream refuses it.
    if wrong or whole is False:
        return reason, f"{_setters(whole is False, wrong)} must not set securityContext.runAsNonRoot=false"
    if unset and not whole:
        return reason, f"pod or {_named(unset)} must set securityContext.runAsNonRoot=true"
    return None


def _root_user(meta: Json, spec: Json, minor: int) -> Finding | None:
    if _own_users(spec, minor):
        return None
    found = [c.get("name", "") for c in _containers(spec) if _context(c).get("runAsUser") == 0]
    pod = _context(spec).get("runAsUser") == 0
    return ("runAsUser=0", f"{_setters(pod, found)} must not set runAsUser=0") if found or pod else None


def _seccomp_restricted(meta: Json, spec: Json, minor: int) -> Finding | None:
    if minor >= 25 and _windows(spec):
        return None
    explicit = _seccomp_baseline(meta, spec, minor)
    if explicit:
        return explicit
    if _context(spec).get("seccompProfile"):
        return None
    unset = [c.get("name", "") for c in _containers(spec) if not _context(c).get("seccompProfile")]
    if not unset:
        return None
    words = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return "seccompProfile", f"pod or {_named(unset)} {words}"


# (check, first minor, name of the baseline check it replaces at the restricted level)
_BASELINE: tuple[tuple[Check, int], ...] = (
    (_app_armor, 0),
    (_capabilities_baseline, 0),
    (_host_namespaces, 0),
    (_host_paths, 0),
    (_host_ports, 0),
    (_probe_hosts, 34),
    (_privileged, 0),
    (_proc_mount, 0),
    (_selinux, 0),
    (_seccomp_baseline, 0),
    (_sysctl, 0),
    (_host_process, 0),
)
_RESTRICTED: tuple[tuple[Check, int, Check | None], ...] = (
    (_escalation, 8, None),
    (_capabilities_restricted, 22, _capabilities_baseline),
    (_volumes, 0, _host_paths),
    (_non_root, 0, None),
    (_root_user, 23, None),
    (_seccomp_restricted, 19, _seccomp_baseline),
)


def evaluate(level: str, version: str, meta: Json, spec: Json) -> list[Finding]:
    """(reason, detail) of every check of ``level`` (baseline, restricted) at ``version`` that a pod does not pass."""
    if level not in ("baseline", "restricted"):
        return []
    minor = parse_version(version)
    restricted = [row for row in _RESTRICTED if row[1] <= minor] if level == "restricted" else []
    replaced = {row[2] for row in restricted}
    checks = [check for check, since in _BASELINE if since <= minor and check not in replaced]
    checks += [row[0] for row in restricted]
    return [found for check in checks if (found := check(meta, spec, minor)) is not None]


def check(level: str, version: str, pod: Json) -> str:
    """The violations of a pod as one text, empty if there are none."""
    found = evaluate(level, version, pod.get("metadata") or {}, pod.get("spec") or {})
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)
