"""A control plane that dies again and again in the middle of everything ends where it would have ended."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portside.run.home import Home
from tests.conftest import Cluster

Json = dict[str, Any]
DEATHS = 4
PATIENCE = 90.0  # seconds until what does not come counts as a failure


@pytest.fixture
def mortal(tmp_path: Path, tools: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "home", tools)
    cluster.portside("up", "--simulate", "3")
    yield cluster
    cluster.portside("down", check=False)


def template(app: str, image: str = "a", notes: Json | None = None, **spec: Any) -> Json:
    meta = {"labels": {"app": app}, "annotations": notes or {}}
    return {"metadata": meta, "spec": {"containers": [{"name": "c", "image": image}], **spec}}


def workloads(image: str) -> list[Json]:
    """A rollout of three, ordered pods of three, and a Job of six."""
    chosen = lambda app: {"matchLabels": {"app": app}}  # noqa: E731
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": chosen("web"), "template": template("web", image)},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "db"},
            "spec": {"replicas": 3, "selector": chosen("db"), "serviceName": "db", "template": template("db", image)},
        },
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "count"},
            "spec": {
                "completions": 6,
                "parallelism": 2,
                "template": template("count", notes={"sim.portside.io/end-after": "1s"}, restartPolicy="Never"),
            },
        },
    ]


def garbage() -> list[Json]:
    """An owner with two dependents, and a namespace with something in it."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inside", "namespace": "team"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}},
    ]


def apply(cluster: Cluster, *objects: Json) -> str:
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return cluster.kubectl("apply", "-f", "-", stdin=text)


def items(cluster: Cluster, kind: str, *words: str) -> list[Json]:
    found: list[Json] = json.loads(cluster.kubectl("get", kind, "-o", "json", *words))["items"]
    return found


def until(test: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not test():
        assert time.monotonic() < end, what
        time.sleep(0.5)


def kill(cluster: Cluster) -> None:
    record = json.loads((cluster.home / "run" / "control-plane.json").read_text())
    os.kill(record["pid"], signal.SIGKILL)
    cluster.portside("up")


def test_up_starts_a_control_plane_when_the_one_it_finds_is_just_dying(mortal: Cluster) -> None:
    """A killed process is still there for a moment; here it is another one, that takes two seconds."""
    mortal.portside("down")
    home, dying = Home(mortal.home), subprocess.Popen(["sleep", "2"])
    home.save_record("control-plane", dying.pid)
    mortal.portside("up")
    dying.wait()
    assert mortal.kubectl("get", "--raw", "/readyz") == "ok"


@pytest.mark.timeout(400)
def test_a_control_plane_killed_at_random_moments_finishes_all_that_was_begun(mortal: Cluster) -> None:
    dice = random.Random(24)
    apply(mortal, *workloads("a"), *garbage())
    owner = next(c for c in items(mortal, "configmaps") if c["metadata"]["name"] == "owner")["metadata"]
    ref = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["uid"]}
    children = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"child-{i}", "ownerReferences": [ref]}}
        for i in range(2)
    ]
    apply(mortal, *children)
    for number in range(DEATHS):
        time.sleep(dice.random() * 1.5)
        kill(mortal)
        if number == 0:
            apply(mortal, *workloads("b")[:2])
            mortal.kubectl("delete", "configmap", "owner", "--cascade=foreground", "--wait=false")
            mortal.kubectl("delete", "namespace", "team", "--wait=false")

    def rolled() -> bool:
        found = [p for app in ("web", "db") for p in items(mortal, "pods", "-l", f"app={app}")]
        return len(found) == 6 and all(
            p["spec"]["containers"][0]["image"] == "b"
            and p["status"].get("phase") == "Running"
            and "deletionTimestamp" not in p["metadata"]
            for p in found
        )

    until(rolled, "three pods each of the new template, and no other")
    until(lambda: items(mortal, "jobs")[0]["status"].get("succeeded") == 6, "the job counts six")
    status = items(mortal, "jobs")[0]["status"]
    assert status.get("failed", 0) == 0
    assert not any((status.get("uncountedTerminatedPods") or {}).values())
    assert len(items(mortal, "pods", "-l", "app=count")) == 6, "as many pods as successes: none was made for nothing"
    assert sorted(p["metadata"]["name"] for p in items(mortal, "pods", "-l", "app=db")) == ["db-0", "db-1", "db-2"]

    def left() -> set[str]:
        names = {c["metadata"]["name"] for c in items(mortal, "configmaps")}
        return names & {"owner", "child-0", "child-1"}

    until(lambda: not left(), "owner and dependents are gone")
    until(lambda: "team" not in {n["metadata"]["name"] for n in items(mortal, "namespaces")}, "the namespace is gone")


@pytest.mark.timeout(400)
def test_pods_leave_a_tainted_node_after_their_patience_though_the_control_plane_dies_meanwhile(
    mortal: Cluster,
) -> None:
    patience = {"key": "example.org/drain", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 6}
    app = workloads("a")[0]
    app["spec"]["template"]["spec"]["tolerations"] = [patience]
    apply(mortal, app)

    def nodes() -> list[str]:
        found = items(mortal, "pods", "-l", "app=web")
        ready = [p for p in found if p["status"].get("phase") == "Running" and "deletionTimestamp" not in p["metadata"]]
        return [p["spec"]["nodeName"] for p in ready]

    until(lambda: len(nodes()) == 3, "three pods run")
    lost = nodes()[0]
    mortal.kubectl("cordon", lost)
    mortal.kubectl("taint", "node", lost, "example.org/drain=:NoExecute")
    for _ in range(2):
        time.sleep(1)
        kill(mortal)
    until(lambda: len(nodes()) == 3 and lost not in nodes(), "three pods run on the other nodes")
