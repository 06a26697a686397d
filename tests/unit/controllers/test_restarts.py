"""Controllers that are killed at every write, before or after it takes effect, end where undisturbed ones end.

The server is the real one on a store in memory; a small kubelet starts pods; time is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.controllers.virtual import VirtualClock, VirtualLoop, run

from portside.api.status import ApiError
from portside.base.clock import rfc3339
from portside.base.pki import ensure_pki
from portside.client.inprocess import inprocess_client
from portside.client.protocol import Client, WatchEvent
from portside.controllers.assembly import controllers
from portside.controllers.harness import Harness
from portside.server.app import ApiServer
from portside.server.attributes import User
from portside.server.bootstrap.apply import Place, bootstrap
from portside.store.memory import MemoryBackend

Json = dict[str, Any]
Resource = tuple[str, str, str]
PODS: Resource = ("", "v1", "pods")
EVENTS: Resource = ("", "v1", "events")
DEPLOYMENTS: Resource = ("apps", "v1", "deployments")
SETS: Resource = ("apps", "v1", "replicasets")
STATEFUL: Resource = ("apps", "v1", "statefulsets")
JOBS: Resource = ("batch", "v1", "jobs")


class Mortal:
    """A client whose user dies at writes: ``when`` is never, before (at every other one, by chance) or after."""

    def __init__(self, inner: Client, when: str) -> None:
        self.inner, self.when = inner, when
        self.died = asyncio.Event()
        self.dice = random.Random(7)
        self.writes = 0
        self.deaths = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name not in ("create", "update", "patch", "delete") or self.when == "never":
            return found

        async def write(resource: Resource, *words: Any, **more: Any) -> Any:
            if resource == EVENTS:
                return await found(resource, *words, **more)
            self.writes += 1
            if self.when == "before" and self.dice.random() < 0.5:
                await self._die()
            answer = await found(resource, *words, **more)
            if self.when == "after":
                await self._die()
            return answer

        return write

    async def _die(self) -> None:
        self.deaths += 1
        self.died.set()
        await asyncio.Event().wait()


class World:
    """Server, kubelet and controllers."""

    def __init__(self, home: Path, loop: VirtualLoop, when: str) -> None:
        self.home, self.clock, self.when = home, VirtualClock(loop), when
        self.made: Counter[str] = Counter()
        self.failing: set[str] = set()

    async def start(self) -> None:
        pki = ensure_pki(self.home)
        self.authority = pki.ca.read_text()
        self.server = ApiServer(MemoryBackend(), pki)
        await self.server.start()
        await bootstrap(self.server, Place("127.0.0.1", 6443), pki)
        self.client = self._client("tester")
        self.mortal = Mortal(self._client("kube-controller-manager"), self.when)
        self.tasks = [asyncio.create_task(self._kubelet()), asyncio.create_task(self._supervise())]

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.server.stop()

    def _client(self, name: str) -> Client:
        user = User(f"system:{name}", groups=("system:masters", "system:authenticated"))
        return inprocess_client(self.server.handler, self.server.make_request(user), user_agent=name)

    async def _supervise(self) -> None:
        while True:
            self.mortal.died.clear()
            harness: Any = Harness(self.mortal, self.clock, controllers(root_ca=self.authority))  # type: ignore[arg-type]
            work = asyncio.create_task(harness.run())
            death = asyncio.create_task(self.mortal.died.wait())
            try:
                await asyncio.wait({work, death}, return_when=asyncio.FIRST_COMPLETED)
                assert not work.done(), work.exception()
            finally:
                for task in (work, death):
                    task.cancel()
                await asyncio.gather(work, death, return_exceptions=True)

    async def _kubelet(self) -> None:
        stream: AsyncIterator[WatchEvent] = self.client.watch(PODS, send_initial_events=True)
        async for event in stream:
            if event.type == "ADDED":
                await self._begin(event.object)

    async def _begin(self, pod: Json) -> None:
        meta = pod["metadata"]
        owner = meta["ownerReferences"][0]["kind"]
        self.made[owner] += 1
        stamp = rfc3339(self.clock.now())
        status: Json = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}],
        }
        if owner == "Job":
            first = self.made["Job"] == 1
            ended = {"exitCode": 1 if first else 0, "finishedAt": stamp}
            container = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0}
            status = {
                "phase": "Failed" if first else "Succeeded",
                "containerStatuses": [{**container, "state": {"terminated": ended}}],
            }
        await asyncio.sleep(0.05)
        try:
            place = {"namespace": meta["namespace"], "subresource": "status"}
            await self.client.patch(PODS, meta["name"], {"status": status}, **place)
        except ApiError as error:
            assert error.code == 404

    async def all(self, resource: Resource) -> list[Json]:
        return (await self.client.list(resource, namespace="default")).items

    async def until(self, resource: Resource, test: Callable[[Json], bool]) -> None:
        async with asyncio.timeout(900):
            while True:
                found = await self.all(resource)
                if found and all(map(test, found)):
                    return
                await asyncio.sleep(0.5)


def template(image: str, **spec: Any) -> Json:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workload(kind: str, **spec: Any) -> Json:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template("a"), **spec},
    }


async def rollout(world: World) -> Any:
    await world.client.create(DEPLOYMENTS, workload("Deployment", replicas=3), namespace="default")
    await world.until(DEPLOYMENTS, lambda d: d.get("status", {}).get("availableReplicas") == 3)
    await world.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template("b")}}, namespace="default")

    def over(deployment: Json) -> bool:
        status = deployment["status"]
        reasons = {c["type"]: c["reason"] for c in status["conditions"]}
        seen = status["observedGeneration"] == deployment["metadata"]["generation"]
        return bool(seen and status.get("updatedReplicas") == status["replicas"] == 3) and (
            reasons["Progressing"] == "NewReplicaSetAvailable"
        )

    await world.until(DEPLOYMENTS, over)
    sets = [
        (s["metadata"]["annotations"]["deployment.kubernetes.io/revision"], s["spec"]["replicas"])
        for s in await world.all(SETS)
    ]
    images = Counter(p["spec"]["containers"][0]["image"] for p in await world.all(PODS))
    (deployment,) = await world.all(DEPLOYMENTS)
    conditions = {c["type"]: (c["status"], c["reason"]) for c in deployment["status"]["conditions"]}
    return sorted(sets), images, conditions, world.made["ReplicaSet"]


async def stateful(world: World) -> Any:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    body = workload("StatefulSet", replicas=2, serviceName="web", volumeClaimTemplates=[claim])
    await world.client.create(STATEFUL, body, namespace="default")
    await world.until(STATEFUL, lambda s: s.get("status", {}).get("availableReplicas") == 2)
    await world.client.patch(STATEFUL, "web", {"spec": {"template": template("b")}}, namespace="default")

    def over(owner: Json) -> bool:
        status = owner["status"]
        return status["currentRevision"] == status["updateRevision"] and status["observedGeneration"] == 2

    await world.until(STATEFUL, over)
    pods = {p["metadata"]["name"]: p["spec"]["containers"][0]["image"] for p in await world.all(PODS)}
    claims = sorted(c["metadata"]["name"] for c in await world.all(("", "v1", "persistentvolumeclaims")))
    revisions = sorted(r["revision"] for r in await world.all(("apps", "v1", "controllerrevisions")))
    return pods, claims, revisions, world.made["StatefulSet"]


async def job(world: World) -> Any:
    body = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "count", "namespace": "default"},
        "spec": {"completions": 4, "parallelism": 2, "template": template("a", restartPolicy="Never")},
    }
    await world.client.create(JOBS, body, namespace="default")
    await world.until(JOBS, lambda j: any(c["type"] == "Complete" for c in j.get("status", {}).get("conditions") or ()))
    (found,) = await world.all(JOBS)
    await world.until(PODS, lambda p: not p["metadata"].get("finalizers"))
    status = {k: found["status"].get(k) for k in ("succeeded", "failed", "uncountedTerminatedPods", "ready")}
    return status, world.made["Job"]


SCENARIOS = {"rollout": rollout, "stateful": stateful, "job": job}
EXPECTED: dict[str, Any] = {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def outcome(home: Path, scenario: str, when: str) -> tuple[Any, int]:
    loop = VirtualLoop()

    async def play() -> tuple[Any, int]:
        world = World(home, loop, when)
        await world.start()
        try:
            return await SCENARIOS[scenario](world), world.mortal.deaths
        finally:
            await world.stop()

    found: tuple[Any, int] = run(play(), loop)
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_controllers_killed_at_every_write_end_where_undisturbed_ones_end(scenario: str, when: str, home: Path) -> None:
    if scenario not in EXPECTED:
        EXPECTED[scenario] = outcome(home, scenario, "never")[0]
    found, deaths = outcome(home, scenario, when)
    assert deaths >= 10, "the controllers did write, and die"
    assert found == EXPECTED[scenario]
