"""A read-only view of objects with indexes: what a planner decides from. Objects in it must never be changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from portside.client.protocol import Json, Resource

PODS: Resource = ("", "v1", "pods")
Index = Callable[[Json], Iterable[str]]


class Standing(NamedTuple):
    """``labels`` encoded with sorted keys; whether a pod has finished, is being deleted, is ready."""

    labels: bytes
    finished: bool
    terminating: bool
    ready: bool


Trait = Callable[[Json], Standing]


def key_of(obj: Json) -> str:
    """``namespace/name``, or the name alone for cluster-wide objects."""
    meta = obj["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split_key(key: str) -> tuple[str, str]:
    """(namespace or "", name)."""
    namespace, slash, name = key.rpartition("/")
    return (namespace, name) if slash else ("", key)


def controller_of(obj: Json) -> Json | None:
    """The owner reference with ``controller: true``. Not to be changed."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return ref  # type: ignore[no-any-return]
    return None


def kind_of(ref: Json) -> tuple[str, str]:
    """Kind and group of what an owner reference refers to."""
    return ref.get("kind", ""), ref.get("apiVersion", "").rpartition("/")[0]


def by_namespace(obj: Json) -> Iterable[str]:
    return (obj["metadata"].get("namespace", ""),)


def by_controller(obj: Json) -> Iterable[str]:
    """The controlling owner's uid; ``-/namespace`` for objects without one, where adoption looks."""
    meta = obj["metadata"]
    for ref in meta.get("ownerReferences") or ():
        if ref.get("controller"):
            return (ref.get("uid", ""),)
    return (f"-/{meta.get('namespace', '')}",)


def by_owner(obj: Json) -> Iterable[str]:
    """The uid of every owner."""
    refs = obj["metadata"].get("ownerReferences")
    if not refs:
        return ()
    return (refs[0].get("uid", ""),) if len(refs) == 1 else {ref.get("uid", "") for ref in refs}


def by_node(obj: Json) -> Iterable[str]:
    node = obj.get("spec", {}).get("nodeName")
    return (node,) if node else ()


def by_claim(obj: Json) -> Iterable[str]:
    """``namespace/name`` of the claim that a PersistentVolume refers to."""
    ref = obj.get("spec", {}).get("claimRef")
    return (f"{ref.get('namespace', '')}/{ref.get('name', '')}",) if ref else ()


def by_pool(obj: Json) -> Iterable[str]:
    """``driver/pool`` of a ResourceSlice, or of what a ResourceClaim was given."""
    if (pool := obj.get("spec", {}).get("pool")) is not None:
        return (f"{obj['spec'].get('driver', '')}/{pool.get('name', '')}",)
    allocation = (obj.get("status") or {}).get("allocation") or {}
    return {f"{r['driver']}/{r['pool']}" for r in (allocation.get("devices") or {}).get("results") or ()}


def standing(pod: Json) -> Standing:
    """What a controller counts its pods by."""
    meta, status = pod["metadata"], pod.get("status") or {}
    ready = False
    for condition in status.get("conditions") or ():
        if condition.get("type") == "Ready":
            ready = condition.get("status") == "True"
            break
    labels = orjson.dumps(meta.get("labels") or {}, option=orjson.OPT_SORT_KEYS)
    return Standing(labels, status.get("phase") in ("Succeeded", "Failed"), "deletionTimestamp" in meta, ready)


STANDARD: Mapping[str, Index] = {"namespace": by_namespace, "controller": by_controller, "owner": by_owner}


