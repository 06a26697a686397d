"""Starting things for a pod: its sandbox, and one container with environment, mounts and hooks."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from portside.agent import claims, probes
from portside.agent.containers import container_spec, sandbox_spec
from portside.agent.context import NodeContext, field_path, find_container
from portside.agent.dns import hosts_file, resolver
from portside.agent.environment import ConfigProblem, environment, expand, service_variables
from portside.agent.images import ImageProblem, Say
from portside.agent.plan import Start
from portside.agent.projection import VolumeProblem
from portside.agent.record import PodRecord
from portside.agent.runtime import Mount, RuntimeFailure, SandboxSpec
from portside.api.status import ApiError

Json = dict[str, Any]
CONFIG_RETRY = 2.0  # seconds until a missing ConfigMap or Secret is looked for again
START_RETRY = 10.0  # seconds after the runtime refused
MESSAGE_FILE = "/dev/termination-log"


class Refused(Exception):
    """A container could not be started: waiting reason, message, and seconds until the next try."""

    def __init__(self, reason: str, message: str, wait: float) -> None:
        super().__init__(message)
        self.reason, self.message, self.wait = reason, message, wait


def expanded_path(expression: str, env: Mapping[str, str]) -> str:
    """A subPathExpr with its variables' values. Raises ConfigProblem for variables that are absent or empty."""
    missing: set[str] = set()

    def look_up(name: str) -> str:
        if not env.get(name):
            missing.add(name)
        return env.get(name, "")

    path = expand(expression, look_up)
    if missing:
        raise ConfigProblem(f"missing value for {', '.join(sorted(missing))}")
    return path


