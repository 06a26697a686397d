"""Answers over small worlds: one cause for many objects, links and symptoms, what is not known, what a terminal sees."""

from __future__ import annotations

from typing import Any

from portside.cli.why import show
from portside.why.answer import explain, survey
from portside.why.finding import lookup, seen, shown
from portside.why.gather import MAX_NAMED, MAX_OBJECTS, PAGE, Unreadable, about, everything
from portside.why.scheduling import parts_of
from portside.why.world import World

Json = dict[str, Any]
NOW = 1_800_000_000.0


def obj(kind: str, name: str, spec: Json | None = None, status: Json | None = None, **meta: Any) -> Json:
    version = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "Job": "batch/v1", "CronJob": "batch/v1"}.get(
        kind, "v1"
    )
    space = {} if kind == "Node" else {"namespace": "shop"}
    held = {"name": name, "uid": f"uid-{name}", **space, **meta}
    return {"apiVersion": version, "kind": kind, "metadata": held, "spec": spec or {}, "status": status or {}}


def owned_by(owner: Json) -> Json:
    ref = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
    }
    return {"ownerReferences": [ref]}


def crashing(name: str, owner: Json, restarts: int) -> Json:
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    status = {"name": "c", "ready": False, "restartCount": restarts, "state": waiting}
    status["lastState"] = {"terminated": {"exitCode": 3, "reason": "Error"}}
    spec = {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}
    return obj("Pod", name, spec, {"phase": "Running", "containerStatuses": [status]}, **owned_by(owner))


def shop() -> dict[str, list[Json]]:
    deployment = obj("Deployment", "web", {"replicas": 3}, {"readyReplicas": 0})
    replicas = obj("ReplicaSet", "web-1", {"replicas": 3}, {"replicas": 3}, **owned_by(deployment))
    pods = [crashing(f"web-1-{n}", replicas, n) for n in range(3)]
    node = obj("Node", "n", {}, {"conditions": [{"type": "Ready", "status": "True"}]})
    return {"deployments": [deployment], "replicasets": [replicas], "pods": pods, "nodes": [node], "events": []}


def test_ten_pods_with_one_trouble_are_one_cause_with_a_count() -> None:
    world = World(shop(), now=NOW)
    answer = explain(world, world.all("deployments")[0])
    assert [(t.cause.name, t.count) for t in answer.causes] == [("crash-loop", 3)]
    assert {c.cause.name for c in answer.causes[0].so} == {"pods-not-ready"}
    text = show(answer)
    assert "container c ends with exit code 3 each time it is started" in text
    assert "3 × pod/web-1-0 -n shop" in text and "kubectl logs web-1-0 -n shop -c c --previous" in text


def test_a_survey_tells_the_same_once_and_not_for_every_owner() -> None:
    answer = survey(World(shop(), now=NOW), "the cluster")
    assert [(t.cause.name, t.count) for t in answer.causes] == [("crash-loop", 3)]
    assert answer.known == [] and answer.state == "explained"


def failed(name: str, owner: Json) -> Json:
    ended = {"name": "c", "state": {"terminated": {"exitCode": 1}}, "restartCount": 0}
    spec = {"nodeName": "n", "containers": [{"name": "c"}], "restartPolicy": "Never"}
    return obj("Pod", name, spec, {"phase": "Failed", "containerStatuses": [ended]}, **owned_by(owner))


def test_failures_that_nobody_waits_for_any_more_are_not_told() -> None:
    nightly = obj("CronJob", "nightly")
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    gave_up = {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}
    old = obj("Job", "nightly-1", {}, gave_up, creationTimestamp="2026-01-01T00:00:00Z", **owned_by(nightly))
    new = obj("Job", "nightly-2", {}, done, creationTimestamp="2026-01-02T00:00:00Z", **owned_by(nightly))
    pods = [failed("a", old), failed("b", new)]
    world = World({"cronjobs": [nightly], "jobs": [old, new], "pods": pods, "events": []}, now=NOW)
    assert survey(world, "the cluster").state == "well"
    assert explain(world, new).state == "well" and explain(world, nightly).state == "well"
    assert [t.cause.name for t in explain(world, pods[0]).causes] == ["container-failed"]
    world = World({"cronjobs": [nightly], "jobs": [old], "pods": pods[:1], "events": []}, now=NOW)
    assert [t.cause.name for t in survey(world, "the cluster").causes] == ["container-failed"]


