"""A server in memory, a small kubelet, and controllers that are started again whenever they die; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from tests.unit.controllers.ordeal.faults import Fate, Faults, Life
from tests.unit.controllers.ordeal.outcome import drawn, outcome

from portside.api.status import ApiError
from portside.base.clock import Clock, rfc3339
from portside.base.pki import ensure_pki
from portside.base.signing import Authority
from portside.client.inprocess import inprocess_client
from portside.client.protocol import Client, Resource
from portside.controllers import podgc
from portside.controllers.assembly import controllers
from portside.controllers.harness import Controller, Harness
from portside.run.virtual_time import VirtualClock, VirtualLoop
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.backend import FIRST_REVISION, Change
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
PODS: Resource = ("", "v1", "pods")
NODES: Resource = ("", "v1", "nodes")
ACCOUNTS: Resource = ("", "v1", "serviceaccounts")
SPACE = "default"
STAMP = "2026-01-01T00:00:00Z"
QUIET = 150.0  # virtual seconds without a change after which nothing more is expected: retries wait up to 60
PATIENCE = 1800.0  # virtual seconds until a step that does not come counts as a failure
UNTOLD = ("/core/events/", "/coordination.k8s.io/leases/")
FINISHED_KEPT = 2
CLUSTER_CIDR = "10.244.0.0/16"

Play = Callable[["World"], Awaitable[None]]
Check = Callable[[Sequence[Json]], str | None]


@dataclass(frozen=True, slots=True)
class Law:
    """What must hold after every single change of a resource; ``broken`` says how it does not."""

    resource: Resource
    broken: Check


@dataclass(frozen=True, slots=True)
class Scenario:
    """A story that needs these controllers, by ``identity``, and how pods fare in it. The controllers' clock is ``ahead``
    of the server's by so many seconds, where a story is about years."""

    name: str
    controllers: tuple[str, ...]
    play: Play
    fares: Callable[[Json, int], Json] | None = None
    laws: tuple[Law, ...] = ()
    ahead: float = 0.0


def identity(controller: Controller) -> str:
    """Several controllers have upstream's one name: ``name of primary``; services work at their own times."""
    return f"{controller.name} of {controller.primary[2]}" + (", at times" if controller.service else "")


def running(pod: Json, number: int) -> Json:
    """The status of a pod that runs and is ready."""
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": STAMP}
    address = "10.244.0.9"
    status = {"phase": "Running", "startTime": STAMP, "conditions": [ready]}
    return {**status, "podIP": address, "podIPs": [{"ip": address}]}


@dataclass(frozen=True, slots=True)
class Ahead:
    """A clock that is ahead of another."""

    clock: Clock
    seconds: float

    def now(self) -> float:
        return self.clock.now() + self.seconds

    def monotonic(self) -> float:
        return self.clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)


@dataclass(slots=True)
class Told:
    """What a run came to."""

    state: list[str]
    writes: list[str]
    struck: int
    broken: list[str] = field(default_factory=list)


