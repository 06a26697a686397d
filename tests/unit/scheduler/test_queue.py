"""The scheduling queue: order, back-off, and waking up when there is news."""

from __future__ import annotations

from portside.scheduler.queue import Queue


def test_priority_first_then_age() -> None:
    queue = Queue()
    queue.add("old", 0, 1.0)
    queue.add("young", 0, 2.0)
    queue.add("vip", 100, 3.0)
    assert [queue.pop(4.0) for _ in range(4)] == ["vip", "old", "young", None]


def test_a_parked_pod_waits_for_news_and_one_that_met_an_error_for_its_back_off() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    assert queue.pop(0.0) == "p"
    queue.failed("p", 0.0, "kind")
    assert queue.pop(100.0) is None
    assert queue.wake("another kind") == 0
    assert queue.wake("kind") == 1
    assert queue.next_time() == 1.0
    assert queue.pop(1.0) == "p"
    queue.failed("p", 1.0)
    assert queue.pop(2.9) is None
    assert queue.pop(3.0) == "p"


def test_the_back_off_doubles_from_one_second_to_ten() -> None:
    queue, now, waits = Queue(), 0.0, []
    queue.add("p", 0, now)
    for _ in range(6):
        assert queue.pop(now) == "p"
        queue.failed("p", now)
        due = queue.next_time()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == [1, 2, 4, 8, 10, 10]


def test_a_woken_pod_is_tried_early_when_nothing_else_waits_and_behind_the_others_else() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.pop(0.0)
    queue.failed("p", 0.0, "kind")
    queue.wake("kind")
    queue.add("new", 0, 0.1)
    assert [queue.pop(0.1) for _ in range(3)] == ["new", "p", None]


def test_news_for_one_wakes_the_oldest_and_those_that_room_is_kept_for() -> None:
    queue = Queue()
    for i, key in enumerate("abcd"):
        queue.add(key, 0, float(i))
        queue.pop(9.0)
        queue.failed(key, 9.0, "kind")
    assert queue.wake("kind", 1, first=("d",)) == 2
    assert sorted(filter(None, (queue.pop(99.0) for _ in range(3)))) == ["a", "d"]


def test_a_woken_pod_that_goes_before_its_turn_leaves_it_to_its_kind() -> None:
    queue = Queue()
    for key in "ab":
        queue.add(key, 0, 0.0)
        queue.pop(0.0)
        queue.failed(key, 0.0, "kind")
    queue.wake("kind", 1)
    queue.remove("a")
    assert queue.pop(99.0) == "b"


def test_a_pod_that_could_not_be_tried_has_no_back_off() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.pop(0.0)
    for _ in range(5):
        queue.hold("p", 0.0, "kind")
    queue.wake("kind")
    assert queue.next_time() == 0.0


def test_old_parked_pods_are_tried_again() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.pop(0.0)
    queue.failed("p", 0.0, "kind")
    queue.retry_old(300.0)
    assert queue.pop(300.0) is None
    queue.retry_old(301.0)
    assert queue.pop(301.0) == "p"


def test_a_removed_pod_never_comes_up() -> None:
    queue = Queue()
    queue.add("p", 0, 0.0)
    queue.remove("p")
    assert queue.pop(1.0) is None
    assert len(queue) == 0
