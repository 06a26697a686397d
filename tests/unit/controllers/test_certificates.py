"""Signing requests and bootstrap tokens: who gets a certificate, for how long, and what is cleaned up."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from portside.base.clock import SYSTEM
from portside.base.pki import Pki, ensure_pki
from portside.base.signing import Authority, lifetime
from portside.client.cache import ObjectCache, View, key_of
from portside.controllers import bootstraptoken, csr, csrapproving, csrcleaner, csrsigning
from portside.controllers.plan import Op
from portside.server.auth import bootstrap_token

Json = dict[str, Any]
NOW = 1_800_000_000.0
KUBELET = ["digital signature", "client auth"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return ensure_pki(Path(tmp_path_factory.mktemp("home")))


def _body(name: str, organisation: str = "system:nodes", dns: str = "") -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject))
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
    asked = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(asked.public_bytes(Encoding.PEM)).decode()


def _request(body: str, signer: str = csr.KUBELET_CLIENT, *, approved: bool = True, **spec: Any) -> Json:
    status: Json = {}
    if approved:
        status["conditions"] = [{"type": "Approved", "status": "True"}]
    return {
        "metadata": {"name": "r", "uid": "u", "resourceVersion": "1"},
        "spec": {"request": body, "signerName": signer, "usages": KUBELET} | spec,
        "status": status,
    }


def _view(resource: tuple[str, str, str], *objects: Json) -> View:
    cache = ObjectCache()
    for obj in objects:
        cache.put(key_of(obj), obj)
    return View({resource: cache})


def _signed(pki: Pki, request: Json) -> Json | None:
    """The status that the signer writes, None when it leaves the request alone."""
    plan = csrsigning.controller(Authority(pki).sign).plan
    assert plan is not None
    steps = plan(_view(csr.REQUESTS, request), "r", NOW).steps
    if not steps:
        return None
    assert isinstance(steps[0], Op) and steps[0].subresource == "status"
    status: Json = steps[0].body["status"]
    return status


def test_a_node_gets_a_certificate_of_its_name_for_the_time_it_asked(pki: Pki) -> None:
    from cryptography import x509

    before = int(SYSTEM.now())
    status = _signed(pki, _request(_body("system:node:n1"), expirationSeconds=3600))
    after = SYSTEM.now()
    assert status is not None
    issued = x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))
    issued.verify_directly_issued_by(x509.load_pem_x509_certificate(pki.ca.read_bytes()))
    assert issued.subject.rfc4514_string() == "CN=system:node:n1,O=system:nodes"
    assert before + 3600 <= issued.not_valid_after_utc.timestamp() <= after + 3600


@pytest.mark.parametrize(("request_", "why"), [
    (lambda: _request(_body("system:node:n", "golden")), "subject organization is not system:nodes"),
    (lambda: _request(_body("system:node:n", dns="a.example")), "DNS subjectAltNames are not allowed"),
    (lambda: _request(_body("mallory")), "subject common name does not begin with system:node:"),
    (lambda: _request(_body("system:node:n"), usages=["client auth"]), "usages did not match [client auth digital signature key encipherment]"),
    (lambda: _request(_body("system:node:n"), csr.KUBELET_SERVING), "DNS or IP subjectAltName is required"),
    (lambda: _request(_body("c", "o"), csr.CLIENT, usages=["server auth"]), "invalid usage for client certificate: server auth"),
])  # fmt: skip
def test_what_a_signer_must_not_serve_fails_and_says_why(pki: Pki, request_: Any, why: str) -> None:
    status = _signed(pki, request_())
    assert status is not None and "certificate" not in status
    failed = status["conditions"][-1]
    assert (failed["type"], failed["reason"], failed["message"]) == ("Failed", "SignerValidationFailure", why)


def test_foreign_signers_and_what_nobody_approved_are_left_alone(pki: Pki) -> None:
    assert _signed(pki, _request(_body("system:node:n"), approved=False)) is None
    assert _signed(pki, _request(_body("system:node:n"), "signer.example/mine")) is None


def test_a_lifetime_stays_within_ten_minutes_and_a_year() -> None:
    assert [lifetime(s) for s in (None, 1, 7200, 10**9)] == [365 * 86400, 600, 7200, 365 * 86400]


def test_renewal_of_a_nodes_own_certificate_is_asked_for_first() -> None:
    own = _request(_body("system:node:n"), username="system:node:n")
    foreign = _request(_body("system:node:n"), username="system:bootstrap:abcdef")
    assert [way for way, _ in csrapproving.recognized(own)] == ["selfnodeclient", "nodeclient"]
    assert [way for way, _ in csrapproving.recognized(foreign)] == ["nodeclient"]
    assert csrapproving.recognized(_request(_body("x"), csr.CLIENT)) == []


@pytest.mark.parametrize(("status", "hours"), [
    ({}, 24.0),
    ({"conditions": [{"type": "Denied", "status": "True", "lastUpdateTime": "2027-01-15T08:00:00Z"}]}, 1.0),
    ({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2027-01-15T08:00:00Z"}]}, float("inf")),
])  # fmt: skip
def test_requests_go_when_they_have_served_their_time(status: Json, hours: float) -> None:
    created = datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()
    request = {"metadata": {"name": "r", "creationTimestamp": "2027-01-15T08:00:00Z"}, "spec": {}, "status": status}
    assert csrcleaner.ends(request, NOW) == created + hours * 3600


def _token(**data: str) -> Json:
    held = {
        "token-id": "abcdef",
        "token-secret": "0123456789abcdef",
        "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true",
        "auth-extra-groups": "system:bootstrappers:workers",
    } | data
    return {
        "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system", "uid": "t", "resourceVersion": "1"},
        "type": "bootstrap.kubernetes.io/token",
        "data": {k: base64.b64encode(v.encode()).decode() for k, v in held.items()},
    }


def test_a_bootstrap_token_is_a_member_of_the_bootstrappers() -> None:
    user = bootstrap_token.identity("abcdef.0123456789abcdef", _token(), NOW)
    assert user is not None
    assert user.name == "system:bootstrap:abcdef"
    assert user.groups == ("system:bootstrappers", "system:bootstrappers:workers", "system:authenticated")


@pytest.mark.parametrize("change", [
    {"token-secret": "fedcba9876543210"},
    {"expiration": "2020-01-01T00:00:00Z"},
    {"usage-bootstrap-authentication": "false"},
    {"auth-extra-groups": "system:masters"},
])  # fmt: skip
def test_a_bootstrap_token_that_does_not_hold_is_nobody(change: dict[str, str]) -> None:
    assert bootstrap_token.identity("abcdef.0123456789abcdef", _token(**change), NOW) is None


def test_the_cluster_info_is_signed_for_each_token_and_for_no_other() -> None:
    info = {
        "metadata": {"name": "cluster-info", "namespace": "kube-public", "resourceVersion": "1"},
        "data": {"kubeconfig": "text", "jws-kubeconfig-gone00": "x"},
    }
    caches = {r: ObjectCache() for r in (bootstraptoken.CONFIGMAPS, bootstraptoken.SECRETS)}
    caches[bootstraptoken.CONFIGMAPS].put(key_of(info), info)
    caches[bootstraptoken.SECRETS].put("kube-system/bootstrap-token-abcdef", _token())
    step = bootstraptoken.plan_info(View(caches), "kube-public/cluster-info", NOW).steps[0]
    assert isinstance(step, Op)
    assert sorted(step.body["data"]) == ["jws-kubeconfig-abcdef", "kubeconfig"]
    header, nothing, signed = step.body["data"]["jws-kubeconfig-abcdef"].split(".")
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "HS256", "kid": "abcdef"}
    content = base64.urlsafe_b64encode(b"text").rstrip(b"=").decode()
    wanted = hmac.new(b"0123456789abcdef", f"{header}.{content}".encode(), hashlib.sha256).digest()
    assert (nothing, base64.urlsafe_b64decode(signed + "==")) == ("", wanted)


def test_a_token_that_has_ended_is_removed() -> None:
    ended = _token(expiration="2020-01-01T00:00:00Z")
    view = _view(bootstraptoken.SECRETS, ended)
    step = bootstraptoken.plan_token(view, "kube-system/bootstrap-token-abcdef", NOW).steps[0]
    assert isinstance(step, Op) and step.verb == "delete"
    lasting = _view(bootstraptoken.SECRETS, _token(expiration="2100-01-01T00:00:00Z"))
    assert bootstraptoken.plan_token(lasting, "kube-system/bootstrap-token-abcdef", NOW).steps == ()
