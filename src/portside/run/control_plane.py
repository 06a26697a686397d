"""The control plane's process: store, API server over TLS, controllers, scheduler and simulated nodes on one loop.

    python -m portside.run.control_plane --home DIR [--port N] [--simulate N]

TERM and INT end it in order: watches are closed, requests in hand finished, the store closed. Exit codes: 0 ended as
asked, 1 could not start (the reason is on stderr), 2 wrong arguments.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, cast

from portside.base.clock import SYSTEM
from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import write_kubeconfig
from portside.base.memory import collect_rarely, few_arenas, keep, keep_small
from portside.base.pki import Pki, ensure_pki, key_pem, load_key
from portside.base.signing import Authority
from portside.run import certificates
from portside.run.authentication import FollowedAuthentication
from portside.run.certificates import server_chain
from portside.run.encryption import Encryption
from portside.run.scheduler_config import scheduler_profiles
from portside.run.settings import Settings, choose_port, local_address, parse
from portside.server.aggregation.availability import Availability
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.server.http import Listener
from portside.store.backend import Backend, StoreError
from portside.store.compaction import keep_window
from portside.store.sqlite import SqliteBackend

log = logging.getLogger("portside.control-plane")
AUDIT_POLICY = "audit-policy.yaml"  # in the home: a policy there is used without asking
START_SECONDS = 10.0  # components import and load for so long: that the loop stands still meanwhile is no news
MASTER = ("system:masters", "system:authenticated")
# Package with ``run(client, clock)``, what it loads to run, the setting that switches it, and the identity and agent name it
# acts as.
PARTS = (
    (
        "portside.controllers",
        ("assembly", "harness"),
        "controllers",
        "system:kube-controller-manager",
        "kube-controller-manager",
    ),
    ("portside.scheduler", ("runner", "profile"), "scheduler", "system:kube-scheduler", "kube-scheduler"),
)


def make_backend(settings: Settings) -> Backend:
    """The store of these settings, not yet open."""
    if settings.store == "memory":
        from portside.store.memory import MemoryBackend

        return MemoryBackend()
    return SqliteBackend(settings.home / "store.db")


def tls_context(pki: Pki) -> ssl.SSLContext:
    """The server's certificate; a client certificate is welcome, and judged by the authenticator."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    server_chain(context, pki)
    context.load_verify_locations(pki.ca)
    front = pki.certificate("front-proxy-ca")
    if front.exists():
        context.load_verify_locations(front)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def write_admin(settings: Settings, pki: Pki, port: int) -> None:
    write_kubeconfig(
        settings.home / "kubeconfig",
        server=f"https://{local_address(settings)}:{port}",
        ca=pki.ca.read_bytes(),
        certificate=pki.certificate("admin").read_bytes(),
        key=key_pem(load_key(pki.key("admin"))),  # also of a home whose keys were written in another form
    )


def _clients(server: ApiServer) -> Callable[[str, str], Any]:
    """Makes clients by (user, agent) that parse what they watch once for all of them."""
    from portside.client.inprocess import Turns, inprocess_client
    from portside.client.shared import SharedObjects

    shared, turns = SharedObjects(), Turns()

    def make(user: str, agent: str) -> Any:
        who = server.make_request(User(user, groups=MASTER))
        return inprocess_client(server.handler, who, user_agent=agent, shared=shared, turns=turns)

    return make


async def _kept(name: str, work: Callable[[], Awaitable[None]]) -> None:
    """Run a component for good; one that fails is started again, later each time."""
    pause = 0.5
    while True:
        try:
            await work()
            return
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("%s failed; it is started again in %.1f s", name, pause)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 30.0)


def _given(settings: Settings, server: ApiServer) -> dict[str, Any]:
    """What the controllers publish, sign with and share out."""
    pki, cidr = server.pki, settings.cluster_cidr
    mint = server.authenticator.signer.sign_for_secret
    ranges = {"cluster_cidr": cidr, "node_mask": settings.node_mask, "service_cidr": settings.service_cidr}
    place = {"host": socket.gethostname(), **ranges}
    return {"root_ca": pki.ca.read_text(), "sign": Authority(pki).sign, "mint": mint, **place}


def _components(settings: Settings, server: ApiServer, scheduling: dict[str, Any]) -> list[asyncio.Task[None]]:
    started: list[asyncio.Task[None]] = []
    client_of = _clients(server)

    def start(package: str, modules: tuple[str, ...], *given: Any, **more: Any) -> None:
        async def work() -> None:
            run = await asyncio.to_thread(_runner, package, modules)
            if run is not None:
                await run(*given, **more)

        started.append(asyncio.create_task(_kept(package, work), name=package))

    for package, modules, switch, user, agent in PARTS:
        if getattr(settings, switch):
            more = _given(settings, server) if switch == "controllers" else scheduling
            start(package, modules, client_of(user, agent), SYSTEM, **more)
    if settings.simulate:
        start("portside.sim", (), client_of("system:kube-sim", "kubelet"), settings.simulate)
    return started


def _load_rules() -> None:
    """What the first write would wait for: the schemas, and the rules of pods with all that they import."""
    from portside.api.kinds import BY_KIND
    from portside.api.rules.registry import rules_for
    from portside.api.schema import schema_for

    schema_for(BY_KIND[("", "v1", "Pod")])
    rules_for("", "v1", "Pod")


