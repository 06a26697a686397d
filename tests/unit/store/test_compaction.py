"""The window of history."""

from portside.store.compaction import Window


def test_the_window_is_bounded_in_time():
    window = Window(seconds=100, revisions=1000)
    assert window.target(0, 200) == 0
    assert window.target(60, 300) == 0
    assert window.target(99, 300) == 0
    assert window.target(100, 350) == 200, "what was there a window ago may go"
    assert window.target(130, 350) == 200, "and nothing newer before its time"
    assert window.target(160, 350) == 300
    assert window.target(500, 350) == 350, "at rest all but the current state goes"
    assert window.target(900, 350) == 350


def test_the_window_is_bounded_in_revisions():
    window = Window(seconds=100, revisions=1000)
    assert window.target(0, 900) == 0
    assert window.target(10, 5000) == 4000
    assert window.target(50, 5000) == 4000
