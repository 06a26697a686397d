"""How many replicas a metric asks for: upstream's replica calculator. Values are in thousandths. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from portside.api import quantity
from portside.base.clock import parse_time
from portside.client.protocol import Json
from portside.controllers.pods import condition, is_ready, is_terminating, phase

INITIAL_SECONDS = 300.0  # after its start a pod's CPU counts only with a whole window of readiness
NEVER_READY_SECONDS = 30.0  # a pod that is unready since this soon after its start was never ready
TOLERANCE = 0.1
NO_METRICS = "did not receive metrics for targeted pods (pods might be unready)"
NO_PODS = "no pods returned by selector while calculating replica count"


class NoProposal(Exception):
    """No number can be computed; the text says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's metric: thousandths, when measured, over which seconds."""

    value: int
    at: float = 0.0
    window: float = 60.0


@dataclass(frozen=True, slots=True)
class Tolerances:
    """How far a ratio may be from 1 without a change."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    def within(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(slots=True)
class _Groups:
    ready: int
    unready: set[str]
    missing: set[str]
    ignored: set[str]


def _unready(pod: Json, sample: Sample, now: float) -> bool:
    found, start = condition(pod, "Ready"), parse_time((pod.get("status") or {}).get("startTime"))
    if found is None or start is None:
        return True
    since = parse_time(found.get("lastTransitionTime")) or 0.0
    if start + INITIAL_SECONDS > now:
        return found.get("status") == "False" or sample.at < since + sample.window
    return found.get("status") == "False" and start + NEVER_READY_SECONDS > since


def _group(pods: Iterable[Json], samples: Mapping[str, Sample], resource: str, now: float) -> _Groups:
    found = _Groups(0, set(), set(), set())
    for pod in pods:
        name = pod["metadata"]["name"]
        if is_terminating(pod) or phase(pod) == "Failed":
            found.ignored.add(name)
        elif phase(pod) == "Pending":
            found.unready.add(name)
        elif name not in samples:
            found.missing.add(name)
        elif resource == "cpu" and _unready(pod, samples[name], now):
            found.unready.add(name)
        else:
            found.ready += 1
    return found


def requests_of(pods: Iterable[Json], container: str, resource: str) -> dict[str, int]:
    """Pod -> what it requests, over all containers or one; sidecars count as containers."""
    found: dict[str, int] = {}
    for pod in pods:
        spec = pod.get("spec") or {}
        sidecars = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
        total = 0
        for part in [*(spec.get("containers") or ()), *sidecars]:
            if container and part["name"] != container:
                continue
            amount = ((part.get("resources") or {}).get("requests") or {}).get(resource)
            if amount is None:
                name = pod["metadata"]["name"]
                raise NoProposal(f"missing request for {resource} in container {part['name']} of Pod {name}")
            total += quantity.milli(amount)
        found[pod["metadata"]["name"]] = total
    return found


def by_utilization(
    current: int,
    target: int,
    samples: Mapping[str, Sample],
    pods: list[Json],
    container: str,
    resource: str,
    tolerances: Tolerances,
    now: float,
) -> tuple[int, int, int]:
    """(replicas, utilisation in percent of requests, average usage)."""
    if not pods:
        raise NoProposal(NO_PODS)
    groups = _group(pods, samples, resource, now)
    used = {n: s.value for n, s in samples.items() if n not in groups.ignored | groups.unready}
    if not used:
        raise NoProposal(NO_METRICS)
    requests = requests_of(pods, container, resource)

    def ratio() -> tuple[float, int, int]:
        counted = [n for n in used if n in requests]
        asked = sum(requests[n] for n in counted)
        if not asked:
            raise NoProposal("no metrics returned matched known pods")
        total = sum(used[n] for n in counted)
        percent = int(total * 100 / asked)
        return percent / target, percent, total // len(counted)

    first, percent, average = ratio()
    fallback = {n: requests.get(n, 0) * max(100, target) // 100 for n in groups.missing}
    size = _settle(current, first, used, groups, fallback, tolerances, lambda: ratio()[0])
    return size, percent, average


def by_average(
    current: int,
    target: int,
    samples: Mapping[str, Sample],
    pods: list[Json],
    resource: str,
    tolerances: Tolerances,
    now: float,
) -> tuple[int, int]:
    """(replicas, average usage) for a target per pod."""
    if not pods:
        raise NoProposal(NO_PODS)
    groups = _group(pods, samples, resource, now)
    used = {n: s.value for n, s in samples.items() if n not in groups.ignored | groups.unready}
    if not used:
        raise NoProposal(NO_METRICS)

    def average() -> int:
        return sum(used.values()) // len(used)

    first = average()
    fallback = dict.fromkeys(groups.missing, target)
    size = _settle(current, first / target, used, groups, fallback, tolerances, lambda: average() / target)
    return size, first


def _settle(
    current: int,
    ratio: float,
    used: dict[str, int],
    groups: _Groups,
    fallback: dict[str, int],
    tolerances: Tolerances,
    again: Callable[[], float],
) -> int:
    """Takes the worst of what is not known, and never turns the direction for it."""
    up_unready = bool(groups.unready) and ratio > 1.0
    if not up_unready and not groups.missing:
        return current if tolerances.within(ratio) else math.ceil(ratio * groups.ready)
    if groups.missing and ratio < 1.0:
        used.update(fallback)
    elif groups.missing and ratio > 1.0:
        used.update(dict.fromkeys(groups.missing, 0))
    if up_unready:
        used.update(dict.fromkeys(groups.unready, 0))
    new = again()
    if tolerances.within(new) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    size = math.ceil(new * len(used))
    if (new < 1.0 and size > current) or (new > 1.0 and size < current):
        return current
    return size


def by_value(current: int, value: int, target: int, pods: list[Json], tolerances: Tolerances) -> int:
    """Replicas for one value with a target for all pods together."""
    ratio = value / target
    if current == 0:
        return math.ceil(ratio)
    if tolerances.within(ratio):
        return current
    if not pods:
        raise NoProposal(NO_PODS)
    ready = sum(1 for p in pods if phase(p) == "Running" and is_ready(p))
    return math.ceil(ratio * ready)


def by_share(replicas: int, value: int, target: int, tolerances: Tolerances) -> tuple[int, int]:
    """(replicas, value per replica) for one value with a target per pod."""
    size = replicas
    if not replicas or not tolerances.within(value / (target * replicas)):
        size = math.ceil(value / target)
    return size, math.ceil(value / replicas) if replicas else 0