class ObjectCache:
    """Objects of one resource by key, and by every index."""

    def __init__(self, indexes: Mapping[str, Index] | None = None, trait: Trait | None = None) -> None:
        self._trait = trait
        self._counts: dict[str, dict[Standing, int]] = {}
        self.objects: dict[str, Json] = {}
        self._indexes: dict[str, Index] = {**STANDARD, **(indexes or {})}
        self._entries: dict[str, dict[str, dict[str, None]]] = {name: {} for name in self._indexes}  # keys in order

    def add_index(self, name: str, index: Index) -> None:
        """Adds an index; fills it from what is already here."""
        if name in self._indexes:
            return
        self._indexes[name] = index
        entry = self._entries[name] = {}
        for key, obj in self.objects.items():
            for value in index(obj):
                entry.setdefault(value, {})[key] = None

    def put(self, key: str, obj: Json) -> Json | None:
        """Stores, returns what was there."""
        old = self.objects.get(key)
        self.objects[key] = obj
        if self._trait is not None:
            self._recount(self._trait, old, obj)
        for name, index in self._indexes.items():
            entry, values = self._entries[name], index(obj)
            if old is not None:
                before = index(old)
                if before == values:
                    continue
                for value in before:
                    if value not in values:
                        self._drop(entry, value, key)
            for value in values:
                entry.setdefault(value, {})[key] = None
        return old

    def remove(self, key: str) -> Json | None:
        old = self.objects.pop(key, None)
        if old is not None:
            if self._trait is not None:
                self._recount(self._trait, old, None)
            for name, index in self._indexes.items():
                for value in index(old):
                    self._drop(self._entries[name], value, key)
        return old

    def _recount(self, trait: Trait, old: Json | None, new: Json | None) -> None:
        before = (by_controller(old), trait(old)) if old is not None else None
        after = (by_controller(new), trait(new)) if new is not None else None
        if before == after:
            return
        for place, more in ((before, -1), (after, 1)):
            if place is not None:
                for value in place[0]:
                    counts = self._counts.setdefault(value, {})
                    if left := counts.get(place[1], 0) + more:
                        counts[place[1]] = left
                    else:
                        del counts[place[1]]
                        if not counts:
                            del self._counts[value]

    def counted(self, value: str) -> Mapping[Standing, int]:
        """How many objects of the index ``controller`` stand how: known without looking at each."""
        return self._counts.get(value, {})

    def number(self, wanted: Callable[[Standing], bool]) -> int:
        """How many objects stand as wanted, whoever controls them: known without looking at each."""
        return sum(n for counts in self._counts.values() for standing, n in counts.items() if wanted(standing))

    @staticmethod
    def _drop(entry: dict[str, dict[str, None]], value: str, key: str) -> None:
        found = entry.get(value)
        if found is not None:
            found.pop(key, None)
            if not found:
                del entry[value]

    def get(self, namespace: str, name: str) -> Json | None:
        return self.objects.get(f"{namespace}/{name}" if namespace else name)

    def by(self, index: str, value: str) -> list[Json]:
        objects = self.objects
        return [objects[key] for key in self._entries[index].get(value, ())]

    def has(self, index: str, value: str) -> bool:
        return value in self._entries[index]


class View:
    """Several resources as one thing to read. ``View.of`` builds one from plain lists, for tests."""

    def __init__(self, caches: Mapping[Resource, ObjectCache]) -> None:
        self._caches = caches

    @classmethod
    def of(cls, objects: Mapping[Resource, Iterable[Json]], indexes: Mapping[str, Index] | None = None) -> View:
        caches: dict[Resource, ObjectCache] = {}
        for resource, items in objects.items():
            trait = standing if resource == PODS else None
            known = {"node": by_node, "claim": by_claim, "pool": by_pool, **(indexes or {})}
            cache = caches[resource] = ObjectCache(known, trait)
            for item in items:
                cache.put(key_of(item), item)
        return cls(caches)

    def cache(self, resource: Resource) -> ObjectCache | None:
        return self._caches.get(resource)

    def get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        cache = self._caches.get(resource)
        return cache.get(namespace, name) if cache else None

    def key(self, resource: Resource, key: str) -> Json | None:
        cache = self._caches.get(resource)
        return cache.objects.get(key) if cache else None

    def all(self, resource: Resource) -> list[Json]:
        cache = self._caches.get(resource)
        return list(cache.objects.values()) if cache else []

    def by(self, resource: Resource, index: str, value: str) -> list[Json]:
        cache = self._caches.get(resource)
        return cache.by(index, value) if cache else []

    def counted(self, resource: Resource, value: str) -> Mapping[Standing, int]:
        """``ObjectCache.counted``; of pods only."""
        cache = self._caches.get(resource)
        return cache.counted(value) if cache else {}

    def in_namespace(self, resource: Resource, namespace: str) -> list[Json]:
        return self.by(resource, "namespace", namespace)


def trimmed(obj: Json) -> Json:
    """Only what garbage collection reads: kind, name, owners, finalizers, times."""
    meta: dict[str, Any] = obj["metadata"]
    kept = {k: v for k, v in meta.items() if k not in ("managedFields", "annotations", "labels")}
    return {"apiVersion": obj.get("apiVersion", ""), "kind": obj.get("kind", ""), "metadata": kept}
