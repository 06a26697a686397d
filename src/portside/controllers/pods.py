"""What controllers ask about pods: ready, available, active; which go first; and a pod made from a template."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable
from heapq import nsmallest

from portside.base.clock import parse_time
from portside.client.news import Fact
from portside.client.protocol import Json, Resource

PODS: Resource = ("", "v1", "pods")
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
AT_ONCE = 500  # pods that are looked at before others get a turn
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def condition(obj: Json, name: str) -> Json | None:
    """The status condition of this type."""
    for found in (obj.get("status") or {}).get("conditions") or ():
        if found.get("type") == name:
            return dict(found)
    return None


def phase(pod: Json) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def is_terminating(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def is_finished(pod: Json) -> bool:
    return phase(pod) in ("Succeeded", "Failed")


def is_active(pod: Json) -> bool:
    return not is_finished(pod) and not is_terminating(pod)


def is_ready(pod: Json) -> bool:
    for found in (pod.get("status") or {}).get("conditions") or ():  # asked of thousands: no copies
        if found.get("type") == "Ready":
            return bool(found.get("status") == "True")
    return False


LABELS = Fact(lambda pod: pod["metadata"].get("labels"))
OWNERS = Fact(lambda pod: pod["metadata"].get("ownerReferences"))
FINALIZERS = Fact(lambda pod: pod["metadata"].get("finalizers"))
TERMINATING = Fact(is_terminating)
NODE = Fact(lambda pod: (pod.get("spec") or {}).get("nodeName"), "spec")
PHASE = Fact(phase, "status")
FINISHED = Fact(is_finished, "status")
READY = Fact(is_ready, "status")


def ready_since(pod: Json) -> float | None:
    found = condition(pod, "Ready")
    if found is None or found.get("status") != "True":
        return None
    return parse_time(found.get("lastTransitionTime"))


def available_in(pod: Json, min_ready: int, now: float) -> float | None:
    """Seconds until the pod counts as available: 0 now, None while it is not ready."""
    if not is_ready(pod):
        return None
    if min_ready <= 0:
        return 0.0
    since = ready_since(pod)
    return 0.0 if since is None else max(0.0, since + min_ready - now)


def restarts(pod: Json) -> int:
    return max(
        (int(c.get("restartCount", 0)) for c in (pod.get("status") or {}).get("containerStatuses") or ()), default=0
    )


def created(obj: Json) -> float:
    return parse_time(obj["metadata"].get("creationTimestamp")) or 0.0


def _age_rank(at: float, now: float) -> int:
    """Ages are compared by their power of two, so that scaling down spreads over pods of like age."""
    return int(math.log2((now - at) * 1e9)) if now > at else -1


def _cost(pod: Json) -> int:
    try:
        return int((pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0"))
    except ValueError:
        return 0


class _Doomed:
    """A pod among those that scaling down may delete: smaller ones go first, in the order of upstream's ActivePodsWithRanks.
    What rarely decides is read only when it has to."""

    __slots__ = ("_fine", "_now", "first", "pod")

    def __init__(self, pod: Json, crowd: int, now: float) -> None:
        self.pod = pod
        self.first = (bool(pod["spec"].get("nodeName")), _PHASES.get(phase(pod), 2), is_ready(pod), _cost(pod), -crowd)
        self._now = now
        self._fine: tuple[float, int, int, float, int, str] | None = None

    @property
    def fine(self) -> tuple[float, int, int, float, int, str]:
        """Ready since (0: not), its age's rank, restarts, creation, its age's rank, uid."""
        found = self._fine
        if found is None:
            since, born = ready_since(self.pod) or 0.0, created(self.pod)
            ranks = _age_rank(since, self._now), _age_rank(born, self._now)
            uid = self.pod["metadata"].get("uid", "")
            found = self._fine = (since, ranks[0], restarts(self.pod), born, ranks[1], uid)
        return found

    def read(self) -> None:
        """Read all there is to compare."""
        assert self.fine

    def __lt__(self, other: _Doomed) -> bool:
        if self.first != other.first:
            return self.first < other.first
        since, since_rank, restarted, born, born_rank, uid = self.fine
        since2, since_rank2, restarted2, born2, born_rank2, uid2 = other.fine
        if since != since2 and self.first[2]:
            return (since_rank, uid) < (since_rank2, uid2)
        if restarted != restarted2:
            return restarted > restarted2
        return born != born2 and (born_rank, uid) < (born_rank2, uid2)


def _node(pod: Json) -> str:
    return str(pod["spec"].get("nodeName", ""))


def deletion_order(pods: Iterable[Json], related: Iterable[Json], now: float) -> list[Json]:
    """Pods in the order in which scaling down deletes them; ``related`` pods crowd a node."""
    crowd = Counter(_node(p) for p in related if is_active(p))
    return [doomed.pod for doomed in sorted(_Doomed(p, crowd[_node(p)], now) for p in pods)]


def first_to_go(
    pods: Iterable[Json], related: Iterable[Json], now: float, count: int
) -> Generator[None, None, list[Json]]:
    """The first ``count`` of ``deletion_order``; stops now and then, as looking at a pod takes some microseconds."""
    crowd: Counter[str] = Counter()
    for number, pod in enumerate(related, 1):
        if is_active(pod):
            crowd[_node(pod)] += 1
        if number % AT_ONCE == 0:
            yield
    doomed: list[_Doomed] = []
    for pod in pods:
        doomed.append(_Doomed(pod, crowd[_node(pod)], now))
        doomed[-1].read()
        if len(doomed) % AT_ONCE == 0:
            yield
    return [one.pod for one in nsmallest(count, doomed)]


def owner_reference(owner: Json, api_version: str, kind: str, *, blocks: bool = True) -> Json:
    """The controlling reference to an owner; ``blocks``: a foreground deletion of the owner waits for the owned."""
    meta = owner["metadata"]
    made = {"apiVersion": api_version, "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {**made, "blockOwnerDeletion": True} if blocks else made


def from_template(owner: Json, template: Json, api_version: str, kind: str) -> Json:
    """A pod of a template, owned; named by the server from ``<owner>-``."""
    given = template.get("metadata") or {}
    meta: Json = {"generateName": f"{owner['metadata']['name']}-", "namespace": owner["metadata"]["namespace"]}
    for name in ("labels", "annotations"):
        if given.get(name):
            meta[name] = dict(given[name])
    if given.get("finalizers"):
        meta["finalizers"] = list(given["finalizers"])
    meta["ownerReferences"] = [owner_reference(owner, api_version, kind)]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template.get("spec") or {}}
