"""What a pod's start depends on: names, profiles, claims of devices, and probes over gRPC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.unit.agent.cluster import eventually, pod
from tests.unit.agent.node import Node

from portside.agent.containers import own_name, security
from portside.agent.dns import full_name
from portside.agent.environment import ConfigProblem
from portside.agent.launch import expanded_path
from portside.agent.probes import call_grpc
from portside.agent.runtime import Image, RuntimeFailure

Json = dict[str, Any]
IMAGE = Image("i", (), (), 0)


def test_a_pod_may_call_itself_by_its_full_name() -> None:
    """Only with a subdomain, and only up to the kernel's 64 characters."""
    body = pod("web", subdomain="front", setHostnameAsFQDN=True)
    assert own_name(body, "cluster.local") == "web.front.default.svc.cluster.local"
    assert own_name(pod("web", setHostnameAsFQDN=True), "cluster.local") == "web"
    assert full_name(pod("web"), "cluster.local") == ""
    long = pod("w" * 40, subdomain="front", setHostnameAsFQDN=True)
    with pytest.raises(ConfigProblem, match="64 characters is the max, 72 characters requested"):
        own_name(long, "cluster.local")


def test_a_sub_path_needs_its_variables() -> None:
    """Absent and empty ones are told by name; everything else expands."""
    assert expanded_path("a/$(X)/$$(Y)", {"X": "b"}) == "a/b/$(Y)"
    with pytest.raises(ConfigProblem, match="missing value for A, B"):
        expanded_path("$(B)/$(A)", {"A": ""})


def test_profiles_of_the_machine_lie_in_one_folder() -> None:
    """seccomp profiles are files below it; AppArmor's are names the kernel knows."""
    localhost = {"type": "Localhost", "localhostProfile": "strict.json"}
    body = pod("p", {"securityContext": {"seccompProfile": localhost, "appArmorProfile": localhost}})
    found = security(body, body["spec"]["containers"][0], IMAGE, Path("/home/seccomp"))
    assert found.seccomp == "Localhost:/home/seccomp/strict.json" and found.apparmor == "Localhost:strict.json"


@pytest.mark.parametrize("name", ["", None, "/etc/x", "../x", "a/../../x"])
def test_a_profile_that_is_none_or_lies_elsewhere_starts_nothing(name: str | None) -> None:
    body = pod("p", {"securityContext": {"seccompProfile": {"type": "Localhost", "localhostProfile": name}}})
    with pytest.raises(ConfigProblem, match="localhostProfile"):
        security(body, body["spec"]["containers"][0], IMAGE, Path("/home/seccomp"))


def claim(*, results: list[Json] | None = None, allocated: bool = True, uid: str = "u") -> Json:
    status: Json = {"reservedFor": [{"uid": uid}]}
    if allocated:
        status["allocation"] = {"devices": {"results": results or []}}
    return {"metadata": {"name": "gpu", "namespace": "default"}, "status": status}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "ResourceClaim gpu not found"),
        (claim(allocated=False), "ResourceClaim gpu is not allocated"),
        (claim(uid="other"), "pod is not allowed to use ResourceClaim gpu"),
        (claim(results=[{"driver": "gpu.example.com"}]), "DRA driver gpu.example.com is not registered"),
    ],
)
async def test_claims_of_devices_keep_a_pod_waiting(node: Node, found: Json | None, words: str) -> None:
    """The event says what is missing, and no sandbox is made."""
    if found is not None:
        node.api.add("resourceclaims", found)
    body = pod("p", resourceClaims=[{"name": "g", "resourceClaimName": "gpu"}])
    body["metadata"]["uid"] = "u"
    node.api.add("pods", body)
    await eventually(lambda: "FailedPrepareDynamicResources" in node.api.reasons())
    (message,) = {e["message"] for e in node.api.events if e["reason"] == "FailedPrepareDynamicResources"}
    assert message == f"Failed to prepare dynamic resources: prepare dynamic resources: {words}"
    assert await node.runtime.sandboxes() == []


async def test_a_claim_without_devices_does_not_matter(node: Node) -> None:
    """Nothing has to be prepared for it."""
    node.api.add("resourceclaims", claim())
    body = pod("p", {"command": ["sleep", "100000"]}, resourceClaims=[{"name": "g", "resourceClaimName": "gpu"}])
    body["metadata"]["uid"] = "u"
    node.api.add("pods", body)
    await node.until("p", "Running")


async def test_what_the_runtime_can_not_do_is_told(node: Node) -> None:
    """User namespaces and unknown runtime classes, without pretending."""
    node.api.add("pods", pod("users", hostUsers=False))
    node.api.add("pods", pod("class", runtimeClassName="none"))
    wanted = {
        'Failed to create pod sandbox: RuntimeClass handler "" does not support user namespaces',
        'Failed to create pod sandbox: failed to get RuntimeClass "none": runtimeclass.node.k8s.io "none" not found',
    }
    await eventually(lambda: wanted <= {e["message"] for e in node.api.events})


def test_codes_are_printed_as_go_prints_them() -> None:
    assert RuntimeFailure("x", "DEADLINE_EXCEEDED").go_code == "DeadlineExceeded"


async def test_grpc_probes_ask_the_standard_health_service() -> None:
    """SERVING passes, anything else and no answer fail; the service's name reaches the server."""
    asked: list[bytes] = []

    async def check(request: bytes, context: Any) -> bytes:
        asked.append(request)
        return b"\x08\x01" if b"good" in request or not request else b"\x08\x02"

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        assert (await call_grpc({"port": port}, "127.0.0.1", timeout=60.0))[0]
        assert (await call_grpc({"port": port, "service": "good"}, "127.0.0.1", timeout=60.0))[0]
        passed, output, broke = await call_grpc({"port": port, "service": "bad"}, "127.0.0.1", timeout=60.0)
        assert (passed, broke) == (False, False) and output
        assert asked == [b"", b"\x0a\x04good", b"\x0a\x03bad"]
    finally:
        await server.stop(None)
    assert not (await call_grpc({"port": port}, "127.0.0.1", timeout=1.0))[0]
