"""The node's network follows the cluster: rules as transactions, failures tried again, pods guarded before they run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from portside.client.fake import FakeClient
from portside.net import proxy as module
from portside.net.dns_table import NameTable
from portside.net.nft import NodeNetwork
from portside.net.proxy import NAMESPACES, NODES, PODS, POLICIES, SERVICES, SLICES, ServiceProxy

Json = dict[str, Any]
NETWORK = NodeNetwork("t", "10.244.0.0/24", "10.244.0.0/16", "10.96.0.0/16", "b")


class Kernel:
    """Takes transactions; refuses as many as it is told."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.refuse = 0

    def __call__(self, text: str) -> None:
        if self.refuse:
            self.refuse -= 1
            raise RuntimeError("no")
        self.taken.append(text)


@contextlib.asynccontextmanager
async def running(client: FakeClient, kernel: Kernel) -> AsyncIterator[ServiceProxy]:
    made = ServiceProxy(client, "n1", NETWORK, NameTable(), kernel, lambda flows: None)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(found: Any) -> None:
    async with asyncio.timeout(60):
        while not found():
            await asyncio.sleep(0.01)


def policy() -> Json:
    spec = {"podSelector": {}, "policyTypes": ["Egress"]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "d"},
        "spec": spec,
    }


def pod(name: str) -> Json:
    spec = {"nodeName": "n1", "containers": [{"name": "c"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "d"}, "spec": spec, "status": {}}


def service(port: int) -> Json:
    spec = {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5"], "ports": [{"port": port, "protocol": "TCP"}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "d"}, "spec": spec}


async def test_a_change_is_one_transaction_and_a_refused_one_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.05)
    client, kernel = FakeClient(), Kernel()
    async with running(client, kernel):
        await until(lambda: kernel.taken)
        assert "delete table ip t" in kernel.taken[0]
        made = await client.create(SERVICES, service(80))
        await until(lambda: len(kernel.taken) == 2)
        assert "delete table" not in kernel.taken[1]
        assert "10.96.0.5 . tcp . 80 : goto refuse" in kernel.taken[1]
        kernel.refuse = 1
        await client.update(SERVICES, {**made, "spec": service(81)["spec"]})
        await until(lambda: len(kernel.taken) == 3)
        assert "delete table ip t" in kernel.taken[2]  # what stands is not known any more: all is made anew
        assert "10.96.0.5 . tcp . 81 : goto refuse" in kernel.taken[2]


async def test_a_pod_is_guarded_before_the_api_knows_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GUARD_SECONDS", 60.0)  # no pod starts unguarded because the machine is busy
    client, kernel = FakeClient(), Kernel()
    await client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "d"}})
    await client.create(POLICIES, policy())
    made = await client.create(PODS, pod("a"))
    async with running(client, kernel) as proxy:
        await proxy.guard(made, ("10.244.0.9",))
        assert "10.244.0.9 : goto np-eg-" in "".join(kernel.taken)
        # Once the API tells the address, or the pod is gone, it is the API's word that counts.
        status = {"status": {"podIP": "10.244.0.9", "phase": "Succeeded"}}
        await client.patch(PODS, "a", status, namespace="d", subresource="status")
        await until(lambda: any("delete element ip t policy-out { 10.244.0.9 }" in text for text in kernel.taken))


async def test_without_policies_nothing_waits_and_no_other_pod_is_read() -> None:
    client, kernel = FakeClient(), Kernel()
    async with running(client, kernel) as proxy:
        await proxy.guard(pod("a"), ("10.244.0.9",))
        assert not proxy.everyone.synced
        assert not proxy.namespaces.synced


async def test_a_pod_starts_even_when_the_rules_can_not_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "GUARD_SECONDS", 0.2)
    client, kernel = FakeClient(), Kernel()
    kernel.refuse = 100
    await client.create(POLICIES, policy())
    async with running(client, kernel) as proxy:
        await proxy.guard(pod("a"), ("10.244.0.9",))
    assert "starts before its network policies are known to hold" in caplog.text
    assert all(resource in (SERVICES, SLICES, PODS, NODES, POLICIES, NAMESPACES) for resource in client.objects)
