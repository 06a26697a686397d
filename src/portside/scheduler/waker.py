"""News of the cluster brought to the pods that wait: who of the parked is tried again, by the hints of what refused them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from portside.scheduler.hints import ALL, Hints, Kind, News
from portside.scheduler.pod_info import PodInfo
from portside.scheduler.queue import Queue


class Waker:
    """``tell`` notes what happened, ``announce`` wakes. ``counts``: news told and pods woken, by what it was about."""

    def __init__(self, queue: Queue, hints: Hints, nominated: Mapping[str, PodInfo]) -> None:
        self.queue, self.hints, self.nominated = queue, hints, nominated
        self.news: list[News] = []
        self.counts: Counter[str] = Counter()

    def tell(self, news: News) -> None:
        """Something changed (of interest only while somebody is parked)."""
        self.news.append(news)

    def announce(self) -> None:
        """Wake the parked pods that the news since the last time can help."""
        if not self.news:
            return
        news, self.news = self.news, []
        self.counts.update(n.what for n in news)
        first = self._waiting_there(news)
        for kind in list(self.queue.parked):
            assert isinstance(kind, Kind)
            count, why = self._chances(kind, news)
            if (count or first) and (woken := self.queue.wake(kind, None if count >= ALL else count, first)):
                self.counts[f"woken by {why or 'pod'}"] += woken

    def _chances(self, kind: Kind, news: list[News]) -> tuple[int, str]:
        """How many of a kind have a chance, and by what news most of all."""
        rooms: dict[str, int] = {}
        why = ""
        for one in news:
            found = self.hints.chances(kind.pod, kind.plugins, one)
            if found:
                why = one.what
            if found >= ALL:
                return ALL, why
            if found:
                rooms[one.node] = found
        return sum(rooms.values()), why

    def _waiting_there(self, news: list[News]) -> set[str]:
        """Keys of the pods that room is kept for where a pod or a node went."""
        if not self.nominated:
            return set()
        nodes = {n.node for n in news if n.node and n.old is not None}
        return {p.key for p in self.nominated.values() if p.node_name in nodes}