def _runner(package: str, modules: tuple[str, ...]) -> Callable[..., Awaitable[None]] | None:
    """What runs a package, with all that it loads. In another thread: that takes a quarter of a second, and requests are
    answered meanwhile."""
    try:
        found = importlib.import_module(package)
        for name in modules:
            importlib.import_module(f"{package}.{name}")
    except ImportError:
        log.exception("%s can't be imported; the control plane runs without it", package)
        return None
    return getattr(found, "run", None)


def _audited(settings: Settings, server: ApiServer) -> Callable[..., Awaitable[Any]] | None:
    """The handler that writes down what the audit policy asks for; None without a policy. Raises PortsideError."""
    path = settings.audit_policy or settings.home / AUDIT_POLICY
    if settings.audit_policy is None and not path.exists():
        return None
    from portside.server.audit import AuditLog, audited, read_policy

    try:
        policy = read_policy(path.read_text(), str(path))
    except OSError as problem:
        raise PortsideError(f"the audit policy {path} can't be read", why=str(problem)) from problem
    logs = settings.home / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    log_file = AuditLog(policy, logs / "audit.log", server.authorizer.authorize)
    return audited(server.handler, log_file, SYSTEM, server.known)


class ControlPlane:
    """A control plane on the running loop. ``start`` it, ask its ``server``, ``stop`` it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.port = 0
        self.server: ApiServer = cast(ApiServer, None)
        self._listener: Listener = cast(Listener, None)
        self._parts: list[asyncio.Task[None]] = []

    @property
    def url(self) -> str:
        """Where this machine's own clients reach the API."""
        return f"https://{local_address(self.settings)}:{self.port}"

    async def start(self) -> None:
        """Serve and run the components. Raises PortsideError, StoreError and OSError when it can't."""
        settings = self.settings
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        scheduling = scheduler_profiles(settings.home)
        advertised = settings.advertise or local_address(settings)
        first = str(ipaddress.ip_network(settings.service_cidr).network_address + 1)
        ensure = partial(ensure_pki, settings.home, [local_address(settings), advertised], service_ips=(first,))
        pki = ensure()
        self.port, held = choose_port(settings)
        backend = make_backend(settings)
        rules = asyncio.create_task(asyncio.to_thread(_load_rules))
        encryption = Encryption(settings.home, backend) if isinstance(backend, SqliteBackend) else None
        if encryption is not None:
            await encryption.prepare()
        server = self.server = ApiServer(backend, pki, service_cidr=settings.service_cidr)
        server.needs_accounts = settings.controllers
        server.address = f"{advertised}:{self.port}"
        logins = FollowedAuthentication(settings.home, server.authenticator.use)
        logins.prepare()
        await server.start()
        place = Place(
            advertised,
            self.port,
            first,
            settings.service_cidr,
            cluster_cidr=settings.cluster_cidr,
            metrics=not settings.simulate,
        )
        await bootstrap(server, place, pki)
        report = lambda e: log.error("connection failed: %r", e)  # noqa: E731
        if (handler := _audited(settings, server)) is not None:
            listener = Listener(handler, report=report)
        else:
            listener = Listener(server.handler, fast=server.fast, report=report)
        self._listener = listener
        await rules
        context = tls_context(pki)
        await listener.listen(settings.address, self.port, context, held)
        write_admin(settings, pki, self.port)
        server.ready = True
        log.info("serving https://%s:%d from %s", settings.address, self.port, settings.home)
        self._parts = _components(settings, server, scheduling)

        def renewed() -> None:
            server_chain(context, pki)
            write_admin(settings, pki, self.port)

        work = lambda: certificates.keep(pki, ensure, renewed, SYSTEM)  # noqa: E731
        self._parts.append(asyncio.create_task(_kept("certificates", work), name="certificates"))
        aggregation = Availability(server, server.aggregator)
        self._parts.append(asyncio.create_task(_kept("aggregation", aggregation.run), name="aggregation"))
        compaction = _kept("compaction", lambda: keep_window(server.backend, SYSTEM, settings.history))
        self._parts.append(asyncio.create_task(compaction, name="compaction"))
        follow_logins = _kept("authentication", lambda: logins.run(SYSTEM))
        self._parts.append(asyncio.create_task(follow_logins, name="authentication"))
        if encryption is not None:
            follow = _kept("encryption", lambda: encryption.run(SYSTEM, server.caches.reread))
            self._parts.append(asyncio.create_task(follow, name="encryption"))

    async def stop(self, patience: float = 10.0) -> None:
        """End in order: components, watches and requests in hand (cut after ``patience`` seconds), the store."""
        self.server.ready = False
        for task in self._parts:
            task.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        await self._listener.close(patience)
        await self.server.stop()


async def serve(settings: Settings) -> None:
    """Run until TERM or INT. Raises PortsideError, StoreError and OSError when it can't start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    plane = ControlPlane(settings)
    collect_rarely()
    await plane.start()
    keep()  # the stored objects, which may be very many
    plane.server.loop_watch.start(START_SECONDS)
    memory = asyncio.create_task(_kept("memory", lambda: keep_small(SYSTEM)), name="memory")
    try:
        await stop.wait()
    finally:
        log.info("stopping")
        memory.cancel()
        await plane.stop()


def main(arguments: list[str] | None = None) -> int:
    """The process; answers its exit code."""
    settings = parse(arguments)
    logging.basicConfig(
        level=logging.DEBUG if settings.verbose else logging.INFO,
        format="%(asctime)s %(levelname).1s %(name)s %(message)s",
        stream=sys.stderr,
    )
    few_arenas()
    try:
        import uvloop

        uvloop.run(serve(settings))
    except (PortsideError, StoreError, OSError) as error:
        print(f"portside: the control plane can't start: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
