"""What is just being started when a node is stopped is ended all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from portside.agent import cri
from portside.agent.containerd import Containerd, ContainerdError
from portside.agent.runtime import RuntimeFailure
from portside.run import node


class Starting:
    """A runtime with a container that is in its starting state for some looks."""

    looks = 2

    def __init__(self, socket: str) -> None:
        del socket

    async def answering(self) -> None: ...

    async def close(self) -> None: ...

    async def containers(self) -> list[Any]:
        return []

    async def sandboxes(self) -> list[Any]:
        Starting.looks -= 1
        if Starting.looks >= 0:
            raise RuntimeFailure("container is in starting state, can't be removed")
        return []


class Started:
    socket = Path("/nowhere")

    async def start(self) -> None: ...


def prepared(monkeypatch: pytest.MonkeyPatch, looks: int) -> Containerd:
    monkeypatch.setattr(cri, "CriRuntime", Starting)
    Starting.looks = looks
    return Started()  # type: ignore[return-value]


async def test_a_container_that_is_being_started_is_ended_when_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    await node._end_pods(prepared(monkeypatch, 2))
    assert Starting.looks < 0


async def test_what_never_becomes_fit_to_be_ended_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "ENDS_WITHIN", 0.0)
    with pytest.raises(ContainerdError, match="starting state"):
        await node._end_pods(prepared(monkeypatch, 1000))
