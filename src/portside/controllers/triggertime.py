"""When what changed a Service's endpoints happened: an annotation from which the delay of programming it is measured."""

from __future__ import annotations

from collections.abc import Iterable

from portside.base.clock import parse_time, rfc3339
from portside.client.cache import key_of
from portside.client.protocol import Json
from portside.controllers.pods import condition, created

ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"


class TriggerTimes:
    """Remembers, per Service, what it has already accounted for. A restart forgets, and accounts for all once more."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, dict[str, float]]] = {}

    def forget(self, key: str) -> None:
        self._seen.pop(key, None)

    def since(self, service: Json, pods: Iterable[Json]) -> str:
        """The earliest news since the last look: a pod's change of readiness, the Service's creation; empty without any."""
        key = key_of(service)
        before, known = self._seen.get(key, (0.0, {}))
        now = {p["metadata"]["name"]: _ready_at(p) for p in pods}
        self._seen[key] = (created(service), now)
        news = [at for name, at in now.items() if at > known.get(name, 0.0)]
        if created(service) > before:
            news.append(created(service))
        return rfc3339(min(news)) if news else ""


def _ready_at(pod: Json) -> float:
    return parse_time((condition(pod, "Ready") or {}).get("lastTransitionTime")) or 0.0


def annotated(held: dict[str, str] | None, trigger: str) -> dict[str, str]:
    """An object's annotations with the time of this change, or without that of an earlier one."""
    kept = {k: v for k, v in (held or {}).items() if k != ANNOTATION}
    return kept | ({ANNOTATION: trigger} if trigger else {})
