"""The command line: what a person reads when something is wrong, and files that decide nothing half."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from portside.cli import main as cli
from portside.cli.kubeconfig import merge
from portside.cli.manifests import load, unready
from portside.cli.packages import PACKAGES
from portside.cli.steps import CliError
from portside.cli.up import images_of
from portside.run.home import Home, write_private
from portside.run.networks import choose, clash, routed


def write(folder: Path, text: str) -> str:
    path = folder / "m.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n- 2\n", "not an object"),
        ("kind: Pod\n", "apiVersion is missing"),
        ("apiVersion: v1\nkind: Pod\n", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: y}\n", "metadata.name is true, not text"),
        ("apiVersion: v1\nkind: Pod\nkind: Job\nmetadata: {name: a}\n", 'key "kind" already set'),
    ],
)
def test_a_bad_manifest_is_refused_before_anything_starts(
    tmp_path: Path, text: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["up", write(tmp_path, text), "--simulate", "1", "--home", str(tmp_path / "home")])
    assert code == 6
    assert word in capsys.readouterr().err
    assert not (tmp_path / "home").exists()


def test_manifests_are_ordered_and_lists_are_opened(tmp_path: Path) -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: ns}}\n"
    assert [m.title for m in load([write(tmp_path, text)])] == ["namespace/ns", "deployment/d"]


def test_verbs_without_a_cluster_say_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("status", "down", "logs", "kubeconfig", "reset"):
        assert cli.main([verb, "--home", str(tmp_path / "none")]) == 4
        assert str(tmp_path) in capsys.readouterr().err


def test_readiness_follows_generation_and_counts() -> None:
    deployment = {
        "kind": "Deployment",
        "metadata": {"name": "d", "generation": 2},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 1},
    }
    assert unready(deployment) == "waiting for its controller"
    deployment["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}
    assert unready(deployment) == "1 of 2 pods ready"
    deployment["status"] = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert unready(deployment) == ""
    with pytest.raises(CliError, match="job j failed"):
        unready(
            {"kind": "Job", "metadata": {"name": "j"}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}}
        )


def test_images_are_found_wherever_a_container_is() -> None:
    body = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [{"name": "a", "image": "x:1"}],
                    "initContainers": [{"name": "b", "image": "y:1"}],
                }
            }
        }
    }
    assert images_of(body) == {"x:1", "y:1"}


def test_merging_a_kubeconfig_keeps_the_users_own_entries() -> None:
    own = {"clusters": [{"name": "p", "cluster": {"server": "s"}}], "users": [{"name": "p", "user": {"token": "t"}}]}
    theirs = {
        "clusters": [{"name": "work", "cluster": {}}],
        "contexts": [{"name": "work", "context": {}}],
        "current-context": "work",
    }
    merged = merge(theirs, own, "portside")
    again = merge(merged, own, "portside")
    assert again == merged
    assert [c["name"] for c in merged["clusters"]] == ["work", "portside"]  # type: ignore[attr-defined]
    assert merged["current-context"] == "portside"


def test_records_tell_a_process_from_its_successor(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.make()
    record = home.save_record("agent", os.getpid())
    assert record.alive
    write_private(
        home.records / "agent.json", json.dumps({"name": "agent", "pid": os.getpid(), "ticks": 1, "since": ""})
    )
    other = home.record("agent")
    assert other is not None
    assert not other.alive
    assert (home.records / "agent.json").stat().st_mode & 0o777 == 0o600


def test_networks_avoid_what_is_routed() -> None:
    table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0102A8C0\t3\t0\t0\t0\t00000000\ncni0\t0000F40A\t0\t1\t0\t0\t0\t0000FFFF\n"
    assert [(str(r.network), r.device) for r in routed(table)] == [("10.244.0.0/16", "cni0")]
    assert choose(["10.244.0.0/16", "10.245.0.0/16"], routed(table)) == "10.245.0.0/16"
    assert choose(["10.244.0.0/24"], routed(table)) is None
    # A cluster that comes back asks whether somebody else took its range meanwhile.
    assert clash("10.244.0.0/16", "cni0", routed(table)) is None
    other = clash("10.244.0.0/16", "portside0", routed(table))
    assert other is not None
    assert other.device == "cni0"


def test_every_package_says_why() -> None:
    assert all(p.why and p.proof for p in PACKAGES)
