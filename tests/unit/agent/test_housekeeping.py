"""What keeps a node healthy: short logs, room for images, evictions; and pods from files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent.cluster import eventually, pod
from tests.unit.agent.node import BUSYBOX, Node

from portside.agent import staticpods
from portside.agent.admission import Offer, refusal
from portside.agent.eviction import Signal, Use, limited, local_limit, message, ranked, shown
from portside.agent.imagegc import ImageCollector, Usage, doomed
from portside.agent.logrotation import LogRotation, clean, rotated
from portside.agent.memory_runtime import MemoryRuntime
from portside.agent.pressure import Pressure, folder_size
from portside.agent.runtime import Container, Image, State
from portside.agent.staticpods import BadManifest, StaticPods, mirror, parsed, plan

Json = dict[str, Any]
GIB = 1 << 30


class Reopening(MemoryRuntime):
    """Begins a new log as containerd does."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.log = log

    async def reopen_log(self, container_id: str) -> None:
        self.log.write_text("")


async def test_a_full_log_is_set_aside_and_old_ones_compressed(tmp_path: Path) -> None:
    """Five files at most: the one written, the newest one plain, the others compressed; the oldest goes."""
    log = tmp_path / "0.log"
    running = Container("1", "s", "c", 0, State.RUNNING, "i", "i", 0, log_path=str(log))

    class Ticking:
        seconds = 1_700_000_000.0

        def now(self) -> float:
            self.seconds += 1
            return self.seconds

    rotation = LogRotation(Reopening(log), lambda: [running], clock=Ticking(), max_size=10)  # type: ignore[arg-type]
    log.write_text("short")
    await rotation.look()
    assert rotated(log) == []
    for number in range(6):
        log.write_text(f"{number} is long enough")
        await rotation.look()
    kept = rotated(log)
    assert len(kept) == 4 and [p.suffix == ".gz" for p in kept] == [True, True, True, False]
    assert gzip.decompress(kept[0].read_bytes()) == b"2 is long enough" and log.read_text() == ""


def test_half_written_archives_are_cleaned_up(tmp_path: Path) -> None:
    """What a killed agent left behind does not stay."""
    (tmp_path / "0.log.20240101-000000.tmp").write_text("x")
    clean(tmp_path / "0.log")
    assert list(tmp_path.iterdir()) == []


def image(name: str, size: int, *, pulled: bool = True) -> Image:
    return Image(f"sha256:{name}", (f"r.io/{name}:1",), (f"r.io/{name}@sha256:{name}",) if pulled else (), size)


def test_the_longest_unused_images_go_first_and_never_those_made_here() -> None:
    """In use, too young, or not to be pulled again: these stay."""
    images = [image("a", 10), image("b", 10), image("c", 10), image("made", 10, pulled=False), image("young", 10)]
    since = {"sha256:a": 300.0, "sha256:b": 100.0, "sha256:c": 50.0, "sha256:made": 0.0, "sha256:young": 990.0}
    chosen = doomed(images, used={"r.io/c:1"}, unused_since=since, needed=15, now=1000.0)
    assert [i.id for i in chosen] == ["sha256:b", "sha256:a"]
    assert doomed(images, used=set(), unused_since=since, needed=0, now=1000.0) == []


async def test_images_are_removed_only_when_the_disk_is_full() -> None:
    """Above 85 % until 80 %; when that can't be reached the node says so."""
    runtime, said = MemoryRuntime(images=[BUSYBOX]), []  # type: ignore[var-annotated]
    await runtime.pull_image("r.io/a:1")
    collector = ImageCollector(runtime, set, lambda *words: said.append(words))
    assert await collector.look(Usage(100, 50)) == 0 and said == []
    assert await collector.look(Usage(100 * GIB, 10 * GIB)) == 0
    assert said[0][1] == "FreeDiskSpaceFailed" and f"Attempted to free {10 * GIB} bytes" in said[0][2]


def sized(memory: str, **spec: Any) -> Json:
    return pod("p", {"name": "main", "resources": {"requests": {"memory": memory}}}, **spec)


def named(body: Json, uid: str) -> Json:
    body["metadata"]["uid"] = uid
    return body


def test_pods_above_their_request_go_first_then_low_priority() -> None:
    """Critical and static pods are not chosen at all."""
    pods = [
        named(sized("1Gi"), "within"),
        named(sized("64Mi", priority=5), "important"),
        named(sized("64Mi"), "little"),
        named(sized("1Mi"), "much"),
        named(sized("1Mi", priority=2_000_000_000), "critical"),
    ]
    use = {p["metadata"]["uid"]: Use(128 << 20, {"main": 128 << 20}) for p in pods}
    order = [p["metadata"]["uid"] for p in ranked(pods, use, "memory")]
    assert order == ["much", "little", "important", "within"]
    text = message(Signal("memory", "memory", 100 << 20, 50 << 20), pods[3], use["much"])
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container main was using 128Mi, request is 1Mi, has larger consumption of memory. "
    )
    assert [shown(n) for n in (0, 1023, 1024, 5 << 30)] == ["0", "1023", "1Ki", "5Gi"]


def test_limits_of_local_storage_are_kept(tmp_path: Path) -> None:
    """emptyDir sizes, containers' layers and the sum; pods without limits are never measured."""
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    assert limited(pod("p", volumes=volumes)) and not limited(pod("p", {}))
    expected = 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert local_limit(pod("p", volumes=volumes), {}, {"v": 2 << 20}) == expected
    own = pod("p", {"resources": {"limits": {"ephemeral-storage": "1Mi"}}})
    assert "Container c0 exceeded" in local_limit(own, {"c0": 2 << 20}, {})
    assert local_limit(own, {"c0": 1 << 20}, {"v": 1}).startswith("Pod ephemeral local storage usage exceeds")
    (tmp_path / "f").write_bytes(b"x" * 100_000)
    assert folder_size(tmp_path) >= 100_000


