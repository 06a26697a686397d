"""Stories of workloads: what becomes of Deployments, StatefulSets, DaemonSets, Jobs and their like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.unit.controllers.ordeal.world import PODS, Json, Law, Scenario, World, running

from portside.base.clock import rfc3339
from portside.client.protocol import Resource

DEPLOYMENTS: Resource = ("apps", "v1", "deployments")
SETS: Resource = ("apps", "v1", "replicasets")
CONTROLLERS: Resource = ("", "v1", "replicationcontrollers")
STATEFUL: Resource = ("apps", "v1", "statefulsets")
DAEMONS: Resource = ("apps", "v1", "daemonsets")
JOBS: Resource = ("batch", "v1", "jobs")
CRONJOBS: Resource = ("batch", "v1", "cronjobs")
BUDGETS: Resource = ("policy", "v1", "poddisruptionbudgets")
CRDS: Resource = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
FLEETS: Resource = ("example.com", "v1", "fleets")


def template(image: str = "a", **spec: Any) -> Json:
    containers = [{"name": "c", "image": image}]
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": containers, **spec}}


def workload(**spec: Any) -> Json:
    """A body of the apps group; the server knows its kind by the path."""
    return {
        "metadata": {"name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(), **spec},
    }


def status(world: World, kind: str) -> Json:
    """The one object's status; its generation must have been seen."""
    (found,) = [o for o in world.of_kind(kind) if o["metadata"].get("namespace") == "default"]
    held: Json = found.get("status") or {}
    return held if held.get("observedGeneration", -1) == found["metadata"].get("generation") else {}


def images(world: World) -> Counter[str]:
    return Counter(p["spec"]["containers"][0]["image"] for p in world.of_kind("Pod"))


def active(pods: Sequence[Json]) -> list[Json]:
    ended = ("Succeeded", "Failed")
    return [
        p
        for p in pods
        if "deletionTimestamp" not in p["metadata"] and (p.get("status") or {}).get("phase") not in ended
    ]


def at_most(most: int, what: str) -> Law:
    """Never more active pods than this."""

    def broken(pods: Sequence[Json]) -> str | None:
        count = len(active(pods))
        return f"{count} active pods, {what} allows {most}" if count > most else None

    return Law(PODS, broken)


async def _rollout(world: World) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await world.create(DEPLOYMENTS, workload(replicas=3, strategy=strategy))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 3)
    await world.patch(DEPLOYMENTS, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: status(world, "Deployment").get("updatedReplicas") == 3)
    await world.until(lambda: images(world) == {"b": 3})


def _surge(sets: Sequence[Json]) -> str | None:
    """What is asked for stays within the surge; a pod whose deletion is refused may live on a moment."""
    asked = sum(s["spec"]["replicas"] for s in sets)
    return f"{asked} pods asked for, a surge of one over three allows 4" if asked > 4 else None


async def _recreate(world: World) -> None:
    await world.create(DEPLOYMENTS, workload(replicas=2, strategy={"type": "Recreate"}))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 2)
    await world.patch(DEPLOYMENTS, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: images(world) == {"b": 2})
    await world.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 1, "paused": True}})
    await world.until(lambda: images(world) == {"b": 1})


def _one_image(pods: Sequence[Json]) -> str | None:
    found = {p["spec"]["containers"][0]["image"] for p in pods}
    return f"pods of both templates: {sorted(found)}" if len(found) > 1 else None


async def _replication(world: World) -> None:
    body = {"metadata": {"name": "web"}, "spec": {"replicas": 3, "template": template()}}
    await world.create(CONTROLLERS, body)
    await world.until(lambda: status(world, "ReplicationController").get("readyReplicas") == 3)
    await world.patch(CONTROLLERS, "web", {"spec": {"replicas": 1}})
    await world.until(lambda: len(world.of_kind("Pod")) == 1)


def _claimed(**spec: Any) -> Json:
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return workload(serviceName="web", volumeClaimTemplates=[claim], **spec)