class World:
    """Server, kubelet, controllers."""

    def __init__(self, home: Path, loop: VirtualLoop, scenario: Scenario, faults: Faults) -> None:
        self.home, self.clock, self.scenario = home, VirtualClock(loop), scenario
        self.fate = Fate(faults)
        self.broken: list[str] = []
        self.objects: dict[str, Json] = {}
        self.drawn: dict[str, str] = {}
        self._given: dict[str, Json] = {}
        self.moved = 0.0
        self.lives = 0
        self._begun: set[str] = set()
        self._tasks: list[asyncio.Task[None]] = []

    # -- the cluster --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        pki = ensure_pki(self.home)
        self.pki = pki
        backend = MemoryBackend()
        self.server = ApiServer(backend, pki, clock=self.clock)
        await self.server.start()
        await bootstrap(self.server, Place("127.0.0.1", 6443), pki)
        subscription = await backend.subscribe("/", self._changed, after=FIRST_REVISION)
        assert subscription is not None
        self._given = dict(self.objects)
        self.client = self.as_user("tester")
        for space in (SPACE, "kube-system"):
            await self.client.create(ACCOUNTS, {"metadata": {"name": "default"}}, namespace=space)
        await self.join("n1")
        self._tasks = [asyncio.create_task(self._supervise())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        failures = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.server.stop()
        for failure in failures:
            if isinstance(failure, Exception):
                raise failure

    def as_user(self, name: str) -> Client:
        user = User(f"system:{name}", groups=("system:masters", "system:authenticated"))
        return inprocess_client(self.server.handler, self.server.make_request(user), user_agent=name)

    def _changed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.key.startswith(UNTOLD):
                continue
            before = self.objects.pop(change.key, None)
            if change.value is not None:
                self.objects[change.key] = orjson.loads(change.value)
            obj = self.objects.get(change.key) or before
            if obj is None:
                continue
            self.moved = self.clock.monotonic()
            if (shown := drawn(obj["metadata"])) is not None:
                self.drawn[obj["metadata"]["name"]] = shown
            for law in self.scenario.laws:
                if obj["kind"] == _KINDS[law.resource]:
                    try:
                        problem = law.broken(self.of_kind(obj["kind"]))
                    except Exception as error:  # the store would only log it
                        problem = f"the law itself failed: {error!r}"
                    if problem is not None:
                        self.broken.append(problem)
            if obj["kind"] == "Pod" and change.value is not None:
                self._tasks.append(asyncio.create_task(self._kubelet(obj)))

    def of_kind(self, kind: str) -> list[Json]:
        return [o for o in self.objects.values() if o["kind"] == kind]

    def made(self) -> list[Json]:
        """What is not as the server made it at its start."""
        return [o for key, o in self.objects.items() if self._given.get(key) != o]

    async def _supervise(self) -> None:
        while True:
            self.lives += 1
            life: Any = Life(self.as_user("kube-controller-manager"), self.fate, self._metrics)
            clock = Ahead(self.clock, self.scenario.ahead)
            harness = Harness(life, clock, self._controllers())
            work = asyncio.create_task(harness.run())
            death = asyncio.create_task(life.died.wait())
            try:
                await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
                assert not work.done(), work.exception()
            finally:
                life.died.set()
                for task in (work, death):
                    task.cancel()
                await asyncio.gather(work, death, return_exceptions=True)

    def _controllers(self) -> list[Controller]:
        return [c for c in every_controller(self) if identity(c) in self.scenario.controllers]

    async def _metrics(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, str], bytes]:
        """Every pod uses a tenth of a processor."""
        items = [
            {
                "metadata": {"name": p["metadata"]["name"]},
                "timestamp": rfc3339(self.clock.now()),
                "window": "10s",
                "containers": [{"name": "c", "usage": {"cpu": "100m"}}],
            }
            for p in self.of_kind("Pod")
        ]
        return 200, {}, orjson.dumps({"items": items})

    async def _kubelet(self, pod: Json) -> None:
        """Places a new pod, lets it fare as the scenario says, ends it when it is deleted."""
        meta = pod["metadata"]
        key = (meta["uid"], bool(pod["spec"].get("nodeName")), "deletionTimestamp" in meta)
        if str(key) in self._begun or pod["spec"].get("schedulingGates"):
            return
        self._begun.add(str(key))
        place = {"namespace": meta["namespace"]}
        await asyncio.sleep(0.05)
        try:
            if "deletionTimestamp" in meta:
                options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
                await self.client.delete(PODS, meta["name"], options=options, **place)
            elif not pod["spec"].get("nodeName"):
                body = {"metadata": {"name": meta["name"]}, "target": {"kind": "Node", "name": _node_for(pod)}}
                await self.client.create(PODS, body, name=meta["name"], subresource="binding", **place)
            else:
                status = (self.scenario.fares or running)(pod, len(self._begun))
                await self.client.patch(PODS, meta["name"], {"status": status}, subresource="status", **place)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    # -- what stories are told with -----------------------------------------------------------------------------------

    async def join(self, name: str, **more: Any) -> None:
        """A node comes, ready and without the taints that admission gives to new ones."""
        labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastTransitionTime": STAMP}
        room = {"cpu": "8", "memory": "16Gi", "pods": "110"}
        status = {"conditions": [ready], "allocatable": room, **more.pop("status", {})}
        managed = {"volumes.kubernetes.io/controller-managed-attach-detach": "true"}
        meta = {"name": name, "labels": labels, "annotations": managed, **more}
        await self.client.create(NODES, {"metadata": meta, "status": status})
        await self.client.patch(NODES, name, {"spec": {"taints": None}})

    async def create(self, resource: Resource, body: Json, *, namespace: str = SPACE) -> Json:
        return await self.client.create(resource, body, namespace=namespace)

    async def patch(self, resource: Resource, name: str, body: Any, *, subresource: str = "", **more: Any) -> Json:
        more.setdefault("namespace", SPACE)
        return await self.client.patch(resource, name, body, subresource=subresource, **more)

    async def delete(self, resource: Resource, name: str, policy: str = "", *, namespace: str = SPACE) -> None:
        options = {"propagationPolicy": policy} if policy else None
        await self.client.delete(resource, name, namespace=namespace, options=options)

    async def all(self, resource: Resource, namespace: str = SPACE) -> list[Json]:
        return (await self.client.list(resource, namespace=namespace)).items

    async def until(self, test: Callable[[], Any]) -> None:
        """Looks at ``objects`` after every virtual half second."""
        end = self.clock.monotonic() + PATIENCE
        while not test():
            if self.clock.monotonic() > end:
                raise AssertionError(f"never came: {self.scenario.name}; lives {self.lives}; {self._where()}")
            await asyncio.sleep(0.5)

    async def wait(self, seconds: float) -> None:
        """Virtual time passes."""
        await asyncio.sleep(seconds)

    async def settled(self) -> None:
        """Until nothing has changed for long."""
        while (left := self.moved + QUIET - self.clock.monotonic()) > 0:
            await asyncio.sleep(left + 0.5)

    def _where(self) -> str:
        return "\n".join(outcome(self.made(), self.drawn))[:6000]


