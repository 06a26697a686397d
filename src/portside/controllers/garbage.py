"""The garbage collector: background, foreground and orphan deletion over every resource, custom ones included.

A graph of owners by uid is kept from metadata informers. Rules are upstream's: an object goes when none of its owners
exists; owners that wait for their dependents (foreground) go last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from portside.api.status import ApiError
from portside.base.remembered import Remembered
from portside.client.cache import key_of, split_key
from portside.client.informer import Informer
from portside.client.protocol import Json, Resource
from portside.controllers.harness import Context, Controller
from portside.controllers.plan import Emit
from portside.controllers.queue import WorkQueue
from portside.controllers.served import BUILT_IN, CRDS, Served, of_definition

log = logging.getLogger(__name__)
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
WORKERS = 16
ABSENT = 500  # owners remembered to be gone, in each of two generations
UNWATCHED = {("", "events")}
Place = tuple[Resource, str]


@dataclass(slots=True)
class Owners:
    """An object's owner references by what became of the owner."""

    solid: list[Json]
    dangling: list[Json]
    waiting: list[Json]


def _refs(obj: Json | None) -> list[Json]:
    return (obj["metadata"].get("ownerReferences") or []) if obj is not None else []


def _deleting(obj: Json, finalizer: str) -> bool:
    meta = obj["metadata"]
    return "deletionTimestamp" in meta and finalizer in (meta.get("finalizers") or ())


