"""Words of token, join and node that need no cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from portside.cli.node import sort_pods
from portside.cli.steps import CliError
from portside.cli.token import seconds, secret

Json = dict[str, Any]


def test_times_are_read_with_their_unit() -> None:
    assert [seconds(t) for t in ("90s", "30m", "24h", "7d", "0", "2")] == [90, 1800, 86400, 604800, 0, 7200]
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


def pod(name: str, owner: str = "", **more: Any) -> Json:
    refs = [{"kind": owner, "controller": True}] if owner else []
    return {
        "metadata": {"name": name, "namespace": "d", "ownerReferences": refs} | more,
        "status": {"phase": "Running"},
    }


def test_a_drain_moves_what_is_made_anew_and_asks_about_the_rest() -> None:
    mirror = pod("m", annotations={"kubernetes.io/config.mirror": "x"})
    ended = pod("e") | {"status": {"phase": "Succeeded"}}
    wanted, lonely = sort_pods([pod("a", "ReplicaSet"), pod("b"), pod("c", "DaemonSet"), mirror, ended])
    assert [p["metadata"]["name"] for p in wanted] == ["a", "b", "e"]
    assert [p["metadata"]["name"] for p in lonely] == ["b"]


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
