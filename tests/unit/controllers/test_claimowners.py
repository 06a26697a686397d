"""Claims of StatefulSets: owned as the retention policy says, and left alone when somebody else manages them."""

from __future__ import annotations

from typing import Any

from portside.controllers.claimowners import claim_refs
from portside.controllers.pods import owner_reference

Json = dict[str, Any]
SET: Json = {"metadata": {"name": "db", "uid": "s"}}
POD: Json = {"metadata": {"name": "db-0", "uid": "p"}}
BY_SET, BY_POD = owner_reference(SET, "apps/v1", "StatefulSet"), owner_reference(POD, "v1", "Pod")
FRIEND = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "c"}
RIVAL = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "r", "controller": True}


def refs(held: list[Json], wanted: Json | None, *, deletes: bool = True) -> list[Json]:
    return claim_refs(held, SET, POD, wanted, deletes=deletes).refs


def test_one_reference_of_ours_replaces_the_other() -> None:
    assert refs([], BY_SET) == [BY_SET]
    assert refs([BY_SET], BY_POD) == [BY_POD]
    assert refs([FRIEND, BY_POD], BY_SET) == [FRIEND, BY_SET]
    assert refs([BY_SET, FRIEND], BY_SET) == [BY_SET, FRIEND], "what is right is not written again"
    assert refs([BY_SET, FRIEND], None, deletes=False) == [FRIEND]


def test_a_reference_that_is_no_controllers_is_made_one() -> None:
    assert refs([{**BY_SET, "controller": None}], BY_SET) == [BY_SET]


def test_a_claim_that_another_controller_manages_is_not_taken_along() -> None:
    found = claim_refs([RIVAL, BY_SET], SET, POD, BY_SET, deletes=True)
    assert found.refs == [RIVAL] and found.contested
    assert claim_refs([RIVAL], SET, POD, None, deletes=False).contested is False


def test_a_claim_of_an_earlier_set_or_pod_is_left_to_the_collector() -> None:
    earlier = {**BY_SET, "uid": "before"}
    assert refs([earlier], BY_SET) == [earlier]
    assert refs([{**BY_POD, "uid": "before"}], BY_SET) == [{**BY_POD, "uid": "before"}]
