"""The container runtime over CRI v1 (gRPC), with containerd's own event stream for changes CRI 1.6 does not announce."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # we start processes by exec only; read when grpc is loaded
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

import grpc
import grpc.aio
from cri_api.v1 import api_pb2

from portside.agent import image_mounts
from portside.agent.cri_events import event_id
from portside.agent.runtime import (
    Container,
    ContainerSpec,
    Credentials,
    Disk,
    ExecResult,
    Features,
    Identity,
    Image,
    Limits,
    Namespaces,
    RuntimeFailure,
    Sandbox,
    SandboxSpec,
    Security,
    State,
    Stats,
    Version,
)

pb: Any = api_pb2  # generated code: its enum types are of no use to a type checker
UID_LABEL = "io.kubernetes.pod.uid"
MESSAGE_LIMIT = 16 << 20  # kubelet's own limit of one CRI answer
SLOW = 240.0  # seconds: sandbox with network set-up
QUICK = 30.0  # seconds: questions
PULL = 3600.0  # seconds: an image
STATES = {0: State.CREATED, 1: State.RUNNING, 2: State.EXITED, 3: State.UNKNOWN}
PROPAGATION = {"None": 0, "HostToContainer": 1, "Bidirectional": 2}
PROTOCOLS = {"TCP": 0, "UDP": 1, "SCTP": 2}
EVENT_TOPICS = ("/tasks/exit", "/tasks/delete")  # what we start ourselves we know


def _profile(text: str) -> Any:
    if not text:
        return None
    kind, _, name = text.partition(":")
    types = {"RuntimeDefault": 0, "Unconfined": 1, "Localhost": 2}
    return pb.SecurityProfile(profile_type=types[kind], localhost_ref=name)


def _namespaces(spec: Namespaces, *, container: bool) -> Any:
    pid = 0 if spec.share_pid else 1
    if spec.host_pid:
        pid = 2
    if spec.target and container:
        pid = 3
    return pb.NamespaceOption(
        network=2 if spec.host_network else 0,
        pid=pid,
        ipc=2 if spec.host_ipc else 0,
        target_id=spec.target if container else "",
    )


def _sandbox_config(spec: SandboxSpec) -> Any:
    security = pb.LinuxSandboxSecurityContext(
        namespace_options=_namespaces(spec.namespaces, container=False),
        privileged=spec.security.privileged,
        supplemental_groups=spec.security.groups,
        seccomp=_profile(spec.security.seccomp),
    )
    if spec.security.user is not None:
        security.run_as_user.value = spec.security.user
    if spec.security.group is not None:
        security.run_as_group.value = spec.security.group
    return pb.PodSandboxConfig(
        metadata=pb.PodSandboxMetadata(name=spec.name, uid=spec.uid, namespace=spec.namespace, attempt=spec.attempt),
        hostname=spec.hostname,
        log_directory=spec.log_directory,
        dns_config=pb.DNSConfig(servers=spec.dns_servers, searches=spec.dns_searches, options=spec.dns_options),
        port_mappings=[
            pb.PortMapping(
                protocol=PROTOCOLS[p.protocol],
                container_port=p.container_port,
                host_port=p.host_port,
                host_ip=p.host_ip,
            )
            for p in spec.ports
        ],
        labels=spec.labels,
        annotations=spec.annotations,
        linux=pb.LinuxPodSandboxConfig(
            cgroup_parent=spec.cgroup_parent, security_context=security, sysctls=spec.sysctls
        ),
    )


def _limits(limits: Limits) -> Any:
    return pb.LinuxContainerResources(
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpu_shares=limits.cpu_shares,
        memory_limit_in_bytes=limits.memory,
        oom_score_adj=limits.oom_score,
        unified=limits.unified,
    )


def _security(spec: Security, namespaces: Namespaces) -> Any:
    message = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(add_capabilities=spec.add_capabilities, drop_capabilities=spec.drop_capabilities),
        privileged=spec.privileged,
        namespace_options=_namespaces(namespaces, container=True),
        run_as_username=spec.user_name,
        readonly_rootfs=spec.read_only_root,
        supplemental_groups=spec.groups,
        supplemental_groups_policy=1 if spec.strict_groups else 0,
        no_new_privs=spec.no_new_privileges,
        masked_paths=spec.masked_paths or (),
        readonly_paths=spec.readonly_paths or (),
        seccomp=_profile(spec.seccomp),
        apparmor=_profile(spec.apparmor),
    )
    if spec.user is not None:
        message.run_as_user.value = spec.user
    if spec.group is not None:
        message.run_as_group.value = spec.group
    return message


def _container_config(spec: ContainerSpec) -> Any:
    return pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name=spec.name, attempt=spec.attempt),
        image=pb.ImageSpec(image=spec.image, user_specified_image=spec.image_name),
        command=spec.command,
        args=spec.args,
        working_dir=spec.working_dir,
        envs=[pb.KeyValue(key=k, value=v) for k, v in spec.env],
        mounts=[
            pb.Mount(
                container_path=m.container_path,
                host_path=m.host_path,
                readonly=m.read_only,
                propagation=PROPAGATION[m.propagation],
            )
            for m in spec.mounts
        ],
        devices=[pb.Device(container_path=d, host_path=d, permissions="rwm") for d in spec.devices],
        labels=spec.labels,
        annotations=spec.annotations,
        log_path=spec.log_path,
        stdin=spec.stdin,
        stdin_once=spec.stdin_once,
        tty=spec.tty,
        linux=pb.LinuxContainerConfig(
            resources=_limits(spec.limits), security_context=_security(spec.security, spec.namespaces)
        ),
    )


def _sandbox(message: Any, ips: tuple[str, ...] = ()) -> Sandbox:
    meta = message.metadata
    return Sandbox(
        message.id,
        meta.name,
        meta.namespace,
        meta.uid,
        meta.attempt,
        message.state == 0,
        message.created_at,
        dict(message.labels),
        dict(message.annotations),
        ips,
    )


def _image(message: Any) -> Image:
    return Image(
        message.id,
        tuple(message.repo_tags),
        tuple(message.repo_digests),
        message.size,
        message.uid.value if message.HasField("uid") else None,
        message.username,
    )


def _identity(answer: Any) -> Identity | None:
    """Whom a ContainerStatusResponse names: in its status (containerd 2), else in the runtime's own spec (1.6)."""
    status = answer.status
    if status.HasField("user") and status.user.HasField("linux"):
        user = status.user.linux
        return Identity(user.uid, user.gid, tuple(user.supplemental_groups))
    try:
        process = json.loads(answer.info.get("info") or "{}")["runtimeSpec"]["process"]
        user = process["user"]
        return Identity(user["uid"], user["gid"], tuple(user.get("additionalGids") or ()))
    except (ValueError, KeyError, TypeError):
        return None