class Launcher:
    """Starts one pod's sandbox and containers."""

    def __init__(self, context: NodeContext, record: PodRecord, wake: Callable[[], None]) -> None:
        self.context = context
        self.record = record
        self._wake = wake
        self.paths: dict[str, Path] | None = None

    def sandbox_spec(self, pod: Json, attempt: int) -> SandboxSpec:
        settings = self.context.settings
        names = resolver(
            pod,
            host=self.context.host_resolver,
            cluster_dns=settings.cluster_dns,
            domain=settings.cluster_domain,
        )
        return sandbox_spec(
            pod,
            attempt=attempt,
            logs=settings.logs,
            resolver=names,
            profiles=settings.seccomp,
            domain=settings.cluster_domain,
        )

    async def start_sandbox(self, pod: Json, attempt: int) -> str:
        """The sandbox and, meanwhile, the volumes. Raises RuntimeFailure, ClaimProblem; volume problems come up at the containers."""
        try:
            spec = self.sandbox_spec(pod, attempt)
            await claims.check(pod, self.context.sources)
        except ConfigProblem as problem:
            raise RuntimeFailure(str(problem), "") from None
        Path(spec.log_directory).mkdir(mode=0o755, parents=True, exist_ok=True)
        if wanted := pod["spec"].get("runtimeClassName"):
            found = await self.context.sources.runtime_class(wanted)
            if found is None:
                text = f'failed to get RuntimeClass "{wanted}": runtimeclass.node.k8s.io "{wanted}" not found'
                raise RuntimeFailure(text, "")
            spec = dataclasses.replace(spec, handler=found["handler"])
        if pod["spec"].get("hostUsers") is False and spec.handler not in self.context.features.user_namespaces:
            text = f'RuntimeClass handler "{spec.handler}" does not support user namespaces'
            raise RuntimeFailure(text, "")
        if self.context.cgroups is not None:
            self.context.cgroups.apply_pod(pod)
        made, volumes = await asyncio.gather(
            self.context.runtime.run_sandbox(spec), self.prepare(pod), return_exceptions=True
        )
        if isinstance(volumes, BaseException) and not isinstance(volumes, VolumeProblem | ApiError | OSError):
            raise volumes
        if isinstance(made, BaseException):
            raise made
        return made

    async def prepare(self, pod: Json) -> dict[str, Path]:
        """The pod's volumes. Raises VolumeProblem, ApiError, OSError."""
        if self.paths is None:
            self.paths = await self.context.volumes.prepare(pod, self.context.place(self.record.ips))
        return self.paths

    async def start(self, pod: Json, action: Start, sandbox_id: str, attempt: int) -> str:
        """Create and start a container; its id. Raises Refused with what the pod's status shall say."""
        container = find_container(pod, action.name)
        assert container is not None
        path = field_path(pod, action.name)

        def say(kind: str, reason: str, message: str) -> None:
            self.context.say(pod, kind, reason, message, path)

        try:
            paths = await self.prepare(pod)
        except (VolumeProblem, ApiError, OSError) as problem:
            self.context.say(pod, "Warning", "FailedMount", str(problem))
            raise Refused("", "", CONFIG_RETRY) from problem
        try:
            image = await self.context.images.ensure(pod, container, say)
            await self._image_volumes(pod, container, paths, say)
        except ImageProblem as problem:
            say("Warning", "Failed", f"Error: {problem.reason}")
            raise Refused(problem.reason, problem.message, problem.wait) from problem
        except RuntimeFailure as failure:
            say("Warning", "Failed", f"Error: {failure.message}")
            raise Refused("CreateContainerError", failure.message, START_RETRY) from failure
        runtime = self.context.runtime
        try:
            services = service_variables(
                self.context.services(),
                pod["metadata"]["namespace"],
                links=pod["spec"].get("enableServiceLinks") is not False,
            )
            env = await environment(
                pod,
                container,
                objects=self.context.sources,
                services=services,
                place=dataclasses.replace(self.context.place(self._pod_ips(pod)), volumes=paths),
            )
            mounts = self._mounts(pod, container, paths, env, action.restarts)
            target = ""
            if name := container.get("targetContainerName"):
                target = await self._container_id(pod, name)
            spec = container_spec(
                pod,
                container,
                restarts=action.restarts,
                image=image,
                env=env,
                mounts=mounts,
                memory_capacity=self.context.settings.memory_capacity,
                target=target,
                profiles=self.context.settings.seccomp,
            )
        except (ConfigProblem, VolumeProblem, ApiError) as problem:
            say("Warning", "Failed", f"Error: {problem}")
            raise Refused("CreateContainerConfigError", str(problem), CONFIG_RETRY) from problem
        try:
            container_id = await runtime.create_container(sandbox_id, spec, self.sandbox_spec(pod, attempt))
        except RuntimeFailure as failure:
            say("Warning", "Failed", f"Error: {failure.message}")
            raise Refused("CreateContainerError", failure.message, START_RETRY) from failure
        say("Normal", "Created", "Container created")
        try:
            await runtime.start_container(container_id)
        except RuntimeFailure as failure:
            say("Warning", "Failed", f"Error: {failure.message}")
            raise Refused("RunContainerError", failure.message, START_RETRY) from failure
        say("Normal", "Started", "Container started")
        if hook := (container.get("lifecycle") or {}).get("postStart"):
            asyncio.create_task(self._post_start(pod, container, container_id, hook), name="postStart")
        return container_id

    async def _image_volumes(self, pod: Json, container: Json, paths: dict[str, Path], say: Say) -> None:
        """Pull and mount the images the container has as volumes. Raises ImageProblem, RuntimeFailure."""
        mounted = {m["name"] for m in container.get("volumeMounts") or ()}
        for volume in pod["spec"].get("volumes") or ():
            if (source := volume.get("image")) is not None and volume["name"] in mounted:
                wanted = {"image": source.get("reference", ""), "imagePullPolicy": source.get("pullPolicy")}
                found = await self.context.images.ensure(pod, wanted, say)
                await self.context.runtime.mount_image(found.id, str(paths[volume["name"]]))

    def _pod_ips(self, pod: Json) -> tuple[str, ...]:
        return self.context.settings.ips if pod["spec"].get("hostNetwork") else self.record.ips

    async def _container_id(self, pod: Json, name: str) -> str:
        for container in await self.context.runtime.containers(uid=pod["metadata"]["uid"]):
            if container.name == name and container.state == "running":
                return container.id
        raise ConfigProblem(f'unable to find target container "{name}"')

    async def _post_start(self, pod: Json, container: Json, container_id: str, hook: Json) -> None:
        name = container["name"]
        ip = (self._pod_ips(pod) or ("",))[0]
        try:
            passed, output, _ = await probes.call(
                self.context.runtime, hook, container, container_id, ip, timeout=3600.0
            )
        except Exception as problem:
            passed, output = False, str(problem)
        if passed:
            self.record.post_started.add(container_id)
        else:
            self.context.say(
                pod, "Warning", "FailedPostStartHook", f"PostStartHook failed: {output}", field_path(pod, name)
            )
            self.record.probe(container_id).dead = "failed postStart hook"
        self._wake()

    def message_file(self, uid: str, name: str, restarts: int) -> Path:
        """The host's side of a container's terminationMessagePath."""
        return self.context.settings.pods / uid / "containers" / name / str(restarts)

    def _mounts(
        self, pod: Json, container: Json, paths: dict[str, Path], env: dict[str, str], restarts: int
    ) -> list[Mount]:
        """Volume mounts, /etc/hosts and the termination message's file."""
        uid, name = pod["metadata"]["uid"], container["name"]
        mounts = []
        sources = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        for index, mount in enumerate(container.get("volumeMounts") or ()):
            host = paths[mount["name"]]
            sub = mount.get("subPath") or ""
            if mount.get("recursiveReadOnly") == "Enabled":
                raise ConfigProblem(
                    f'volume "{mount["name"]}" requested recursive read-only mode, but it is not supported by the runtime'
                )
            if expression := mount.get("subPathExpr"):
                sub = expanded_path(expression, env)
            if sub:
                host = self.context.volumes.sub_path(pod, mount, index, name, host, sub)
            source = sources[mount["name"]]
            forced = bool((source.get("persistentVolumeClaim") or {}).get("readOnly"))
            projected = any(k in source for k in ("configMap", "secret", "downwardAPI", "projected", "image"))
            mounts.append(
                Mount(
                    mount["mountPath"],
                    str(host),
                    bool(mount.get("readOnly")) or forced or projected,
                    mount.get("mountPropagation") or "None",
                )
            )
        own = {m.container_path.rstrip("/") for m in mounts}
        if "/etc/hosts" not in own:
            mounts.append(Mount("/etc/hosts", str(self._hosts(pod))))
        file = self.message_file(uid, name, restarts)
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_bytes(b"")
        os.chmod(file, 0o666)
        mounts.append(Mount(container.get("terminationMessagePath") or MESSAGE_FILE, str(file)))
        return mounts

    def _hosts(self, pod: Json) -> Path:
        path = self.context.settings.pods / str(pod["metadata"]["uid"]) / "etc-hosts"
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        text = hosts_file(
            pod,
            self._pod_ips(pod),
            host_text=self.context.host_hosts,
            domain=self.context.settings.cluster_domain,
        )
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            os.chmod(path, 0o644)
        return path
