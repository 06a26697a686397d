"""The scheduling queue: order, back-off, and waking up when the cluster changes."""

from __future__ import annotations

from portside.scheduler.queue import Queue


def test_priority_first_then_age() -> None:
    queue = Queue()
    queue.add("old", 0, 1.0)
    queue.add("young", 0, 2.0)
    queue.add("vip", 100, 3.0)
    assert [queue.pop(4.0) for _ in range(4)] == ["vip", "old", "young", None]


def test_a_parked_pod_waits_for_a_change_and_its_back_off() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    assert queue.pop(0.0) == "p"
    queue.failed("p", 0.0, park=True)
    assert queue.pop(100.0) is None
    queue.cluster_changed(0.5)
    assert queue.pop(0.6) is None
    assert queue.next_time() == 1.0
    assert queue.pop(1.0) == "p"
    queue.failed("p", 1.0, park=False)
    assert queue.pop(2.9) is None
    assert queue.pop(3.0) == "p"


def test_old_parked_pods_are_tried_again() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.pop(0.0)
    queue.failed("p", 0.0, park=True)
    queue.retry_old(301.0)
    assert queue.pop(301.0) == "p"


def test_a_removed_pod_never_comes_up() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.remove("p")
    assert queue.pop(1.0) is None
    assert len(queue) == 0