def test_nothing_to_tell_is_well() -> None:
    quiet = {k: v for k, v in shop().items() if k == "nodes"}
    answer = survey(World(quiet, now=NOW), "the cluster")
    assert show(answer) == "the cluster: all is well"


def test_what_may_not_be_read_is_no_proof_of_absence() -> None:
    spec = {"nodeName": "n", "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "settings"}}]}]}
    pod = obj("Pod", "p", spec, {"phase": "Pending"})

    def read(path: str) -> Json:
        if "configmaps" in path:
            raise Unreadable(403, "configmaps is forbidden")
        if path.startswith("/api/v1/nodes"):
            return {"items": [obj("Node", "n", {}, {"conditions": [{"type": "Ready", "status": "True"}]})]}
        return {"items": [pod] if path.startswith("/api/v1/namespaces/shop/pods") else []}

    world, start = about(read, pod, "pods", NOW)
    answer = explain(world, start)
    assert answer.state == "unknown" and "forbidden" in answer.unread["configmaps"]
    assert "not read" in show(answer)


def test_values_of_secrets_are_not_kept() -> None:
    spec = {"nodeName": "n", "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}
    pod = obj("Pod", "p", spec, {"phase": "Pending"})

    def read(path: str) -> Json:
        if path.endswith("/secrets/s"):
            return obj("Secret", "s") | {"data": {"password": "aHVzaA=="}}
        return {"items": [pod] if "/pods" in path else []}

    world, _ = about(read, pod, "pods", NOW)
    held = world.get("secrets", "s", "shop")
    assert held is not None and held["data"] == {"password": ""}


def test_reading_ends_at_its_limit_and_says_so() -> None:
    asked = []

    def read(path: str) -> Json:
        if "/pods?" not in path:
            return {"items": []}
        asked.append(path)
        return {"items": [obj("Pod", f"p{len(asked)}-{n}") for n in range(PAGE)], "metadata": {"continue": "a/b"}}

    world = everything(read, None, NOW)
    assert len(asked) == MAX_OBJECTS // PAGE and asked[1].endswith("continue=a%2Fb")
    assert "pods" in world.partial and not world.knows("pods")


def test_more_references_than_the_limit_are_said() -> None:
    sources = [{"configMapRef": {"name": f"c{n}"}} for n in range(MAX_NAMED + 5)]
    pod = obj("Pod", "p", {"nodeName": "n", "containers": [{"name": "c", "envFrom": sources}]}, {"phase": "Pending"})
    asked = []

    def read(path: str) -> Json:
        if "/configmaps/" in path:
            asked.append(path)
            return obj("ConfigMap", path.rpartition("/")[2])
        return {"items": [pod] if "/pods" in path else []}

    world, _ = about(read, pod, "pods", NOW)
    assert len(asked) == MAX_NAMED and "configmaps" in world.partial


def test_the_schedulers_words_are_taken_apart() -> None:
    text = (
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). "
        "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    )
    assert parts_of(text) == (3, [(1, "Insufficient cpu"), (2, "node(s) had untolerated taint(s)")])
    older = "0/1 nodes are available: 1 node(s) had untolerated taint {a: b, c}. preemption: 0/1 nodes are available: x"
    assert parts_of(older) == (1, [(1, "node(s) had untolerated taint {a: b, c}")])
    assert parts_of('persistentvolumeclaim "x" not found') == (0, [])


def test_evidence_names_the_field_and_never_reaches_a_terminal_raw() -> None:
    pod = obj("Pod", "p", {"containers": [{"name": "c", "command": ["a\x1b[31m", "b"]}]})
    assert str(seen(pod, "spec", "containers", "c", "command")) == "pod/p spec.containers[c].command = a [31m, b"
    assert lookup(pod, "spec", "containers", 5, "image") is None
    assert len(shown("x" * 5000)) == 600
