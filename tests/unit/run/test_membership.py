"""Joining: whom a machine believes, what it asks for, when it asks anew."""

from __future__ import annotations

import asyncio
import base64
import ssl
from pathlib import Path
from typing import Any

import pytest

from portside.api.status import ApiError
from portside.base.errors import PortsideError
from portside.base.pki import Pki, ensure_pki, load_certificate
from portside.base.signing import Authority
from portside.client.cache import View
from portside.controllers import bootstraptoken, servingapproval
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.slices import SLICES
from portside.run import membership
from portside.run.home import Home
from portside.run.membership import (
    CLIENT,
    SERVING,
    Asked,
    _request,
    authority,
    certificate,
    certified,
    due,
    key_hash,
    present_address,
    refuse_living,
    renew,
    store_pair,
    trouble,
    vouched,
)
from portside.server.bootstrap.objects import cluster_info

Json = dict[str, Any]
TOKEN = "abc123.0123456789abcdef"
SERVER = "https://192.0.2.1:6443"


@pytest.fixture
def ca(tmp_path: Path) -> bytes:
    return ensure_pki(tmp_path).ca.read_bytes()


def info(ca: bytes, secret: str = "0123456789abcdef") -> Json:
    made = cluster_info(SERVER, ca.decode())
    made["data"]["jws-kubeconfig-abc123"] = bootstraptoken.signature(made["data"]["kubeconfig"], "abc123", secret)
    return made


def asked(ca_hash: str = "", token: str = TOKEN) -> Asked:
    return Asked(SERVER, token, ca_hash, "worker", "192.0.2.7")


def test_a_cluster_is_believed_by_the_tokens_signature(ca: bytes) -> None:
    assert authority(info(ca), asked()) == ca
    assert authority(info(ca), asked(key_hash(ca))) == ca


def test_a_cluster_that_does_not_know_the_token_is_not_believed(ca: bytes, tmp_path: Path) -> None:
    changed = info(ca)
    changed["data"]["kubeconfig"] = changed["data"]["kubeconfig"].replace("192.0.2.1", "192.0.2.66")
    unsigned = cluster_info(SERVER, ca.decode())
    for wrong in (info(ca, "another-secret00"), changed, unsigned, {}):
        assert not vouched(wrong, TOKEN)
        with pytest.raises(PortsideError, match="not signed with this token"):
            authority(wrong, asked())
    none = info(ca)
    none["data"]["jws-kubeconfig-abc123"] = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=") + ".."
    assert not vouched(none, TOKEN)
    with pytest.raises(PortsideError, match="is not the one the join command names"):
        authority(info(ca), asked("sha256:" + "0" * 64))


def test_certificates_are_asked_anew_in_the_last_third_of_their_life(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path)
    held = load_certificate(pki.certificate("admin"))
    begin, end = held.not_valid_before_utc.timestamp(), held.not_valid_after_utc.timestamp()
    assert not due(pki.certificate("admin"), begin + (end - begin) * 0.6)
    assert due(pki.certificate("admin"), begin + (end - begin) * 0.7)


class Answers:
    """An API that answers a certificate request as told."""

    def __init__(self, status: Json) -> None:
        self.status = status

    async def create(self, resource: object, body: Json, **_: object) -> Json:
        return body | {"metadata": {"name": "node-client-x"}, "status": self.status}

    async def get(self, *_: object, **__: object) -> Json:
        raise ApiError(404, "NotFound", "gone")


def test_a_denied_request_says_why() -> None:
    denied = {"conditions": [{"type": "Denied", "message": "not today"}]}
    with pytest.raises(PortsideError, match="node-client-x was denied: not today"):
        asyncio.run(certificate(Answers(denied), "worker", SERVING, ("worker",)))  # type: ignore[arg-type]


def serving(names: tuple[str, ...], node: str = "worker", user: str = "system:node:worker") -> Json:
    from cryptography.hazmat.primitives.asymmetric import ec

    text = _request(ec.generate_private_key(ec.SECP256R1()), node, names)
    return {
        "metadata": {"name": "r", "resourceVersion": "1"},
        "spec": {
            "request": base64.b64encode(text).decode(),
            "signerName": SERVING,
            "usages": ["digital signature", "server auth"],
            "username": user,
            "groups": ["system:nodes", "system:authenticated"],
        },
    }


def node(name: str, address: str) -> Json:
    return {"metadata": {"name": name}, "status": {"addresses": [{"type": "InternalIP", "address": address}]}}


def approved(request: Json, own: str = "192.0.2.7") -> bool:
    slices = [{"metadata": {"name": "kubernetes", "namespace": "default"}, "endpoints": [{"addresses": ["192.0.2.1"]}]}]
    services = [{"metadata": {"name": "kubernetes", "namespace": "default"}, "spec": {"clusterIPs": ["10.96.0.1"]}}]
    nodes = [node("worker", own), node("other", "192.0.2.8")]
    view = View.of({servingapproval.csr.REQUESTS: [request], NODES: nodes, SLICES: slices, SERVICES: services})
    return bool(servingapproval.plan(view, "/r", 0.0).steps or servingapproval.plan(view, "r", 0.0).steps)


def test_a_node_gets_a_serving_certificate_for_itself_alone() -> None:
    assert approved(serving(("worker", "192.0.2.7")))
    assert not approved(serving(("other",)))
    assert not approved(serving(("worker", "192.0.2.99")))
    assert not approved(serving(("worker",), node="other"))
    assert not approved(serving(("worker",), user="system:node:other"))
    assert not approved(serving(()))


