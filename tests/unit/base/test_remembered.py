"""A bounded memory: what is met again stays, the rest goes."""

from __future__ import annotations

from portside.base.remembered import Remembered


def test_what_is_met_again_outlives_the_generations():
    memory: Remembered[int, str] = Remembered(10)
    memory.put(-1, "often")
    memory.put(-2, "once")
    for number in range(100):
        memory.put(number, "some")
        assert memory.get(-1) == "often"
    assert memory.get(-2) is None and memory.get(50) is None and memory.get(99) == "some"
    assert len(memory) <= 20
