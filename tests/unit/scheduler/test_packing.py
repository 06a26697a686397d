"""Packing of GPUs: what a placement leaves to the tasks that usually come."""

from __future__ import annotations

import numpy as np

from portside.scheduler.packing import Choice, GpuNodes, Task

WHOLE_TASK = Task(4, 4, 1, 1000)
HALF = Task(4, 4, 1, 500)


def nodes(*free: list[int], cpu: int = 64, typical: Task = WHOLE_TASK) -> GpuNodes:
    count = len(free)
    return GpuNodes(
        np.full(count, cpu), np.full(count, 64), np.array(free, np.int64), np.zeros(count, np.int64), [(1.0, typical)]
    )


def test_a_share_goes_to_the_gpu_that_is_broken_already() -> None:
    state = nodes([1000, 1000], [1000, 500])
    assert state.choose(HALF) == Choice(1, (1,))


def test_whole_gpus_stay_together_for_those_who_need_several() -> None:
    state = nodes([1000, 1000], [1000, -1], typical=Task(4, 4, 2, 1000))
    assert state.choose(WHOLE_TASK) == Choice(1, (0,))


def test_a_task_without_gpus_leaves_gpu_nodes_their_cpus() -> None:
    state = nodes([1000, 1000], [-1, -1], cpu=6)
    assert state.choose(Task(4, 4)) == Choice(1, ())


def test_what_does_not_fit_is_refused_and_what_is_placed_is_taken() -> None:
    state = nodes([500, -1])
    assert state.choose(WHOLE_TASK) is None
    choice = state.choose(HALF)
    assert choice is not None
    state.place(HALF, choice)
    assert state.gpus[0].tolist() == [0, -1]
    assert state.choose(HALF) is None


def test_models_are_respected() -> None:
    state = GpuNodes(np.full(2, 64), np.full(2, 64), np.full((2, 1), 1000), np.array([1, 2]), [(1.0, WHOLE_TASK)])
    assert state.choose(Task(1, 1, 1, 1000, frozenset((2,)))) == Choice(1, (0,))
    assert state.choose(Task(1, 1, 1, 1000, frozenset((3,)))) is None


def test_fragments_are_the_capacity_a_typical_task_cannot_use() -> None:
    state = nodes([1000, 500], [400, -1])
    assert state.fragments.tolist() == [500.0, 400.0]
