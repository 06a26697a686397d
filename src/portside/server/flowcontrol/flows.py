"""From a request to its flow: the schema and the level it belongs to, where it waits, and the headers that say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from portside.server.attributes import Attributes
from portside.server.flowcontrol.levels import Level, Rejected, Room
from portside.server.flowcontrol.schemas import Schema, compile_schemas
from portside.server.request import Response

if TYPE_CHECKING:
    from portside.server.live import Live

GROUP = "flowcontrol.apiserver.k8s.io"
CONNECTIONS = frozenset(("attach", "exec", "log", "portforward", "proxy"))
MOST_FLOWS = 8192
"""Flows remembered; more are worked out again."""

_SEATS: tuple[tuple[str, str, Callable[[Level], int]], ...] = (
    ("nominal_limit_seats", "Seats of a priority level by its share.", lambda level: level.seats),
    ("lower_limit_seats", "Seats that a priority level keeps to itself.", lambda level: level.seats - level.lendable),
    ("upper_limit_seats", "Seats that a priority level may have with borrowed ones.", lambda level: level.most),
)


class Flow:
    """What requests of one kind by one user have in common."""

    __slots__ = ("exempt", "headers", "level", "queues")

    def __init__(self, schema: Schema, level: Level, attributes: Attributes) -> None:
        self.level = level
        self.exempt = level.exempt
        self.queues = level.deal(schema.name, schema.flow_of(attributes))
        self.headers = (
            ("X-Kubernetes-PF-FlowSchema-UID", schema.uid),
            ("X-Kubernetes-PF-PriorityLevel-UID", level.uid),
        )

    async def enter(self) -> None:
        """Take a seat, waiting if it must. Raises Rejected. Follow it by ``level.leave()``."""
        if not self.level.take():
            await self.level.wait(self.queues)


class Flows:
    """All flows of a server, compiled from its FlowSchemas and PriorityLevelConfigurations as they change."""

    def __init__(self, live: Live) -> None:
        self._schemas = live.of("flowschemas", GROUP)
        self._levels = live.of("prioritylevelconfigurations", GROUP)
        self._compiled: tuple[tuple[Schema, ...], Room] | None = None
        self._known: dict[tuple[object, ...], Flow | None] = {}
        for mirror in (self._schemas, self._levels):
            mirror.on_change(self._changed)

    def _changed(self, key: str) -> None:
        self._compiled = None
        self._known.clear()

    def of(self, attributes: Attributes) -> Flow | None:
        """The request's flow; None for connections, which are not limited, and where nothing is configured."""
        user = attributes.user
        key: tuple[object, ...]
        if attributes.is_resource:
            key = (
                user.name,
                user.groups,
                attributes.verb,
                attributes.group,
                attributes.resource,
                attributes.subresource,
                attributes.namespace,
            )
        else:
            key = (user.name, user.groups, attributes.verb, attributes.path)
        try:
            return self._known[key]
        except KeyError:
            pass
        if len(self._known) >= MOST_FLOWS:
            self._known.clear()
        found = self._known[key] = self._find(attributes)
        return found

    def _find(self, attributes: Attributes) -> Flow | None:
        if attributes.subresource in CONNECTIONS or attributes.verb == "proxy":
            return None
        schemas, room = self._present()
        for schema in schemas:
            level = room.levels.get(schema.level)
            if level is not None and schema.matches(attributes):
                return Flow(schema, level, attributes)
        return None

    def _present(self) -> tuple[tuple[Schema, ...], Room]:
        if self._compiled is None:
            # Requests at work keep the levels they came in by; those end with them.
            self._compiled = (compile_schemas(list(self._schemas.items())), Room(list(self._levels.items())))
        return self._compiled

    def render(self) -> Iterator[str]:
        """The seats of every level, as lines of the text format under upstream's names."""
        levels = self._present()[1].levels
        for name, told, seats in _SEATS:
            yield f"# HELP apiserver_flowcontrol_{name} {told}"
            yield f"# TYPE apiserver_flowcontrol_{name} gauge"
            for level, found in levels.items():
                yield f'apiserver_flowcontrol_{name}{{priority_level="{level}"}} {seats(found)}'


def too_many() -> Response:
    """The answer to who found no seat."""
    text = b"Too many requests, please try again later.\n"
    return Response(429, text, "text/plain; charset=utf-8", [("Retry-After", "1")])


__all__ = ["Flow", "Flows", "Rejected", "too_many"]