def _stats(message: Any) -> Stats:
    memory, layer = message.memory, message.writable_layer
    return Stats(
        message.attributes.id,
        message.attributes.metadata.name,
        dict(message.attributes.labels),
        message.cpu.timestamp,
        message.cpu.usage_core_nano_seconds.value,
        memory.working_set_bytes.value,
        memory.usage_bytes.value,
        memory.rss_bytes.value,
        layer.used_bytes.value,
        layer.inodes_used.value,
    )


def _bytes_of(value: Any) -> bytes:
    return bytes(value)


# What containerd says when a shim ends while it is asked to kill what has just ended; asked again, it knows.
SHIM_GONE = "ttrpc: closed"
SHIM_PAUSES = (0.1, 0.5, 2.0)  # seconds


class CriRuntime:
    """A CRI runtime behind a Unix socket."""

    def __init__(self, socket: str) -> None:
        options = [
            ("grpc.max_receive_message_length", MESSAGE_LIMIT),
            ("grpc.enable_http_proxy", 0),
            ("grpc.default_authority", "localhost"),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
        ]
        self.socket = socket
        self._channel = grpc.aio.insecure_channel(f"unix://{socket}", options=options)
        self._calls: dict[str, Any] = {}

    async def _call(self, name: str, request: Any, *, timeout: float = QUICK, service: str = "RuntimeService") -> Any:
        call = self._calls.get(name)
        if call is None:
            method = pb.DESCRIPTOR.services_by_name[service].methods_by_name[name]
            answer = getattr(pb, method.output_type.name)
            call = self._calls[name] = self._channel.unary_unary(
                f"/runtime.v1.{service}/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
        try:
            return await call(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise RuntimeFailure(error.details() or str(error.code()), error.code().name) from None

    async def _ignoring_absence(
        self, name: str, request: Any, *, timeout: float, service: str = "RuntimeService"
    ) -> None:
        for pause in (*SHIM_PAUSES, None):
            try:
                await self._call(name, request, timeout=timeout, service=service)
                return
            except RuntimeFailure as error:
                if error.code == "NOT_FOUND" or "not found" in error.message:
                    return
                if pause is None or SHIM_GONE not in error.message:
                    raise
            await asyncio.sleep(pause)

    async def answering(self, patience: float = 30.0) -> None:
        """Wait until the runtime serves; its socket takes connections a little earlier. Raises RuntimeFailure."""
        loop = asyncio.get_running_loop()
        end = loop.time() + patience
        while True:
            try:
                await self._call("ListImages", pb.ListImagesRequest(), service="ImageService")
                return
            except RuntimeFailure as failure:
                if loop.time() > end or failure.code not in ("UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED"):
                    raise
            await asyncio.sleep(0.02)

    async def version(self) -> Version:
        answer = await self._call("Version", pb.VersionRequest(version="v1"))
        return Version(answer.runtime_name, answer.runtime_version)

    async def ready(self) -> tuple[bool, str]:
        answer = await self._call("Status", pb.StatusRequest())
        bad = [c for c in answer.status.conditions if not c.status]
        return not bad, ", ".join(f"{c.type}: {c.reason} {c.message}".strip() for c in bad)

    async def features(self) -> Features:
        answer = await self._call("Status", pb.StatusRequest())
        handlers = {h.name: h.features for h in answer.runtime_handlers}
        return Features(
            bool(answer.features.supplemental_groups_policy),
            frozenset(name for name, told in handlers.items() if told.user_namespaces),
            frozenset(name for name, told in handlers.items() if told.recursive_read_only_mounts),
        )

    async def run_sandbox(self, spec: SandboxSpec) -> str:
        request = pb.RunPodSandboxRequest(config=_sandbox_config(spec), runtime_handler=spec.handler)
        return str((await self._call("RunPodSandbox", request, timeout=SLOW)).pod_sandbox_id)

    async def stop_sandbox(self, sandbox_id: str) -> None:
        await self._ignoring_absence(
            "StopPodSandbox", pb.StopPodSandboxRequest(pod_sandbox_id=sandbox_id), timeout=SLOW
        )

    async def remove_sandbox(self, sandbox_id: str) -> None:
        request = pb.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id)
        await self._ignoring_absence("RemovePodSandbox", request, timeout=SLOW)

    async def sandboxes(self, *, uid: str = "") -> list[Sandbox]:
        request = pb.ListPodSandboxRequest()
        if uid:
            request.filter.label_selector[UID_LABEL] = uid
        return [_sandbox(item) for item in (await self._call("ListPodSandbox", request)).items]

    async def sandbox(self, sandbox_id: str) -> Sandbox:
        status = (await self._call("PodSandboxStatus", pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id))).status
        ips = (status.network.ip, *(extra.ip for extra in status.network.additional_ips))
        return _sandbox(status, tuple(ip for ip in ips if ip))

    async def create_container(self, sandbox_id: str, spec: ContainerSpec, sandbox: SandboxSpec) -> str:
        request = pb.CreateContainerRequest(
            pod_sandbox_id=sandbox_id, config=_container_config(spec), sandbox_config=_sandbox_config(sandbox)
        )
        return str((await self._call("CreateContainer", request, timeout=SLOW)).container_id)

    async def start_container(self, container_id: str) -> None:
        await self._call("StartContainer", pb.StartContainerRequest(container_id=container_id), timeout=SLOW)

    async def stop_container(self, container_id: str, *, grace: float) -> None:
        request = pb.StopContainerRequest(container_id=container_id, timeout=max(0, round(grace)))
        await self._ignoring_absence("StopContainer", request, timeout=grace + SLOW)

    async def remove_container(self, container_id: str) -> None:
        request = pb.RemoveContainerRequest(container_id=container_id)
        await self._ignoring_absence("RemoveContainer", request, timeout=SLOW)

    async def containers(self, *, uid: str = "") -> list[Container]:
        request = pb.ListContainersRequest()
        if uid:
            request.filter.label_selector[UID_LABEL] = uid
        return [
            Container(
                item.id,
                item.pod_sandbox_id,
                item.metadata.name,
                item.metadata.attempt,
                STATES[item.state],
                item.image.image,
                item.image_ref,
                item.created_at,
                dict(item.labels),
                dict(item.annotations),
            )
            for item in (await self._call("ListContainers", request)).containers
        ]

    async def container(self, container_id: str) -> Container:
        request = pb.ContainerStatusRequest(container_id=container_id, verbose=True)
        answer = await self._call("ContainerStatus", request)
        item = answer.status
        return Container(
            item.id,
            "",
            item.metadata.name,
            item.metadata.attempt,
            STATES[item.state],
            item.image.image,
            item.image_ref,
            item.created_at,
            dict(item.labels),
            dict(item.annotations),
            item.started_at,
            item.finished_at,
            item.exit_code,
            item.reason,
            item.message,
            item.log_path,
            _identity(answer),
        )

    async def update_limits(self, container_id: str, limits: Limits) -> None:
        await self._call(
            "UpdateContainerResources",
            pb.UpdateContainerResourcesRequest(container_id=container_id, linux=_limits(limits)),
        )

    async def reopen_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", pb.ReopenContainerLogRequest(container_id=container_id))

    async def exec_sync(self, container_id: str, command: Sequence[str], *, timeout: float) -> ExecResult:
        request = pb.ExecSyncRequest(container_id=container_id, cmd=command, timeout=max(1, round(timeout)))
        answer = await self._call("ExecSync", request, timeout=timeout + QUICK)
        return ExecResult(_bytes_of(answer.stdout), _bytes_of(answer.stderr), answer.exit_code)

    async def exec_url(
        self, container_id: str, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool, tty: bool
    ) -> str:
        request = pb.ExecRequest(
            container_id=container_id, cmd=command, stdin=stdin, stdout=stdout, stderr=stderr and not tty, tty=tty
        )
        return str((await self._call("Exec", request)).url)

    async def attach_url(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> str:
        request = pb.AttachRequest(
            container_id=container_id, stdin=stdin, stdout=stdout, stderr=stderr and not tty, tty=tty
        )
        return str((await self._call("Attach", request)).url)

    async def port_forward_url(self, sandbox_id: str, ports: Sequence[int]) -> str:
        request = pb.PortForwardRequest(pod_sandbox_id=sandbox_id, port=ports)
        return str((await self._call("PortForward", request)).url)

    async def pull_image(self, image: str, *, credentials: Credentials | None = None) -> str:
        request = pb.PullImageRequest(image=pb.ImageSpec(image=image))
        if credentials:
            request.auth.CopyFrom(
                pb.AuthConfig(
                    username=credentials.username,
                    password=credentials.password,
                    auth=credentials.auth,
                    server_address=credentials.server,
                    identity_token=credentials.identity_token,
                    registry_token=credentials.registry_token,
                )
            )
        return str((await self._call("PullImage", request, timeout=PULL, service="ImageService")).image_ref)

    async def images(self) -> list[Image]:
        answer = await self._call("ListImages", pb.ListImagesRequest(), service="ImageService")
        return [_image(item) for item in answer.images]

    async def image(self, image: str) -> Image | None:
        request = pb.ImageStatusRequest(image=pb.ImageSpec(image=image))
        answer = await self._call("ImageStatus", request, service="ImageService")
        return _image(answer.image) if answer.HasField("image") and answer.image.id else None

    async def remove_image(self, image: str) -> None:
        request = pb.RemoveImageRequest(image=pb.ImageSpec(image=image))
        await self._ignoring_absence("RemoveImage", request, timeout=SLOW, service="ImageService")

    async def mount_image(self, image: str, target: str) -> None:
        await image_mounts.mount(self.socket, image, target)

    async def unmount_image(self, target: str) -> None:
        await image_mounts.unmount(self.socket, target)

    async def image_disk(self) -> Disk:
        answer = await self._call("ImageFsInfo", pb.ImageFsInfoRequest(), service="ImageService")
        first = answer.image_filesystems[0]
        return Disk(first.fs_id.mountpoint, first.used_bytes.value, first.inodes_used.value)

    async def stats(self) -> list[Stats]:
        return [_stats(item) for item in (await self._call("ListContainerStats", pb.ListContainerStatsRequest())).stats]

    async def events(self) -> AsyncIterator[str]:
        subscribe = self._channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe", request_serializer=_bytes_of, response_deserializer=None
        )
        request = b""
        for topic in EVENT_TOPICS:
            text = f'namespace=="k8s.io",topic=="{topic}"'.encode()
            request += b"\x0a" + bytes([len(text)]) + text
        try:
            async for envelope in subscribe(request, metadata=(("containerd-namespace", "k8s.io"),)):
                yield event_id(envelope)
        except grpc.aio.AioRpcError as error:
            raise RuntimeFailure(error.details() or "event stream ended", error.code().name) from None

    async def close(self) -> None:
        await self._channel.close()
