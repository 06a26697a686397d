"""The conformance names of Deployment, ReplicaSet, ReplicationController and DaemonSet, on simulated nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from portside.cli.api import Refused
from tests.conformance.ground import NOWHERE, Ground, ground, pod, template, workload
from tests.conformance.names import conformance

__all__ = ["ground"]
Json = dict[str, Any]
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}


def status_verbs(g: Ground, plural: str, name: str) -> None:
    """Status by get, put, patch: conditions of a person's own stay, and the spec is not touched."""
    mine = {"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test"}

    def more(held: Json) -> None:
        held["status"]["conditions"] = [*(held["status"].get("conditions") or ()), mine]
        held["spec"]["replicas"] = 77

    changed = g.change(plural, name, more, "status")
    assert any(c["type"] == "StatusUpdate" for c in changed["status"]["conditions"])
    patch = {"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}}
    answer = g.patch(plural, name, patch, "status")
    assert [c["type"] for c in answer["status"]["conditions"]] == ["StatusPatched"]
    assert answer["spec"].get("replicas") != 77


def scale_verbs(g: Ground, plural: str, name: str, size: int) -> None:
    scale = g.get(plural, name, "scale")
    assert scale["kind"] == "Scale" and scale["spec"]["replicas"] == size
    grown = g.change(plural, name, lambda scale: scale["spec"].update(replicas=size + 1), "scale")
    assert grown["kind"] == "Scale" and grown["spec"]["replicas"] == size + 1
    assert g.patch(plural, name, {"spec": {"replicas": size + 2}}, "scale")["spec"]["replicas"] == size + 2
    assert g.get(plural, name)["spec"]["replicas"] == size + 2


def ready(g: Ground, count: int, name: str = "web") -> Json:
    return g.status("deployments", name, replicas=count, updatedReplicas=count, availableReplicas=count)


def sets(g: Ground) -> dict[str, Json]:
    return {s["metadata"]["annotations"]["deployment.kubernetes.io/revision"]: s for s in g.all("replicasets")}


# -- Deployment -------------------------------------------------------------------------------------------------------


@conformance("Deployment", "scale subresource", "status get, update, patch")
def test_deployment_scale_subresource_and_status_verbs(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=1))
    ready(ground, 1)
    scale_verbs(ground, "deployments", "web", 1)
    ready(ground, 3)
    status_verbs(ground, "deployments", "web")


@conformance("Deployment", "Recreate")
def test_deployment_recreate_ends_all_old_pods_before_a_new_one_starts(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=2, strategy={"type": "Recreate"}))
    ready(ground, 2)
    old = {p["metadata"]["uid"] for p in ground.pods("app=web")}
    ground.patch("deployments", "web", {"spec": {"template": template(image="other")}})

    def new() -> list[Json]:
        pods = ground.pods("app=web")
        assert not (old & {p["metadata"]["uid"] for p in pods}) or len(pods) <= 2
        return [p for p in pods if p["metadata"]["uid"] not in old]

    ground.until(lambda: len(new()) == 2)
    assert not old & {p["metadata"]["uid"] for p in ground.pods("app=web")}


@conformance("Deployment", "RollingUpdate")
def test_deployment_rolling_update_adopts_and_keeps_its_bounds(ground: Ground) -> None:
    ground.create("replicasets", workload(replicas=1))
    ground.status("replicasets", "web", readyReplicas=1)
    ground.create("deployments", workload(replicas=1, strategy=ROLLING) | {"metadata": {"name": "dep"}})
    ready(ground, 1, "dep")
    names = [s["metadata"]["name"] for s in ground.all("replicasets")]
    assert names == ["web"], "the set with the same template was adopted"
    ground.patch("deployments", "dep", {"spec": {"template": template(image="other")}})
    ready(ground, 1, "dep")
    assert {k: s["spec"]["replicas"] for k, s in sets(ground).items()} == {"1": 0, "2": 1}


@conformance("Deployment", "revisionHistoryLimit cleans old ReplicaSets")
def test_deployment_history_limit_cleans_old_sets(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=1, revisionHistoryLimit=0))
    ready(ground, 1)
    ground.patch("deployments", "web", {"spec": {"template": template(image="other")}})
    ground.until(lambda: list(sets(ground)) == ["2"])


@conformance("Deployment", "proportional scaling")
def test_deployment_scaled_in_the_middle_of_a_rollout_grows_in_proportion(ground: Ground) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
    ground.create("deployments", workload(replicas=10, strategy=strategy))
    ready(ground, 10)
    ground.patch("deployments", "web", {"spec": {"template": template(nodeSelector=NOWHERE)}})
    ground.until(lambda: {k: s["spec"]["replicas"] for k, s in sets(ground).items()} == {"1": 8, "2": 5})
    ground.patch("deployments", "web", {"spec": {"replicas": 30}})
    ground.until(lambda: {k: s["spec"]["replicas"] for k, s in sets(ground).items()} == {"1": 20, "2": 13})


