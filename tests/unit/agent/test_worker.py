"""A node agent on the in-memory runtime: what users see of pods from start to end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.unit.agent.cluster import eventually, pod
from tests.unit.agent.node import BUSYBOX, Node

from portside.agent import backoff, worker
from portside.agent.node_api import find_worker
from portside.agent.runtime import State


def conditions(status: dict[str, Any]) -> dict[str, str]:
    return {c["type"]: c["status"] for c in status["conditions"]}


async def test_a_pod_becomes_running_and_goes_when_deleted(node: Node) -> None:
    """Status, conditions, events and the last delete are upstream's."""
    node.api.add("pods", pod("web", {"command": ["sleep", "100000"]}))
    status = await node.until("web", "Running")
    assert set(conditions(status).values()) == {"True"}
    assert [c["type"] for c in status["conditions"]] == [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ]
    assert (status["hostIP"], status["qosClass"], status["observedGeneration"]) == ("192.0.2.2", "BestEffort", 1)
    assert status["podIPs"] == [{"ip": status["podIP"]}] and status["startTime"].endswith("Z")
    only = node.container("web")
    assert only["ready"] and only["started"] and only["restartCount"] == 0 and only["image"] == BUSYBOX
    assert only["containerID"].startswith("memory://") and "running" in only["state"]
    await eventually(lambda: node.api.reasons() == ["Pulled", "Created", "Started"])
    assert node.api.events[0]["involvedObject"]["fieldPath"] == "spec.containers{c0}"
    await node.api.delete(("", "v1", "pods"), "web", namespace="default")
    await eventually(lambda: node.api.pod("web") is None)
    await eventually(lambda: not node.agent.workers)
    assert await node.runtime.sandboxes() == []
    await eventually(lambda: "Killing" in node.api.reasons())
    assert not list(node.agent.settings.pods.iterdir())


async def test_ends_follow_the_restart_policy(node: Node) -> None:
    """Never: Succeeded or Failed with the exit code; Always: counted restarts, then CrashLoopBackOff."""
    node.api.add("pods", pod("good", {"command": ["true"]}, restartPolicy="Never"))
    node.api.add("pods", pod("bad", {"command": ["exit", "7"]}, restartPolicy="Never"))
    node.api.add("pods", pod("loop", {"command": ["false"]}))
    good, bad = await node.until("good", "Succeeded"), await node.until("bad", "Failed")
    ended = good["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")
    assert bad["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 7
    ready = next(c for c in good["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodCompleted")
    await eventually(lambda: (node.container("loop")["state"].get("waiting") or {}).get("reason") == "CrashLoopBackOff")
    looping = node.container("loop")
    assert looping["restartCount"] == 1 and looping["lastState"]["terminated"]["exitCode"] == 1
    uid = node.api.pod("loop")["metadata"]["uid"]  # type: ignore[index]
    expected = f"back-off 10s restarting failed container=c0 pod=loop_default({uid})"
    assert looping["state"]["waiting"]["message"] == expected and node.status("loop")["phase"] == "Running"
    await eventually(lambda: "BackOff" in node.api.reasons())


async def test_init_containers_run_one_after_the_other_and_sidecars_stay(node: Node) -> None:
    """Main containers wait for init containers; a sidecar starts before them and ends after them."""
    init = [
        {"name": "first", "image": BUSYBOX, "command": ["sleep", "0.1"]},
        {"name": "side", "image": BUSYBOX, "restartPolicy": "Always", "command": ["sleep", "100000"]},
        {"name": "last", "image": BUSYBOX, "command": ["true"]},
    ]
    node.api.add("pods", pod("p", {"command": ["sleep", "0.2"]}, restartPolicy="Never", initContainers=init))
    await eventually(lambda: any("PodInitializing" in str(s) for _, s in node.api.statuses))
    status = await node.until("p", "Succeeded")
    assert [s["name"] for s in status["initContainerStatuses"]] == ["first", "side", "last"]
    side = next(s for s in status["initContainerStatuses"] if s["name"] == "side")
    assert "terminated" in side["state"]

    def started() -> list[str]:
        return [e["involvedObject"]["fieldPath"] for e in node.api.events if e["reason"] == "Started"]

    await eventually(lambda: "spec.containers{c0}" in started())
    assert started() == [
        "spec.initContainers{first}",
        "spec.initContainers{side}",
        "spec.initContainers{last}",
        "spec.containers{c0}",
    ]


async def test_a_failed_init_container_fails_the_pod(node: Node) -> None:
    """With Never the main containers are not started."""
    init = [{"name": "i", "image": BUSYBOX, "command": ["exit", "3"]}]
    node.api.add("pods", pod("p", {}, restartPolicy="Never", initContainers=init))
    status = await node.until("p", "Failed")
    assert "waiting" in status["containerStatuses"][0]["state"]
    assert conditions(status)["Initialized"] == "False"


async def test_what_can_not_start_says_why(node: Node) -> None:
    """Images that are not there, configuration that is not there (and comes later), commands that do not exist."""
    env = [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "a"}}}]
    node.api.add("pods", pod("config", {"env": env, "command": ["sleep", "100000"]}))
    node.api.add("pods", pod("image", {"image": "docker.io/x/missing:1"}))
    node.api.add("pods", pod("never", {"image": "docker.io/x/y:1", "imagePullPolicy": "Never"}))
    node.api.add("pods", pod("command", {"command": ["no-such-command"]}, restartPolicy="Never"))

    def waits(name: str) -> str:
        return str((node.container(name)["state"].get("waiting") or {}).get("reason", ""))

    await eventually(lambda: waits("config") == "CreateContainerConfigError")
    assert node.container("config")["state"]["waiting"]["message"] == 'configmap "cm" not found'
    await eventually(lambda: waits("image") == "ErrImagePull")
    await eventually(lambda: waits("image") == "ImagePullBackOff")
    assert node.container("image")["state"]["waiting"]["message"].startswith(
        'Back-off pulling image "docker.io/x/missing:1": ErrImagePull: '
    )
    await eventually(lambda: waits("never") == "ErrImageNeverPull")
    await node.until("command", "Failed")
    assert node.container("command")["state"]["terminated"]["exitCode"] == 128
    node.api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "1"}})
    await node.until("config", "Running")


