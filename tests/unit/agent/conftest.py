"""Fixtures: a running agent without root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.agent.node import Node

from portside.agent import beneath, pressure
from portside.agent import node as keeping
from portside.agent.eviction import Signal


def roomy(home: Path) -> tuple[Signal, ...]:
    """A machine with room, whatever the one the tests run on has left."""
    return tuple(Signal(name, name, 1 << 20, 1 << 40) for name in ("memory", "ephemeral-storage", "inodes"))


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(beneath, "mount", lambda *a: None)  # no root needed: secrets lie in a plain folder here
    monkeypatch.setattr(pressure, "signals", roomy)
    monkeypatch.setattr(keeping, "signals", roomy)
    made = Node(tmp_path)
    await made.start()
    yield made
    await made.stop()
    await made.runtime.close()
