"""What projected volumes show: followed objects, trust bundles, certificates of pods, and what a node refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.unit.agent.cluster import FakeApi, eventually, pod
from tests.unit.agent.node import Node

from portside.agent import following
from portside.agent.admission import Offer, labels_problem, refusal
from portside.agent.following import Following
from portside.agent.podcert import make_key, request_body, verdict
from portside.agent.sources import CONFIG_MAPS, shown
from portside.agent.trust import NoBundle, chosen, joined

Json = dict[str, Any]
PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def bundle(name: str, text: str, signer: str = "", **labels: str) -> Json:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"signerName": signer, "trustBundle": text}}


def test_bundles_are_joined_without_repeats() -> None:
    """Certificates that several bundles share appear once; text between them is dropped."""
    one, two = PEM.format("AAAA"), PEM.format("BBBB")
    assert joined([bundle("a", "# words\n" + two + one), bundle("b", one)]) == (one + two).encode()


def test_bundles_are_chosen_by_name_or_by_signer_and_labels() -> None:
    """No selector takes none, an empty one all; what is missing is told unless it is optional."""
    all_of_them = [bundle("a", "", "x/y", env="p"), bundle("b", "", "x/y"), bundle("c", "", "other/z")]
    names = [b["metadata"]["name"] for b in chosen(all_of_them, {"signerName": "x/y", "labelSelector": {}})]
    assert names == ["a", "b"]
    assert len(chosen(all_of_them, {"signerName": "x/y", "labelSelector": {"matchLabels": {"env": "p"}}})) == 1
    assert chosen(all_of_them, {"signerName": "x/y", "optional": True}) == []
    with pytest.raises(NoBundle, match="matched zero ClusterTrustBundles"):
        chosen(all_of_them, {"signerName": "x/y"})
    with pytest.raises(NoBundle, match='"none" not found'):
        chosen(all_of_them, {"name": "none"})


@pytest.mark.parametrize("kind", ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"])
def test_a_request_carries_a_key_made_on_the_node(kind: str) -> None:
    """The request names pod, account and node; the key is PKCS#8."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from cryptography.x509 import load_der_x509_csr

    key, csr = make_key(kind)
    private: Any = load_pem_private_key(key, None)
    parsed = load_der_x509_csr(csr)
    assert parsed.is_signature_valid and parsed.public_key() == private.public_key()
    body = pod("p")
    body["metadata"]["uid"] = "u"
    source = {"signerName": "x/y", "keyType": kind, "userAnnotations": {"x/y": "1"}}
    spec = request_body(body, source, csr, node="n1", node_uid="n", account_uid="a")["spec"]
    assert (spec["podUID"], spec["nodeName"], spec["maxExpirationSeconds"]) == ("u", "n1", 86400)
    assert spec["unverifiedUserAnnotations"] == {"x/y": "1"}


def test_the_signers_answer_is_final() -> None:
    """Issued, denied and failed end the wait; nothing said does not."""
    assert verdict({}) == (False, "")
    assert verdict({"status": {"conditions": [{"type": "Issued"}]}}) == (True, "")
    _, why = verdict({"status": {"conditions": [{"type": "Denied", "reason": "No", "message": "not you"}]}})
    assert why == 'PodCertificateRequest was permanently denied; reason="No", message="not you"'


async def test_followed_objects_tell_their_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    """One watch serves several pods; a change, a deletion and a return are told; the last pod ends the watch."""
    monkeypatch.setattr(following, "SETTLED", 0.0)
    api = FakeApi()
    made = api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "1"}})
    key = (CONFIG_MAPS, "default", "cm")
    follow, told = Following(api), []  # type: ignore[arg-type,var-annotated]
    for uid in ("1", "2"):
        follow.follow(uid, {key: made["metadata"]["resourceVersion"]}, lambda uid=uid: told.append(uid))  # type: ignore[misc]
    await eventually(lambda: follow.known(key)[0])
    assert told == []
    made["data"] = {"a": "2"}
    await api.update(CONFIG_MAPS, made, namespace="default")
    await eventually(lambda: told == ["1", "2"])
    found = follow.known(key)[1]
    assert found is not None and found["data"] == {"a": "2"}
    follow.forget("1")
    await api.delete(CONFIG_MAPS, "cm", namespace="default")
    await eventually(lambda: told == ["1", "2", "2"])
    assert follow.known(key) == (True, None)
    follow.forget("2")
    await eventually(lambda: not api._watchers)


async def test_an_immutable_object_is_watched_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can't change: its content stays known without a watch."""
    monkeypatch.setattr(following, "SETTLED", 0.0)
    api = FakeApi()
    api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "immutable": True})
    follow = Following(api)  # type: ignore[arg-type]
    key = (CONFIG_MAPS, "default", "cm")
    follow.follow("1", {key: ""}, lambda: None)
    await eventually(lambda: follow.known(key)[0])
    await eventually(lambda: not api._watchers)
    assert follow.known(key)[1] is not None


