"""The table of causes, in the order in which they are asked: of a pod or a claim the first that holds is told."""

from __future__ import annotations

from portside.why import (
    claims,
    cluster,
    containers,
    deletions,
    devices,
    jobs,
    pods,
    refusals,
    scheduling,
    services,
    workloads,
)
from portside.why.finding import Cause

CAUSES: tuple[Cause, ...] = (
    *deletions.CAUSES,
    *cluster.CAUSES,
    *devices.CAUSES,
    *scheduling.CAUSES,
    *pods.CAUSES,
    *containers.CAUSES,
    *claims.CAUSES,
    *refusals.CAUSES,
    *jobs.CAUSES,
    *workloads.CAUSES,
    *services.CAUSES,
)


def causes_of(plural: str) -> list[Cause]:
    """The rows that are asked of a kind."""
    wild = {"*", "*.*"} if "." in plural else {"*"}
    return [c for c in CAUSES if plural in c.kinds or wild & {*c.kinds}]


def subjects() -> list[str]:
    """Every built-in kind that has a cause of its own."""
    return sorted({kind for cause in CAUSES for kind in cause.kinds if "*" not in kind})