async def test_probes_decide_readiness_and_life(node: Node) -> None:
    """A failing liveness probe restarts the container; readiness follows its probe."""
    node.exec_code = 1
    probe = {"exec": {"command": ["check"]}, "periodSeconds": 0.05, "failureThreshold": 2}
    node.api.add("pods", pod("ready", {"readinessProbe": probe, "command": ["sleep", "100000"]}))
    node.api.add("pods", pod("live", {"livenessProbe": probe, "command": ["sleep", "100000"]}))
    await eventually(lambda: node.container("live").get("restartCount") == 1)
    await node.until("ready", "Running")
    assert node.container("ready")["ready"] is False
    wanted = {"Container c0 failed liveness probe, will be restarted", "Liveness probe failed: nope"}
    await eventually(lambda: wanted <= {e["message"] for e in node.api.events})
    node.exec_code = 0
    await eventually(lambda: node.container("ready")["ready"])


async def test_a_new_agent_adopts_what_runs(node: Node) -> None:
    """After the agent's end by any means the same containers run on, and nothing is counted as a restart."""
    node.api.add("pods", pod("web", {"command": ["sleep", "100000"]}))
    node.api.add("pods", pod("orphan", {"command": ["sleep", "100000"]}))
    await node.until("web", "Running")
    await node.until("orphan", "Running")
    before = node.container("web")["containerID"]
    await node.stop()
    del node.api.objects[("pods", "default", "orphan")]
    agent = await node.start()
    await eventually(lambda: len(agent.workers) == 1)
    await asyncio.sleep(0.1)
    assert node.container("web")["containerID"] == before and node.container("web")["restartCount"] == 0
    sandboxes = await node.runtime.sandboxes()
    await eventually(lambda: len(node.runtime._sandboxes) == 1)
    assert len(sandboxes) <= 2
    container = (await node.runtime.containers())[0]
    assert container.state is State.RUNNING
    node.runtime.crash(container.id)
    await eventually(lambda: node.container("web").get("restartCount") == 1)


async def test_the_node_ends_a_pod_whose_time_is_over(node: Node) -> None:
    """activeDeadlineSeconds: Failed with the reason DeadlineExceeded."""
    node.api.add("pods", pod("slow", {"command": ["sleep", "100000"]}, activeDeadlineSeconds=1))
    status = await node.until("slow", "Failed")
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"