@conformance("Deployment", "rollover")
def test_deployment_rollover_abandons_an_unfinished_template(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=1))
    ready(ground, 1)
    ground.patch("deployments", "web", {"spec": {"template": template(nodeSelector=NOWHERE)}})
    ground.until(lambda: "2" in sets(ground))
    ground.patch("deployments", "web", {"spec": {"template": template(image="third", nodeSelector=None)}})
    ready(ground, 1)
    assert {k: s["spec"]["replicas"] for k, s in sets(ground).items()} == {"1": 0, "2": 0, "3": 1}


@conformance("Deployment", "lifecycle with watch and status")
def test_deployment_lifecycle_and_rollback_with_kubectl(ground: Ground) -> None:
    ground.create("deployments", workload(replicas=2))
    assert "successfully rolled out" in ground.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    ground.kubectl("set", "image", "deployment/web", "c=other")
    ground.kubectl("rollout", "status", "deployment/web", "--timeout=60s")
    assert "deployment.apps/web rolled back" in ground.kubectl("rollout", "undo", "deployment/web")
    ready(ground, 2)
    assert sorted(sets(ground)) == ["2", "3"]
    ground.put(
        "deployments", ground.get("deployments", "web") | {"metadata": {"name": "web", "labels": {"new": ground.name}}}
    )
    assert [d["metadata"]["name"] for d in ground.all("deployments", f"new={ground.name}", everywhere=True)] == ["web"]
    ground.clear("deployments", f"new={ground.name}")
    ground.until(lambda: ground.gone("deployments", "web"))


# -- ReplicaSet and ReplicationController -----------------------------------------------------------------------------


def controller(name: str = "web", **spec: Any) -> Json:
    body = workload(name, **spec)
    return body | {"spec": body["spec"] | {"selector": {"app": name}}}


BODIES = {"replicasets": workload, "replicationcontrollers": controller}
KINDS = pytest.mark.parametrize("plural", sorted(BODIES))


@conformance("ReplicaSet", "scale subresource")
@conformance("ReplicationController", "scale get and update")
@KINDS
def test_sets_serve_a_pod_per_replica_and_scale(ground: Ground, plural: str) -> None:
    ground.create(plural, BODIES[plural](replicas=2))
    ground.status(plural, "web", readyReplicas=2, replicas=2)
    assert len({p["status"]["podIP"] for p in ground.pods("app=web")}) == 2
    scale_verbs(ground, plural, "web", 2)
    ground.status(plural, "web", availableReplicas=4)


@conformance("ReplicaSet", "adopts and releases pods")
@conformance("ReplicationController", "adopts matching pods", "releases pods")
@KINDS
def test_sets_adopt_a_pod_that_matches_and_release_one_that_does_not(ground: Ground, plural: str) -> None:
    ground.create("pods", pod("orphan"))
    ground.until(lambda: ground.get("pods", "orphan")["status"]["phase"] == "Running")  # no longer news to anybody
    ground.create(plural, BODIES[plural](replicas=1))

    def owner() -> Any:
        return (ground.get("pods", "orphan")["metadata"].get("ownerReferences") or [{}])[0].get("name")

    ground.until(lambda: owner() == "web")
    assert len(ground.pods("app=web")) == 1, "the orphan is the one replica"
    ground.patch("pods", "orphan", {"metadata": {"labels": {"app": "free"}}})
    ground.until(lambda: owner() is None)
    ground.until(lambda: len(ground.pods("app=web")) == 1)


@conformance("ReplicaSet", "replace and patch", "list + deletecollection", "status get, update, patch")
def test_replicaset_replace_patch_list_and_delete_collection(ground: Ground) -> None:
    ground.create("replicasets", workload(replicas=1))
    ground.status("replicasets", "web", readyReplicas=1)
    held = ground.change("replicasets", "web", lambda held: held["spec"].update(replicas=2))
    assert held["spec"]["replicas"] == 2
    patch = {"metadata": {"labels": {"test": ground.name}}, "spec": {"replicas": 3}}
    ground.patch("replicasets", "web", patch, kind="strategic-merge-patch")
    ground.status("replicasets", "web", readyReplicas=3)
    status_verbs(ground, "replicasets", "web")
    assert len(ground.all("replicasets", f"test={ground.name}", everywhere=True)) == 1
    ground.clear("replicasets", f"test={ground.name}")
    ground.until(lambda: ground.gone("replicasets", "web"))


