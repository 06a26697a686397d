"""Words of token, join and node that need no cluster."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from portside.cli import drain
from portside.cli.api import Refused
from portside.cli.drain import refuse, sort_pods
from portside.cli.node import row, state
from portside.cli.steps import CliError
from portside.cli.token import seconds, secret

Json = dict[str, Any]


def test_times_are_read_with_their_unit() -> None:
    assert [seconds(t) for t in ("90s", "30m", "24h", "7d", "0", "2")] == [90, 1800, 86400, 604800, 0, 7200]
    assert seconds("90", "s") == 90
    for wrong in ("", "-1h", "soon", "1w"):
        with pytest.raises(CliError, match="is not a time"):
            seconds(wrong)


def test_a_token_is_a_secret_that_signs_and_authenticates() -> None:
    made = secret("abc123.0123456789abcdef", "2026-01-01T00:00:00Z")
    assert made["metadata"] == {"name": "bootstrap-token-abc123", "namespace": "kube-system"}
    assert made["type"] == "bootstrap.kubernetes.io/token"
    assert (
        made["stringData"]["usage-bootstrap-signing"] == made["stringData"]["usage-bootstrap-authentication"] == "true"
    )
    assert "expiration" not in secret("abc123.0123456789abcdef", "")["stringData"]


def pod(name: str, owner: str = "", volume: str = "", phase: str = "Running", **more: Any) -> Json:
    refs = [{"kind": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "d", "uid": name, "ownerReferences": refs} | more,
        "spec": {"volumes": [{"name": "v", volume: {}}]} if volume else {},
        "status": {"phase": phase},
    }


MIRROR = pod("m", annotations={"kubernetes.io/config.mirror": "x"})
SET = "ReplicaSet"


def names(pods: list[Json]) -> list[str]:
    return [p["metadata"]["name"] for p in pods]


def test_a_drain_moves_what_is_made_anew_and_asks_about_the_rest() -> None:
    found = sort_pods([pod("a", SET, "emptyDir"), pod("b"), pod("c", "DaemonSet"), MIRROR, pod("e", phase="Failed")])
    assert names(found.wanted) == ["a", "b", "e"]
    assert names(found.lonely) == ["b"]
    assert names(found.holding) == ["a"]
    assert names(found.staying) == ["c", "m"]


def options(**given: Any) -> argparse.Namespace:
    usual = {"name": "w", "force": False, "delete_emptydir_data": False, "grace_period": -1, "timeout": "300s"}
    return argparse.Namespace(**(usual | given))


def test_a_drain_is_refused_with_all_that_would_be_lost_before_anything_is_done() -> None:
    found = sort_pods([pod("a", SET, "emptyDir"), pod("b"), *(pod(f"x{n}") for n in range(20))])
    with pytest.raises(CliError) as refused:
        refuse(found, options())
    assert refused.value.code == 7
    assert "nothing would make these pods anew: d/b, d/x0" in refused.value.what
    assert "and 11 more" in refused.value.what
    assert "emptyDir volumes, whose data would be lost: d/a" in refused.value.what
    assert refused.value.todo.endswith("--force --delete-emptydir-data")
    refuse(found, options(force=True, delete_emptydir_data=True))


class Budgeted:
    """An API with one node's pods: those in ``kept`` may not be evicted yet, the rest goes at once."""

    def __init__(self, *pods: Json, kept: tuple[str, ...] = (), ready: str = "True") -> None:
        self.pods, self.kept, self.ready, self.sent = list(pods), set(kept), ready, list[str]()

    def send(self, method: str, path: str, body: bytes | None = None, *_: object) -> Json:
        if method == "GET" and "/pods" in path:
            return {"items": list(self.pods)}
        if method == "GET":
            return {"status": {"conditions": [{"type": "Ready", "status": self.ready}]}}
        name = json.loads(body or b"")["metadata"]["name"]
        self.sent.append(name)
        if name in self.kept:
            raise Refused(429, {"message": "Cannot evict pod as it would violate the pod's disruption budget."})
        if self.ready == "True":
            self.pods = [p for p in self.pods if p["metadata"]["name"] != name]
        return {}


def test_a_drain_asks_a_budget_again_in_its_time_and_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    api, said, now = Budgeted(pod("a", SET), pod("b", SET), pod("c", "DaemonSet"), kept=("b",)), list[str](), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 7:
            api.kept.clear()

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    drain.Drain(api, "w").run(said.append, 300)  # type: ignore[arg-type]
    assert api.sent == ["a", "b", "b", "b"]  # a budget is not hammered
    assert said[0] == "0 of 2 pods have gone; d/b: Cannot evict pod as it would violate the pod's disruption budget."
    assert said[1].startswith("1 of 2 pods have gone; d/b: ")
    assert said[-1] == "2 pods have gone, 1 of DaemonSets stay"


def test_a_drain_ends_with_its_time_or_with_its_node(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    with pytest.raises(CliError, match="pods are still on w after 2 s: d/b") as late:
        drain.Drain(Budgeted(pod("b", SET), kept=("b",)), "w").run(lambda note: None, 2)  # type: ignore[arg-type]
    assert "disruption budget" in late.value.why
    with pytest.raises(drain.Silent, match="w does not answer, so nobody says that its pods ended: d/b") as lost:
        drain.Drain(Budgeted(pod("b", SET), ready="Unknown"), "w").run(lambda note: None, 300)  # type: ignore[arg-type]
    assert "portside node remove w" in lost.value.todo


def test_the_list_of_nodes_says_for_how_long_one_is_silent_and_what_keeps_pods_away() -> None:
    def node(ready: str, **more: Any) -> Json:
        conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]
        conditions.append({"type": "DiskPressure", "status": "True"})
        return {"metadata": {"name": "w", "creationTimestamp": "1970-01-01T00:00:00Z"}, "spec": more} | {
            "status": {"conditions": conditions, "addresses": [{"type": "InternalIP", "address": "192.0.2.7"}]}
        }

    assert state(node("True"), 200.0) == "Ready,DiskPressure"
    assert state(node("Unknown", unschedulable=True), 200.0) == "NotReady for 3m,DiskPressure,SchedulingDisabled"
    assert row(node("True", podCIDR="10.244.1.0/24"), 90000.0)[2:5] == ("1d", "192.0.2.7", "10.244.1.0/24")
    assert row({"metadata": {"name": "new"}, "spec": {}}, 0.0)[:3] == ("new", "NotReady", "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://192.0.2.1:6443", "--token", "abc123.0123456789abcdef"], "is not an https address"),
        (["https://192.0.2.1:6443", "--token", "abc"], "the token is not of the form ID.SECRET"),
        (
            ["https://192.0.2.1:6443", "--token", "abc123.0123456789abcdef", "--ca-hash", "md5:1"],
            "the hash is not of the form sha256:HEX",
        ),
    ],
)
def test_a_wrong_join_command_says_what_is_wrong_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "portside.cli.main", "join", "--home", str(tmp_path / "h"), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "h").exists()