async def test_volumes_and_tokens(node: Node) -> None:
    """configMap and projected volumes hold what they refer to, and follow it."""
    node.api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "1", "b": "2"}})
    token = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}
    downward = {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.name"}}]}}
    volumes = [
        {"name": "config", "configMap": {"name": "cm", "items": [{"key": "a", "path": "deep/a"}]}},
        {"name": "all", "projected": {"sources": [token, downward]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}, volumes=volumes))
    await node.until("p", "Running")
    worker = next(iter(node.agent.workers.values()))
    paths = worker.launcher.paths
    assert paths is not None
    assert (paths["config"] / "deep/a").read_text() == "1" and not (paths["config"] / "b").exists()
    assert (paths["all"] / "token").read_text() == "token-of-default"
    assert (paths["all"] / "labels").read_text() == "p" and paths["scratch"].is_dir()


async def test_a_containers_own_policy_counts_for_init_containers_too(node: Node) -> None:
    """Never on one init container fails the pod although the pod would try again; a rule tries again although Never."""
    never = {"name": "i", "image": BUSYBOX, "command": ["exit", "3"], "restartPolicy": "Never"}
    node.api.add("pods", pod("fails", {}, initContainers=[never]))
    await node.until("fails", "Failed")
    rules = [{"action": "Restart", "exitCodes": {"operator": "In", "values": [3]}}]
    again = never | {"restartPolicyRules": rules}
    node.api.add("pods", pod("again", {}, restartPolicy="Never", initContainers=[again]))
    await eventually(lambda: "CrashLoopBackOff" in str(node.status("again").get("initContainerStatuses")))
    assert node.status("again")["phase"] == "Pending"


async def test_a_name_that_is_used_again_belongs_to_the_new_pod(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the old pod is still ended, and after it: its status goes nowhere, and whoever asks reaches the new one."""
    held, stop = asyncio.Event(), node.runtime.stop_container

    async def slow_stop(container_id: str, *, grace: float) -> None:
        await held.wait()
        await stop(container_id, grace=grace)

    monkeypatch.setattr(node.runtime, "stop_container", slow_stop)
    old = node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}))
    await node.until("p", "Running")
    await node.api.delete(("", "v1", "pods"), "p", namespace="default", options={"gracePeriodSeconds": 0})
    new = node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}))
    await node.until("p", "Running")
    uids = {old["metadata"]["uid"], new["metadata"]["uid"]}
    assert set(node.agent.workers) == uids
    assert find_worker(node.agent, "default", "p").uid == new["metadata"]["uid"]
    held.set()
    await eventually(lambda: set(node.agent.workers) == {new["metadata"]["uid"]})
    assert node.status("p")["phase"] == "Running" and node.container("p")["ready"]


async def test_an_exchanged_image_makes_no_gap_in_readiness_unless_it_takes_long(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The successor starts before anybody is told that the old container has ended; a long pull is told."""
    pulled, pull = asyncio.Event(), node.runtime.pull_image

    async def slow_pull(image: str, **options: Any) -> str:
        if "slow" in image:
            await pulled.wait()
        return await pull(image, **options)

    monkeypatch.setattr(node.runtime, "pull_image", slow_pull)
    body = node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}))
    await eventually(lambda: node.container("p").get("ready"))
    seen = len(node.api.statuses)
    gap = worker.GAP
    monkeypatch.setattr(worker, "GAP", 60.0)  # quick is who is quicker than this, also on a busy machine

    def exchange(image: str) -> None:
        body["metadata"]["generation"] += 1
        body["spec"]["containers"][0]["image"] = image
        node.api._emit("MODIFIED", "pods", body)

    exchange("r.io/quick:1")
    await eventually(lambda: node.container("p").get("restartCount") == 1 and node.container("p")["ready"])
    assert "False" not in [conditions(status)["Ready"] for _, status in node.api.statuses[seen:]]
    assert "terminated" in node.container("p")["lastState"]
    monkeypatch.setattr(worker, "GAP", gap)
    exchange("r.io/slow:1")
    await eventually(lambda: conditions(node.status("p"))["Ready"] == "False")
    pulled.set()
    await eventually(lambda: node.container("p").get("restartCount") == 2 and node.container("p")["ready"])


async def test_an_exchanged_image_does_not_wait_for_the_old_ones_failures(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After many failures, or an image that can't be pulled, the new image starts at once."""
    monkeypatch.setattr(node.agent.context.images, "_backoff", backoff.Backoff(first=300.0))
    node.api.add("pods", pod("p", {"image": "r.io/missing:1", "command": ["sleep", "100000"]}))
    await eventually(lambda: "Pull" in str(node.container("p")["state"]))
    await eventually(lambda: "ImagePullBackOff" in str(node.container("p")["state"]))
    found = node.api.pod("p")
    assert found is not None
    changed = {**found["spec"]["containers"][0], "image": BUSYBOX}
    found["spec"] = {**found["spec"], "containers": [changed]}
    found["metadata"]["generation"] += 1
    node.api._emit("MODIFIED", "pods", found)
    await eventually(lambda: "running" in node.container("p")["state"])


async def test_a_label_that_the_node_was_given_a_moment_ago_counts(node: Node) -> None:
    await eventually(lambda: bool(node.agent.keeper.labels))
    node.api.objects["nodes", "", "n1"]["metadata"]["labels"]["disk"] = "ssd"
    node.api.add("pods", pod("here", {"command": ["sleep", "100000"]}, nodeSelector={"disk": "ssd"}))
    node.api.add("pods", pod("lost", {"command": ["sleep", "100000"]}, nodeSelector={"disk": "hdd"}))
    await node.until("here", "Running")
    assert (await node.until("lost", "Failed"))["reason"] == "NodeAffinity"
