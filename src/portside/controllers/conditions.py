"""Status conditions, set the way upstream's controllers set them."""

from __future__ import annotations

from portside.base.clock import rfc3339
from portside.client.protocol import Json


def find(conditions: list[Json], name: str) -> Json | None:
    """The condition of this type."""
    return next((c for c in conditions if c.get("type") == name), None)


def without(conditions: list[Json], name: str) -> list[Json]:
    return [c for c in conditions if c.get("type") != name]


def make(name: str, status: str, reason: str, message: str, now: float, *, update_time: bool = False) -> Json:
    """A new condition; ``update_time`` adds lastUpdateTime, which only some kinds have."""
    stamp = rfc3339(now)
    found: Json = {"type": name, "status": status}
    if update_time:
        found["lastUpdateTime"] = stamp
    found["lastTransitionTime"] = stamp
    found["reason"] = reason
    found["message"] = message
    return found


def put(conditions: list[Json], new: Json) -> list[Json]:
    """Replaces by type, at the end. Same status and reason: nothing changes; same status: the transition time stays."""
    held = find(conditions, new["type"])
    if held is not None and held.get("status") == new["status"] and held.get("reason") == new.get("reason"):
        return conditions
    if held is not None and held.get("status") == new["status"] and "lastTransitionTime" in held:
        new = {**new, "lastTransitionTime": held["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]
