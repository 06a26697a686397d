"""Containers whose shim ends just while they are stopped: asked again, the runtime knows that they are gone."""

from __future__ import annotations

from typing import Any

import pytest

from portside.agent import cri
from portside.agent.cri import CriRuntime
from portside.agent.runtime import RuntimeFailure

CLOSED = 'failed to stop sandbox container "s" in "SANDBOX_READY" state: failed to kill sandbox container: ttrpc: closed: unknown'


def answering(monkeypatch: pytest.MonkeyPatch, *answers: RuntimeFailure | None) -> list[str]:
    """A runtime that gives these answers, one a call; what it was asked."""
    asked: list[str] = []
    left = list(answers)

    async def call(self: CriRuntime, name: str, request: Any, **more: Any) -> None:
        asked.append(name)
        if (answer := left.pop(0)) is not None:
            raise answer

    monkeypatch.setattr(CriRuntime, "_call", call)
    monkeypatch.setattr(cri, "SHIM_PAUSES", (0.0, 0.0))
    return asked


async def test_a_shim_that_ends_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, RuntimeFailure(CLOSED), None)
    await CriRuntime("/nowhere").stop_sandbox("s")
    assert asked == ["StopPodSandbox"] * 2


async def test_one_that_never_answers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, *[RuntimeFailure(CLOSED)] * 3)
    with pytest.raises(RuntimeFailure, match="ttrpc: closed"):
        await CriRuntime("/nowhere").stop_sandbox("s")
    assert len(asked) == 3


async def test_other_failures_are_told_at_once_and_absence_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch, RuntimeFailure("no space"), RuntimeFailure("gone", "NOT_FOUND"))
    with pytest.raises(RuntimeFailure, match="no space"):
        await CriRuntime("/nowhere").stop_sandbox("s")
    await CriRuntime("/nowhere").stop_sandbox("s")
    assert len(asked) == 2
