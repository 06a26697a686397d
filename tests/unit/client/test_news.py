"""Who hears of a change of an object: those who mind it, each fact looked up once."""

from __future__ import annotations

from typing import Any

from portside.client.news import Fact, News

Json = dict[str, Any]


def pod(owner: str = "", **more: Any) -> Json:
    meta: Json = {"name": "p", "resourceVersion": "1"}
    if owner:
        meta["ownerReferences"] = [
            {"apiVersion": "apps/v1", "kind": owner, "name": "o", "uid": "u", "controller": True}
        ]
    return {"metadata": meta, "spec": {"nodeName": ""}, "status": {"phase": "Pending"}, **more}


class Listener:
    """Counts what it hears."""

    def __init__(self) -> None:
        self.heard = 0

    def __call__(self, old: Json | None, new: Json | None) -> None:
        self.heard += 1


PHASE = Fact(lambda o: o["status"]["phase"], "status")
NODE = Fact(lambda o: o["spec"]["nodeName"], "spec")
LABELS = Fact(lambda o: o["metadata"].get("labels"))


def test_an_update_is_told_to_those_who_mind_what_changed_and_to_those_who_mind_everything() -> None:
    news, minds_phase, minds_node, minds_all, minds_none = News(), *(Listener() for _ in range(4))
    for listener, facts in ((minds_phase, (PHASE,)), (minds_node, (NODE, LABELS)), (minds_all, None), (minds_none, ())):
        news.listen(listener, facts, None)
    news.tell(pod(), pod(status={"phase": "Running"}))
    assert [h.heard for h in (minds_phase, minds_node, minds_all, minds_none)] == [1, 0, 1, 0]
    news.tell(pod(), pod())
    assert [h.heard for h in (minds_phase, minds_node, minds_all, minds_none)] == [1, 0, 2, 0]


def test_everybody_hears_of_what_comes_and_what_goes() -> None:
    news, minds_phase, minds_none = News(), Listener(), Listener()
    news.listen(minds_phase, (PHASE,), None)
    news.listen(minds_none, (), None)
    news.tell(None, pod())
    news.tell(pod(), None)
    assert (minds_phase.heard, minds_none.heard) == (2, 2)


def test_a_fact_is_read_once_for_all_and_not_where_its_part_stays_as_it_is() -> None:
    reads = []
    phase = Fact(lambda o: reads.append(o) or o["status"]["phase"], "status")
    news, listeners = News(), [Listener() for _ in range(5)]
    for listener in listeners:
        news.listen(listener, (phase,), None)
    news.tell(pod(), pod(spec={"nodeName": "n"}))
    assert not reads
    news.tell(pod(), pod(status={"phase": "Running"}))
    assert len(reads) == 2
    assert all(listener.heard == 1 for listener in listeners)


def test_objects_of_a_controller_are_told_to_its_kind_and_others_of_none_to_everybody() -> None:
    news, sets, jobs = News(), Listener(), Listener()
    news.listen(sets, None, ("ReplicaSet", "apps"))
    news.listen(jobs, None, ("Job", "batch"))
    news.tell(None, pod("ReplicaSet"))
    assert (sets.heard, jobs.heard) == (1, 0)
    news.tell(None, pod("Unknown"))
    assert (sets.heard, jobs.heard) == (1, 0)
    news.tell(None, pod())
    assert (sets.heard, jobs.heard) == (2, 1)


def test_an_object_that_changes_hands_is_told_to_both_sides() -> None:
    for old, new in ((pod("ReplicaSet"), pod()), (pod(), pod("ReplicaSet"))):
        news, sets, jobs = News(), Listener(), Listener()
        news.listen(sets, None, ("ReplicaSet", "apps"))
        news.listen(jobs, None, ("Job", "batch"))
        news.tell(old, new)
        assert (sets.heard, jobs.heard) == (1, 1)


def test_a_handler_that_fails_keeps_nothing_from_the_others() -> None:
    def fails(old: Json | None, new: Json | None) -> None:
        raise ValueError("no")

    news, after = News(), Listener()
    news.listen(fails, None, None)
    news.listen(after, None, None)
    news.tell(None, pod())
    assert after.heard == 1


def test_a_fact_that_cant_be_read_counts_as_changed() -> None:
    news, listener = News(), Listener()
    news.listen(listener, (Fact(lambda o: o["metadata"]["none"]),), None)
    news.tell(pod(), pod())
    assert listener.heard == 1
