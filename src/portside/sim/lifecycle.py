"""How long a simulated pod takes for what, said by annotations of the pod; what it is like at a moment. Pure.

| annotation | what | default |
| --- | --- | --- |
| sim.portside.io/start-after | from the binding until its containers run | 0s |
| sim.portside.io/ready-after | from a start until it is ready | 0s |
| sim.portside.io/fail-after | from a start until its containers fail | never |
| sim.portside.io/end-after | from a start until they end well | never; at once for a Job's pod |
| sim.portside.io/stop-after | from a deletion until it is gone, at most its grace | what its preStop hooks sleep |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]
PREFIX = "sim.portside.io/"
SILENT = PREFIX + "silent"  # on a node: its agent says nothing any more
BACKOFF, MAX_BACKOFF = 10.0, 300.0  # seconds before a failed container runs again, as the kubelet's
MAX_RESTARTS = 1000  # runs looked at; a pod that failed more often stays in its last back-off
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")

PENDING, RUNNING, READY, WAITING, FAILED, SUCCEEDED = "pending", "running", "ready", "waiting", "failed", "succeeded"


def duration(text: str) -> float | None:
    """Seconds of ``1m30s``; None for anything that is no duration."""
    if not text or _PART.sub("", text):
        return None
    return sum(float(n) * UNITS[unit] for n, unit in _PART.findall(text))


@dataclass(frozen=True, slots=True)
class Life:
    """Seconds; None: never."""

    start: float = 0.0
    ready: float = 0.0
    fail: float | None = None
    end: float | None = None
    stop: float = 0.0

    @property
    def instant(self) -> bool:
        """Running and ready at once, and for good: no timer is needed."""
        return not self.start and not self.ready and self.fail is None and self.end is None


@dataclass(frozen=True, slots=True)
class Moment:
    """``stage`` of the containers, how often they were restarted, and when that changes (None: it stays)."""

    stage: str
    restarts: int
    until: float | None


INSTANT = Life()


def life_of(pod: Json) -> Life:
    """The pod's annotations as numbers; a word that is no duration counts as absent."""
    said = pod["metadata"].get("annotations") or {}
    job = any(o.get("kind") == "Job" for o in pod["metadata"].get("ownerReferences") or ())
    found = {k[len(PREFIX) :]: duration(str(v)) for k, v in said.items() if k.startswith(PREFIX)}
    sleep = _hooks_sleep(pod)
    if not found and not job and not sleep:
        return INSTANT
    fail, end = found.get("fail-after"), found.get("end-after")
    if job and fail is None and end is None:
        end = 0.0
    stop = found.get("stop-after")
    return Life(
        found.get("start-after") or 0.0, found.get("ready-after") or 0.0, fail, end, sleep if stop is None else stop
    )


def _hooks_sleep(pod: Json) -> float:
    """Seconds that the longest preStop hook of action sleep takes; other actions take no time here."""
    longest = 0.0
    for container in pod["spec"].get("containers") or ():
        if hooks := container.get("lifecycle"):
            action = (hooks.get("preStop") or {}).get("sleep") or {}
            longest = max(longest, float(action.get("seconds") or 0))
    return longest


def at(life: Life, policy: str, began: float, now: float) -> Moment:
    """What the pod is like ``now``, bound at ``began``, by its restart policy."""
    run = began + life.start
    if now < run:
        return Moment(PENDING, 0, run)
    fails = life.fail is not None and (life.end is None or life.fail <= life.end)
    length = life.fail if fails else life.end
    if length is None:
        ready = run + life.ready
        return Moment(READY, 0, None) if now >= ready else Moment(RUNNING, 0, ready)
    again = policy == "Always" or (policy == "OnFailure" and fails)
    for restarts in range(MAX_RESTARTS):
        ready, stop = run + life.ready, run + length
        if now < stop:
            if now < ready:
                return Moment(RUNNING, restarts, min(ready, stop))
            return Moment(READY, restarts, stop)
        if not again:
            return Moment(FAILED if fails else SUCCEEDED, restarts, None)
        run = stop + min(BACKOFF * 2**restarts, MAX_BACKOFF)
        if now < run:
            return Moment(WAITING, restarts, run)
    return Moment(WAITING, MAX_RESTARTS, None)