def _node_for(pod: Json) -> str:
    """The node a daemon's pod asks for, else the first."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    for term in terms:
        for field_ in term.get("matchFields") or ():
            return str(field_["values"][0])
    return "n1"


def every_controller(world: World | None = None) -> list[Controller]:
    """The process's table with everything it can be given."""
    if world is None:
        return controllers(root_ca="CA", sign=lambda *_: b"", mint=lambda *_: "t", cluster_cidr=CLUSTER_CIDR, host="h")  # type: ignore[arg-type,return-value]
    made = controllers(
        root_ca=world.pki.ca.read_text(),
        sign=Authority(world.pki).sign,
        mint=lambda namespace, account, uid, secret: f"token of {account} in {secret}",
        cluster_cidr=CLUSTER_CIDR,
        host="h",
        clock=world.clock,
    )
    thinning = replace(podgc.THINNING, service=partial(podgc.thin_out, kept=FINISHED_KEPT))
    return [thinning if c is podgc.THINNING else c for c in made]


_KINDS: dict[Resource, str] = {
    PODS: "Pod",
    ("apps", "v1", "replicasets"): "ReplicaSet",
    ("apps", "v1", "deployments"): "Deployment",
    ("batch", "v1", "jobs"): "Job",
    ("", "v1", "nodes"): "Node",
}


def told(home: Path, scenario: Scenario, faults: Faults) -> Told:
    """Plays the scenario under these faults to its end."""
    loop = VirtualLoop()

    async def play() -> Told:
        world = World(home, loop, scenario, faults)
        await world.start()
        try:
            await scenario.play(world)
            await world.settled()
            return Told(outcome(world.made(), world.drawn), world.fate.writes, len(world.fate.struck), world.broken)
        finally:
            await world.stop()

    try:
        return loop.run_until_complete(play())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