@conformance("ReplicationController", "failure condition when quota is exceeded")
def test_replicationcontroller_says_when_quota_stops_it_and_goes_on_when_it_may(ground: Ground) -> None:
    quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}}
    ground.create("resourcequotas", quota)
    ground.until(lambda: (ground.get("resourcequotas", "q").get("status") or {}).get("hard"))
    ground.create("replicationcontrollers", controller(replicas=3))
    failed = ground.condition("replicationcontrollers", "web", "ReplicaFailure")
    assert failed["reason"] == "FailedCreate" and "exceeded quota: q" in failed["message"]
    ground.patch("replicationcontrollers", "web", {"spec": {"replicas": 2}}, "scale")
    held = ground.status("replicationcontrollers", "web", replicas=2)
    ground.until(lambda: "conditions" not in ground.get("replicationcontrollers", "web")["status"])
    assert held["spec"]["replicas"] == 2


@conformance("ReplicationController", "lifecycle with watch")
def test_replicationcontroller_lifecycle(ground: Ground) -> None:
    since = ground.create("replicationcontrollers", controller(replicas=1))["metadata"]["resourceVersion"]
    ground.status("replicationcontrollers", "web", availableReplicas=1)
    ground.patch("replicationcontrollers", "web", {"metadata": {"labels": {"test": ground.name}}})
    status_verbs(ground, "replicationcontrollers", "web")
    assert [
        c["metadata"]["name"] for c in ground.all("replicationcontrollers", f"test={ground.name}", everywhere=True)
    ] == ["web"]
    ground.clear("replicationcontrollers", f"test={ground.name}")
    ground.until(lambda: ground.gone("replicationcontrollers", "web"))
    watch = ground.path("replicationcontrollers", watch="1", resourceVersion=since, timeoutSeconds="1")
    told: list[Json] = []

    def ended() -> bool:
        told[:] = map(json.loads, ground.kubectl("get", "--raw", watch).splitlines())
        return bool(told) and told[-1]["type"] == "DELETED"

    ground.until(ended)
    assert {e["type"] for e in told[:-1]} == {"MODIFIED"}
    assert any(e["object"]["status"].get("availableReplicas") for e in told)


# -- DaemonSet --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nodes(ground: Ground) -> list[str]:
    """The simulated nodes of the cluster itself; other tests' nodes come and go."""
    found = [n["metadata"]["name"] for n in ground.all("nodes", "type=portside-simulated")]
    assert len(found) == 3
    return found


def daemons(name: str = "web", **spec: Any) -> Json:
    body = workload(name, **spec)
    body["spec"]["template"]["spec"] = body["spec"]["template"]["spec"] | {
        "nodeSelector": {"type": "portside-simulated"}
    }
    return body


def on(g: Ground) -> dict[str, str]:
    """node -> uid of its live pod"""
    live = [p for p in g.pods("app=web") if "deletionTimestamp" not in p["metadata"]]
    return {p["spec"].get("nodeName", ""): p["metadata"]["uid"] for p in live if p["status"]["phase"] == "Running"}


@conformance("DaemonSet", "recreates failed pods", "simple daemon: deleted pod replaced")
def test_daemonset_runs_everywhere_and_replaces_what_is_deleted_or_failed(ground: Ground, nodes: list[str]) -> None:
    ground.create("daemonsets", daemons())
    ground.until(lambda: sorted(on(ground)) == sorted(nodes))
    victims = ground.pods("app=web")
    ground.delete("pods", victims[0]["metadata"]["name"])
    ground.says(victims[1]["metadata"]["name"], "Failed")
    old = {victims[0]["metadata"]["uid"], victims[1]["metadata"]["uid"]}
    ground.until(lambda: sorted(on(ground)) == sorted(nodes) and not old & set(on(ground).values()))


@conformance("DaemonSet", "complex daemon: node selector changes")
def test_daemonset_follows_a_node_selector_that_changes(ground: Ground, nodes: list[str]) -> None:
    body = daemons()
    body["spec"]["template"]["spec"]["nodeSelector"] = {f"{ground.name}/color": "blue"}
    ground.create("daemonsets", body)
    ground.status("daemonsets", "web", observedGeneration=1)
    assert on(ground) == {}
    ground.patch("nodes", nodes[0], {"metadata": {"labels": {f"{ground.name}/color": "blue"}}})
    ground.until(lambda: list(on(ground)) == [nodes[0]])
    ground.patch("nodes", nodes[0], {"metadata": {"labels": {f"{ground.name}/color": "green"}}})
    ground.until(lambda: on(ground) == {})
    green = {"nodeSelector": {f"{ground.name}/color": "green"}}
    ground.patch("daemonsets", "web", {"spec": {"template": {"spec": green}}})
    ground.until(lambda: list(on(ground)) == [nodes[0]])
    ground.patch("nodes", nodes[0], {"metadata": {"labels": {f"{ground.name}/color": None}}})


