"""The calls that a decision makes of extenders, in upstream's order: who is asked, what an error means, what is made of the answers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from portside.scheduler import extender_wire as wire
from portside.scheduler.extender_config import Extender
from portside.scheduler.extender_http import ExtenderClient
from portside.scheduler.extender_wire import ExtenderFailure
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.preemption import NOBODY, Victims, importance

log = logging.getLogger("portside.scheduler")
Json = dict[str, Any]
Lane = tuple[int, ...]  # which extenders a pod is decided with, by their place in the order
SLICE = 0.005  # seconds of encoding nodes before others have their turn


@dataclass(slots=True)
class Verdict:
    """What extenders made of the nodes ``asked`` about. ``said``: per node why it is refused, and whether evictions could
    help; ``bonus``: per node what they add to its score."""

    asked: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    said: dict[str, tuple[str, bool]] = field(default_factory=dict)
    bonus: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Peer:
    """An extender and the way to it; ``ails``: what it failed with last, "" when it is well."""

    extender: Extender
    client: ExtenderClient
    ails: str = ""


class Calls:
    """``nodes`` gives the Node objects by name."""

    def __init__(self, extenders: Sequence[Extender], nodes: Callable[[], Mapping[str, Json]]) -> None:
        self._peers = [_Peer(e, ExtenderClient(e)) for e in extenders]
        self._nodes = nodes
        self._encoded: dict[str, tuple[Json, bytes]] = {}

    def lane(self, pod: PodInfo) -> Lane:
        """The extenders that have a say in where a pod goes."""
        return tuple(i for i, p in enumerate(self._peers) if p.extender.decides and p.extender.interested(pod))

    async def close(self) -> None:
        for peer in self._peers:
            await peer.client.close()

    async def filter(self, lane: Lane, pod: PodInfo, names: tuple[str, ...]) -> Verdict:
        """One extender after the other, each about the nodes that those before it left. Raises ExtenderFailure."""
        verdict = Verdict(names, names)
        for peer in (self._peers[i] for i in lane if self._peers[i].extender.filter_verb):
            if not verdict.names:
                break
            extender = peer.extender
            try:
                said = await self._ask(peer, extender.filter_verb, pod, verdict.names)
                found = wire.read_filtered(said, verdict.names, extender.url, by_name=extender.cache_capable)
            except ExtenderFailure as problem:
                if self._failed(peer, problem):
                    continue
                raise
            self._well(peer)
            verdict.said |= {node: (why, False) for node, why in found.final.items()}
            verdict.said |= {node: (why, True) for node, why in found.failed.items()}
            verdict.names = found.names
        return verdict

    async def prioritize(self, lane: Lane, pod: PodInfo, names: tuple[str, ...]) -> dict[str, int]:
        """What the extenders add to the scores of nodes; all are asked at once. Who fails adds nothing, ignorable or not."""
        peers = [self._peers[i] for i in lane if self._peers[i].extender.prioritize_verb]
        total: dict[str, int] = {}
        for scored in await asyncio.gather(*(self._scores(peer, pod, names) for peer in peers)):
            for node, worth in scored:
                total[node] = total.get(node, 0) + worth
        return total

    async def _scores(self, peer: _Peer, pod: PodInfo, names: tuple[str, ...]) -> list[tuple[str, int]]:
        extender = peer.extender
        try:
            said = await self._ask(peer, extender.prioritize_verb, pod, names)
            found = list(wire.read_scores(said, extender.weight))
        except ExtenderFailure as problem:
            self._failed(peer, problem)
            return []
        self._well(peer)
        return found

    async def preempt(
        self,
        lane: Lane,
        pod: PodInfo,
        victims: Mapping[str, Victims],
        on_node: Callable[[str], Mapping[str, PodInfo] | None],
    ) -> Mapping[str, Victims]:
        """The victims per node that the extenders agree with or choose instead. ``on_node``: pods of a node by uid, None for
        an unknown node. Raises ExtenderFailure."""
        for peer in (self._peers[i] for i in lane if self._peers[i].extender.preempt_verb):
            extender = peer.extender
            listed = {n: ([p.object for p in v.pods], v.broken) for n, v in victims.items()}
            body = wire.asking_victims(pod.object, listed, whole=not extender.cache_capable)
            try:
                said = wire.read_victims(await peer.client.post(extender.preempt_verb, body))
                found = {n: _victims(extender, n, *v, on_node(n)) for n, v in said.items()}
                if empty := [n for n, v in found.items() if not v.pods]:
                    if not extender.ignorable:
                        raise ExtenderFailure(NOBODY.format(empty[0]))
                    found = {n: v for n, v in found.items() if v.pods}
            except ExtenderFailure as problem:
                if self._failed(peer, problem):
                    continue
                raise
            self._well(peer)
            victims = found
            if not victims:
                break
        return victims

    def binds(self, pod: PodInfo) -> bool:
        """Whether an extender binds this pod."""
        return any(p.extender.bind_verb and p.extender.interested(pod) for p in self._peers)

    async def bind(self, pod: PodInfo) -> bool:
        """Have the pod bound to its node. False when the extender failed and may be ignored. Raises ExtenderFailure."""
        peer = next(p for p in self._peers if p.extender.bind_verb)
        body = wire.binding(pod.name, pod.namespace, pod.uid, pod.node_name)
        try:
            async with peer.client.bindings:
                wire.read_bound(await peer.client.post(peer.extender.bind_verb, body, again=False))
        except ExtenderFailure as problem:
            if self._failed(peer, problem):
                return False
            raise
        self._well(peer)
        return True

    async def _ask(self, peer: _Peer, verb: str, pod: PodInfo, names: tuple[str, ...]) -> Any:
        if peer.extender.cache_capable:
            body = wire.asking_names(pod.object, names)
        else:
            body = wire.asking_nodes(pod.object, await self._encode(names))
        return await peer.client.post(verb, body)

    async def _encode(self, names: tuple[str, ...]) -> list[bytes]:
        """The nodes as JSON, each encoded once for as long as it stays as it is."""
        objects, held = self._nodes(), self._encoded
        if len(held) > 2 * len(objects):
            held.clear()
        found = []
        end = time.monotonic() + SLICE
        for name in names:
            node = objects.get(name)
            if node is None:
                continue
            known = held.get(name)
            if known is None or known[0] is not node:
                known = held[name] = node, orjson.dumps(wire.bare(node))
                if time.monotonic() > end:
                    await asyncio.sleep(0)
                    end = time.monotonic() + SLICE
            found.append(known[1])
        return found

    def _failed(self, peer: _Peer, problem: ExtenderFailure) -> bool:
        """Note an error, in the log when it is a new one. Returns whether it may be ignored."""
        if str(problem) != peer.ails:
            peer.ails = str(problem)
            passed = " (it is ignorable: pods are placed without it)" if peer.extender.ignorable else ""
            log.warning("extender %s failed: %s%s", peer.extender.url, problem, passed)
        return peer.extender.ignorable

    def _well(self, peer: _Peer) -> None:
        if peer.ails:
            peer.ails = ""
            log.info("extender %s answers again", peer.extender.url)


def _victims(
    extender: Extender, node: str, uids: Sequence[str], broken: int, there: Mapping[str, PodInfo] | None
) -> Victims:
    """The pods that an extender names by their uids."""
    if there is None:
        raise ExtenderFailure(f'nodeinfo not found for node name "{node}"')
    for uid in uids:
        if uid not in there:
            raise ExtenderFailure(
                f"extender: {extender.url} claims to preempt pod (UID: {uid}) on node: {node}, but the pod is not found "
                "on that node"
            )
    return Victims(node, tuple(sorted((there[uid] for uid in uids), key=importance)), broken)
