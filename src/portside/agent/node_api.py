"""What the node's server answers: pods, logs, health, statistics. Streams are in `streams`."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from portside.agent import resource_metrics, streams
from portside.agent.context import find_container
from portside.agent.logs import LogOptions, read_log
from portside.agent.runtime import Container, State
from portside.agent.serving import Exchange, Handler, HttpProblem
from portside.agent.stamps import seconds
from portside.agent.stats import summary

if TYPE_CHECKING:
    from portside.agent.agent import Agent
    from portside.agent.worker import PodWorker

Json = dict[str, Any]
JSON = "application/json"
STARTED = time.time()  # the process's, near enough


def find_worker(agent: Agent, namespace: str, name: str, uid: str = "") -> PodWorker:
    """The worker of a pod; of several of one name that of the pod the API has. Raises HttpProblem 404."""
    found = None
    for worker in agent.workers.values():
        meta = worker.pod["metadata"]
        if meta["namespace"] == namespace and meta["name"] == name and uid in ("", meta["uid"]):
            if not worker.gone:
                return worker
            found = worker
    if found is None:
        raise HttpProblem(404, f'pods "{name}" not found')
    return found


async def healthz(agent: Agent, exchange: Exchange) -> None:
    good, why = await agent.runtime.ready()
    await exchange.answer(200 if good else 500, b"ok" if good else why.encode())


async def pods(agent: Agent, exchange: Exchange) -> None:
    items = [worker.current_pod() for worker in agent.workers.values()]
    body = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}
    await exchange.answer(200, orjson.dumps(body), JSON)


async def stats(agent: Agent, exchange: Exchange) -> None:
    await exchange.answer(200, orjson.dumps(await summary(agent)), JSON)


async def metrics(agent: Agent, exchange: Exchange) -> None:
    """/metrics and /metrics/resource"""
    path = exchange.request.path.strip("/")
    if path == "metrics":
        held = [worker.current_pod() for worker in agent.workers.values()]
        text = resource_metrics.own(agent.settings.node_name, held, STARTED)
    elif path == "metrics/resource":
        text = resource_metrics.text(await summary(agent))
    else:
        raise HttpProblem(404, "404 page not found")
    await exchange.answer(200, text.encode(), resource_metrics.CONTENT_TYPE)


def _options(exchange: Exchange, now: float) -> LogOptions:
    """kubectl's log options from the query. Raises HttpProblem 400."""
    request = exchange.request
    try:
        tail = int(request.one("tailLines", "-1"))
        limit = int(request.one("limitBytes", "-1"))
        since = 0.0
        if text := request.one("sinceSeconds"):
            since = now - int(text)
        if text := request.one("sinceTime"):
            since = seconds(text)
    except ValueError:
        raise HttpProblem(400, "invalid log options") from None
    stream = request.one("stream", "All")
    if stream not in ("All", "Stdout", "Stderr"):
        raise HttpProblem(400, f"invalid stream: {stream}")
    return LogOptions(request.flag("follow"), tail, since, request.flag("timestamps"), limit, stream)


def _log_of(worker: PodWorker, name: str, previous: bool) -> Container:
    """The container whose log is meant. Raises HttpProblem 400 with the kubelet's words."""
    pod = worker.pod["metadata"]["name"]
    if find_container(worker.pod, name) is None:
        raise HttpProblem(400, f'container "{name}" in pod "{pod}" is not available')
    chain = worker.view.of(name)
    if previous:
        ended = [c for c in chain[1:] if c.state is State.EXITED]
        if not ended and chain and chain[0].state is State.EXITED and name in worker.record.waiting:
            ended = chain[:1]
        if not ended:
            raise HttpProblem(400, f'previous terminated container "{name}" in pod "{pod}" not found')
        return ended[0]
    if not chain or chain[0].state is State.CREATED:
        reason, message = worker.record.waiting.get(name) or ("ContainerCreating", "")
        if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName"):
            raise HttpProblem(
                400, f'container "{name}" in pod "{pod}" is waiting to start: trying and failing to pull image'
            )
        if reason == "ContainerCreating" and worker.pod["spec"].get("initContainers"):
            reason = "PodInitializing"
        raise HttpProblem(400, f'container "{name}" in pod "{pod}" is waiting to start: {message or reason}')
    return chain[0]


async def container_logs(agent: Agent, exchange: Exchange) -> None:
    """/containerLogs/NAMESPACE/POD/CONTAINER"""
    parts = exchange.request.path.strip("/").split("/")
    if len(parts) != 4:
        raise HttpProblem(404, "404 page not found")
    worker = find_worker(agent, parts[1], parts[2])
    await worker.observe()
    options = _options(exchange, agent.clock.now())
    container = _log_of(worker, parts[3], exchange.request.flag("previous"))
    path = Path(container.log_path)
    if not path.is_file():
        raise HttpProblem(400, f"failed to open the log of container {parts[3]}")

    gone = asyncio.create_task(exchange.reader.read(1))  # a client that asks nothing more can only leave

    def ended() -> bool:
        if gone.done():
            return True
        current = next((c for c in worker.view.containers if c.id == container.id), None)
        return current is None or current.state is not State.RUNNING

    try:
        await exchange.begin()
        async for data in read_log(path, options, ended=ended):
            await exchange.send(data)
        await exchange.end()
    finally:
        gone.cancel()


ROUTES: dict[str, Handler] = {
    "healthz": healthz,
    "pods": pods,
    "runningpods": pods,
    "stats": stats,
    "metrics": metrics,
    "containerLogs": container_logs,
    "exec": streams.execute,
    "attach": streams.attach,
    "portForward": streams.port_forward,
}
