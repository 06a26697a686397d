"""Joining: whom a machine believes, what it asks for, when it asks anew."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from portside.api.status import ApiError
from portside.base.errors import PortsideError
from portside.base.pki import ensure_pki, load_certificate
from portside.client.cache import View
from portside.controllers import bootstraptoken, servingapproval
from portside.controllers.endpoint import NODES, SERVICES
from portside.controllers.slices import SLICES
from portside.run.membership import SERVING, Asked, _request, authority, certificate, due, key_hash, vouched
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


@pytest.mark.parametrize("stolen", ["192.0.2.1", "192.0.2.8", "10.96.0.1", "127.0.0.1"])
def test_an_address_of_somebody_else_is_not_approved_even_when_the_node_claims_it(stolen: str) -> None:
    assert not approved(serving(("worker", stolen)), own=stolen)
