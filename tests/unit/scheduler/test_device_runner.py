"""Devices through the scheduler at work against a real API server: what is written to claims and pods, and when."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.scheduler.conftest import PODS, bound, pod, until

from portside.base.clock import SYSTEM, rfc3339
from portside.scheduler import device_binding

Json = dict[str, Any]
GROUP = "resource.k8s.io"
CLAIMS, CLASSES, SLICES = ((GROUP, "v1", p) for p in ("resourceclaims", "deviceclasses", "resourceslices"))
EVENTS = ("", "v1", "events")


async def publish(client: Any, *devices: Json, **more: Any) -> None:
    selector = {"cel": {"expression": "device.driver == 'gpu.example.com'"}}
    given = {"selectors": [selector], "extendedResourceName": "example.com/gpu"}
    await client.create(CLASSES, {"metadata": {"name": "gpu"}, "spec": given})
    pool = {"name": "n", "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": "gpu.example.com", "pool": pool, "nodeName": "n", "devices": list(devices), **more}
    await client.create(SLICES, {"metadata": {"name": "s"}, "spec": spec})


async def claim(client: Any, name: str, **exactly: Any) -> Json:
    request = {"name": "r", "exactly": {"deviceClassName": "gpu", **exactly}}
    body = {"metadata": {"name": name}, "spec": {"devices": {"requests": [request]}}}
    return await client.create(CLAIMS, body, namespace="default")


def using(name: str) -> Json:
    return pod(name, resourceClaims=[{"name": "x", "resourceClaimName": name}])


async def status(client: Any, name: str) -> Json:
    return (await client.get(CLAIMS, name, namespace="default")).get("status") or {}


def results(found: Json) -> list[Json]:
    return (found.get("allocation") or {"devices": {"results": []}})["devices"]["results"]


async def said(client: Any, reason: str) -> list[str]:
    return [e["message"] for e in (await client.list(EVENTS, namespace="default")).items if e["reason"] == reason]


async def told(client: Any, reason: str, words: str = "") -> list[str]:
    """Messages with these words, as soon as there is one: events are written behind everything else."""

    async def found() -> list[str]:
        return [m for m in await said(client, reason) if words in m]

    messages: list[str] = await until(found, len)
    return messages


async def test_two_pods_share_a_device_as_its_policy_says(client: Any) -> None:
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    shared = {"allowMultipleAllocations": True, "capacity": {"memory": {"value": "8Gi", "requestPolicy": policy}}}
    await publish(client, {"name": "g0", **shared})
    for name, amount in (("a", "2500Mi"), ("b", "5Gi")):
        await claim(client, name, capacity={"requests": {"memory": amount}})
        await client.create(PODS, using(name), namespace="default")
        await bound(client, name)
    found = {n: await status(client, n) for n in "ab"}
    (first,), (second,) = results(found["a"]), results(found["b"])
    assert (first["device"], first["consumedCapacity"]) == ("g0", {"memory": "3Gi"})
    assert (second["device"], second["consumedCapacity"]) == ("g0", {"memory": "5Gi"})
    assert first["shareID"] != second["shareID"]
    assert found["a"]["allocation"]["allocationTimestamp"]
    assert [u["name"] for u in found["a"]["reservedFor"]] == ["a"]
    await claim(client, "c", capacity={"requests": {"memory": "1Gi"}})
    await client.create(PODS, using("c"), namespace="default")
    await told(client, "FailedScheduling", "cannot allocate all claims")


async def test_a_pod_is_bound_when_its_device_has_been_made_ready(client: Any) -> None:
    await publish(client, {"name": "g0", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]})
    await claim(client, "a")
    await client.create(PODS, using("a"), namespace="default")
    assert await told(client, "BindingConditionsPending") == ["waiting for binding conditions for device on node n"]
    assert not (await client.get(PODS, "a", namespace="default"))["spec"].get("nodeName")
    await report(client, "a", "Attached")
    await bound(client, "a")


async def report(client: Any, name: str, condition: str) -> None:
    held = results(await status(client, name))[0]
    now = rfc3339(SYSTEM.now())
    said = {"type": condition, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": now}
    device = {f: held[f] for f in ("driver", "pool", "device")} | {"conditions": [said]}
    await client.patch(CLAIMS, name, {"status": {"devices": [device]}}, subresource="status", namespace="default")


async def test_a_device_that_can_not_be_made_ready_is_given_up_for_another(client: Any) -> None:
    conditions = {"bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}
    await publish(client, {"name": "g0", **conditions}, {"name": "g1", **conditions})
    await claim(client, "a")
    await client.create(PODS, using("a"), namespace="default")
    await until(lambda: status(client, "a"), results)
    await client.patch(SLICES, "s", {"spec": {"devices": [{"name": "g1"}]}})
    await report(client, "a", "Broken")
    await bound(client, "a")
    (held,) = results(await status(client, "a"))
    assert held["device"] == "g1"
    (problem,) = set(await told(client, "FailedScheduling", "PreBind"))
    expected = 'running PreBind plugin "DynamicResources": device binding failed: claim=a, reason=R, message="m"'
    assert problem == expected


async def test_a_device_that_is_not_made_ready_in_time_is_given_up(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_binding, "BINDING_SECONDS", 2.0)
    await publish(client, {"name": "g0", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]})
    await claim(client, "a")
    await client.create(PODS, using("a"), namespace="default")
    await until(lambda: status(client, "a"), results)
    await client.patch(SLICES, "s", {"spec": {"devices": [{"name": "g1"}]}})
    await bound(client, "a")
    (held,) = results(await status(client, "a"))
    assert held["device"] == "g1"


async def test_a_claim_that_is_taken_back_while_its_device_is_made_ready_is_allocated_anew(client: Any) -> None:
    await publish(client, {"name": "g0", "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]})
    await claim(client, "a")
    await client.create(PODS, using("a"), namespace="default")
    first = await until(lambda: status(client, "a"), results)
    await client.patch(SLICES, "s", {"spec": {"devices": [{"name": "g1"}]}})
    taken = {"allocation": None, "reservedFor": None}
    await client.patch(CLAIMS, "a", {"status": taken}, subresource="status", namespace="default")
    await bound(client, "a")
    assert results(first)[0]["device"] == "g0"
    assert results(await status(client, "a"))[0]["device"] == "g1"


async def test_an_unused_claim_of_another_node_is_given_up(client: Any) -> None:
    await publish(client, {"name": "g0"})
    await claim(client, "a")
    result = {"request": "r", "driver": "gpu.example.com", "pool": "gone", "device": "g0"}
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gone"]}]}]
    given = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": terms}}
    await client.patch(CLAIMS, "a", {"status": {"allocation": given}}, subresource="status", namespace="default")
    await client.create(PODS, using("a"), namespace="default")
    await bound(client, "a")
    (held,) = results(await status(client, "a"))
    assert held["pool"] == "n"
    (message,) = await told(client, "FailedScheduling")
    assert message == (
        "0/1 nodes are available: 1 resourceclaim not available on the node. deallocation of ResourceClaim completed, "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )


@pytest.mark.parametrize("resource", ["example.com/gpu", "deviceclass.resource.kubernetes.io/gpu"])
async def test_an_extended_resource_is_a_device_where_a_class_stands_for_it(client: Any, resource: str) -> None:
    await publish(client, {"name": "g0"}, {"name": "g1"}, {"name": "g2"})
    amount = {resource: "2"}
    body = pod("a")
    body["spec"]["containers"][0]["resources"] = {"requests": amount, "limits": amount}
    await client.create(PODS, body, namespace="default")
    found = await bound(client, "a")
    said = found["status"]["extendedResourceClaimStatus"]
    use = {"containerName": "c", "resourceName": resource, "requestName": "container-0-request-0"}
    assert said["requestMappings"] == [use]
    made = await client.get(CLAIMS, said["resourceClaimName"], namespace="default")
    assert made["metadata"]["name"].startswith("a-extended-resources-")
    assert made["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == found["metadata"]["uid"]
    assert [r["device"] for r in results(made["status"])] == ["g0", "g1"]
    assert [u["name"] for u in made["status"]["reservedFor"]] == ["a"]
    body["metadata"]["name"] = "b"
    await client.create(PODS, body, namespace="default")
    await until(lambda: client.get(PODS, "b", namespace="default"), lambda p: (p.get("status") or {}).get("conditions"))
    waiting = await client.get(PODS, "b", namespace="default")
    assert "1 cannot allocate all claims" in waiting["status"]["conditions"][0]["message"]


async def test_a_special_claim_of_an_attempt_that_died_is_made_anew(client: Any) -> None:
    body = pod("a", schedulingGates=[{"name": "example.org/wait"}])
    body["spec"]["containers"][0]["resources"] = {
        "requests": {"example.com/gpu": "1"},
        "limits": {"example.com/gpu": "1"},
    }
    made = await client.create(PODS, body, namespace="default")
    await publish(client, {"name": "g0"})
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": made["metadata"]["uid"], "controller": True}
    meta = {
        "name": "old",
        "annotations": {"resource.kubernetes.io/extended-resource-claim": "true"},
        "finalizers": ["resource.kubernetes.io/delete-protection"],
        "ownerReferences": [owner],
    }
    request = {"name": "container-0-request-0", "exactly": {"deviceClassName": "gpu"}}
    await client.create(CLAIMS, {"metadata": meta, "spec": {"devices": {"requests": [request]}}}, namespace="default")
    await client.patch(PODS, "a", {"spec": {"schedulingGates": None}}, namespace="default")
    found = await bound(client, "a")
    assert found["status"]["extendedResourceClaimStatus"]["resourceClaimName"] != "old"
    assert "old" not in {c["metadata"]["name"] for c in (await client.list(CLAIMS, namespace="default")).items}
    await told(client, "FailedScheduling", "deletion of ResourceClaim completed")


async def test_a_selector_that_fails_is_told_and_the_pod_goes_on_when_it_no_longer_does(client: Any) -> None:
    await publish(client, {"name": "g0"})
    selector = {"cel": {"expression": "device.attributes['gpu.example.com'].fine"}}
    await claim(client, "a", selectors=[selector])
    await client.create(PODS, using("a"), namespace="default")
    found = await until(
        lambda: client.get(PODS, "a", namespace="default"), lambda p: (p.get("status") or {}).get("conditions")
    )
    (condition,) = found["status"]["conditions"]
    assert condition["reason"] == "SchedulerError" and "CEL runtime error" in condition["message"]
    devices = [{"name": "g0", "attributes": {"fine": {"bool": True}}}]
    await client.patch(SLICES, "s", {"spec": {"devices": devices}})
    await bound(client, "a")