def test_a_request_that_came_before_the_nodes_new_address_is_looked_at_again_with_it() -> None:
    controller, request = servingapproval.CONTROLLER, serving(("worker", "192.0.2.9"))
    view = View.of({servingapproval.csr.REQUESTS: [request], NODES: [node("worker", "192.0.2.9")]})
    (kind, keys), *rest = controller.watches.items()
    assert (kind, rest) == (NODES, [])
    assert list(keys(view, node("worker", "192.0.2.9"))) == ["r"]
    (moved,) = controller.relevant[NODES]
    assert moved.read(node("worker", "192.0.2.7")) != moved.read(node("worker", "192.0.2.9"))


@pytest.mark.parametrize("stolen", ["192.0.2.1", "192.0.2.8", "10.96.0.1", "127.0.0.1"])
def test_an_address_of_somebody_else_is_not_approved_even_when_the_node_claims_it(stolen: str) -> None:
    assert not approved(serving(("worker", stolen)), own=stolen)


def standing(ready: str, address: str = "192.0.2.7", made: str = "1970-01-01T00:00:00Z") -> Json:
    found = node("worker", address)
    found["metadata"]["creationTimestamp"] = made
    found["status"]["conditions"] = [{"type": "Ready", "status": ready}] if ready else []
    return found


def test_a_name_is_taken_by_a_living_node_and_free_when_its_machine_is_gone() -> None:
    with pytest.raises(PortsideError, match=r"has a node worker already, and it is ready: .*--name"):
        refuse_living(standing("True", "192.0.2.8"), "192.0.2.7", 1000.0)
    refuse_living(standing("Unknown", "192.0.2.8"), "192.0.2.7", 1000.0)


def test_two_machines_of_one_name_that_join_at_the_same_moment_do_not_become_one_node() -> None:
    with pytest.raises(PortsideError, match=r"another machine, 192.0.2.8, joins as node worker at this moment"):
        refuse_living(standing("", "192.0.2.8"), "192.0.2.7", 30.0)
    refuse_living(standing("", "192.0.2.7"), "192.0.2.7", 30.0)  # our own join, which broke off
    refuse_living(standing("", "192.0.2.8"), "192.0.2.7", 300.0)  # one that was given up


def broken(code: int, message: str) -> ConnectionError:
    """A lost connection as the HTTP client raises it: the fault lies behind it."""
    fault = ssl.SSLCertVerificationError(1, message)
    fault.verify_code, fault.verify_message = code, message
    lost = ConnectionError(f"{SERVER}: Cannot connect")
    lost.__cause__ = fault
    return lost


def test_what_keeps_a_machine_from_joining_is_said_in_its_own_words() -> None:
    unnamed = trouble(broken(64, "IP address mismatch"), SERVER, 0.0)
    assert (unnamed.what, unnamed.why) == (f"the API's certificate does not name {SERVER}", "IP address mismatch")
    early = trouble(broken(9, "certificate is not yet valid"), SERVER, 0.0)
    assert "is not valid at this machine's time" in early.what
    assert "the clock here says 1970-01-01T00:00:00Z" in early.why
    assert "can't be reached" in trouble(ConnectionRefusedError("refused"), SERVER, 0.0).what


def test_a_node_keeps_its_address_while_the_machine_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"192.0.2.7"}
    way: list[str | None] = ["192.0.2.9"]
    monkeypatch.setattr(membership, "has_address", lambda address: address in has)
    monkeypatch.setattr(membership, "source_address", lambda host="": way[0])
    facts = {"joined": SERVER, "address": "192.0.2.7"}
    assert present_address(facts) == "192.0.2.7"
    has.clear()
    assert present_address(facts) == "192.0.2.9"
    assert present_address(facts | {"node_ip": "192.0.2.5"}) == "192.0.2.5"
    way[0] = None  # the cable is out: it is the same node, not one without an address
    assert present_address(facts) == "192.0.2.7"


class Issuing:
    """An API that signs what is asked of it, with the home's own authority."""

    def __init__(self, home: Path) -> None:
        self.sign, self.asked = Authority(ensure_pki(home)).sign, list[Json]()

    async def create(self, resource: object, body: Json, **_: object) -> Json:
        self.asked.append(body["spec"])
        signed = self.sign(base64.b64decode(body["spec"]["request"]), body["spec"]["usages"], None)
        return body | {"metadata": {"name": "r"}, "status": {"certificate": base64.b64encode(signed).decode()}}


async def test_a_node_that_moved_asks_for_a_serving_certificate_of_its_new_address(tmp_path: Path) -> None:
    home, api = Home(tmp_path), Issuing(tmp_path)
    home.save_cluster({"node": "worker", "address": "192.0.2.7", "joined": SERVER})
    pki = Pki(tmp_path / "pki")
    for name, signer, names in (("node-worker", CLIENT, ()), ("node-worker-server", SERVING, ("worker", "192.0.2.7"))):
        store_pair(pki, name, await certificate(api, "worker", signer, names))  # type: ignore[arg-type]
    now = load_certificate(pki.certificate("node-worker")).not_valid_before_utc.timestamp() + 3600
    assert not await renew(home, api, now)  # type: ignore[arg-type]
    home.save_cluster({"address": "192.0.2.9"})
    assert await renew(home, api, now)  # type: ignore[arg-type]
    assert api.asked[-1]["signerName"] == SERVING
    assert certified(pki.certificate("node-worker-server")) == {"worker", "192.0.2.9"}
    assert not await renew(home, api, now)  # type: ignore[arg-type]
