"""What to do next for a pod: a pure function of its spec, the runtime's state and the agent's memory.

The order is the kubelet's: sandbox, init containers one by one (sidecars stay running), then all main containers, and
ephemeral ones as soon as there is a sandbox.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from portside.agent.backoff import go_duration, left
from portside.agent.names import RESTART_COUNT, SPEC_HASH, pod_text
from portside.agent.record import PodRecord, View
from portside.agent.runtime import Container, State
from portside.agent.stamps import seconds

Json = dict[str, Any]
DEADLINE_TEXT = "Pod was active on the node longer than the specified deadline"


@dataclass(frozen=True, slots=True)
class StartSandbox:
    """Make a new sandbox; ``replaced`` is the one to end before."""

    attempt: int
    replaced: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Create and start a container. ``removed`` is a half-made one to remove before."""

    name: str
    restarts: int
    removed: str = ""


@dataclass(frozen=True, slots=True)
class Stop:
    """End a running container; ``message`` is the Killing event's text."""

    container_id: str
    name: str
    message: str
    probe: bool = False
    again: bool = False  # it is started anew whatever the restart policy


@dataclass(frozen=True, slots=True)
class End:
    """End the whole pod because the node decided so."""

    reason: str
    message: str


Action = StartSandbox | Start | Stop | End


@dataclass(slots=True)
class Plan:
    """Actions in order, what containers wait for, and when to look again at the latest (seconds since the epoch)."""

    actions: list[Action] = field(default_factory=list)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)
    wake_at: float | None = None
    finished: bool = False

    def wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)


def spec_hash(container: Json) -> str:
    """Changes when a running container no longer fits its spec (only the image of a running pod may change)."""
    told = {"name": container["name"], "image": container["image"]}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


def is_sidecar(container: Json) -> bool:
    return bool(container.get("restartPolicy") == "Always")


def restarts_of(container: Container) -> int:
    """How often it was started again, as the label-like annotation says."""
    try:
        return int(container.annotations.get(RESTART_COUNT, container.attempt))
    except ValueError:
        return container.attempt


def successors(pod: Json) -> dict[str, int]:
    """Per container the API has seen: the restart count of the next one, should the runtime know none any more."""
    status = pod.get("status") or {}
    found = {}
    for family in ("containerStatuses", "initContainerStatuses"):
        for item in status.get(family) or ():
            if item.get("containerID") or item.get("lastState"):
                found[item["name"]] = int(item.get("restartCount", 0)) + 1
    return found


def _by_rule(container: Json, exit_code: int) -> bool:
    """Whether one of the container's own rules asks for a restart."""
    for rule in container.get("restartPolicyRules") or ():
        codes = rule.get("exitCodes") or {}
        inside = exit_code in (codes.get("values") or ())
        if rule.get("action") == "Restart" and inside == (codes.get("operator") == "In"):
            return True
    return False


def _policy(pod: Json, container: Json) -> str:
    return str(container.get("restartPolicy") or pod["spec"].get("restartPolicy", "Always"))


def restarts_after(pod: Json, container: Json, exit_code: int) -> bool:
    """Whether a main container that ended is started again: its own rules, its own policy, the pod's policy."""
    policy = _policy(pod, container)
    return _by_rule(container, exit_code) or policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def init_repeats(pod: Json, container: Json, exit_code: int) -> bool:
    """Whether an init container that ended is tried again: when it failed, unless rules and policies forbid it."""
    return exit_code != 0 and (_by_rule(container, exit_code) or _policy(pod, container) != "Never")


def starts_again(pod: Json, container: Json, current: Container, view: View) -> bool:
    """Whether an ended main container is started again: by policy, or because it was ended only for that."""
    return current.id in view.again or restarts_after(pod, container, current.exit_code)


def main_ended(pod: Json, view: View) -> bool:
    """Every main container has ended and none is started again."""
    for container in pod["spec"]["containers"]:
        current = view.latest(container["name"])
        if current is None or current.state is not State.EXITED or starts_again(pod, container, current, view):
            return False
    return True


def init_failed(pod: Json, view: View) -> bool:
    """An init container failed and is not tried again."""
    for container in pod["spec"].get("initContainers") or ():
        current = view.latest(container["name"])
        if not is_sidecar(container) and current and current.state is State.EXITED and current.exit_code:
            return not init_repeats(pod, container, current.exit_code)
    return False


