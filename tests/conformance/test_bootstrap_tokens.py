"""A machine that joins knows a bootstrap token alone: it finds the cluster, trusts it, and gets a certificate."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import string
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conftest import Cluster
from tests.webhook_server import within

Json = dict[str, Any]
CHARACTERS = string.ascii_lowercase + string.digits
JOINING = "system:bootstrappers:portside:default-node-token"


def _word(length: int) -> str:
    return "".join(secrets.choice(CHARACTERS) for _ in range(length))


@pytest.fixture
def token(simulated: Cluster) -> Iterator[str]:
    name, secret = _word(6), _word(16)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": name,
            "token-secret": secret,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": JOINING,
        },
    }
    simulated.kubectl("create", "-f", "-", stdin=json.dumps(body))
    yield f"{name}.{secret}"
    simulated.kubectl("-n", "kube-system", "delete", "secret", f"bootstrap-token-{name}", "--ignore-not-found")


def _info(cluster: Cluster) -> dict[str, str]:
    found = cluster.kubectl(
        "-n", "kube-public", "get", "configmap", "cluster-info", "-o", "json", "--as", "system:anonymous",
        "--as-group", "system:unauthenticated",
    )  # fmt: skip
    data: dict[str, str] = json.loads(found)["data"]
    return data


def test_anybody_reads_the_cluster_info_and_the_tokens_owner_can_trust_it(simulated: Cluster, token: str) -> None:
    name, _, secret = token.partition(".")
    key = f"jws-kubeconfig-{name}"
    assert within(60, lambda: key in _info(simulated))
    info = _info(simulated)
    header, nothing, signature = info[key].split(".")
    content = base64.urlsafe_b64encode(info["kubeconfig"].encode()).rstrip(b"=").decode()
    wanted = hmac.new(secret.encode(), f"{header}.{content}".encode(), hashlib.sha256).digest()
    assert nothing == "" and base64.urlsafe_b64decode(signature + "==") == wanted
    simulated.kubectl("-n", "kube-system", "delete", "secret", f"bootstrap-token-{name}")
    assert within(60, lambda: key not in _info(simulated))


def test_a_joining_machine_gets_its_certificate_without_a_person(simulated: Cluster, token: str) -> None:
    node = f"n{_word(6)}"
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, f"system:node:{node}"),
    ]
    key = ec.generate_private_key(ec.SECP256R1())
    asked = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(key, hashes.SHA256())
    body = {
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": node},
        "spec": {
            "request": base64.b64encode(asked.public_bytes(serialization.Encoding.PEM)).decode(),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
            "usages": ["digital signature", "client auth"],
        },
    }
    who = ("--as", f"system:bootstrap:{token[:6]}", "--as-group", "system:bootstrappers", "--as-group", JOINING)
    groups = ("--as-group", "system:authenticated")
    simulated.kubectl("create", "-f", "-", *who, *groups, stdin=json.dumps(body))
    held = lambda: json.loads(simulated.kubectl("get", "csr", node, "-o", "json"))  # noqa: E731
    assert within(60, lambda: "certificate" in held().get("status", {}))
    condition = held()["status"]["conditions"][0]
    said = "Auto approving kubelet client certificate after SubjectAccessReview."
    assert (condition["reason"], condition["message"]) == ("AutoApproved", said)
    simulated.kubectl("delete", "csr", node)


def test_a_bootstrap_token_is_reviewed_as_a_bootstrapper(simulated: Cluster, token: str) -> None:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    made = json.loads(simulated.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(review)))
    assert made["status"]["authenticated"] is True
    assert made["status"]["user"]["username"] == f"system:bootstrap:{token[:6]}"
    assert JOINING in made["status"]["user"]["groups"]
