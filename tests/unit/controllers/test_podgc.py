"""Finished pods beyond what is kept: which of them go."""

from __future__ import annotations

from typing import Any

from portside.base.clock import rfc3339
from portside.client.cache import View
from portside.controllers.podgc import PODS, surplus

Json = dict[str, Any]


def finished(name: str, age: float, reason: str = "", phase: str = "Failed") -> Json:
    meta = {"name": name, "namespace": "ns", "creationTimestamp": rfc3339(1_790_000_000 - age)}
    return {"metadata": meta, "status": {"phase": phase} | ({"reason": reason} if reason else {})}


def test_evicted_pods_go_first_then_the_oldest_and_running_ones_never() -> None:
    pods = [
        finished("old", 90),
        finished("young", 10),
        finished("evicted", 20, "Evicted"),
        finished("running", 99, phase="Running"),
    ]
    view = View.of({PODS: pods})
    assert [p["metadata"]["name"] for p in surplus(view, 1)] == ["evicted", "old"]
    assert surplus(view, 3) == []
