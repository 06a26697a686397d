"""Fixtures: a running agent without root."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.agent.node import Node

from portside.agent import beneath


@pytest.fixture
async def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setattr(beneath, "mount", lambda *a: None)  # no root needed: secrets lie in a plain folder here
    made = Node(tmp_path)
    await made.start()
    yield made
    await made.stop()
    await made.runtime.close()
