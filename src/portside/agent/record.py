"""What the agent alone knows about a pod, beside its spec and the runtime's state."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from portside.agent.backoff import Backoff
from portside.agent.resize import ResizeState
from portside.agent.runtime import Container, Sandbox, State


@dataclass(slots=True)
class ProbeState:
    """Results for one container id. None: not known yet (or no such probe)."""

    started: bool | None = None
    ready: bool | None = None
    dead: str = ""  # why it must be killed: "failed liveness probe" …


@dataclass(slots=True)
class View:
    """The runtime's state of one pod: sandboxes and containers, newest first."""

    sandboxes: list[Sandbox] = field(default_factory=list)
    containers: list[Container] = field(default_factory=list)
    again: set[str] = field(default_factory=set)  # ids of containers ended only to be started anew

    @property
    def sandbox(self) -> Sandbox | None:
        return self.sandboxes[0] if self.sandboxes else None

    def of(self, name: str) -> list[Container]:
        return [c for c in self.containers if c.name == name]

    def latest(self, name: str) -> Container | None:
        return next((c for c in self.containers if c.name == name), None)

    @property
    def running(self) -> Iterable[Container]:
        return (c for c in self.containers if c.state is State.RUNNING)


@dataclass(slots=True)
class PodRecord:
    """The agent's memory of a pod; lost on restart and then rebuilt from runtime and API."""

    backoff: Backoff = field(default_factory=Backoff)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)  # container -> reason, message
    retry_at: dict[str, float] = field(default_factory=dict)  # container ("": sandbox) -> not before, epoch seconds
    probes: dict[str, ProbeState] = field(default_factory=dict)  # container id ->
    messages: dict[str, str] = field(default_factory=dict)  # container id -> termination message
    post_started: set[str] = field(default_factory=set)  # container ids whose postStart hook has finished
    lost: dict[str, int] = field(default_factory=dict)  # container the runtime forgot -> restarts of its successor
    resize: ResizeState = field(default_factory=ResizeState)
    again: set[str] = field(default_factory=set)  # the View's
    ips: tuple[str, ...] = ()
    failed: tuple[str, str] = ("", "")  # reason, message of a pod ended by the node: DeadlineExceeded, Evicted …
    disruption: str = ""  # why the node evicts it
    rejected: bool = False  # the node never took the pod
    killing: bool = False  # the pod is being ended: no container is started any more
    done: bool = False  # everything of it has ended for good

    def probe(self, container_id: str) -> ProbeState:
        return self.probes.setdefault(container_id, ProbeState())