async def test_a_volume_follows_its_config_map(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files change within moments of the object, and an optional one appears when it is made."""
    monkeypatch.setattr(following, "SETTLED", 0.0)
    made = node.api.add("configmaps", {"metadata": {"name": "cm", "namespace": "default"}, "data": {"a": "1"}})
    volumes = [
        {"name": "v", "configMap": {"name": "cm"}},
        {"name": "o", "configMap": {"name": "later", "optional": True}},
    ]
    node.api.add("pods", pod("p", {"command": ["sleep", "100000"]}, volumes=volumes))
    await node.until("p", "Running")
    folder = next(Path(node.agent.settings.pods).glob("*/volumes/kubernetes.io~configmap"))
    assert (folder / "v" / "a").read_text() == "1"
    made["data"] = {"a": "2", "b": "3"}
    await node.api.update(CONFIG_MAPS, made, namespace="default")
    node.api.add("configmaps", {"metadata": {"name": "later", "namespace": "default"}, "data": {"x": "y"}})
    await eventually(lambda: (folder / "o" / "x").exists() and (folder / "v" / "b").exists())
    assert (folder / "v" / "a").read_text() == "2"


def test_only_what_volumes_show_is_followed() -> None:
    """Objects of the environment are read when a container starts."""
    volumes = [
        {"name": "a", "secret": {"secretName": "s"}},
        {"name": "b", "projected": {"sources": [{"configMap": {"name": "c"}}, {"secret": {"name": "t"}}]}},
    ]
    env = {"envFrom": [{"configMapRef": {"name": "other"}}]}
    assert {(key[0][2], key[2]) for key in shown(pod("p", env, volumes=volumes))} == {
        ("secrets", "s"),
        ("secrets", "t"),
        ("configmaps", "c"),
    }


def required(**requirement: Any) -> Json:
    terms = [{"matchExpressions": [{"key": "disk"} | requirement]}]
    rule = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    return pod("p", affinity=rule)


def test_required_affinity_counts_when_a_pod_was_bound_by_hand() -> None:
    """Every operator, on the node's labels."""

    def fits(**requirement: Any) -> bool:
        return not labels_problem(required(**requirement), {"disk": "5"})

    assert fits(operator="In", values=["5"]) and not fits(operator="NotIn", values=["5"])
    assert fits(operator="Exists") and not fits(operator="DoesNotExist")
    assert fits(operator="Gt", values=["4"]) and not fits(operator="Lt", values=["5"])


def test_a_node_refuses_what_it_can_not_run() -> None:
    """Sysctls outside the safe list, foreign labels, and pods beyond the room, each with upstream's words."""
    room = {"cpu": "1", "memory": "1Gi", "pods": "2", "ephemeral-storage": "1Gi"}

    def why(body: Json, *others: Json) -> Any:
        return refusal(body, others, Offer(room, {"disk": "ssd"}))

    unsafe = pod("p", securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]})
    assert why(unsafe) == ("SysctlForbidden", 'forbidden sysctl: "kernel.msgmax" not allowlisted')
    safe = pod("p", securityContext={"sysctls": [{"name": "net/ipv4/tcp_syncookies", "value": "1"}]})
    assert why(safe) is None
    assert why(pod("p", nodeSelector={"disk": "hdd"}))[0] == "NodeAffinity"
    big = {"resources": {"requests": {"cpu": "600m"}}}
    text = "Node didn't have enough resource: cpu, requested: 600, used: 600, capacity: 1000"
    assert why(pod("p", big), pod("q", big)) == ("OutOfcpu", text)
    assert why(pod("p"), pod("q"), pod("r"))[0] == "OutOfpods"
    foreign = {"resources": {"requests": {"example.com/foo": "2"}, "limits": {"example.com/foo": "2"}}}
    assert why(pod("p", foreign)) is None, "who wrote it into the Node counts it"
    port = {"ports": [{"containerPort": 80, "hostPort": 80}]}
    inner = {"ports": [{"containerPort": 80, "hostPort": 80, "hostIP": "10.0.0.1"}]}
    assert why(pod("p", port), pod("q", inner))[0] == "NodePorts" and why(pod("p", port), pod("q")) is None
    strict = pod("p", securityContext={"supplementalGroupsPolicy": "Strict"})
    assert why(strict)[1] == "SupplementalGroupsPolicy=Strict is not supported in this node"
    confined = pod("p", {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}})
    assert why(confined) == ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")


async def test_a_refused_pod_fails_with_the_reason(node: Node) -> None:
    """No container is ever made for it."""
    node.api.add("pods", pod("p", securityContext={"sysctls": [{"name": "vm.swappiness", "value": "1"}]}))
    status = await node.until("p", "Failed")
    assert (status["reason"], "containerStatuses" in status) == ("SysctlForbidden", False)
    assert status["message"] == 'Pod was rejected: forbidden sysctl: "vm.swappiness" not allowlisted'
    assert await node.runtime.sandboxes() == []
