"""The node's housekeeping on real containers: full logs are set aside, volumes over their limit end the pod, files run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.real.lab import IMAGE, Lab, pod

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def test_limits_of_logs_and_volumes_are_kept(lab: Lab, real: Cluster) -> None:
    """A log above 10 MiB begins anew and is still followed; an emptyDir above its sizeLimit evicts its pod."""
    volumes = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
    script = "dd if=/dev/zero of=/v/f bs=1M count=2 2>/dev/null; exec sleep 1000"
    lab.pod("fills", script, volumeMounts=[{"name": "v", "mountPath": "/v"}], spec={"volumes": volumes})
    # 10.5 MiB with the 40 bytes the log puts before each line: whenever it is set aside, little is left to come.
    lines = (21 << 19) // (40 + 47)
    lab.pod(
        "talks",
        f"yes 0123456789012345678901234567890123456789012345 | head -n {lines}; while true; do echo end; sleep 0.2; done",
    )
    status = lab.phase("fills", "Failed")
    assert status["reason"] == "Evicted"
    assert status["message"] == 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '
    assert {c["type"]: c["status"] for c in status["conditions"]}["DisruptionTarget"] == "True"
    lab.running("talks")
    folder = next((real.home / "pod-logs").glob(f"{lab.namespace}_talks_*")) / "main"
    lab.until(lambda: len(list(folder.iterdir())) == 2, "a log set aside")
    lab.until(lambda: lab.log("talks", "tailLines=1") == "end\n", "the new log")
    assert (folder / "0.log").stat().st_size < 1 << 20
    lab.delete("pods", "talks")


def test_a_manifest_in_the_nodes_folder_runs(lab: Lab, real: Cluster) -> None:
    """The mirror pod belongs to the node, comes back when deleted, and goes with its file."""
    node = json.loads(lab.call("GET", "/api/v1/nodes"))["items"][0]["metadata"]
    name = f"static-{node['name']}"
    body = {"apiVersion": "v1", "kind": "Pod"} | pod("static", "exec sleep 1000")
    body["metadata"]["namespace"] = lab.namespace
    body["spec"]["containers"][0]["image"] = IMAGE
    file = Path(real.home) / "manifests" / "static.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(body))

    def uid() -> str:
        found = [p for p in lab.get("pods")["items"] if p["metadata"]["name"] == name]
        return str(found[0]["metadata"]["uid"]) if found and found[0]["status"].get("phase") == "Running" else ""

    first = lab.until(uid, "the static pod")
    made = lab.get("pods", name)["metadata"]
    assert made["ownerReferences"][0]["uid"] == node["uid"]
    assert made["annotations"]["kubernetes.io/config.source"] == "file"
    lab.delete("pods", name)
    lab.until(lambda: uid() not in ("", first), "the pod anew")
    file.unlink()
    lab.until(lambda: name not in {p["metadata"]["name"] for p in lab.get("pods")["items"]}, "its end")
