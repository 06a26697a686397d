"""Controllers together on the fake client: what a user sees of deployments, services, namespaces and owners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from portside.base.clock import SYSTEM, rfc3339
from portside.client.fake import FakeClient
from portside.controllers.assembly import controllers
from portside.controllers.harness import Harness

PODS = ("", "v1", "pods")
SETS = ("apps", "v1", "replicasets")
DEPLOYMENTS = ("apps", "v1", "deployments")
SERVICES = ("", "v1", "services")
SLICES = ("discovery.k8s.io", "v1", "endpointslices")
EVENTS = ("", "v1", "events")
CONFIGMAPS = ("", "v1", "configmaps")
NAMESPACES = ("", "v1", "namespaces")


def deployment(replicas: int = 2, image: str = "a", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "ns"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            **spec,
        },
    }


class Cluster:
    """The fake client with every controller running and pods that become ready by themselves."""

    def __init__(self) -> None:
        self.client = FakeClient()
        self.harness = Harness(self.client, SYSTEM, controllers(root_ca="CA"))
        self.start_pods = True

    def objects(self, resource: tuple[str, str, str]) -> list[dict[str, Any]]:
        return list(self.client.objects.get(resource, {}).values())

    async def kubelet(self) -> None:
        number = 0
        async for event in self.client.watch(PODS, send_initial_events=True):
            pod = event.object
            if event.type != "ADDED" or not self.start_pods or "broken" in str(pod["spec"]):
                continue
            number += 1
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(SYSTEM.now())}
            status = {"phase": "Running", "podIPs": [{"ip": f"10.0.0.{number}"}], "conditions": [ready]}
            name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
            await self.client.patch(PODS, name, {"status": status}, namespace=namespace, subresource="status")

    async def until(self, test: Callable[[], Any], seconds: float = 60.0) -> None:
        async with asyncio.timeout(seconds):
            while not test():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    tasks = [asyncio.create_task(cluster.harness.run()), asyncio.create_task(cluster.kubelet())]
    try:
        await cluster.client.create(NAMESPACES, {"metadata": {"name": "ns"}, "spec": {"finalizers": ["kubernetes"]}})
        yield cluster
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def reason(cluster: Cluster, kind: str) -> str:
    status = cluster.objects(DEPLOYMENTS)[0].get("status") or {}
    return next((c["reason"] for c in status.get("conditions", ()) if c["type"] == kind), "")


async def test_deployment_rolls_out_scales_and_rolls_back() -> None:
    async with running() as c:
        await c.client.create(DEPLOYMENTS, deployment())
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        first = c.objects(SETS)[0]
        assert first["metadata"]["annotations"] == {
            "deployment.kubernetes.io/desired-replicas": "2",
            "deployment.kubernetes.io/max-replicas": "3",
            "deployment.kubernetes.io/revision": "1",
        }
        assert c.objects(DEPLOYMENTS)[0]["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        assert len(c.objects(PODS)) == 2

        await c.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 5}}, namespace="ns")
        await c.until(lambda: len(c.objects(PODS)) == 5)
        template = deployment(image="b")["spec"]["template"]
        await c.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template}}, namespace="ns")
        await c.until(lambda: len(c.objects(SETS)) == 2 and reason(c, "Progressing") == "NewReplicaSetAvailable")
        await c.until(lambda: {p["spec"]["containers"][0]["image"] for p in c.objects(PODS)} == {"b"})
        await c.until(lambda: c.objects(DEPLOYMENTS)[0]["status"].get("availableReplicas") == 5)

        template = deployment(image="a")["spec"]["template"]
        await c.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template}}, namespace="ns")
        await c.until(lambda: {p["spec"]["containers"][0]["image"] for p in c.objects(PODS)} == {"a"})
        old = c.client.objects[SETS]["ns/" + first["metadata"]["name"]]["metadata"]["annotations"]
        assert old["deployment.kubernetes.io/revision"] == "3"
        assert old["deployment.kubernetes.io/revision-history"] == "1"

        def messages() -> list[str]:
            return [e["message"] for e in c.objects(EVENTS) if e["involvedObject"]["kind"] == "Deployment"]

        await c.until(messages)
        assert messages()[0] == f"Scaled up replica set {first['metadata']['name']} from 0 to 2"


async def test_stale_caches_never_create_a_pod_twice() -> None:
    async with running() as c:
        await c.client.create(DEPLOYMENTS, deployment(40))
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        created = [w for w in c.client.writes if w[:2] == ("create", PODS)]
        assert len(created) == 40


async def test_stuck_rollout_is_scaled_in_proportion() -> None:
    async with running() as c:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}}
        await c.client.create(DEPLOYMENTS, deployment(10, strategy=strategy))
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        template = deployment(image="broken")["spec"]["template"]
        await c.client.patch(DEPLOYMENTS, "web", {"spec": {"template": template}}, namespace="ns")

        def sizes() -> list[int]:
            return [rs["spec"]["replicas"] for rs in c.objects(SETS)]

        await c.until(lambda: sizes() == [8, 5])
        await c.client.patch(DEPLOYMENTS, "web", {"spec": {"replicas": 15}}, namespace="ns")
        await c.until(lambda: sizes() == [11, 7])


async def test_service_gets_slices_and_endpoints_that_follow_pods() -> None:
    async with running() as c:
        service = {
            "metadata": {"name": "svc", "namespace": "ns"},
            "spec": {"selector": {"app": "web"}, "ipFamilies": ["IPv4"], "ports": [{"port": 80, "targetPort": 8080}]},
        }
        await c.client.create(SERVICES, service)
        await c.until(lambda: c.objects(SLICES) and c.objects(SLICES)[0]["endpoints"] == [])
        await c.client.create(DEPLOYMENTS, deployment(3))

        def ready() -> int:
            return sum(1 for s in c.objects(SLICES) for e in s["endpoints"] if e["conditions"]["ready"])

        await c.until(lambda: ready() == 3)
        assert len(c.objects(SLICES)) == 1
        assert c.objects(SLICES)[0]["ports"] == [{"name": "", "port": 8080, "protocol": "TCP"}]
        endpoints = c.client.objects.setdefault(("", "v1", "endpoints"), {})

        def addresses() -> list[int]:
            return [len(s.get("addresses", ())) for s in endpoints.get("ns/svc", {}).get("subsets") or ()]

        await c.until(lambda: addresses() == [3])
        await c.client.delete(SERVICES, "svc", namespace="ns")
        await c.until(lambda: not c.objects(SLICES) and not endpoints)


async def test_foreground_deletion_goes_from_the_leaves() -> None:
    async with running() as c:
        await c.client.create(DEPLOYMENTS, deployment())
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        await c.client.delete(DEPLOYMENTS, "web", namespace="ns", options={"propagationPolicy": "Foreground"})
        await c.until(lambda: not c.objects(DEPLOYMENTS) and not c.objects(SETS) and not c.objects(PODS))


async def test_orphans_stay_and_are_adopted_again() -> None:
    async with running() as c:
        await c.client.create(DEPLOYMENTS, deployment())
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        names = {p["metadata"]["name"] for p in c.objects(PODS)}
        await c.client.delete(DEPLOYMENTS, "web", namespace="ns", options={"propagationPolicy": "Orphan"})
        await c.until(lambda: not c.objects(DEPLOYMENTS))
        assert not c.objects(SETS)[0]["metadata"].get("ownerReferences")
        await c.client.create(DEPLOYMENTS, deployment())
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        assert {p["metadata"]["name"] for p in c.objects(PODS)} == names


async def test_dependents_of_absent_owners_and_of_circles_go() -> None:
    async with running() as c:

        def configmap(name: str, *uids: str) -> dict[str, Any]:
            refs = [
                {"apiVersion": "v1", "kind": "ConfigMap", "name": f"o{u}", "uid": u, "blockOwnerDeletion": True}
                for u in uids
            ]
            return {"metadata": {"name": name, "namespace": "ns", "ownerReferences": refs}}

        await c.client.create(CONFIGMAPS, configmap("lost", "nobody"))
        unknown = configmap("unknown", "x")
        unknown["metadata"]["ownerReferences"][0]["kind"] = "Nonsense"
        await c.client.create(CONFIGMAPS, unknown)
        one = await c.client.create(CONFIGMAPS, configmap("one"))
        two = await c.client.create(CONFIGMAPS, configmap("two", one["metadata"]["uid"]))
        refs = configmap("x", two["metadata"]["uid"])["metadata"]["ownerReferences"]
        await c.client.patch(CONFIGMAPS, "one", {"metadata": {"ownerReferences": refs}}, namespace="ns")
        both = configmap("both", one["metadata"]["uid"])
        both["metadata"]["ownerReferences"] += configmap("x", "gone")["metadata"]["ownerReferences"]
        await c.client.create(CONFIGMAPS, both)
        await c.until(lambda: "ns/lost" not in c.client.objects[CONFIGMAPS])
        await c.until(lambda: len(c.client.objects[CONFIGMAPS]["ns/both"]["metadata"]["ownerReferences"]) == 1)
        await c.client.delete(CONFIGMAPS, "one", namespace="ns", options={"propagationPolicy": "Foreground"})
        left = {"ns/kube-root-ca.crt", "ns/unknown"}
        await c.until(lambda: {k for k in c.client.objects[CONFIGMAPS] if k.startswith("ns/")} == left)


async def test_namespace_gets_its_account_and_ca_and_ends_pods_first() -> None:
    async with running() as c:
        accounts = c.client.objects.setdefault(("", "v1", "serviceaccounts"), {})
        await c.until(
            lambda: "ns/default" in accounts and "ns/kube-root-ca.crt" in c.client.objects.get(CONFIGMAPS, {})
        )
        held = {"metadata": {"name": "p", "namespace": "ns", "finalizers": ["x/hold"]}, "spec": {}}
        await c.client.create(PODS, held)
        await c.client.delete(NAMESPACES, "ns")

        def conditions() -> dict[str, Any]:
            status = c.client.objects[NAMESPACES]["ns"].get("status") or {}
            return {x["type"]: x for x in status.get("conditions", ())}

        await c.until(lambda: "NamespaceContentRemaining" in conditions())
        assert conditions()["NamespaceContentRemaining"]["message"] == (
            "Some resources are remaining: pods. has 1 resource instances"
        )
        assert conditions()["NamespaceFinalizersRemaining"]["message"] == (
            "Some content in the namespace has finalizers remaining: x/hold in 1 resource instances"
        )
        assert "ns/kube-root-ca.crt" in c.client.objects[CONFIGMAPS], "nothing goes before the pods"
        await c.client.patch(PODS, "p", {"metadata": {"finalizers": None}}, namespace="ns")
        await c.until(lambda: "ns" not in c.client.objects[NAMESPACES])


async def test_an_idle_harness_makes_no_requests() -> None:
    async with running() as c:
        await c.client.create(DEPLOYMENTS, deployment())
        await c.until(lambda: reason(c, "Progressing") == "NewReplicaSetAvailable")
        before = -1
        async with asyncio.timeout(60):
            while before != len(c.client.writes):
                before = len(c.client.writes)
                await asyncio.sleep(0.5)
