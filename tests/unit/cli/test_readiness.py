"""What up and join take for a node that is ready."""

from __future__ import annotations

from typing import Any

from portside.cli.readiness import node_unready, nodes_unready, unready

Json = dict[str, Any]
STARTED = 1_790_000_000.25  # 2026-09-21T14:13:20.250000Z
BEFORE, AFTER = "2026-09-21T14:13:20.249999Z", "2026-09-21T14:13:20.250001Z"


def node(name: str, ready: str = "True") -> Json:
    return {
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready, "message": "no network"}]},
    }


def lease(name: str, renewed: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"renewTime": renewed}}


class Cluster:
    def __init__(self, *found: tuple[Json, Json]) -> None:
        self.found = found

    def send(self, method: str, path: str) -> Any:
        number = "leases" in path
        of = {pair[0]["metadata"]["name"]: pair[number] for pair in self.found}
        last = path.rsplit("/", 1)[1]
        return of[last] if last in of else {"items": list(of.values())}


def test_a_heartbeat_of_the_process_before_does_not_count_even_within_the_same_second() -> None:
    assert unready(node("a"), lease("a", BEFORE), STARTED) == "no fresh heartbeat"
    assert unready(node("a"), {}, STARTED) == "no fresh heartbeat"
    assert unready(node("a"), lease("a", AFTER), STARTED) == ""
    assert unready(node("a", "False"), lease("a", AFTER), STARTED) == "no network"
    assert unready({"metadata": {}}, lease("a", AFTER), STARTED) == "no status yet"


def test_another_machine_that_is_off_holds_up_nothing() -> None:
    cluster = Cluster((node("own"), lease("own", AFTER)), (node("other", "Unknown"), lease("other", BEFORE)))
    assert node_unready(cluster, "own", STARTED) == ""
    assert node_unready(cluster, "other", STARTED) == "no network"


def test_as_many_nodes_as_were_asked_for_must_be_ready() -> None:
    good, bad = (node("a"), lease("a", AFTER)), (node("b", "False"), lease("b", AFTER))
    assert nodes_unready(Cluster(good), 2, STARTED) == "1 of 2 nodes registered"
    assert nodes_unready(Cluster(good, bad), 2, STARTED) == "b: no network"
    assert nodes_unready(Cluster(good, bad), 1, STARTED) == ""
