"""NetworkPolicies on real pods: who may talk to whom, and that nothing opens while a namespace ends."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.real.neighbourhood import SLEEP, Neighbourhood, pod, until, web

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


def policy(name: str, selector: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": selector} if selector else {}} | spec,
    }


def reaches(town: Neighbourhood, client: str, target: str, port: int = 8080) -> bool:
    return "GET" in town.sh(client, f"timeout 1 wget -qO- http://{target}:{port}/ 2>&1")


def becomes(town: Neighbourhood, client: str, target: str, wanted: bool, port: int = 8080) -> None:
    until(lambda: reaches(town, client, target, port), lambda found: found is wanted)


@pytest.fixture
def guarded(town: Neighbourhood) -> Any:
    """A pod that answers on a named port (keep) and two that ask (friend, stranger)."""
    named = {"ports": [{"name": "front", "containerPort": 8080}]}
    town.apply(web("keep", container=named), pod("friend", SLEEP), pod("stranger", SLEEP))
    town.ready("keep", "friend", "stranger")
    yield town
    town.remove("networkpolicy", "--all")
    town.remove("pod", "keep", "friend", "stranger")


def test_ingress_by_pod_namespace_port_and_address(guarded: Neighbourhood) -> None:
    keep = guarded.address_of("keep")
    becomes(guarded, "stranger", keep, True)
    guarded.apply(policy("wall", {"app": "keep"}, policyTypes=["Ingress"]))
    becomes(guarded, "stranger", keep, False)
    assert guarded.get("pod", "keep")["status"]["containerStatuses"][0]["ready"]  # its node's probes go on

    friends = {"podSelector": {"matchLabels": {"app": "friend"}}}
    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"from": [friends], "ports": [{"port": "front"}]}]))
    becomes(guarded, "friend", keep, True)
    assert not reaches(guarded, "stranger", keep)
    # By Service too, and a pod that gets the label later is let in.
    guarded.kubectl("label", "pod", "stranger", "app=friend", "--overwrite")
    becomes(guarded, "stranger", keep, True)
    guarded.kubectl("label", "pod", "stranger", "app=stranger", "--overwrite")
    becomes(guarded, "stranger", keep, False)

    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"ports": [{"port": 9000, "endPort": 9100}]}]))
    becomes(guarded, "friend", keep, False)
    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"ports": [{"port": 8000, "endPort": 8100}]}]))
    becomes(guarded, "friend", keep, True)

    stranger = guarded.address_of("stranger")
    network = ".".join(stranger.split(".")[:2]) + ".0.0/16"
    block = {"ipBlock": {"cidr": network, "except": [f"{stranger}/32"]}}
    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"from": [block]}]))
    becomes(guarded, "stranger", keep, False)
    becomes(guarded, "friend", keep, True)

    space = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": guarded.namespace}}}
    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"from": [space | friends]}]))
    becomes(guarded, "friend", keep, True)
    assert not reaches(guarded, "stranger", keep)
    other = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}
    guarded.apply(policy("wall", {"app": "keep"}, ingress=[{"from": [other]}]))
    becomes(guarded, "friend", keep, False)
    guarded.remove("networkpolicy", "wall")
    becomes(guarded, "stranger", keep, True)


def test_egress_and_policies_add_up(guarded: Neighbourhood) -> None:
    keep = guarded.address_of("keep")
    service = "web"
    guarded.apply(policy("shut", {"app": "friend"}, policyTypes=["Egress"]))
    becomes(guarded, "friend", keep, False)
    becomes(guarded, "stranger", keep, True)
    assert not reaches(guarded, "friend", service, 80)
    to_web = {"podSelector": {"matchLabels": {"app": "web"}}}
    rules = [{"to": [to_web]}, {"to": [{"podSelector": {}}], "ports": [{"port": "front"}]}]
    guarded.apply(policy("open", {"app": "friend"}, policyTypes=["Egress"], egress=rules))
    becomes(guarded, "friend", service, True, 80)
    becomes(guarded, "friend", keep, True)


def test_a_policy_outlives_the_pods_of_a_namespace_that_ends(town: Neighbourhood) -> None:
    cluster, name = town.cluster, f"{town.namespace}-end"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=60s")
    ending = Neighbourhood(cluster, name)
    slow = web("slow", terminationGracePeriodSeconds=15)
    slow["spec"]["containers"][0]["command"][2] = slow["spec"]["containers"][0]["command"][2].replace(
        "exit 0", "sleep 30"
    )
    ending.apply(policy("wall", {}, policyTypes=["Ingress"]), slow)
    ending.ready("slow")
    address = ending.address_of("slow")
    becomes(town, "box", address, False)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    tries = 0
    while "slow" in cluster.kubectl("get", "pods", "-n", name, "-o", "name", check=False):
        assert not reaches(town, "box", address)
        tries += 1
    assert tries > 1
    cluster.kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=60s", check=False)


def test_a_pod_is_guarded_before_its_first_process_runs(town: Neighbourhood) -> None:
    """It may not send a single packet that its policy forbids, however fast it is."""
    town.apply(policy("mute", {"quick": "yes"}, policyTypes=["Egress"]))
    target = town.address_of("web-0")
    script = f"(wget -qO- http://{target}:8080/ && echo leaked) & sleep 2; echo tried"
    quick = [f"quick-{number}" for number in range(4)]
    town.apply(*(pod(name, script, labels={"quick": "yes"}, restartPolicy="Never") for name in quick))
    for name in quick:
        until(lambda name=name: town.get("pod", name)["status"]["phase"], lambda a: a in ("Succeeded", "Failed"))  # type: ignore[misc]
        assert town.kubectl("logs", name) == "tried\n"
    town.remove("networkpolicy", "mute")
    town.remove("pod", *quick)
