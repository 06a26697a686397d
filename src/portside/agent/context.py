"""What every pod worker needs of its node: settings and the parts it calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from portside.agent.admission import Offer
from portside.agent.cgroups import Cgroups
from portside.agent.dns import Resolver, parse_resolv
from portside.agent.environment import Place
from portside.agent.images import Images
from portside.agent.pressure import conditions, signals
from portside.agent.runtime import ContainerRuntime, Features
from portside.agent.sources import Sources
from portside.agent.status import NodeFacts
from portside.agent.volumes import Volumes
from portside.base.clock import SYSTEM, Clock
from portside.client.protocol import Client

Json = dict[str, Any]


class Recorder(Protocol):
    """Takes events without waiting."""

    def emit(self, obj: Json, kind: str, reason: str, message: str, component: str, host: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """A node agent's settings. ``home`` holds everything it writes."""

    home: Path
    node_name: str
    ips: tuple[str, ...]
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    pod_cidr: str = ""
    port: int = 10250
    max_pods: int = 110
    memory_capacity: int = 1 << 30

    @property
    def pods(self) -> Path:
        return self.home / "pods"

    @property
    def manifests(self) -> Path:
        """Static pods' files."""
        return self.home / "manifests"

    @property
    def seccomp(self) -> Path:
        """Where profiles of type Localhost lie."""
        return self.home / "seccomp"

    @property
    def logs(self) -> Path:
        return self.home / "pod-logs"


@dataclass(slots=True)
class NodeContext:
    """Shared by the pod workers of one node."""

    settings: Settings
    client: Client
    runtime: ContainerRuntime
    sources: Sources
    images: Images
    volumes: Volumes
    events: Recorder
    facts: NodeFacts
    services: Callable[[], Iterable[Json]]
    clock: Clock = SYSTEM
    allocatable: dict[str, str] = field(default_factory=dict)
    host_resolver: Resolver = field(default_factory=Resolver)
    host_hosts: str = ""
    cgroups: Cgroups | None = None
    neighbours: Callable[[], Iterable[Json]] = tuple
    labels: dict[str, str] = field(default_factory=dict)
    features: Features = field(default_factory=Features)
    apparmor: bool = False
    # Makes the network's rules hold for a pod's addresses before its containers start.
    guard: Callable[[Json, tuple[str, ...]], Awaitable[None]] | None = None
    # Reads the node's labels again.
    look: Callable[[], Awaitable[None]] | None = None

    def offer(self) -> Offer:
        """What the node has for a pod at this moment."""
        pressing = conditions(signals(self.settings.home))
        return Offer(self.allocatable, self.labels, pressing, self.features.strict_groups, self.apparmor)

    def place(self, pod_ips: tuple[str, ...]) -> Place:
        ips = self.settings.ips
        return Place(self.settings.node_name, ips[0], pod_ips, self.allocatable, ips)

    def say(self, pod: Json, kind: str, reason: str, message: str, path: str = "") -> None:
        """Record an event about the pod, or about one of its containers (``path``)."""
        about = {**pod, "apiVersion": "v1", "kind": "Pod"}
        if path:
            about["fieldPath"] = path
        self.events.emit(about, kind, reason, message, "kubelet", self.settings.node_name)


def host_files(resolv: Path = Path("/etc/resolv.conf"), hosts: Path = Path("/etc/hosts")) -> tuple[Resolver, str]:
    """The node's own resolver settings and hosts file; missing files are empty."""
    texts = [path.read_text(errors="replace") if path.exists() else "" for path in (resolv, hosts)]
    return parse_resolv(texts[0]), texts[1]


def field_path(pod: Json, name: str) -> str:
    """An event's fieldPath of a container: spec.containers{name}."""
    for family in ("initContainers", "ephemeralContainers"):
        if any(c["name"] == name for c in pod["spec"].get(family) or ()):
            return f"spec.{family}{{{name}}}"
    return f"spec.containers{{{name}}}"


def find_container(pod: Json, name: str) -> Json | None:
    """A container of any family by name."""
    spec = pod["spec"]
    for family in ("containers", "initContainers", "ephemeralContainers"):
        for container in spec.get(family) or ():
            if container["name"] == name:
                return dict(container)
    return None
