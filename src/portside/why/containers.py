"""Causes that containers' states tell: images, commands, memory, probes, references that can't be resolved."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from portside.why.finding import Cause, Fact, Finding, Grade, describe, lookup, seen, space
from portside.why.world import World, seconds

Json = dict[str, Any]
FAMILIES = (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses"))
LATELY = 600.0  # seconds for which an end of a container is told though it runs again
PULLS = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed")
# Words of a runtime's message about a pull, what they mean, and what to do. The first that matches counts.
PULL_PROBLEMS: tuple[tuple[str, str, str], ...] = (
    (
        r"no such host|i/o timeout|connection refused|dial tcp|network is unreachable|server misbehaving",
        "its registry can't be reached from the node",
        "check the registry's name, the node's DNS and its way out; without a registry: portside image build|import",
    ),
    (
        r"unauthorized|authorization failed|denied|authentication required|403 Forbidden",
        "the registry wants credentials, or has no such repository",
        "kubectl create secret docker-registry NAME …, and name it in spec.imagePullSecrets",
    ),
    (r"x509|certificate", "the registry's certificate is not trusted", "let the node trust the registry's CA"),
    (r"not found|manifest unknown", "the registry has no such image or tag", "correct the image's name or tag"),
)
NO_COMMAND = re.compile(
    r"executable file not found|exec: .*no such file or directory|exec format error|"
    r"exec: .*permission denied|stat .*: no such file or directory"
)
CONFIG = ("CreateContainerConfigError", "CreateContainerError", "PreCreateHookError", "RunContainerError")


@dataclass(frozen=True, slots=True)
class Held:
    """One container of a pod, with its status and where that stands."""

    pod: Json
    spec: Json
    status: Json
    family: str

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def title(self) -> str:
        return f"{'init container' if self.family == 'initContainerStatuses' else 'container'} {self.name}"

    @property
    def waiting(self) -> Json:
        return (self.status.get("state") or {}).get("waiting") or {}

    @property
    def running(self) -> bool:
        return "running" in (self.status.get("state") or {})

    @property
    def end(self) -> tuple[str, Json]:
        """``state`` or ``lastState``, and how the container ended there last; ("", {}) when it never did."""
        for where in ("state", "lastState"):
            found = (self.status.get(where) or {}).get("terminated")
            if found:
                return where, found
        return "", {}

    @property
    def fails(self) -> bool:
        """It ended badly, and is not up again."""
        return not self.running and bool(self.end[1]) and (self.end[1].get("exitCode", 0) != 0 or bool(self.waiting))

    def fact(self, *path: str) -> Fact:
        return seen(self.pod, "status", self.family, self.name, *path)

    def of_spec(self, *path: str) -> Fact:
        return seen(self.pod, "spec", self.family.replace("Statuses", "s"), self.name, *path)

    def ending(self) -> tuple[Fact, ...]:
        """How it ended, as evidence."""
        where, found = self.end
        fields = ("reason", "exitCode", "message")
        ended = tuple(self.fact(where, "terminated", f) for f in fields if found.get(f) not in (None, ""))
        return (*ended, self.fact("restartCount"))

    def logs(self) -> str:
        again = " --previous" if self.end[0] == "lastState" else ""
        return f"kubectl logs {self.pod['metadata']['name']}{space(self.pod)} -c {self.name}{again}"


def containers(pod: Json) -> Iterator[Held]:
    """Init containers first. One without a status has an empty one."""
    for family, statuses in FAMILIES:
        held = {s["name"]: s for s in (pod.get("status") or {}).get(statuses) or ()}
        for spec in pod["spec"].get(family) or ():
            yield Held(pod, spec, held.get(spec["name"], {}), statuses)


def live(pod: Json) -> bool:
    return not pod["metadata"].get("deletionTimestamp")


Look = Callable[[World, Held], Finding | None]


def each(look: Look) -> Callable[[World, Json], Finding | None]:
    """The first container of a living pod of which there is something to tell."""

    def find(world: World, pod: Json) -> Finding | None:
        if not live(pod):
            return None
        return next((f for f in (look(world, held) for held in containers(pod)) if f), None)

    return find


def image_name_invalid(world: World, held: Held) -> Finding | None:
    """Told by the node, or by a runtime that could not take the name apart."""
    unread = "invalid reference format" in str(held.waiting.get("message", ""))
    if held.waiting.get("reason") != "InvalidImageName" and not unread:
        return None
    return Finding(
        f'"{held.spec.get("image")}" of {held.title} is no name of an image',
        (held.of_spec("image"), held.fact("state", "waiting", "reason"), held.fact("state", "waiting", "message")),
        ("write it as [REGISTRY/]REPOSITORY[:TAG], in lower case",),
    )


def image_not_present(world: World, held: Held) -> Finding | None:
    if held.waiting.get("reason") != "ErrImageNeverPull":
        return None
    return Finding(
        f'the image "{held.spec.get("image")}" of {held.title} is not on the node, and may not be pulled',
        (held.of_spec("image"), held.of_spec("imagePullPolicy"), held.fact("state", "waiting", "reason")),
        ("put it on the node: portside image build|import", "or set imagePullPolicy: IfNotPresent"),
    )


def image_pull(world: World, held: Held) -> Finding | None:
    if held.waiting.get("reason") not in PULLS:
        return None
    event = world.event(held.pod, "Failed", holding="pull") or world.event(held.pod, "BackOff")
    text = f"{held.waiting.get('message', '')} {(event or {}).get('message', '')}"
    found = next((p for p in PULL_PROBLEMS if re.search(p[0], text, re.IGNORECASE)), None)
    because = f": {found[1]}" if found else ""
    secrets = held.pod["spec"].get("imagePullSecrets") or ()
    namespace = held.pod["metadata"].get("namespace", "")
    gone = [s["name"] for s in secrets if world.missing("secrets", s.get("name", ""), namespace)]
    facts = [held.of_spec("image"), held.fact("state", "waiting", "reason"), held.fact("state", "waiting", "message")]
    if gone:
        because = f": its pull secret {', '.join(gone)} does not exist"
        facts.append(seen(held.pod, "spec", "imagePullSecrets"))
    return Finding(
        f'the image "{held.spec.get("image")}" of {held.title} can\'t be pulled{because}',
        (*facts, *(() if "ErrImagePull" in str(held.waiting.get("message")) else world.told(held.pod, event))),
        (found[2] if found else "correct the image's name, or the way to its registry", describe(held.pod)),
    )


def command_missing(world: World, held: Held) -> Finding | None:
    text = f"{held.end[1].get('message', '')} {held.waiting.get('message', '')}"
    if held.running or not NO_COMMAND.search(text):
        return None
    waits = [held.fact("state", "waiting", f) for f in ("reason", "message") if held.waiting.get(f)]
    command = held.of_spec("command") if held.spec.get("command") else held.of_spec("image")
    return Finding(
        f"the program that {held.title} is to start is not in its image, or can't be run there",
        (command, *waits, *(held.ending() if held.end[0] else ())),
        ("correct command and args, or the image's architecture and entry point", describe(held.pod)),
    )


def out_of_memory(world: World, held: Held) -> Finding | None:
    _, found = held.end
    if found.get("reason") != "OOMKilled" or (held.running and held.status.get("ready")):
        return None
    limit = lookup(held.spec, "resources", "limits", "memory")
    lead = f"{held.title} used more memory than its limit of {limit}" if limit else f"{held.title} used up the memory"
    return Finding(
        f"{lead} and was killed",
        (held.of_spec("resources", "limits", "memory"), *held.ending()),
        ("raise resources.limits.memory of the container, or let the program use less", held.logs()),
    )


def probed(kind: str) -> Look:
    """Containers that were killed because a liveness or startup probe failed, or whose startup probe has not passed."""
    field = f"{kind}Probe"

    def look(world: World, held: Held) -> Finding | None:
        if field not in held.spec or held.status.get("ready"):
            return None
        killed = world.event(held.pod, "Killing", holding=f"ontainer {held.name} failed {kind} probe")
        failed = world.event(held.pod, "Unhealthy", holding=f"{kind.capitalize()} probe failed")
        starting = kind == "startup" and held.running and held.status.get("started") is False
        if failed is None or not (killed or starting):
            return None
        so = "and it is restarted" if killed else "so nothing else of it counts yet"
        return Finding(
            f"the {kind} probe of {held.title} fails, {so}",
            (held.of_spec(field), *world.told(held.pod, failed), *world.told(held.pod, killed), *held.ending()[-1:]),
            (
                f"see what it answers: {held.logs()}",
                f"correct path, port or command of {field}, or give it more time (failureThreshold, periodSeconds)",
            ),
        )

    return look


def crash_loop(world: World, held: Held) -> Finding | None:
    _, found = held.end
    if not held.fails or held.pod.get("status", {}).get("phase") in ("Failed", "Succeeded"):
        return None
    code = found.get("exitCode", 0)
    how = {126: "126 (can't be run)", 127: "127 (command not found)", 137: "137 (killed)", 143: "143 (terminated)"}
    return Finding(
        f"{held.title} ends with exit code {how.get(code, code)} each time it is started",
        (*(held.fact("state", "waiting", f) for f in ("reason",) if held.waiting.get(f)), *held.ending()),
        (
            f"read what it said: {held.logs()}",
            "mend the program, its arguments or its configuration"
            if code
            else "a program that has an end belongs into a Job; a server has to stay in the foreground",
        ),
    )


def container_failed(world: World, held: Held) -> Finding | None:
    """Of a pod that will not be started again."""
    _, found = held.end
    status = held.pod.get("status") or {}
    if status.get("phase") != "Failed" or status.get("reason") or not found.get("exitCode"):
        return None
    return Finding(
        f"{held.title} ended with exit code {found['exitCode']}, and is not started again",
        (seen(held.pod, "status", "phase"), seen(held.pod, "spec", "restartPolicy"), *held.ending()),
        (f"read what it said: {held.logs()}",),
    )


def container_refused(world: World, held: Held) -> Finding | None:
    if held.waiting.get("reason") not in CONFIG:
        return None
    return Finding(
        f"{held.title} can't be made: {held.waiting.get('message', '')}",
        (held.fact("state", "waiting", "reason"), held.fact("state", "waiting", "message")),
        ("correct the container's specification", describe(held.pod)),
    )


def init_waits(world: World, held: Held) -> Finding | None:
    sidecar = held.spec.get("restartPolicy") == "Always"
    if held.family != "initContainerStatuses" or not held.running or (sidecar and held.status.get("started")):
        return None
    return Finding(
        f"{held.title} has not {'started up' if sidecar else 'ended'} yet, and the containers after it wait for that",
        (held.fact("state", "running", "startedAt"), seen(held.pod, "status", "phase")),
        (f"see what it waits for: {held.logs()}",),
    )


def readiness_probe(world: World, held: Held) -> Finding | None:
    if not held.running or held.status.get("ready") or "readinessProbe" not in held.spec:
        return None
    failed = world.event(held.pod, "Unhealthy", holding="Readiness probe")
    if failed is None:
        return None
    return Finding(
        f"the readiness probe of {held.title} fails, so no Service sends anything to the pod",
        (held.fact("ready"), held.of_spec("readinessProbe"), *world.told(held.pod, failed)),
        (f"see why it is not ready: {held.logs()}", "correct path, port or command of readinessProbe"),
    )


def restarted(world: World, held: Held) -> Finding | None:
    """A container that runs again: between two ends it looks well."""
    found = (held.status.get("lastState") or {}).get("terminated") or {}
    ended = seconds(found.get("finishedAt"))
    if not held.running or ended is None or world.now - ended > LATELY or not held.status.get("restartCount"):
        return None
    probe = world.event(held.pod, "Killing", holding=f"ontainer {held.name} failed")
    why = (
        f"for using more memory than its limit of {lookup(held.spec, 'resources', 'limits', 'memory')}"
        if found.get("reason") == "OOMKilled"
        else "because its liveness or startup probe failed"
        if probe
        else f"after it ended with exit code {found.get('exitCode', 0)}"
    )
    return Finding(
        f"{held.title} runs, but was restarted within the last {LATELY / 60:.0f} minutes, {why}",
        (
            *(held.fact("lastState", "terminated", f) for f in ("reason", "exitCode", "finishedAt")),
            held.fact("restartCount"),
            *world.told(held.pod, probe),
        ),
        (f"read what it said before: {held.logs()}",),
    )


PODS = ("pods",)
CAUSES: tuple[Cause, ...] = (
    Cause("image-name-invalid", PODS, each(image_name_invalid), "what stands in `image` is no name of an image"),
    Cause("image-not-present", PODS, each(image_not_present), "the image is not on the node, with `Never` as policy"),
    Cause("image-pull", PODS, each(image_pull), "the image can't be pulled, and why", ("secrets",)),
    Cause("command-missing", PODS, each(command_missing), "the program to start is not in the image or can't be run"),
    Cause("out-of-memory", PODS, each(out_of_memory), "a container went beyond its memory limit and was killed"),
    Cause("startup-probe", PODS, each(probed("startup")), "the startup probe fails or has not passed yet"),
    Cause("liveness-probe", PODS, each(probed("liveness")), "the liveness probe fails and has the container restarted"),
    Cause("container-refused", PODS, each(container_refused), "the runtime or the node's rules refuse the container"),
    Cause("crash-loop", PODS, each(crash_loop), "a container ends again and again"),
    Cause("container-failed", PODS, each(container_failed), "a container failed and its pod is not started again"),
    Cause(
        "init-container-waits",
        PODS,
        each(init_waits),
        "an init container has not ended, or a sidecar not started",
        grade=Grade.WAITS,
    ),
    Cause("readiness-probe", PODS, each(readiness_probe), "a running container's readiness probe fails"),
    Cause(
        "restarted-lately",
        PODS,
        each(restarted),
        "a container runs again, after an end a short while ago",
        grade=Grade.NOTE,
    ),
)