class Collector:
    """The graph and the work on it."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.queue = WorkQueue()
        self.places: dict[str, Place] = {}
        self.dependents: dict[str, set[Place]] = {}
        self.served: dict[Resource, Served] = {}
        self.informers: dict[Resource, Informer] = {}
        self.absent: Remembered[tuple[Place, str], bool] = Remembered(ABSENT)  # owners known to be gone: place and uid

    # -- the graph ----------------------------------------------------------------------------------------------------

    def watch(self, served: Served) -> None:
        """Follows one more resource."""
        if served.resource in self.served or (served.resource[0], served.resource[2]) in UNWATCHED:
            return
        if not {"list", "watch", "delete"} <= served.verbs:
            return
        self.served[served.resource] = served
        informer = self.context.informers.informer(served.resource, metadata_only=True)
        self.informers[served.resource] = informer
        informer.add_handler(self._changed(served.resource))

    def unwatch(self, resource: Resource) -> None:
        informer = self.informers.pop(resource, None)
        self.served.pop(resource, None)
        if informer is not None:
            self.context.informers.drop(resource)
            for obj in list(informer.cache.objects.values()):
                self._removed((resource, key_of(obj)), obj)

    def definition(self, old: Json | None, new: Json | None) -> None:
        """A CustomResourceDefinition came, changed or went."""
        before = of_definition(old) if old is not None else None
        after = of_definition(new) if new is not None else None
        if before is not None and (after is None or after.resource != before.resource):
            self.unwatch(before.resource)
        if after is not None:
            self.watch(after)

    def _changed(self, resource: Resource) -> Callable[[Json | None, Json | None], None]:
        def handler(old: Json | None, new: Json | None) -> None:
            obj = new if new is not None else old
            if obj is None:
                return
            place = (resource, key_of(obj))
            if new is None:
                self._removed(place, obj)
            else:
                self._stored(place, old, new)

        return handler

    def _stored(self, place: Place, old: Json | None, new: Json) -> None:
        self.places[new["metadata"]["uid"]] = place
        before = {r["uid"]: r for r in _refs(old)}
        after = {r["uid"]: r for r in _refs(new)}
        if before or after:
            for uid in before.keys() - after.keys():
                self._unlink(uid, place)
            for uid in after:
                self.dependents.setdefault(uid, set()).add(place)
            if before != after:
                self._owners_changed(place, before, after)
        if "deletionTimestamp" in new["metadata"]:
            finalizers = new["metadata"].get("finalizers") or ()
            if FOREGROUND in finalizers or ORPHAN in finalizers:
                self._add(place)
            if FOREGROUND in finalizers:
                for uid in after:  # a circle: the owner may now see that this one waits too
                    self._add_owner(uid)

    def _owners_changed(self, place: Place, before: dict[str, Json], after: dict[str, Json]) -> None:
        for uid in before:
            self._add_owner(uid)
        for uid in after.keys() - before.keys():
            owner = self._object(uid)
            if owner is None or "deletionTimestamp" in owner["metadata"] or not self._in_scope(place, uid):
                self._add(place)
                self._add_owner(uid)

    def _removed(self, place: Place, obj: Json) -> None:
        uid = obj["metadata"]["uid"]
        if self.places.get(uid) == place:
            del self.places[uid]
        for ref in _refs(obj):
            self._unlink(ref["uid"], place)
            self._add_owner(ref["uid"])
        if dependents := self.dependents.get(uid):
            self.absent.put((place, uid), True)  # they need not ask: an object's uid never comes back
            for dependent in dependents:
                self._add(dependent)

    def _unlink(self, uid: str, place: Place) -> None:
        found = self.dependents.get(uid)
        if found is not None:
            found.discard(place)
            if not found:
                del self.dependents[uid]

    def _add(self, place: Place) -> None:
        self.queue.add("|".join((*place[0], place[1])))

    def _add_owner(self, uid: str) -> None:
        owner = self._object(uid)
        if owner is not None and _deleting(owner, FOREGROUND):
            self._add(self.places[uid])

    def _at(self, place: Place) -> Json | None:
        informer = self.informers.get(place[0])
        return informer.cache.objects.get(place[1]) if informer is not None else None

    def _object(self, uid: str) -> Json | None:
        place = self.places.get(uid)
        return self._at(place) if place is not None else None

    def _in_scope(self, place: Place, owner_uid: str) -> bool:
        """Owners live in the same namespace, or in none."""
        owner = self.places[owner_uid]
        return not self.served[owner[0]].namespaced or split_key(owner[1])[0] == split_key(place[1])[0]

    # -- the work -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Nothing is judged before every resource is known."""
        while True:
            waiting = [i for i in self.informers.values() if not i.has_synced]
            if not waiting:
                break
            await waiting[0].synced.wait()
        workers = [asyncio.create_task(self._work()) for _ in range(WORKERS)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.take()
            try:
                group, version, plural, name = key.split("|", 3)
                if await self._process(((group, version, plural), name)):
                    self.queue.forget(key)
                else:
                    self.queue.retry(key)
            except (ApiError, OSError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    self.queue.forget(key)
                else:
                    log.debug("garbage %s: %s", key, error)
                    self.queue.retry(key)
            except Exception:
                log.exception("garbage collection failed on %s", key)
                self.queue.retry(key)
            finally:
                self.queue.done(key)

    async def _process(self, place: Place) -> bool:
        """False when it should be looked at again."""
        obj = self._at(place)
        if obj is None:
            return True
        if "deletionTimestamp" in obj["metadata"]:
            if _deleting(obj, FOREGROUND):
                await self._foreground(place, obj)
            elif _deleting(obj, ORPHAN):
                await self._orphan(place, obj)
            return True
        if not _refs(obj):
            return True
        owners = await self._classify(place, obj)
        if owners is None:
            return False
        if owners.solid:
            if owners.dangling or owners.waiting:
                await self._patch(place, obj, {"ownerReferences": owners.solid})
            return True
        uid = obj["metadata"]["uid"]
        dependents = [d for d in map(self._at, self.dependents.get(uid, ())) if d is not None]
        policy = "Background"
        if owners.waiting and dependents:
            if any(_deleting(d, FOREGROUND) for d in dependents):  # a circle would wait for itself
                loose = [{**r, "blockOwnerDeletion": False} for r in _refs(obj)]
                obj = await self._patch(place, obj, {"ownerReferences": loose})
            policy = "Foreground"
        else:
            finalizers = obj["metadata"].get("finalizers") or ()
            if ORPHAN in finalizers:
                policy = "Orphan"
            elif FOREGROUND in finalizers:
                policy = "Foreground"
        await self._delete(place, obj, policy)
        return True

    async def _classify(self, place: Place, obj: Json) -> Owners | None:
        """None when an owner's kind is unknown: then nothing may be decided."""
        found = Owners([], [], [])
        for ref in _refs(obj):
            uid = ref["uid"]
            if uid in self.places:
                if not self._in_scope(place, uid):
                    self._wrong_namespace(place, obj, ref)
                    if not split_key(place[1])[0]:
                        return None
                    found.dangling.append(ref)
                    continue
                owner = self._object(uid)
            else:
                known = self._served_kind(ref)
                if known is None or (known.namespaced and not split_key(place[1])[0]):
                    return None
                owner = await self._live(known, ref, split_key(place[1])[0])
            if owner is None:
                found.dangling.append(ref)
            elif _deleting(owner, FOREGROUND):
                found.waiting.append(ref)
            else:
                found.solid.append(ref)
        return found

    def _served_kind(self, ref: Json) -> Served | None:
        group = str(ref.get("apiVersion", "")).rpartition("/")[0]
        return next((s for s in self.served.values() if s.kind == ref.get("kind") and s.group == group), None)

    async def _live(self, served: Served, ref: Json, namespace: str) -> Json | None:
        """The owner as the server has it now: the cache may be behind. One that is gone is asked for once."""
        namespace = namespace if served.namespaced else ""
        place = served.resource, f"{namespace}/{ref['name']}" if namespace else ref["name"]
        if self.absent.get((place, ref["uid"])):
            return None
        try:
            found = await self.context.client.get(served.resource, ref["name"], namespace=namespace)
            if found["metadata"].get("uid") == ref["uid"]:
                return found
        except ApiError as error:
            if error.code != 404:
                raise
        self.absent.put((place, ref["uid"]), True)
        return None

    def _wrong_namespace(self, place: Place, obj: Json, ref: Json) -> None:
        namespace = split_key(place[1])[0]
        owner = f"{ref.get('apiVersion')}/{ref.get('kind')}, namespace: {namespace}, name: {ref.get('name')}"
        text = f'ownerRef [{owner}, uid: {ref["uid"]}] does not exist in namespace "{namespace}"'
        group, version, _ = place[0]
        about = {
            "apiVersion": f"{group}/{version}" if group else version,
            "kind": self.served[place[0]].kind,
            "metadata": obj["metadata"],
        }
        self.context.emit(Emit(about, "Warning", "OwnerRefInvalidNamespace", text))

    async def _foreground(self, place: Place, obj: Json) -> None:
        """The finalizer goes when no dependent blocks any more."""
        uid = obj["metadata"]["uid"]
        blocking = False
        for dependent_place in list(self.dependents.get(uid, ())):
            dependent = self._at(dependent_place)
            if dependent is None:
                continue
            if any(r["uid"] == uid and r.get("blockOwnerDeletion") for r in _refs(dependent)):
                blocking = True
            if not _deleting(dependent, FOREGROUND):
                self._add(dependent_place)
        if not blocking:
            await self._drop_finalizer(place, obj, FOREGROUND)

    async def _orphan(self, place: Place, obj: Json) -> None:
        """Dependents lose the reference, then the owner its finalizer."""
        uid = obj["metadata"]["uid"]
        for dependent_place in list(self.dependents.get(uid, ())):
            dependent = self._at(dependent_place)
            if dependent is not None:
                kept = [r for r in _refs(dependent) if r["uid"] != uid]
                try:
                    await self._patch(dependent_place, dependent, {"ownerReferences": kept})
                except ApiError as error:
                    if error.code != 404:
                        raise
        await self._drop_finalizer(place, obj, ORPHAN)

    async def _drop_finalizer(self, place: Place, obj: Json, finalizer: str) -> None:
        kept = [f for f in obj["metadata"].get("finalizers") or () if f != finalizer]
        await self._patch(place, obj, {"finalizers": kept})

    async def _patch(self, place: Place, obj: Json, metadata: Json) -> Json:
        """Refused when the object changed since it was read."""
        namespace, name = split_key(place[1])
        meta = obj["metadata"]
        body: dict[str, Any] = {
            "metadata": {**metadata, "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        }
        answer = await self.context.client.patch(place[0], name, body, namespace=namespace)
        self._observe(place, answer)
        return answer

    def _observe(self, place: Place, answer: Json) -> None:
        meta = answer.get("metadata") or {}
        informer = self.informers.get(place[0])
        if informer is None or answer.get("kind") == "Status":
            return
        if "deletionTimestamp" in meta and not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds"):
            return  # that was the last finalizer: the watch tells of the end
        informer.observe(answer)

    async def _delete(self, place: Place, obj: Json, policy: str) -> None:
        namespace, name = split_key(place[1])
        meta = obj["metadata"]
        preconditions = {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]}
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": policy,
            "preconditions": preconditions,
        }
        answer = await self.context.client.delete(place[0], name, namespace=namespace, options=options)
        self._observe(place, answer)


def _prepare(context: Context) -> Collector:
    collector = Collector(context)
    for served in BUILT_IN:
        collector.watch(served)
    context.informers.informer(CRDS).add_handler(collector.definition)
    return collector


async def serve(context: Context) -> None:
    """Runs the collector until cancelled."""
    collector = _prepare(context)
    await collector.run()


CONTROLLER = Controller("garbage-collector-controller", CRDS, service=serve)
