"""The arithmetic of a Deployment's rollout: fence posts, sizes, proportions. Rules: upstream's deployment/util."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from portside.base.clock import parse_time
from portside.client.protocol import Json

REVISION = "deployment.kubernetes.io/revision"
HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAX = "deployment.kubernetes.io/max-replicas"
UNCOPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        "deprecated.deployment.rollback.to",
        REVISION,
        HISTORY,
        DESIRED,
        MAX,
    }
)
HISTORY_CHARS = 2000


def scaled(value: int | str | None, total: int, *, up: bool) -> int:
    """An IntOrString against a total."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    share = int(value.rstrip("%")) * total / 100
    return math.ceil(share) if up else math.floor(share)


def replicas(obj: Json) -> int:
    return int(obj["spec"].get("replicas", 1))


def count(obj: Json, name: str) -> int:
    return int((obj.get("status") or {}).get(name) or 0)


def rolling(deployment: Json) -> bool:
    return bool((deployment["spec"].get("strategy") or {}).get("type", "RollingUpdate") == "RollingUpdate")


def fences(deployment: Json) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; never both 0."""
    if not rolling(deployment):
        return 0, 0
    wanted = replicas(deployment)
    parameters = deployment["spec"]["strategy"].get("rollingUpdate") or {}
    surge = scaled(parameters.get("maxSurge", "25%"), wanted, up=True)
    unavailable = scaled(parameters.get("maxUnavailable", "25%"), wanted, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, (0 if wanted == 0 else min(unavailable, wanted))


def created(obj: Json) -> tuple[float, str]:
    return parse_time(obj["metadata"].get("creationTimestamp")) or 1e18, obj["metadata"].get("name", "")


def notes(obj: Json) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations") or {})


def number(obj: Json, annotation: str) -> int:
    """An annotation as a number, 0 when absent or no number."""
    try:
        return int(notes(obj).get(annotation, "0"))
    except ValueError:
        return 0


@dataclass(slots=True)
class Sizes:
    """The sizes of a Deployment's replica sets while a plan changes them; the objects stay as they are."""

    deployment: Json
    size: dict[str, int] = field(default_factory=dict)

    def of(self, rs: Json) -> int:
        name = rs["metadata"]["name"]
        return self.size[name] if name in self.size else replicas(rs)

    def total(self, sets: list[Json]) -> int:
        return sum(self.of(rs) for rs in sets)


def new_size(deployment: Json, sets: list[Json], held: int, sizes: Sizes) -> int:
    """How far the new set may grow now."""
    wanted = replicas(deployment)
    if not rolling(deployment):
        return wanted
    room = wanted + fences(deployment)[0] - sizes.total(sets)
    return held if room <= 0 else held + min(room, wanted - held)


def old_sizes(deployment: Json, new: Json | None, old: list[Json], sizes: Sizes) -> dict[str, int]:
    """New sizes of old sets in a rolling update: first those pods that don't work, then what availability allows."""
    active = [rs for rs in old if sizes.of(rs) > 0]
    if not active:
        return {}
    everything = [*old, *([new] if new else [])]
    floor = replicas(deployment) - fences(deployment)[1]
    missing = max(sizes.of(new) - count(new, "availableReplicas"), 0) if new else 0
    spare = sizes.total(everything) - floor - missing
    if spare <= 0:
        return {}
    found: dict[str, int] = {}
    cleaned = 0
    for rs in sorted(active, key=created):
        size = sizes.of(rs)
        broken = min(spare - cleaned, size - count(rs, "availableReplicas"))
        if broken > 0:
            found[rs["metadata"]["name"]] = size - broken
            cleaned += broken
    surplus = sum(count(rs, "availableReplicas") for rs in everything) - floor
    for rs in sorted(active, key=created):
        if surplus <= 0:
            break
        name = rs["metadata"]["name"]
        size = found.get(name, sizes.of(rs))
        down = min(size, surplus)
        if down > 0:
            found[name] = size - down
            surplus -= down
    return found


def _round(value: float) -> int:
    return int(value - 0.5) if value < 0 else int(value + 0.5)


def proportion(deployment: Json, rs: Json, to_add: int, added: int) -> int:
    """One set's share of what a scaling adds (or takes, negative)."""
    size = replicas(rs)
    if size == 0 or to_add in (0, added):
        return 0
    wanted = replicas(deployment)
    if wanted == 0:
        share = -size
    else:
        before = number(rs, MAX) or count(deployment, "replicas")
        share = _round(size * (wanted + fences(deployment)[0]) / before) - size if before else 0
    return min(share, to_add - added) if to_add > 0 else max(share, to_add - added)


def proportional_sizes(deployment: Json, active: list[Json]) -> dict[str, int]:
    """Sizes of all active sets after a scaling in the middle of a rollout."""
    wanted = replicas(deployment)
    allowed = wanted + fences(deployment)[0] if wanted > 0 else 0
    to_add = allowed - sum(replicas(rs) for rs in active)

    def order(rs: Json) -> tuple[float, ...]:
        age = created(rs)[0]
        return (-replicas(rs), -age if to_add > 0 else age)

    ordered = sorted(active, key=order)
    added = 0
    found: dict[str, int] = {}
    for rs in ordered:
        share = proportion(deployment, rs, to_add, added)
        found[rs["metadata"]["name"]] = replicas(rs) + share
        added += share
    if ordered and to_add:
        first = ordered[0]["metadata"]["name"]
        found[first] = max(found[first] + to_add - added, 0)
    return found


def set_annotations(deployment: Json, rs: Json, revision: int, *, exists: bool) -> dict[str, str]:
    """The annotations the newest set should have: the Deployment's, the revision, and the revisions it had before."""
    found = notes(rs)
    for name, value in notes(deployment).items():
        if name not in UNCOPIED:
            found[name] = value
    held = number(rs, REVISION)
    if held < revision:
        old = found.get(REVISION, "")
        found[REVISION] = str(revision)
        if exists and old:
            history = [h for h in found.get(HISTORY, "").split(",") if h] + [old]
            while len(",".join(history)) > HISTORY_CHARS:
                history.pop(0)
            found[HISTORY] = ",".join(history)
    if not exists:
        found |= size_annotations(deployment)
    return found


def size_annotations(deployment: Json) -> dict[str, str]:
    wanted = replicas(deployment)
    return {DESIRED: str(wanted), MAX: str(wanted + fences(deployment)[0])}
