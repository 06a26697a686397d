"""Waiting before another try: doubled, forgotten after peace, and never endless because somebody set the clock."""

from __future__ import annotations

from portside.agent.backoff import LONGEST, Backoff, left

DAY = 86_400.0


def test_a_failing_container_waits_twice_as_long_each_time_up_to_five_minutes():
    backoff, now, waits = Backoff(), 1000.0, []
    for _ in range(7):
        backoff.next("main", now, now)
        waits.append(backoff.waits("main", now, now))
        now += waits[-1]
        assert backoff.waits("main", now - waits[-1], now) == 0.0
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_ten_minutes_of_peace_begin_anew():
    backoff = Backoff()
    backoff.next("main", 0.0, 0.0)
    backoff.next("main", 10.0, 10.0)
    assert backoff.waits("main", 10.0 + 2 * LONGEST + 1, 10.0 + 2 * LONGEST + 1) == 0.0


def test_a_clock_set_back_keeps_nobody_waiting_for_the_difference():
    backoff = Backoff()
    backoff.next("main", DAY, DAY)
    assert backoff.waits("main", DAY, DAY + 4) == 6.0
    assert backoff.waits("main", DAY, 100.0) == 0.0, "the failure lies in the future: the clock was set back"
    assert left(DAY + 60, DAY) == 60
    assert left(DAY + 60, 100.0) == 0.0


def test_a_clock_set_ahead_ends_a_wait():
    backoff = Backoff()
    backoff.next("main", 100.0, 100.0)
    assert backoff.waits("main", 100.0, DAY) == 0.0
