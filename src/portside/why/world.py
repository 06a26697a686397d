"""What was read of a cluster, with the indexes that causes ask for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from portside.api.kinds import KINDS, Kind
from portside.why.finding import Fact, condition, shown, title

Json = dict[str, Any]
BUILT_IN: dict[str, Kind] = {k.plural: k for k in reversed(KINDS)}  # of two "events" the core's, which comes first
PLURALS: dict[tuple[str, str], str] = {(k.group, k.kind): k.plural for k in BUILT_IN.values()}


def plural_of(obj: Json) -> str:
    """``pods``; of a kind that is not built in ``Kind.group``, which no built-in plural looks like."""
    group = obj.get("apiVersion", "v1").rpartition("/")[0]
    return PLURALS.get((group, obj["kind"])) or f"{obj['kind']}.{group}"


def seconds(text: str | None) -> float | None:
    """A time stamp of the API as seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def last_seen(event: Json) -> float:
    """When an event happened last."""
    series = event.get("series") or {}
    stamps = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    made = event["metadata"].get("creationTimestamp")
    return max((s for s in map(seconds, (*stamps, made)) if s is not None), default=0.0)


def times(event: Json) -> int:
    return int((event.get("series") or {}).get("count") or event.get("count") or 1)


class World:
    """A snapshot. ``named`` holds ConfigMaps, Secrets and the like that were asked for one by one, by plural, namespace
    and name, None for what does not exist; of their data only the keys. ``unread`` says why a plural could not be read;
    ``partial`` names those of which only a part was."""

    def __init__(
        self,
        objects: Mapping[str, Iterable[Json]],
        *,
        now: float,
        named: Mapping[tuple[str, str, str], Json | None] | None = None,
        unread: Mapping[str, str] | None = None,
        partial: Iterable[str] = (),
    ) -> None:
        self.now = now
        self.unread = dict(unread or {})
        self.partial = frozenset(partial)
        self._named = dict(named or {})
        self._objects = {plural: list(found) for plural, found in objects.items()}
        self._spaces: dict[tuple[str, str], list[Json]] = {}
        self._by_label: dict[tuple[str, str, str], list[Json]] | None = None
        self._by_name: dict[tuple[str, str, str], Json] = {}
        self._owned: dict[str, list[Json]] = {}
        self._events: dict[tuple[str, str, str, str], list[Json]] = {}
        for plural, found in self._objects.items():
            if plural == "events":
                self._index_events(found)
                continue
            for obj in found:
                meta = obj["metadata"]
                self._by_name[(plural, meta.get("namespace", ""), meta["name"])] = obj
                self._spaces.setdefault((plural, meta.get("namespace", "")), []).append(obj)
                for ref in meta.get("ownerReferences") or ():
                    if ref.get("controller"):
                        self._owned.setdefault(ref["uid"], []).append(obj)

    def _index_events(self, events: list[Json]) -> None:
        for event in sorted(events, key=last_seen, reverse=True):
            about = event.get("involvedObject") or {}
            key = (about.get("kind", ""), about.get("namespace", ""), about.get("name", ""), about.get("uid", ""))
            self._events.setdefault(key, []).append(event)

    def all(self, plural: str, namespace: str | None = None) -> list[Json]:
        """What was read of a kind; within a namespace when one is named."""
        return self._objects.get(plural, []) if namespace is None else self._spaces.get((plural, namespace), [])

    def labelled(self, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        """The pods of a namespace that have all of the labels; all of them without labels."""
        if self._by_label is None:
            self._by_label = {}
            for pod in self._objects.get("pods", ()):
                meta = pod["metadata"]
                for pair in (meta.get("labels") or {}).items():
                    self._by_label.setdefault((meta.get("namespace", ""), *pair), []).append(pod)
        if not labels:
            return self.all("pods", namespace)
        fewest = min((self._by_label.get((namespace, *pair), []) for pair in labels.items()), key=len)
        wanted = labels.items()
        return [p for p in fewest if wanted <= p["metadata"]["labels"].items()]

    def knows(self, plural: str) -> bool:
        """Whether all of a kind was read, so that what is not here does not exist."""
        return plural in self._objects and plural not in self.unread and plural not in self.partial

    def plurals(self) -> Iterable[str]:
        return self._objects

    def get(self, plural: str, name: str, namespace: str = "") -> Json | None:
        return self._by_name.get((plural, namespace, name)) or self._named.get((plural, namespace, name))

    def missing(self, plural: str, name: str, namespace: str = "") -> bool:
        """It is known that there is no such object; what may not be read is not missing."""
        key = (plural, namespace, name)
        if key in self._named:
            return self._named[key] is None
        return self.knows(plural) and key not in self._by_name

    def owned(self, obj: Json) -> list[Json]:
        """What the object controls, of the kinds that were read."""
        return self._owned.get(obj["metadata"].get("uid", ""), [])

    def events(self, obj: Json, *reasons: str) -> list[Json]:
        """Events of an object, newest first. Those of nodes may give the name in place of the UID, as kubelets do."""
        meta = obj["metadata"]
        found: list[Json] = []
        for uid in (meta.get("uid", ""), "", meta["name"]):
            for namespace in {meta.get("namespace", ""), ""}:
                found += self._events.get((obj["kind"], namespace, meta["name"], uid), ())
        return [e for e in found if not reasons or e.get("reason") in reasons]

    def event(self, obj: Json, *reasons: str, holding: str = "") -> Json | None:
        """The newest event with one of the reasons whose message holds a text."""
        return next((e for e in self.events(obj, *reasons) if holding in (e.get("message") or "")), None)

    def told(self, obj: Json, event: Json | None) -> tuple[Fact, ...]:
        """An event as evidence; nothing for None."""
        if event is None:
            return ()
        ago = max(0, int(self.now - last_seen(event)))
        count = times(event)
        often = f" ({count} times, last {ago} s ago)" if count > 1 else f" ({ago} s ago)"
        return (Fact(title(obj), f"event {event.get('reason', '')}{often}", shown(event.get("message", ""))),)

    def age(self, obj: Json) -> float:
        """Seconds since it was made."""
        made = seconds(obj["metadata"].get("creationTimestamp"))
        return self.now - made if made is not None else 0.0

    def since(self, obj: Json, kind: str) -> float:
        """Seconds since a condition changed; the object's age without one."""
        changed = seconds(condition(obj, kind).get("lastTransitionTime"))
        return self.now - changed if changed is not None else self.age(obj)
