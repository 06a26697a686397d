"""The scheduler's events are written behind everything else."""

from __future__ import annotations

import asyncio

from portside.client.fake import FakeClient
from portside.run.virtual_time import VirtualClock, VirtualLoop
from portside.scheduler.events import BURST, EVENTS, PER_SECOND, Recorder


def test_a_flood_of_events_is_written_at_a_steady_pace_and_none_is_lost() -> None:
    loop = VirtualLoop()

    async def work() -> None:
        client, clock = FakeClient(VirtualClock(loop)), VirtualClock(loop)
        recorder = Recorder(client, clock, "here")
        task = asyncio.create_task(recorder.run())
        for number in range(1000):
            pod = {"metadata": {"name": f"p{number}", "namespace": "d", "uid": str(number)}}
            recorder.emit(pod, "Normal", "Scheduled", "Binding", "done", "default-scheduler")
        await asyncio.sleep(0.001)
        assert len(client.objects[EVENTS]) == BURST
        await asyncio.sleep(10)
        assert abs(len(client.objects[EVENTS]) - BURST - 10 * PER_SECOND) <= 10
        await asyncio.sleep(30)
        assert len(client.objects[EVENTS]) == 1000
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        loop.run_until_complete(work())
    finally:
        loop.close()
