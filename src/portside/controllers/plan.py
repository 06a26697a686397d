"""What a planner answers: writes to make, events to record, and when to look again. Values only; the harness acts."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from portside.api.status import ApiError
from portside.client.protocol import Json, PatchType, Resource


@dataclass(frozen=True, slots=True)
class Emit:
    """An Event about ``obj``: ``kind`` is Normal or Warning."""

    obj: Json
    kind: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Op:
    """One write. ``ok`` and ``failed`` say which events follow; codes in ``ignore`` count as done."""

    verb: Literal["create", "update", "patch", "delete"]
    resource: Resource
    name: str = ""
    namespace: str = ""
    subresource: str = ""
    body: Any = None
    patch_type: PatchType = "merge"
    obj: Json | None = None
    ok: Callable[[Json], Iterable[Emit]] | None = None
    failed: Callable[[ApiError], Iterable[Emit]] | None = None
    ignore: frozenset[int] = frozenset()
    manager: str = ""  # of the fields, where it is not the controller's own name


Step = Op | Emit


@dataclass(frozen=True, slots=True)
class Failure:
    """A write that was refused."""

    op: Op
    error: ApiError


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in order; consecutive creates, and consecutive deletes, run side by side. A refusal ends the steps; ``then``
    continues knowing the refusals. ``again`` is seconds until the next look without any change."""

    steps: Sequence[Step] = ()
    then: Callable[[list[Failure]], Sequence[Step]] | None = None
    again: float | None = None


Thinking = Generator[None, None, Plan]
"""A plan that looks at very many objects: between two steps others get their turns, and the view may move on."""


def at_once(thinking: Thinking) -> Plan:
    """The plan, with everybody else waiting."""
    while True:
        try:
            next(thinking)
        except StopIteration as done:
            made: Plan = done.value
            return made


NOTHING = Plan()


@dataclass(slots=True)
class Draft:
    """A plan under construction."""

    steps: list[Step] = field(default_factory=list)
    again: float | None = None

    def add(self, *steps: Step) -> None:
        self.steps.extend(steps)

    def look_again(self, seconds: float | None) -> None:
        """Keeps the earliest."""
        if seconds is not None and (self.again is None or seconds < self.again):
            self.again = max(seconds, 0.0)

    def plan(self, then: Callable[[list[Failure]], Sequence[Step]] | None = None) -> Plan:
        return Plan(self.steps, then, self.again)


def create(
    resource: Resource,
    body: Json,
    *,
    ok: Callable[[Json], Iterable[Emit]] | None = None,
    failed: Callable[[ApiError], Iterable[Emit]] | None = None,
    ignore: frozenset[int] = frozenset(),
) -> Op:
    """``ignore={409}`` when somebody else may have created it."""
    meta = body["metadata"]
    return Op(
        "create",
        resource,
        meta.get("name", ""),
        meta.get("namespace", ""),
        body=body,
        ok=ok,
        failed=failed,
        ignore=ignore,
    )


def update(
    resource: Resource,
    body: Json,
    *,
    subresource: str = "",
    ok: Callable[[Json], Iterable[Emit]] | None = None,
    failed: Callable[[ApiError], Iterable[Emit]] | None = None,
) -> Op:
    """PUT with the resourceVersion that was read: a stale plan is refused and made again."""
    meta = body["metadata"]
    return Op(
        "update",
        resource,
        meta["name"],
        meta.get("namespace", ""),
        subresource,
        body,
        ok=ok,
        failed=failed,
    )


def update_status(resource: Resource, obj: Json, status: Json) -> Op:
    """PUT of ``/status`` with a new status."""
    return update(resource, {**obj, "status": status}, subresource="status")


def patch(
    resource: Resource,
    obj: Json,
    body: Any,
    *,
    patch_type: PatchType = "merge",
    subresource: str = "",
    ignore: frozenset[int] = frozenset(),
    ok: Callable[[Json], Iterable[Emit]] | None = None,
    manager: str = "",
) -> Op:
    meta = obj["metadata"]
    return Op(
        "patch",
        resource,
        meta["name"],
        meta.get("namespace", ""),
        subresource,
        body,
        patch_type,
        obj,
        ok=ok,
        ignore=ignore,
        manager=manager,
    )


def delete(
    resource: Resource,
    obj: Json,
    *,
    policy: str = "",
    grace: int | None = None,
    ok: Callable[[Json], Iterable[Emit]] | None = None,
    failed: Callable[[ApiError], Iterable[Emit]] | None = None,
) -> Op:
    """Deletes exactly the object that was seen (uid precondition); one that is gone counts as done."""
    meta = obj["metadata"]
    options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": meta["uid"]}}
    if policy:
        options["propagationPolicy"] = policy
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    return Op(
        "delete",
        resource,
        meta["name"],
        meta.get("namespace", ""),
        body=options,
        obj=obj,
        ok=ok,
        failed=failed,
        ignore=frozenset({404}),
    )
