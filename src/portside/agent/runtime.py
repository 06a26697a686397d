"""The container runtime's narrow waist: what a node needs of it. Real (`cri`) and in-memory implementations pass one suite.

Times are nanoseconds since the epoch (0: never), sizes are bytes, time-outs are seconds. Ids are the runtime's own.
Every method raises ``RuntimeFailure``; asking to stop or remove what is already gone is no failure.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


class RuntimeFailure(Exception):
    """The runtime refused or broke. ``code`` is the gRPC status name, e.g. NOT_FOUND or UNAVAILABLE; "" when it was not even asked."""

    def __init__(self, message: str, code: str = "UNKNOWN") -> None:
        super().__init__(message)
        self.message = message
        self.code = code

    @property
    def go_code(self) -> str:
        """The code as Go prints it: DeadlineExceeded."""
        return self.code.title().replace("_", "")


class State(StrEnum):
    """A container's state."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Security:
    """Process identity and confinement. ``None`` leaves the image's or the runtime's choice.

    ``seccomp``/``apparmor``: RuntimeDefault, Unconfined or Localhost:<profile>.
    """

    user: int | None = None
    group: int | None = None
    user_name: str = ""
    groups: tuple[int, ...] = ()
    privileged: bool = False
    read_only_root: bool = False
    no_new_privileges: bool = False
    add_capabilities: tuple[str, ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    seccomp: str = ""
    apparmor: str = ""
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    strict_groups: bool = False


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Which namespaces are the host's; ``share_pid`` is one PID namespace for the pod, ``target`` another container's."""

    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    target: str = ""


@dataclass(frozen=True, slots=True)
class PortMapping:
    """A port of the node given to the pod."""

    protocol: str
    container_port: int
    host_port: int
    host_ip: str = ""


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """What a pod's sandbox shall be."""

    name: str
    namespace: str
    uid: str
    attempt: int = 0
    hostname: str = ""
    log_directory: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    dns_servers: tuple[str, ...] = ()
    dns_searches: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    cgroup_parent: str = ""
    namespaces: Namespaces = Namespaces()
    security: Security = Security()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[PortMapping, ...] = ()
    handler: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path inside a container; ``propagation``: None, HostToContainer or Bidirectional."""

    container_path: str
    host_path: str
    read_only: bool = False
    propagation: str = "None"


@dataclass(frozen=True, slots=True)
class Limits:
    """Cgroup figures of one container; 0 means not set."""

    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_shares: int = 0
    memory: int = 0
    oom_score: int = 0
    unified: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """What a container shall be."""

    name: str
    image: str
    attempt: int = 0
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    devices: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    log_path: str = ""
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    limits: Limits = Limits()
    security: Security = Security()
    namespaces: Namespaces = Namespaces()
    image_name: str = ""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox as it is. ``ips`` is empty for host-network pods and until asked by ``sandbox``."""

    id: str
    name: str
    namespace: str
    uid: str
    attempt: int
    ready: bool
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Identity:
    """As whom a container's first process was started: user, group and supplemental groups, those of the image included."""

    user: int
    group: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Container:
    """A container as it is. Lists leave started_at and what follows it empty; ``identity`` is None when it isn't known."""

    id: str
    sandbox_id: str
    name: str
    attempt: int
    state: State
    image: str
    image_ref: str
    created_at: int
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    log_path: str = ""
    identity: Identity | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image on the node. ``user`` is numeric, ``user_name`` the image's own text when it is not."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size: int
    user: int | None = None
    user_name: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A registry login from a pull secret."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command printed and its exit code."""

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Use of one container: CPU in nanoseconds since its start, memory and writable layer in bytes."""

    container_id: str
    name: str
    labels: Mapping[str, str]
    time: int
    cpu: int
    memory_working_set: int
    memory_usage: int = 0
    memory_rss: int = 0
    disk_used: int = 0
    disk_inodes: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """The runtime's name and version, as nodeInfo shows them."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Features:
    """What the runtime can do beyond the least; the last two per runtime handler ("": the default one)."""

    strict_groups: bool = False
    user_namespaces: frozenset[str] = frozenset()
    recursive_read_only: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Disk:
    """Use of the image file system."""

    mountpoint: str
    used: int
    inodes: int


class ContainerRuntime(Protocol):
    """All a node asks of a container runtime."""

    async def version(self) -> Version: ...

    async def ready(self) -> tuple[bool, str]:
        """Whether runtime and pod network can run pods, with the reason when not."""
        ...

    async def features(self) -> Features: ...

    async def run_sandbox(self, spec: SandboxSpec) -> str: ...

    async def stop_sandbox(self, sandbox_id: str) -> None: ...

    async def remove_sandbox(self, sandbox_id: str) -> None: ...

    async def sandboxes(self, *, uid: str = "") -> Sequence[Sandbox]: ...

    async def sandbox(self, sandbox_id: str) -> Sandbox: ...

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, *, grace: float) -> None: ...

    async def remove_container(self, container_id: str) -> None: ...

    async def containers(self, *, uid: str = "") -> Sequence[Container]: ...

    async def container(self, container_id: str) -> Container: ...

    async def update_limits(self, container_id: str, limits: Limits) -> None: ...

    async def reopen_log(self, container_id: str) -> None: ...

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        """Run a command; raises RuntimeFailure DEADLINE_EXCEEDED when it takes longer."""
        ...

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str: ...

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str: ...

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str: ...

    async def pull_image(self, image: str, *, credentials: Credentials | None = None) -> str:
        """The image's id."""
        ...

    async def images(self) -> Sequence[Image]: ...

    async def image(self, image: str) -> Image | None: ...

    async def remove_image(self, image: str) -> None: ...

    async def mount_image(self, image: str, target: str) -> None:
        """The image's files at ``target``, read-only."""
        ...

    async def unmount_image(self, target: str) -> None:
        """Undo ``mount_image``; nothing mounted is fine."""
        ...

    async def image_disk(self) -> Disk: ...

    async def stats(self) -> Sequence[Stats]: ...

    def events(self) -> AsyncIterator[str]:
        """The ids of containers and sandboxes that ended, as it happens (others may come too). Raises when the link is lost."""
        ...

    async def close(self) -> None: ...
