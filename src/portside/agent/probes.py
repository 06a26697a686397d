"""Startup, liveness and readiness probes of running containers, and the calls behind hooks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from portside.agent import httpcall
from portside.agent.record import ProbeState
from portside.agent.runtime import ContainerRuntime, RuntimeFailure

Json = dict[str, Any]
FAMILIES = {"startupProbe": "Startup", "livenessProbe": "Liveness", "readinessProbe": "Readiness"}
Verdict = tuple[bool, str, bool]  # passed, output, the probe itself broke
TRUNCATED = 10 << 10


def port_number(port: Any, container: Json) -> int:
    """A probe's port: a number, or the name of one of the container's ports. Raises ValueError."""
    if isinstance(port, int) or str(port).isdigit():
        return int(port)
    for known in container.get("ports") or ():
        if known.get("name") == port:
            return int(known["containerPort"])
    raise ValueError(f"couldn't find port: {port}")


async def call_http(action: Json, container: Json, ip: str, *, timeout: float) -> Verdict:
    headers = {h["name"]: h.get("value", "") for h in action.get("httpHeaders") or ()}
    scheme = str(action.get("scheme") or "HTTP").lower()
    host = action.get("host") or ip
    try:
        port = port_number(action["port"], container)
        status, body = await httpcall.get(scheme, host, port, action.get("path") or "/", headers, timeout=timeout)
    except TimeoutError:
        url = f"{scheme}://{host}:{action['port']}{action.get('path') or '/'}"
        return False, f'Get "{url}": context deadline exceeded (Client.Timeout exceeded while awaiting headers)', False
    except (OSError, ValueError) as problem:
        url = f"{scheme}://{host}:{action['port']}{action.get('path') or '/'}"
        return False, f'Get "{url}": {_dial_text(problem, host, action["port"])}', False
    if 200 <= status < 400:
        return True, body.decode("utf-8", "replace"), False
    return False, f"HTTP probe failed with statuscode: {status}", False


def _dial_text(problem: Exception, host: str, port: Any) -> str:
    if isinstance(problem, ConnectionRefusedError):
        return f"dial tcp {host}:{port}: connect: connection refused"
    return str(problem)


async def call_tcp(action: Json, container: Json, ip: str, *, timeout: float) -> Verdict:
    host = action.get("host") or ip
    try:
        port = port_number(action["port"], container)
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except TimeoutError:
        return False, f"dial tcp {host}:{action['port']}: i/o timeout", False
    except (OSError, ValueError) as problem:
        return False, _dial_text(problem, host, action["port"]), False
    return True, "", False


async def call_grpc(action: Json, ip: str, *, timeout: float) -> Verdict:
    """The standard health service: field 1 of the request is the service, field 1 of the answer 1 for SERVING."""
    import grpc
    import grpc.aio

    service = (action.get("service") or "").encode()
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    target = f"{ip}:{action['port']}"
    async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = bytes(await check(request, timeout=timeout))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                seconds = f"{timeout:g}s"
                return False, f'timeout: failed to connect service "{target}" within {seconds}', False
            return False, f"error: this server does not implement the grpc health protocol ({error.details()})", False
    if answer == b"\x08\x01":
        return True, "service healthy", False
    names = {b"": "UNKNOWN", b"\x08\x02": "NOT_SERVING", b"\x08\x03": "SERVICE_UNKNOWN"}
    return False, f'service unhealthy (responded with "{names.get(answer, "UNKNOWN")}")', False


async def call_exec(runtime: ContainerRuntime, action: Json, container_id: str, *, timeout: float) -> Verdict:
    try:
        result = await runtime.exec_sync(container_id, action.get("command") or (), timeout=timeout)
    except RuntimeFailure as failure:
        if failure.code == "DEADLINE_EXCEEDED":
            command = " ".join(action.get("command") or ())
            return False, f'command timed out: "{command}" timed out after {timeout:g}s', False
        return False, failure.message, True
    output = (result.stdout + result.stderr)[:TRUNCATED].decode("utf-8", "replace")
    return result.exit_code == 0, output, False


async def call(
    runtime: ContainerRuntime, handler: Json, container: Json, container_id: str, ip: str, *, timeout: float
) -> Verdict:
    """Run a probe's or hook's action."""
    if action := handler.get("httpGet"):
        return await call_http(action, container, ip, timeout=timeout)
    if action := handler.get("tcpSocket"):
        return await call_tcp(action, container, ip, timeout=timeout)
    if action := handler.get("grpc"):
        return await call_grpc(action, ip, timeout=timeout)
    if action := handler.get("sleep"):
        await asyncio.sleep(action["seconds"])
        return True, "", False
    return await call_exec(runtime, handler.get("exec") or {}, container_id, timeout=timeout)


Say = Callable[[str, str, str], None]


class ContainerProbes:
    """All probes of one running container; results go into ``state``, and ``changed`` is called when one turns."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        container: Json,
        container_id: str,
        ip: str,
        state: ProbeState,
        *,
        say: Say,
        changed: Callable[[], None],
        age: float = 0.0,
    ) -> None:
        self._runtime, self._container, self._id, self._ip = runtime, container, container_id, ip
        self._state, self._say, self._changed, self._age = state, say, changed, age
        self._started = asyncio.Event()
        if not container.get("startupProbe") or state.started:
            self._started.set()
        self._tasks = {
            family: asyncio.create_task(self._loop(family), name=f"{family} {container['name']}")
            for family in FAMILIES
            if container.get(family)
        }

    def stop(self, *, keep_readiness: bool = False) -> None:
        """End the probes; ``keep_readiness``: a pod that ends is still asked whether it is ready."""
        for family, task in self._tasks.items():
            if not (keep_readiness and family == "readinessProbe"):
                task.cancel()

    async def _loop(self, family: str) -> None:
        probe = self._container[family]
        if family == "startupProbe" and self._started.is_set():
            return
        if family != "startupProbe":
            await self._started.wait()
        period = float(probe.get("periodSeconds") or 10)
        delay = float(probe.get("initialDelaySeconds") or 0) - self._age
        if delay > 0:
            await asyncio.sleep(delay)
        elif self._age > 5:
            await asyncio.sleep(random.uniform(0, min(period, 1.0)))  # a restarted agent does not ask all at once
        passes = failures = 0
        while True:
            passed, output, broke = await call(
                self._runtime,
                probe,
                self._container,
                self._id,
                self._ip,
                timeout=float(probe.get("timeoutSeconds") or 1),
            )
            if passed:
                passes, failures = passes + 1, 0
            else:
                passes, failures = 0, failures + 1
                noun = f"{FAMILIES[family]} probe " + ("errored and resulted in unknown state" if broke else "failed")
                self._say("Warning", "Unhealthy", f"{noun}: {output}")
            if passes >= int(probe.get("successThreshold") or 1):
                if self._note(family, True):
                    return
            elif failures >= int(probe.get("failureThreshold") or 3) and self._note(family, False):
                return
            await asyncio.sleep(period)

    def _note(self, family: str, good: bool) -> bool:
        """Write the result down; True when this probe is through."""
        state = self._state
        if family == "readinessProbe":
            if state.ready is not good:
                state.ready = good
                self._changed()
            return False
        if good:
            if family == "startupProbe":
                state.started = True
                self._started.set()
                self._changed()
                return True
            return False
        if not state.dead:
            state.dead = f"failed {FAMILIES[family].lower()} probe"
            self._changed()
        return True