@conformance("DaemonSet", "RollingUpdate")
def test_daemonset_rolls_and_rolls_back_without_restarting_what_is_right(ground: Ground, nodes: list[str]) -> None:
    ground.create("daemonsets", daemons())
    ground.status("daemonsets", "web", numberAvailable=3, updatedNumberScheduled=3)
    first = on(ground)
    stuck = {"containers": [{"name": "c", "image": "foo:non-existent"}], "nodeSelector": {"type": "portside-simulated"}}
    ground.patch("daemonsets", "web", {"spec": {"template": {"spec": stuck}}})
    ground.status("daemonsets", "web", observedGeneration=2, numberAvailable=3, updatedNumberScheduled=3)
    assert not set(first.values()) & set(on(ground).values())
    second = on(ground)
    ground.kubectl("rollout", "undo", "daemonset/web")
    ground.status("daemonsets", "web", observedGeneration=3, numberAvailable=3, updatedNumberScheduled=3)
    assert not set(second.values()) & set(on(ground).values())
    revisions = sorted(r["revision"] for r in ground.all("controllerrevisions", "app=web"))
    assert revisions == [2, 3]


@conformance("DaemonSet", "rollback without needless restarts")
def test_daemonset_rolled_back_in_the_middle_keeps_the_pods_that_are_right(ground: Ground, nodes: list[str]) -> None:
    ground.create("daemonsets", daemons())
    ground.status("daemonsets", "web", numberAvailable=3, updatedNumberScheduled=3)
    first = on(ground)
    pending = {"nodeSelector": {"type": "portside-simulated"}, "schedulingGates": [{"name": "example.com/never"}]}
    ground.patch("daemonsets", "web", {"spec": {"template": {"spec": pending}}})
    gated = lambda: [p for p in ground.pods("app=web") if p["spec"].get("schedulingGates")]  # noqa: E731
    ground.until(lambda: len(gated()) == 1 and len(on(ground)) == 2)  # one at a time, and it never starts
    kept = on(ground)
    assert set(kept.items()) < set(first.items())
    ground.kubectl("rollout", "undo", "daemonset/web")
    ground.status("daemonsets", "web", observedGeneration=3, numberAvailable=3, updatedNumberScheduled=3)
    after = on(ground)
    assert set(kept.items()) < set(after.items()) and len(set(first.items()) & set(after.items())) == 2


@conformance("DaemonSet", "status get, update, patch", "list + deletecollection")
def test_daemonset_status_list_and_delete_collection(ground: Ground) -> None:
    ground.create("daemonsets", daemons())
    ground.status("daemonsets", "web", numberReady=3)
    status_verbs(ground, "daemonsets", "web")
    assert [d["metadata"]["name"] for d in ground.all("daemonsets", "app=web")] == ["web"]
    ground.clear("daemonsets", "app=web")
    ground.until(lambda: ground.gone("daemonsets", "web") and not ground.pods("app=web"))


@conformance("ControllerRevision, CronJob", "ControllerRevision lifecycle via a DaemonSet")
def test_controller_revisions_live_through_their_verbs(ground: Ground) -> None:
    ground.create("daemonsets", daemons())
    (first,) = ground.until(lambda: ground.all("controllerrevisions", "app=web"))
    name = first["metadata"]["name"]
    assert ground.get("controllerrevisions", name)["revision"] == 1
    template = ground.get("daemonsets", "web")["spec"]["template"]
    wanted = {"spec": {"template": template | {"$patch": "replace"}}}
    said = json.dumps(wanted, sort_keys=True, separators=(",", ":")).encode()
    assert said in ground.api.raw("GET", ground.path("controllerrevisions", name))[1], "clients compare bytes"
    ground.patch("controllerrevisions", name, {"metadata": {"labels": {name: "patched"}}})
    assert ground.all("controllerrevisions", f"{name}=patched", everywhere=True)
    copy = first | {"metadata": {"name": f"{name}-copy", "labels": {"app": "web"}}, "revision": 9}
    copy["metadata"]["ownerReferences"] = first["metadata"]["ownerReferences"]
    made = ground.create("controllerrevisions", copy)
    made["metadata"]["labels"][f"{name}-copy"] = "updated"
    ground.put("controllerrevisions", made)
    ground.delete("controllerrevisions", f"{name}-copy")
    ground.until(lambda: ground.gone("controllerrevisions", f"{name}-copy"))
    with pytest.raises(Refused, match="immutable"):
        ground.patch("controllerrevisions", name, {"data": {"spec": {"other": 1}}})
