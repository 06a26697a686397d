"""What the node itself refuses, whoever bound the pod to it: sysctls that are not safe, and pods without room. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portside.agent.eviction import CRITICAL
from portside.agent.fit import shortage
from portside.agent.resources import qos_class

Json = dict[str, Any]
# Namespaced, and unable to disturb other pods: allowed without being asked (Kubernetes' list of safe sysctls).
SAFE_SYSCTLS = frozenset(
    (
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    )
)


@dataclass(frozen=True, slots=True)
class Offer:
    """What a node has for pods: room, labels, the conditions that press it, and what its runtime and kernel can do."""

    allocatable: Mapping[str, str]
    labels: Mapping[str, str]
    pressing: Sequence[str] = ()
    strict_groups: bool = False
    apparmor: bool = False


def has_apparmor(switch: Path = Path("/sys/module/apparmor/parameters/enabled")) -> bool:
    """Whether the kernel confines processes by AppArmor profiles."""
    try:
        return switch.read_text().startswith("Y")
    except OSError:
        return False


def confinement_problem(pod: Json, offer: Offer) -> tuple[str, str] | None:
    """What the pod wants of its confinement and this node can't keep."""
    spec = pod["spec"]
    contexts = [spec.get("securityContext") or {}]
    if contexts[0].get("supplementalGroupsPolicy") == "Strict" and not offer.strict_groups:
        return "SupplementalGroupsPolicyNotSupported", "SupplementalGroupsPolicy=Strict is not supported in this node"
    for family in ("initContainers", "containers", "ephemeralContainers"):
        contexts += [c.get("securityContext") or {} for c in spec.get(family) or ()]
    profiles = {(c.get("appArmorProfile") or {}).get("type", "Unconfined") for c in contexts}
    if profiles != {"Unconfined"} and not offer.apparmor:
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return None


def sysctl_problem(pod: Json) -> str:
    """Why the pod's sysctls are refused; "" when they are fine."""
    spec = pod["spec"]
    for item in (spec.get("securityContext") or {}).get("sysctls") or ():
        name = item["name"].replace("/", ".")
        if name not in SAFE_SYSCTLS:
            return f'forbidden sysctl: "{name}" not allowlisted'
        if name.startswith("net.") and spec.get("hostNetwork"):
            return f'forbidden sysctl: "{name}" not allowed with host net enabled'
        if name.startswith("kernel.") and spec.get("hostIPC"):
            return f'forbidden sysctl: "{name}" not allowed with host ipc enabled'
    return ""


def _meets(requirement: Json, labels: Mapping[str, str]) -> bool:
    """One expression of a node selector."""
    value, values = labels.get(requirement["key"]), requirement.get("values") or []
    match requirement["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as order:
            if value is None or not value.lstrip("-").isdigit():
                return False
            return int(value) > int(values[0]) if order == "Gt" else int(value) < int(values[0])
    return False


def labels_problem(pod: Json, labels: Mapping[str, str]) -> str:
    """Whether the node's labels are not those the pod selects or requires."""
    spec = pod["spec"]
    fits = all(labels.get(key) == value for key, value in (spec.get("nodeSelector") or {}).items())
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    if required := affinity.get("requiredDuringSchedulingIgnoredDuringExecution"):
        fields = {"metadata.name": spec.get("nodeName", "")}
        terms = [
            [
                *((e, labels) for e in t.get("matchExpressions") or ()),
                *((e, fields) for e in t.get("matchFields") or ()),
            ]
            for t in required["nodeSelectorTerms"]
        ]
        fits = fits and any(term and all(_meets(e, where) for e, where in term) for term in terms)
    return "" if fits else "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"


def host_ports(pod: Json) -> set[tuple[str, str, int]]:
    """(address, protocol, port) the pod takes of the node; 0.0.0.0 is every address."""
    spec = pod["spec"]
    sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return {
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), int(port["hostPort"]))
        for container in (*spec["containers"], *sidecars)
        for port in container.get("ports") or ()
        if port.get("hostPort")
    }


def ports_problem(pod: Json, others: Iterable[Json]) -> str:
    """Whether another pod holds one of the pod's host ports."""
    wanted = host_ports(pod)
    taken = {entry for other in others for entry in host_ports(other)} if wanted else set()
    for address, protocol, port in wanted:
        for held, held_protocol, held_port in taken:
            if (protocol, port) == (held_protocol, held_port) and ("0.0.0.0" in (address, held) or address == held):
                return "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    return ""


def pressure_problem(pod: Json, pressing: Sequence[str]) -> str:
    """Whether the node is too short of something to take the pod: memory matters to BestEffort only, disk to all."""
    spec = pod["spec"]
    if int(spec.get("priority") or 0) >= CRITICAL:
        return ""
    tolerated = {t.get("key") for t in spec.get("tolerations") or () if t.get("effect") in (None, "", "NoSchedule")}
    held = [c for c in pressing if c != "MemoryPressure" or _feels_memory(pod, tolerated)]
    return f"The node had condition: [{' '.join(held)}]. " if held else ""


def _feels_memory(pod: Json, tolerated: AbstractSet[str | None]) -> bool:
    return qos_class(pod) == "BestEffort" and "node.kubernetes.io/memory-pressure" not in tolerated


def refusal(
    pod: Json,
    others: Iterable[Json],
    offer: Offer,
) -> tuple[str, str] | None:
    """(reason, message) of a pod this node will not run; None when it is admitted."""
    if problem := pressure_problem(pod, offer.pressing):
        return "Evicted", problem
    if problem := sysctl_problem(pod):
        return "SysctlForbidden", problem
    if (found := confinement_problem(pod, offer)) is not None:
        return found
    if problem := labels_problem(pod, offer.labels):
        return "NodeAffinity", problem
    others = list(others)
    if problem := ports_problem(pod, others):
        return "NodePorts", problem
    if (lack := shortage(pod, others, offer.allocatable)) is not None:
        return f"OutOf{lack.resource}", lack.text
    return None