async def test_a_node_short_of_memory_ends_one_pod_and_says_why(node: Node) -> None:
    """Failed with reason Evicted, the condition DisruptionTarget, and an event on the node."""
    node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}))
    await node.until("p", "Running")
    images = ImageCollector(node.runtime, set, node.agent.keeper.say)
    await Pressure(node.agent, images).look((Signal("memory", "memory", 100 << 20, 1 << 20),))
    status = await node.until("p", "Failed")
    assert status["reason"] == "Evicted" and status["message"].startswith("The node was low on resource: memory.")
    target = next(c for c in status["conditions"] if c["type"] == "DisruptionTarget")
    assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
    await eventually(lambda: "Evicted" in node.api.reasons() and "EvictionThresholdMet" in node.api.node_reasons())


def test_a_short_node_takes_no_new_pods() -> None:
    """Memory matters to BestEffort only, disk to all but critical ones."""
    room = {"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "1Gi"}

    def why(body: Json, pressing: str) -> Any:
        return refusal(body, (), Offer(room, {}, [pressing]))

    assert why(pod("p"), "MemoryPressure") == ("Evicted", "The node had condition: [MemoryPressure]. ")
    assert why(sized("1Mi"), "MemoryPressure") is None
    assert why(sized("1Mi"), "DiskPressure") == ("Evicted", "The node had condition: [DiskPressure]. ")
    assert why(sized("1Mi", priority=2_000_000_000), "DiskPressure") is None


MANIFEST = "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c0, image: {}}}]}}\n"


def test_a_file_becomes_a_mirror_pod() -> None:
    """Named after the node, owned by it, marked with the file's hash, without an account."""
    made = mirror(
        parsed(MANIFEST.format("x").encode(), "web.yaml") | {"spec": {"serviceAccountName": "x", "containers": []}},
        "abc",
        node="n1",
        node_uid="u",
        now=0.0,
    )
    meta = made["metadata"]
    assert (meta["name"], meta["namespace"], meta["ownerReferences"][0]["uid"]) == ("web-n1", "default", "u")
    assert meta["annotations"]["kubernetes.io/config.mirror"] == "abc"
    assert made["spec"]["nodeName"] == "n1" and "serviceAccountName" not in made["spec"]
    for text in (b"[]", b"{", b"kind: Pod\napiVersion: v1\n"):
        with pytest.raises(BadManifest, match=r"bad\.yaml"):
            parsed(text, "bad.yaml")


def test_changed_and_missing_files_end_their_pods() -> None:
    """The new version is made when the old one is gone; what is being deleted is left alone."""

    def made(name: str, mark: str) -> Json:
        return {"metadata": {"name": name, "namespace": "d", "annotations": {"kubernetes.io/config.mirror": mark}}}

    wanted = {("d", n): made(n, "1") for n in ("same", "new", "changed")}
    leaving = made("leaving", "1")
    leaving["metadata"]["deletionTimestamp"] = "now"
    create, delete = plan(wanted, [made("same", "1"), made("changed", "2"), made("gone", "1"), leaving])
    assert [p["metadata"]["name"] for p in create] == ["new"]
    assert [p["metadata"]["name"] for p in delete] == ["changed", "gone"]


async def test_files_run_and_end_with_their_file(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file put into the folder runs; a broken one is told once; the pod goes with the file."""
    monkeypatch.setattr(staticpods, "EVERY", 0.02)
    folder, agent = node.home / "static", node.agent
    static = StaticPods(
        folder,
        node.api,  # type: ignore[arg-type]
        "n1",
        node_uid=lambda: "u",
        present=lambda: list(agent.pods.cache.objects.values()),
        say=agent.keeper.say,
    )
    agent.tasks.start("static", static.run())
    folder.mkdir()
    (folder / "web.yaml").write_text(MANIFEST.format(BUSYBOX).replace("c0,", "c0, command: [sleep, '100000'],"))
    (folder / "bad.yaml").write_text("[]")
    await node.until("web-n1", "Running")
    (folder / "web.yaml").unlink()
    await eventually(lambda: node.api.pod("web-n1") is None)
    await eventually(lambda: "FailedStaticPod" in node.api.node_reasons())


async def test_a_node_tells_its_turns(node: Node) -> None:
    """Its start, and each condition that turned."""
    wanted = {"Starting", "NodeHasSufficientMemory", "NodeHasNoDiskPressure", "NodeHasSufficientPID", "NodeReady"}
    await eventually(lambda: wanted <= set(node.api.node_reasons()))
    node.runtime.healthy = False
    await node.agent.keeper.report(await node.api.get(("", "v1", "nodes"), "n1"))
    await eventually(lambda: "NodeNotReady" in node.api.node_reasons())


async def test_resources_that_others_wrote_into_the_node_stay_and_cost_no_writes(node: Node) -> None:
    nodes, own = ("", "v1", "nodes"), {"example.com/foo": "5"}
    await eventually(lambda: "NodeReady" in node.api.node_reasons())
    more = {"status": {"capacity": own, "allocatable": own}}
    held = await node.api.patch(nodes, "n1", more, patch_type="strategic", subresource="status")
    await node.agent.keeper.report(held)
    after = await node.api.get(nodes, "n1")
    assert after["metadata"]["resourceVersion"] == held["metadata"]["resourceVersion"]
    await node.agent.keeper.report(after, heartbeat=True)
    status = (await node.api.get(nodes, "n1"))["status"]
    assert status["capacity"]["example.com/foo"] == "5" and status["capacity"]["cpu"]
