"""When the failed pods of a Job may have successors: later with every failure since its last success."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from portside.base.clock import parse_time
from portside.client.protocol import Json
from portside.controllers.pods import condition, created

FIRST, LAST = 10.0, 600.0  # seconds; doubles with each failure in a row


@dataclass(frozen=True, slots=True)
class Record:
    """The failures of one Job (by uid) since its last success, and when the newest pod failed."""

    uid: str
    failures: int = 0
    last: float = 0.0

    def after(self, succeeded: Iterable[Json], failed: Iterable[Json]) -> Record:
        """With the pods that have ended since."""
        good, bad = [ended(p) for p in succeeded], sorted(ended(p) for p in failed)
        kept = 0 if good else self.failures
        if good:
            bad = [at for at in bad if at > max(good)]
        if bad:
            return Record(self.uid, kept + len(bad), bad[-1])
        return Record(self.uid) if good else self

    def left(self, now: float) -> float:
        """Seconds until pods may be made."""
        return remaining(self.failures, self.last, now)


def remaining(failures: int, last: float, now: float) -> float:
    """Seconds to wait after so many failures in a row, the last of them at ``last``."""
    if failures <= 0:
        return 0.0
    return max(last + min(FIRST * 2.0 ** min(failures - 1, 10), LAST) - now, 0.0)


def ended(pod: Json) -> float:
    """When the pod ended: by its containers, else when it stopped being ready, else by its deletion."""
    meta, at = pod["metadata"], _last_end(pod)
    if at is not None:
        return at
    ready: Any = condition(pod, "Ready") or {}
    since = parse_time(ready.get("lastTransitionTime")) if ready.get("status") == "False" else None
    if since is not None:
        return since
    leaving = parse_time(meta.get("deletionTimestamp"))
    return created(pod) if leaving is None else leaving - float(meta.get("deletionGracePeriodSeconds") or 0)


def _last_end(pod: Json) -> float | None:
    """The end of the last container, sidecars included; None while one of them has not ended."""
    status = pod.get("status") or {}
    inits = (pod.get("spec") or {}).get("initContainers") or ()
    sidecars = {c["name"] for c in inits if c.get("restartPolicy") == "Always"}
    listed = [*(status.get("containerStatuses") or ())]
    listed += [c for c in status.get("initContainerStatuses") or () if c.get("name") in sidecars]
    ends = [parse_time(((c.get("state") or {}).get("terminated") or {}).get("finishedAt")) for c in listed]
    known = [at for at in ends if at is not None]
    return max(known) if known and len(known) == len(ends) else None