class _Planner:
    def __init__(self, pod: Json, view: View, record: PodRecord, now: float) -> None:
        self.pod, self.view, self.record, self.now = pod, view, record, now
        self.plan = Plan()
        self.sandbox = view.sandbox

    def current(self, name: str) -> Container | None:
        """The newest container of that name in the present sandbox."""
        latest = self.view.latest(name)
        return latest if latest and self.sandbox and latest.sandbox_id == self.sandbox.id else None

    def restarts(self, name: str) -> int:
        latest = self.view.latest(name)
        if latest is not None:
            return restarts_of(latest) + 1
        return self.record.lost.get(name, 0)

    def start(self, name: str, *, after: Container | None = None) -> None:
        """Start it, unless back-off or an earlier refusal says when."""
        if after is not None:
            ended = after.finished_at / 1e9
            wait = self.record.backoff.waits(name, ended, self.now)
            if wait > 0:
                text = (
                    f"back-off {go_duration(self.record.backoff.delay(name))} restarting failed container={name} "
                    f"pod={pod_text(self.pod)}"
                )
                self.plan.waiting[name] = ("CrashLoopBackOff", text)
                self.plan.wake(self.now + wait)
                return
        retry = self.record.retry_at.get(name, 0.0)
        if left(retry, self.now):
            self.plan.wake(retry)
            if name in self.record.waiting:
                self.plan.waiting[name] = self.record.waiting[name]
            return
        self.plan.actions.append(Start(name, self.restarts(name)))

    def maintain(self, container: Json, *, restart: bool | None = None) -> Container | None:
        """Bring one container to where it shall be; its present incarnation."""
        name = container["name"]
        current = self.current(name)
        if current is None:
            self.start(name, after=self.view.latest(name))
        elif current.state is State.RUNNING:
            if dead := self.record.probe(current.id).dead:
                self.plan.actions.append(
                    Stop(current.id, name, f"Container {name} {dead}, will be restarted", probe=True)
                )
            elif current.annotations.get(SPEC_HASH, "") not in ("", spec_hash(container)):
                text = f"Container {name} definition changed, will be restarted"
                self.plan.actions.append(Stop(current.id, name, text, again=True))
        elif current.state is State.CREATED:
            self.plan.actions.append(Start(name, restarts_of(current), removed=current.id))
        else:
            again = starts_again(self.pod, container, current, self.view) if restart is None else restart
            if again:
                self.start(name, after=current)
        return current

    def ready_sandbox(self) -> bool:
        sandbox = self.sandbox
        host = self.pod["spec"].get("hostNetwork", False)
        if sandbox is not None and sandbox.ready and (host or self.record.ips):
            return True
        if sandbox is None and not self.view.containers and not (self.pod.get("status") or {}).get("containerStatuses"):
            self.new_sandbox(0)
            return False
        if sandbox is not None and (main_ended(self.pod, self.view) or init_failed(self.pod, self.view)):
            self.plan.finished = True
            return False
        if self.pod["spec"].get("restartPolicy") == "Never" and self.view.containers:
            self.plan.finished = True
            return False
        self.new_sandbox(sandbox.attempt + 1 if sandbox else 0, sandbox.id if sandbox else "")
        return False

    def new_sandbox(self, attempt: int, replaced: str = "") -> None:
        retry = self.record.retry_at.get("", 0.0)
        if left(retry, self.now):
            self.plan.wake(retry)
        else:
            self.plan.actions.append(StartSandbox(attempt, replaced))

    def initialised(self) -> bool:
        """Work on the init containers; True when the main ones may run."""
        spec = self.pod["spec"]
        began = any(self.current(c["name"]) for c in spec["containers"])
        for container in spec.get("initContainers") or ():
            if is_sidecar(container):
                current = self.maintain(container, restart=True)
                up = current is not None and current.state is State.RUNNING and self.up(container, current)
                if not up and not began:
                    return False
            elif not began:
                current = self.current(container["name"])
                if current is not None and current.state is State.EXITED and current.exit_code == 0:
                    continue
                code = current.exit_code if current is not None else 0
                self.maintain(container, restart=init_repeats(self.pod, container, code))
                return False
        return True

    def up(self, container: Json, current: Container) -> bool:
        probe = self.record.probe(current.id)
        if (container.get("lifecycle") or {}).get("postStart") and current.id not in self.record.post_started:
            return False
        return probe.started is not False if not container.get("startupProbe") else probe.started is True

    def deadline(self) -> bool:
        """True when the pod's time is over."""
        limit = self.pod["spec"].get("activeDeadlineSeconds")
        start = (self.pod.get("status") or {}).get("startTime")
        if limit is None or not start:
            return False
        end = seconds(start) + limit
        if end <= self.now:
            self.plan.actions.append(End("DeadlineExceeded", DEADLINE_TEXT))
            return True
        self.plan.wake(end)
        return False

    def stop_sidecars(self) -> None:
        """The main containers are through: sidecars end, the last started first."""
        for container in reversed(self.pod["spec"].get("initContainers") or ()):
            current = self.current(container["name"])
            if is_sidecar(container) and current and current.state is State.RUNNING:
                self.plan.actions.append(Stop(current.id, container["name"], f"Stopping container {container['name']}"))
                return
        self.plan.finished = True

    def run(self) -> Plan:
        if self.deadline() or not self.ready_sandbox():
            return self.plan
        if init_failed(self.pod, self.view) or main_ended(self.pod, self.view):
            self.stop_sidecars()
            return self.plan
        for container in self.pod["spec"].get("ephemeralContainers") or ():
            if self.view.latest(container["name"]) is None:
                self.start(container["name"])
        if self.initialised():
            for container in self.pod["spec"]["containers"]:
                self.maintain(container)
        return self.plan


def plan(pod: Json, view: View, record: PodRecord, now: float) -> Plan:
    """The next actions. ``now`` in seconds since the epoch."""
    return _Planner(pod, view, record, now).run()