async def _stateful(world: World) -> None:
    policy = {"whenDeleted": "Retain", "whenScaled": "Delete"}
    await world.create(STATEFUL, _claimed(replicas=3, persistentVolumeClaimRetentionPolicy=policy))
    await world.until(lambda: status(world, "StatefulSet").get("availableReplicas") == 3)
    await world.patch(STATEFUL, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: images(world) == {"b": 3})
    await world.patch(STATEFUL, "web", {"spec": {"replicas": 2}})
    await world.until(lambda: len(world.of_kind("Pod")) == 2)
    held = "PersistentVolumeClaim"
    await world.until(lambda: len(world.of_kind(held)) == 2)


async def _stateful_parallel(world: World) -> None:
    strategy = {"rollingUpdate": {"partition": 1}}
    body = workload(replicas=3, podManagementPolicy="Parallel", updateStrategy=strategy, ordinals={"start": 5})
    await world.create(STATEFUL, body)
    await world.until(lambda: status(world, "StatefulSet").get("availableReplicas") == 3)
    await world.patch(STATEFUL, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: images(world) == {"a": 1, "b": 2})


def _one_per_ordinal(pods: Sequence[Json]) -> str | None:
    names = Counter(p["metadata"]["name"] for p in pods)
    double = [n for n, count in names.items() if count > 1]
    return f"two pods of one ordinal: {double}" if double else None


async def _daemons(world: World) -> None:
    await world.join("n2")
    await world.create(DAEMONS, workload(updateStrategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}))
    await world.until(lambda: status(world, "DaemonSet").get("numberAvailable") == 2)
    await world.patch(DAEMONS, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: images(world) == {"b": 2})
    await world.join("n3")
    await world.until(lambda: status(world, "DaemonSet").get("numberAvailable") == 3)


def faulty(pod: Json, number: int) -> Json:
    """Pods of the first template fail on the second node."""
    fails = pod["spec"].get("nodeName") == "n2" and pod["spec"]["containers"][0]["image"] == "a"
    return {"phase": "Failed", "reason": "Broken"} if fails else running(pod, number)


async def _faulty_daemons(world: World) -> None:
    await world.join("n2")
    await world.create(DAEMONS, workload())
    failed: set[str] = set()

    def often() -> bool:
        pods = [p for p in world.of_kind("Pod") if (p.get("status") or {}).get("phase") == "Failed"]
        failed.update(p["metadata"]["uid"] for p in pods)
        return len(failed) > 3

    await world.until(often)
    await world.patch(DAEMONS, "web", {"spec": {"template": template("b")}})
    await world.until(lambda: status(world, "DaemonSet").get("numberAvailable") == 2)


def _two_per_node(pods: Sequence[Json]) -> str | None:
    """With surge, a node has the old pod and its successor, never two of one template."""
    found = Counter(
        (
            p["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
                "nodeSelectorTerms"
            ][0]
        )["matchFields"][0]["values"][0]
        + p["spec"]["containers"][0]["image"]
        for p in active(pods)
    )
    double = [n for n, count in found.items() if count > 1]
    return f"two pods of one template on a node: {double}" if double else None


def job(**spec: Any) -> Json:
    given = {"template": template(restartPolicy="Never"), **spec}
    return {"metadata": {"name": "count"}, "spec": given}


def _condition(world: World, kind: str, name: str) -> bool:
    return any(
        c["type"] == name and c["status"] == "True"
        for o in world.of_kind(kind)
        for c in (o.get("status") or {}).get("conditions") or ()
    )


async def _count(world: World) -> None:
    await world.create(JOBS, job(completions=4, parallelism=2))
    await world.until(lambda: _condition(world, "Job", "Complete"))


async def _index(world: World) -> None:
    await world.create(JOBS, job(completions=3, parallelism=3, completionMode="Indexed", backoffLimitPerIndex=1))
    await world.until(lambda: _condition(world, "Job", "Failed"))


