"""Stories of services, endpoints, addresses and names."""

from __future__ import annotations

from typing import Any

from tests.unit.controllers.ordeal.workloads import CONTROLLERS, template
from tests.unit.controllers.ordeal.world import NODES, Json, Law, Scenario, World

from portside.client.protocol import Resource

SERVICES: Resource = ("", "v1", "services")
ENDPOINTS: Resource = ("", "v1", "endpoints")
CIDRS: Resource = ("networking.k8s.io", "v1", "servicecidrs")
ANSWERS = "net.portside.io/name-server"


def service(name: str = "web", **spec: Any) -> Json:
    return {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}}


def _endpoints(world: World, name: str) -> int:
    return sum(
        len(s.get("endpoints") or ())
        for s in world.of_kind("EndpointSlice")
        if (s["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
    )


async def _serve(world: World) -> None:
    await world.create(SERVICES, service(selector={"app": "web"}))
    body = {"metadata": {"name": "web"}, "spec": {"replicas": 2, "template": template()}}
    await world.create(CONTROLLERS, body)
    await world.until(lambda: _endpoints(world, "web") == 2)
    await world.patch(CONTROLLERS, "web", {"spec": {"replicas": 1}})
    await world.until(lambda: _endpoints(world, "web") == 1)
    await world.patch(SERVICES, "web", {"spec": {"ports": [{"port": 81}]}})


async def _mirror(world: World) -> None:
    await world.create(SERVICES, service())
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}
    await world.create(ENDPOINTS, {"metadata": {"name": "web"}, "subsets": [subset]})
    await world.until(lambda: _endpoints(world, "web") == 1)
    subset["addresses"] = [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]
    await world.patch(ENDPOINTS, "web", {"subsets": [subset]})
    await world.until(lambda: _endpoints(world, "web") == 2)
    await world.delete(ENDPOINTS, "web")
    await world.until(lambda: _endpoints(world, "web") == 0)


async def _balance(world: World) -> None:
    status = {"addresses": [{"type": "InternalIP", "address": "192.0.2.8"}]}
    await world.join("n2", annotations={ANSWERS: "10.244.1.1"}, status=status)
    await world.create(SERVICES, service(type="LoadBalancer"))

    def given(name: str) -> bool:
        found = next(s for s in world.of_kind("Service") if s["metadata"]["name"] == name)
        return bool(found["status"]["loadBalancer"].get("ingress"))

    await world.until(lambda: given("web"))
    await world.create(SERVICES, service("late", type="LoadBalancer"))
    await world.delete(SERVICES, "web")
    await world.until(lambda: given("late"))


async def _names(world: World) -> None:
    await world.create(SERVICES, service("kube-dns"), namespace="kube-system")
    await world.join("n2", annotations={ANSWERS: "10.244.1.1"})
    await world.until(lambda: _endpoints(world, "kube-dns") == 1)
    await world.join("n3", annotations={ANSWERS: "10.244.2.1"})
    await world.until(lambda: _endpoints(world, "kube-dns") == 2)


async def _ranges(world: World) -> None:
    """A further range is used when its address is asked for, and goes after its last Service."""
    await world.create(CIDRS, {"metadata": {"name": "more"}, "spec": {"cidrs": ["10.200.0.0/24"]}}, namespace="")

    def ready() -> bool:
        found: Json = next(
            (c for c in world.of_kind("ServiceCIDR") if c["metadata"]["name"] == "more"), {"metadata": {}}
        )
        conditions = (found.get("status") or {}).get("conditions")
        return bool(conditions and found["metadata"].get("finalizers"))

    def recorded(address: str) -> bool:
        return address in {a["metadata"]["name"] for a in world.of_kind("IPAddress")}

    await world.until(ready)
    await world.create(SERVICES, service(clusterIP="10.200.0.9"))
    await world.until(lambda: recorded("10.200.0.9"))
    await world.delete(CIDRS, "more", namespace="")
    await world.until(lambda: "There are still IPAddresses" in str(world.of_kind("ServiceCIDR")))
    await world.delete(SERVICES, "web")
    await world.until(lambda: not recorded("10.200.0.9") and len(world.of_kind("ServiceCIDR")) == 1)


async def _parts(world: World) -> None:
    for name in ("n2", "n3"):
        await world.join(name)
    await world.until(lambda: all(n["spec"].get("podCIDR") for n in world.of_kind("Node")))
    await world.client.delete(NODES, "n2")
    await world.join("n4")
    await world.until(lambda: all(n["spec"].get("podCIDR") for n in world.of_kind("Node")))


def _apart(nodes: Any) -> str | None:
    held = [n["spec"]["podCIDR"] for n in nodes if n["spec"].get("podCIDR")]
    return f"two nodes share a range: {sorted(held)}" if len(set(held)) < len(held) else None


SERVING = ("endpoint-slice-controller of services", "endpoint-controller of services")
RANGING = (
    "service-cidr-controller of servicecidrs",
    "ipallocator-repair-controller of services",
    "ipallocator-repair-controller of ipaddresses",
)
REPLICATING = "replication-controller of replicationcontrollers"

SCENARIOS = (
    Scenario("a service", (*SERVING, REPLICATING), _serve),
    Scenario("endpoints made by hand", ("endpoint-slice-mirroring-controller of endpoints",), _mirror),
    Scenario("load balancers", ("service-controller of services",), _balance),
    Scenario("the name server", ("cluster-dns-controller of services",), _names),
    Scenario("a range of service addresses", RANGING, _ranges),
    Scenario("ranges of nodes", ("cidrAllocator of nodes",), _parts, laws=(Law(NODES, _apart),)),
)
