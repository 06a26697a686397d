"""Events of a watch cache grow old: a burst leaves memory after a while, what is recent stays to resume from."""

from __future__ import annotations

from portside.server import watchcache
from portside.server.watchcache_feed import HISTORY_SECONDS, WatchCaches
from portside.store.backend import Write
from portside.store.memory import MemoryBackend


async def test_old_events_go_down_to_a_least_number_and_young_ones_stay(monkeypatch):
    monkeypatch.setattr(watchcache, "HISTORY_LEAST", 5)
    now = 0.0
    backend = MemoryBackend()
    await backend.open()
    caches = WatchCaches(backend, clock=lambda: now)
    await caches.start()
    pods = caches.of("", "pods")

    async def burst(count: int) -> None:
        for i in range(count):
            key = f"/core/pods/default/p-{backend.revision}-{i}"
            await backend.write(Write(key, b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}'))

    await burst(50)
    caches._tick()
    assert len(pods.history) == 50, "young events stay, however many"
    now += HISTORY_SECONDS
    burst_end = backend.revision
    await burst(3)
    caches._tick()
    assert len(pods.history) == 5, "of the old ones a few remain beside the young"
    assert pods.history.floor == burst_end - 2
    assert [e.revision for e in pods.history.after(pods.history.floor, 10)] == [*range(burst_end - 1, burst_end + 4)]
    await caches.close()