async def _suspend(world: World) -> None:
    await world.create(JOBS, job(completions=2, parallelism=2, suspend=True))
    await world.until(lambda: _condition(world, "Job", "Suspended"))
    await world.patch(JOBS, "count", {"spec": {"suspend": False}})
    await world.until(lambda: _condition(world, "Job", "Complete"))


async def _orphaned_pods(world: World) -> None:
    await world.create(JOBS, job(completions=2, parallelism=2))
    await world.until(lambda: len(world.of_kind("Pod")) == 2)
    await world.delete(JOBS, "count", "Background")
    await world.until(lambda: not any(p["metadata"].get("finalizers") for p in world.of_kind("Pod")))


async def _forget(world: World) -> None:
    await world.create(JOBS, job(completions=1, ttlSecondsAfterFinished=30))
    await world.until(lambda: not world.of_kind("Job"))


async def _cron(world: World) -> None:
    """The clock is virtual: an hourly job runs in what is a moment for us."""
    body = {
        "metadata": {"name": "tick"},
        "spec": {
            "schedule": "*/10 * * * *",
            "concurrencyPolicy": "Forbid",
            "successfulJobsHistoryLimit": 1,
            "jobTemplate": {"spec": {"template": template(restartPolicy="Never")}},
        },
    }
    await world.create(CRONJOBS, body)
    done: set[str] = set()

    def twice() -> bool:
        done.update(j["metadata"]["name"] for j in world.of_kind("Job") if (j.get("status") or {}).get("succeeded"))
        return len(done) >= 2

    await world.until(twice)
    await world.patch(CRONJOBS, "tick", {"spec": {"suspend": True}})
    await world.until(lambda: len(world.of_kind("Job")) == 1)


