"""A control plane in a thread of the test's process: real HTTPS, real admission, controllers and simulated nodes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
import uuid
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from portside.api.status import ApiError

if TYPE_CHECKING:
    from portside.client.rest import RestClient
    from portside.run.control_plane import ControlPlane

Json = dict[str, Any]
T = TypeVar("T")
START_SECONDS = 30.0
PATIENCE = 0.3
"""Seconds for requests in hand at the end: a test that is over waits for none."""
NAMESPACES, ACCOUNTS, NODES = ("", "v1", "namespaces"), ("", "v1", "serviceaccounts"), ("", "v1", "nodes")


class NotReady(RuntimeError):
    """The API did not come up, or what was asked for did not come true in time."""


class Api:
    """A running API server. ``url`` and ``kubeconfig`` are all a client library needs; the user is an administrator.

    ``namespace`` is the kubeconfig's default namespace.
    """

    def __init__(self, running: _Running, kubeconfig: Path, namespace: str) -> None:
        self._running = running
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    @property
    def url(self) -> str:
        return self._running.plane.url

    @property
    def ca(self) -> Path:
        """PEM file of the authority that signed the server's certificate."""
        return self._running.plane.server.pki.ca

    def call(self, work: Coroutine[Any, Any, T], seconds: float = START_SECONDS) -> T:
        """Run a coroutine of Portside's own client (``client``) on the server's loop and wait for it."""
        return self._running.call(work, seconds)

    @property
    def client(self) -> RestClient:
        """Portside's asynchronous client, as administrator; for use within ``call``."""
        return self._running.client

    def new_namespace(self, prefix: str = "test-") -> Api:
        """The same server, with a fresh namespace (its default service account is there) as the kubeconfig's default."""
        name = f"{prefix}{uuid.uuid4().hex[:8]}"
        self.call(self._running.make_namespace(name))
        kubeconfig = self.kubeconfig.with_name(f"kubeconfig-{name}")
        kubeconfig.write_text(_in_namespace(self.kubeconfig.read_text(), name))
        kubeconfig.chmod(0o600)
        return Api(self._running, kubeconfig, name)

    def delete_namespace(self) -> None:
        """Begin to delete the namespace; does not wait."""
        self.call(self.client.delete(NAMESPACES, self.namespace))


class _Running:
    """The thread with the loop that everything runs on."""

    def __init__(self, home: Path, controllers: bool, scheduler: bool, nodes: int) -> None:
        from portside.run.control_plane import ControlPlane
        from portside.run.settings import Settings

        settings = Settings(home, store="memory", simulate=nodes, controllers=controllers, scheduler=scheduler)
        self.plane: ControlPlane = ControlPlane(settings)
        self.controllers = controllers
        self.nodes = nodes
        self.loop = _new_loop()
        self.thread = threading.Thread(target=self._run, name="portside", daemon=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.close()

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        waiting = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return waiting.result(seconds)
        except TimeoutError:
            waiting.cancel()
            raise NotReady(f"not done within {seconds:g} s") from None

    def start(self) -> None:
        self.thread.start()
        try:
            self.call(self._start(), START_SECONDS)
        except BaseException:
            with suppress(Exception):  # what had not begun can't be ended
                self.stop()
            raise

    async def _start(self) -> None:
        from portside.client.inprocess import inprocess_client
        from portside.run.control_plane import MASTER
        from portside.server.attributes import User

        await self.plane.start()
        server = self.plane.server
        who = server.make_request(User("kubernetes-admin", groups=MASTER))
        self.client: RestClient = inprocess_client(server.handler, who, user_agent="portside-testing")
        if self.controllers:
            await self._until(ACCOUNTS, "default", "default")
        for number in range(self.nodes):
            await self._until(NODES, f"node-{number}", "")

    async def make_namespace(self, name: str) -> None:
        await self.client.create(NAMESPACES, {"metadata": {"name": name}})
        if self.controllers:
            await self._until(ACCOUNTS, "default", name)

    async def _until(self, resource: tuple[str, str, str], name: str, namespace: str) -> None:
        """Until the object is there: what the next request of a test relies on."""
        while True:
            try:
                await self.client.get(resource, name, namespace=namespace)
                return
            except ApiError as error:
                if error.code != 404:
                    raise
            await asyncio.sleep(0.005)

    def stop(self) -> None:
        try:
            self.call(self.plane.stop(PATIENCE), START_SECONDS)
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(START_SECONDS)


def _new_loop() -> asyncio.AbstractEventLoop:
    import uvloop

    return uvloop.new_event_loop()


def _in_namespace(kubeconfig: str, namespace: str) -> str:
    """The kubeconfig with another default namespace. Ours are JSON, which is YAML too."""
    import orjson

    config: Json = orjson.loads(kubeconfig)
    for entry in config["contexts"]:
        entry["context"]["namespace"] = namespace
    return orjson.dumps(config, option=orjson.OPT_INDENT_2).decode()


@contextmanager
def cluster(
    *, controllers: bool = True, scheduler: bool = True, nodes: int = 0, folder: Path | None = None
) -> Iterator[Api]:
    """A cluster of its own for as long as the block lasts: free port, own certificates, state in memory.

    ``nodes`` simulated nodes run pods at once (Running and Ready, or Succeeded). Without ``controllers`` nothing but the
    API acts: no default service accounts, so pods can't be created either. ``folder`` keeps the certificates and the
    kubeconfig; by default a temporary one. Raises NotReady, PortsideError and OSError when it can't start.
    """
    home = folder or Path(tempfile.mkdtemp(prefix="portside-"))
    running = _Running(home, controllers, scheduler, nodes)
    try:
        running.start()
        try:
            yield Api(running, home / "kubeconfig", "default")
        finally:
            running.stop()
    finally:
        if folder is None:
            shutil.rmtree(home, ignore_errors=True)
