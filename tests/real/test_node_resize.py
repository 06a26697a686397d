"""Conformance "Node": pods whose containers get more or less while they run."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest

from tests.conformance.names import conformance
from tests.real.lab import IMAGE, Json, Lab
from tests.real.sockets import dialled

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def sizes(cpu: str, memory: str) -> Json:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}}


@conformance("pods", "resize: six containers, many operations")
def test_six_containers_are_resized_at_once(lab: Lab) -> None:
    """ "resize: six containers, many operations": up, down, with and without restart; files of the groups follow."""
    restart = [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    names = [f"c{i}" for i in range(6)]
    containers = [
        {
            "name": name,
            "image": IMAGE,
            "command": ["sh", "-c", "trap exit TERM; while true; do sleep 0.2; done"],
            "resources": sizes("20m", "32Mi"),
            "resizePolicy": restart if i >= 4 else [],
        }
        for i, name in enumerate(names)
    ]
    lab.pod("six", spec={"containers": containers, "restartPolicy": "Always"})
    lab.ready("six")
    after = [("30m", "32Mi"), ("10m", "32Mi"), ("20m", "40Mi"), ("25m", "24Mi"), ("20m", "40Mi"), ("30m", "32Mi")]
    patch = [{"name": n, "resources": sizes(*size)} for n, size in zip(names, after, strict=True)]
    lab.patch("pods", "six", {"spec": {"containers": patch}}, "resize")

    def done() -> Json:
        status = lab.status("six")
        shown = [s.get("resources") for s in status["containerStatuses"]]
        open_ones = [c for c in status["conditions"] if c["type"].startswith("PodResize")]
        return status if shown == [sizes(*size) for size in after] and not open_ones else {}

    status = lab.until(done, "resized")
    assert [s["restartCount"] for s in status["containerStatuses"]] == [0, 0, 0, 0, 1, 0]
    quota = lab.get("pods", "six/resize")["metadata"]["name"]
    assert quota == "six"
    lab.delete("pods", "six")


def test_a_resize_that_does_not_fit_is_deferred(lab: Lab) -> None:
    """The condition says how much is there; taken back, it goes."""
    cores = len(os.sched_getaffinity(0))
    lab.pod("asks", "exec sleep 1000", resources=sizes("100m", "32Mi"))
    lab.pod("holds", "exec sleep 1000", resources=sizes(f"{cores * 1000 - 500}m", "32Mi"))
    lab.running("asks")
    lab.running("holds")

    def resized(cpu: str) -> None:
        body = {"spec": {"containers": [{"name": "main", "resources": sizes(cpu, "32Mi")}]}}
        lab.patch("pods", "asks", body, "resize")

    def pending() -> Json:
        found = (c for c in lab.status("asks")["conditions"] if c["type"] == "PodResizePending")
        return next(found, {})

    resized("700m")
    assert lab.until(pending)["reason"] == "Deferred"
    assert "Node didn't have enough resource: cpu, requested: 700" in pending()["message"]
    lab.delete("pods", "holds", gracePeriodSeconds=0)
    lab.until(lambda: lab.container("asks").get("resources") == sizes("700m", "32Mi"), "granted later")
    lab.until(lambda: not pending(), "no condition")
    lab.delete("pods", "asks")


@conformance("pods", "resize: GET and PUT on the subresource", "resize: equivalent values shown right")
def test_a_resize_is_read_and_replaced_and_shown_as_it_was_written(lab: Lab) -> None:
    """The subresource shows the pod itself; figures that are the same to the kernel stay what the user wrote."""
    small = {"requests": {"cpu": "2m", "memory": "32Mi"}, "limits": {"cpu": "10m", "memory": "64Mi"}}
    smaller = {"requests": {"cpu": "1m", "memory": "32Mi"}, "limits": {"cpu": "5m", "memory": "64Mi"}}
    lab.pod("equal", "exec sleep 1000", resources=small)
    lab.running("equal")

    def shrink(pod: Json) -> None:
        pod["spec"]["containers"][0]["resources"] = smaller

    answer = lab.replace("pods", "equal/resize", shrink)
    assert answer["metadata"]["generation"] == 2 and answer["spec"]["containers"][0]["resources"] == smaller

    def settled() -> bool:
        status = lab.status("equal")
        only = status["containerStatuses"][0]
        done = only.get("resources") == smaller and only.get("allocatedResources") == smaller["requests"]
        return done and status.get("observedGeneration") == 2

    lab.until(settled, "resized")
    assert lab.container("equal")["restartCount"] == 0

    def both() -> list[Json]:
        return [json.loads(lab.call("GET", lab.path("pods", name))) for name in ("equal", "equal/resize", "equal")]

    def undisturbed() -> list[Json]:
        """The pod and its subresource, with no write of the node between the two looks."""
        before, part, after = both()
        return [before, part] if before == after else []

    whole, part = lab.until(undisturbed, "two equal looks")
    assert whole == part
    lab.delete("pods", "equal")


def test_a_container_sees_its_new_limits(lab: Lab) -> None:
    """The files a resize test reads inside the container."""
    lab.pod("inside", "exec sleep 1000", resources=sizes("100m", "32Mi"))
    lab.running("inside")
    body = {"spec": {"containers": [{"name": "main", "resources": sizes("200m", "48Mi")}]}}
    lab.patch("pods", "inside", body, "resize")
    lab.until(lambda: lab.container("inside").get("resources") == sizes("200m", "48Mi"), "resized")
    script = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true"
    path = lab.path("pods", "inside/exec?command=sh&command=-c&stdout=1&container=main&command=")
    with dialled(lab, path + quote(script), "channel.k8s.io") as found:
        said = b"".join(m.data[1:] for m in found if m.data[0] == 1)
    assert said == b"%d\n" % (48 << 20)
    lab.delete("pods", "inside")
