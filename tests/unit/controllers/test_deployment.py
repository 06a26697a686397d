"""Deployments: what is said when a replica set can't be made, and how it is called."""

from __future__ import annotations

from typing import Any

from portside.api.status import ApiError
from portside.client.cache import View
from portside.controllers.deployment import DEPLOYMENTS, REPLICASETS, plan
from portside.controllers.plan import Failure, Op, Plan
from portside.controllers.rollout import DESIRED, MAX, proportional_sizes

Json = dict[str, Any]


def planned(name: str = "web") -> tuple[Plan, Op]:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 2, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"app": "web"}}}
    meta = {"name": name, "namespace": "ns", "uid": "d", "generation": 1}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    deployment = {"metadata": meta, "spec": {**spec, "template": template, "strategy": strategy}}
    found = plan(View.of({DEPLOYMENTS: [deployment]}), f"ns/{name}", 0.0)
    (create,) = [s for s in found.steps if isinstance(s, Op) and s.resource == REPLICASETS]
    return found, create


def test_a_refused_replica_set_is_told_in_an_event_and_a_condition() -> None:
    found, create = planned()
    error = ApiError(403, "Forbidden", "exceeded quota")
    text = f'Failed to create new replica set "{create.name}": exceeded quota'
    assert create.failed is not None and found.then is not None
    assert [(e.kind, e.reason, e.message) for e in create.failed(error)] == [("Warning", "ReplicaSetCreateError", text)]
    assert list(create.failed(ApiError(409, "AlreadyExists", "it is there"))) == []
    (write,) = found.then([Failure(create, error)])
    assert isinstance(write, Op)
    (condition,) = write.body["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["message"]) == ("Progressing", "False", text)


def test_the_name_of_a_replica_set_is_cut_where_it_would_be_too_long() -> None:
    _, create = planned("d" * 253)
    assert len(create.name) == 253 and create.name.startswith("ddd") and "-" in create.name


def replica_set(name: str, size: int, most: int | None, age: int) -> Json:
    notes = {} if most is None else {MAX: str(most), DESIRED: str(most)}
    meta = {"name": name, "annotations": notes, "creationTimestamp": f"2026-01-01T00:00:{60 - age:02d}Z"}
    return {"metadata": meta, "spec": {"replicas": size}}


def test_a_scaling_in_the_middle_of_a_rollout_keeps_the_proportions_and_gives_the_rest_to_the_largest() -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    deployment: Json = {"metadata": {"name": "web"}, "spec": {"replicas": 15, "strategy": strategy}}
    held = [replica_set("new", 5, 13, 1), replica_set("old", 8, 13, 9)]
    assert proportional_sizes(deployment, held) == {"old": 11, "new": 7}
    untold = [replica_set("new", 5, None, 1), replica_set("old", 8, None, 9)]
    assert proportional_sizes(deployment, untold) == {"old": 13, "new": 5}, "nothing is known of before"