def ended(pod: Json, number: int) -> Json:
    """Pods of Jobs succeed, but for the first of index 1, whose index has one more try that fails as well."""
    failing = (pod["metadata"].get("annotations") or {}).get("batch.kubernetes.io/job-completion-index") == "1"
    stamp = "2026-01-01T00:00:00Z"
    state = {
        "terminated": {"exitCode": int(failing), "finishedAt": stamp, "reason": "Error" if failing else "Completed"}
    }
    container = {"name": "c", "image": "i", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Failed" if failing else "Succeeded", "containerStatuses": [container]}


async def _disrupt(world: World) -> None:
    await world.create(DEPLOYMENTS, workload(replicas=3))
    await world.until(lambda: status(world, "Deployment").get("availableReplicas") == 3)
    budget = {"metadata": {"name": "web"}, "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}}}
    await world.create(BUDGETS, budget)
    await world.until(lambda: status(world, "PodDisruptionBudget").get("disruptionsAllowed") == 1)
    name = min(p["metadata"]["name"] for p in world.of_kind("Pod"))
    eviction = {"metadata": {"name": name}}
    await world.client.create(PODS, eviction, namespace="default", name=name, subresource="eviction")
    await world.until(lambda: name not in {p["metadata"]["name"] for p in world.of_kind("Pod")})
    await world.until(lambda: status(world, "PodDisruptionBudget").get("disruptionsAllowed") == 1)


def _fleet(replicas: int) -> tuple[Json, Json]:
    """A definition of a custom kind that scales, and an object of it."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    scale = {"specReplicasPath": ".spec.ships", "statusReplicasPath": ".status.ships"}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    version["subresources"] = {"scale": scale}
    names = {"plural": "fleets", "singular": "fleet", "kind": "Fleet", "listKind": "FleetList"}
    spec = {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}
    definition = {"metadata": {"name": "fleets.example.com"}, "spec": spec}
    body = {"apiVersion": "example.com/v1", "kind": "Fleet", "metadata": {"name": "f"}, "spec": {"ships": replicas}}
    return definition, body


async def _custom_budget(world: World) -> None:
    """The budget counts what the custom resource wants, of which one pod is not there; one pod was to go and did not."""
    definition, body = _fleet(3)
    await world.client.create(CRDS, definition)
    await world.until(lambda: _condition(world, "CustomResourceDefinition", "Established"))
    fleet = await world.create(FLEETS, body)
    owner = {"apiVersion": "example.com/v1", "kind": "Fleet", "name": "f", "uid": fleet["metadata"]["uid"]}
    for name in ("p1", "p2"):
        meta = {"name": name, "labels": {"app": "web"}, "ownerReferences": [owner | {"controller": True}]}
        await world.create(PODS, {**template(), "metadata": meta})
    selector = {"matchLabels": {"app": "web"}}
    await world.create(BUDGETS, {"metadata": {"name": "web"}, "spec": {"maxUnavailable": 2, "selector": selector}})
    await world.until(lambda: status(world, "PodDisruptionBudget").get("disruptionsAllowed") == 1)
    assert status(world, "PodDisruptionBudget")["expectedPods"] == 3
    marked = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    marked["lastTransitionTime"] = rfc3339(world.clock.now())
    patch = {"status": {"conditions": [marked]}}
    await world.patch(PODS, "p1", patch, subresource="status", patch_type="strategic")
    await world.until(lambda: _condition(world, "Pod", "DisruptionTarget"))
    await world.until(lambda: not _condition(world, "Pod", "DisruptionTarget"))


DEPLOYING = ("deployment-controller of deployments", "replicaset-controller of replicasets")
COUNTING = ("job-controller of jobs", "job-controller of pods")
TIMED = "ttl-after-finished-controller of jobs"
COLLECTING = "garbage-collector-controller of customresourcedefinitions, at times"
STATEFULLY = (
    "statefulset-controller of statefulsets",
    "pvc-protection-controller of persistentvolumeclaims",
    COLLECTING,
)
ORDINALS = Law(PODS, _one_per_ordinal)

SCENARIOS = (
    Scenario("a rollout", DEPLOYING, _rollout, laws=(Law(SETS, _surge),)),
    Scenario("a recreation", DEPLOYING, _recreate, laws=(at_most(2, "two replicas"), Law(PODS, _one_image))),
    Scenario(
        "a replication controller",
        ("replication-controller of replicationcontrollers",),
        _replication,
        laws=(at_most(3, "three replicas"),),
    ),
    Scenario("ordered pods with claims", STATEFULLY, _stateful, laws=(ORDINALS, at_most(3, "three replicas"))),
    Scenario("parallel pods with a partition", STATEFULLY[:1], _stateful_parallel, laws=(ORDINALS,)),
    Scenario("daemons", ("daemonset-controller of daemonsets",), _daemons, laws=(Law(PODS, _two_per_node),)),
    Scenario(
        "daemons that fail on a node",
        ("daemonset-controller of daemonsets",),
        _faulty_daemons,
        faulty,
        laws=(Law(PODS, _two_per_node),),
    ),
    Scenario("a job", COUNTING, _count, ended, (at_most(2, "the parallelism"),)),
    Scenario("an indexed job", COUNTING, _index, ended, (at_most(3, "the parallelism"),)),
    Scenario("a suspended job", COUNTING, _suspend, ended, (at_most(2, "the parallelism"),)),
    Scenario("a job that goes before its pods", COUNTING, _orphaned_pods, running),
    Scenario("a job with a time to live", (*COUNTING, TIMED, COLLECTING), _forget, ended),
    Scenario("a schedule", (*COUNTING, COLLECTING, "cronjob-controller of cronjobs"), _cron, ended),
    Scenario("a budget", (*DEPLOYING, "controllermanager of poddisruptionbudgets"), _disrupt),
    Scenario(
        "a budget over pods of a custom resource",
        ("controllermanager of poddisruptionbudgets", "controllermanager of pods"),
        _custom_budget,
    ),
)
