"""Names of the conformance list's Auth, as far as the API alone shows them: certificates, tokens, accounts, reviews."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance.ground import complete
from tests.conformance.names import conformance
from tests.conftest import Cluster
from tests.webhook_server import within

Json = dict[str, Any]
CERTIFICATES = "certificates.k8s.io/v1"


class Space:
    """kubectl with a namespace of the test's own."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def __call__(self, *words: str, stdin: str | None = None, check: bool = True) -> str:
        return self.cluster.kubectl("-n", self.name, *words, stdin=stdin, check=check)

    def create(self, body: Json, *words: str) -> Json:
        made: Json = json.loads(self("create", "-f", "-", "-o", "json", *words, stdin=json.dumps(body)))
        return made

    def get(self, *words: str) -> Json:
        found: Json = json.loads(self("get", *words, "-o", "json"))
        return found

    def merge(self, *words: str, patch: Json, sub: str = "") -> Json:
        more = ("--subresource", sub) if sub else ()
        done = self("patch", *words, "--type=merge", "-p", json.dumps(patch), "-o", "json", *more)
        changed: Json = json.loads(done)
        return changed


@pytest.fixture
def k(simulated: Cluster) -> Iterator[Space]:
    name = f"auth-{uuid.uuid4().hex[:8]}"
    simulated.kubectl("create", "namespace", name)
    complete(simulated, name)
    yield Space(simulated, name)
    simulated.kubectl("delete", "namespace", name, "--wait=false")


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _csr(key: ec.EllipticCurvePrivateKey, name: str = "", group: str = "") -> x509.CertificateSigningRequest:
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group)] if group else []
    subject += [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name(subject)).sign(key, hashes.SHA256())


def _pem(request: x509.CertificateSigningRequest) -> str:
    return base64.b64encode(request.public_bytes(serialization.Encoding.PEM)).decode()


def _request(name: str, body: str, signer: str = "kubernetes.io/kube-apiserver-client") -> Json:
    spec = {"request": body, "signerName": signer, "usages": ["client auth"], "expirationSeconds": 3600}
    meta = {"name": name, "labels": {"test": name}}
    return {"apiVersion": CERTIFICATES, "kind": "CertificateSigningRequest", "metadata": meta, "spec": spec}


@conformance("Auth", "CertificateSigningRequest API, approval, status")
def test_a_signing_request_is_approved_signed_and_the_certificate_is_accepted(k: Space, tmp_path: Any) -> None:
    key, name = _key(), f"csr-{uuid.uuid4().hex[:6]}"
    made = k.create(_request(name, _pem(_csr(key, "jane", "devs"))))
    assert made["spec"]["username"] == "kubernetes-admin"
    assert "approved" in k("certificate", "approve", name)
    issued = lambda: (k.get("csr", name).get("status") or {}).get("certificate")  # noqa: E731
    assert within(60, lambda: bool(issued()))
    certificate, secret = tmp_path / "c.pem", tmp_path / "k.pem"
    certificate.write_bytes(base64.b64decode(issued()))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    words = ("--client-certificate", str(certificate), "--client-key", str(secret), "auth", "whoami", "-o", "json")
    server = k("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
    empty = tmp_path / "empty"
    empty.write_text("")
    who = k("--kubeconfig", str(empty), "--server", server, "--insecure-skip-tls-verify", *words)
    assert json.loads(who)["status"]["userInfo"]["groups"] == ["devs", "system:authenticated"]
    k("delete", "csr", "-l", f"test={name}")


def test_a_denied_signing_request_is_never_signed(k: Space) -> None:
    name = f"csr-{uuid.uuid4().hex[:6]}"
    k.create(_request(name, _pem(_csr(_key(), "jane"))))
    k("certificate", "deny", name)
    held = k.get("csr", name)
    assert [c["type"] for c in held["status"]["conditions"]] == ["Denied"] and "certificate" not in held["status"]
    k("delete", "csr", name)


@conformance("Auth", "CertificateSigningRequest API, approval, status")
def test_the_signing_requests_api_has_all_its_verbs(k: Space) -> None:
    name = f"csr-{uuid.uuid4().hex[:6]}"
    k.create(_request(name, _pem(_csr(_key(), "jane")), "e2e.example.com/signer"))
    assert k.merge("csr", name, patch={"metadata": {"annotations": {"a": "b"}}})["metadata"]["annotations"]["a"] == "b"
    approved = {"type": "Approved", "status": "True", "reason": "E2E", "message": "by hand"}
    changed = k.merge("csr", name, patch={"status": {"conditions": [approved]}}, sub="approval")
    assert changed["status"]["conditions"][0]["reason"] == "E2E"
    extra = {"type": "ReadyForUse", "status": "True", "reason": "E2E", "message": "set"}
    changed = k.merge("csr", name, patch={"status": {"conditions": [approved, extra]}}, sub="status")
    assert len(changed["status"]["conditions"]) == 2
    assert len(k.get("csr", "-l", f"test={name}")["items"]) == 1
    k("delete", "csr", "-l", f"test={name}")
    assert k.get("csr", "-l", f"test={name}")["items"] == []


def _pod_request(k: Space, key: ec.EllipticCurvePrivateKey) -> Json:
    stub = base64.b64encode(_csr(key).public_bytes(serialization.Encoding.DER)).decode()
    spec = {
        "signerName": "e2e.example.com/signer",
        "podName": "p",
        "podUID": "pod-uid",
        "serviceAccountName": "default",
        "serviceAccountUID": "account-uid",
        "nodeName": "node-0",
        "nodeUID": "node-uid",
        "stubPKCS10Request": stub,
        "maxExpirationSeconds": 7200,
    }
    body = {"apiVersion": CERTIFICATES, "kind": "PodCertificateRequest", "metadata": {"name": "pcr"}, "spec": spec}
    return k.create(body, "--validate=false")


def _issue(key: ec.EllipticCurvePrivateKey, seconds: int) -> tuple[str, Json]:
    """A chain of one, and the times a status must carry for it."""
    start = datetime.now(UTC).replace(microsecond=0)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")])
    signer = _key()
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(seconds=seconds))
        .sign(signer, hashes.SHA256())
    )
    shown = lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: E731
    times = {
        "notBefore": shown(start),
        "beginRefreshAt": shown(start + timedelta(seconds=seconds // 2)),
        "notAfter": shown(start + timedelta(seconds=seconds)),
    }
    return leaf.public_bytes(serialization.Encoding.PEM).decode(), times


def _issued(chain: str, times: Json) -> Json:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {"type": "Issued", "status": "True", "reason": "R", "message": "", "lastTransitionTime": now}
    return {"status": {"conditions": [condition], "certificateChain": chain} | times}


@conformance("Auth", "PodCertificateRequest API + status")
def test_a_pod_certificate_request_is_issued_once_and_to_its_key(k: Space) -> None:
    key = _key()
    made = _pod_request(k, key)
    assert made["spec"]["maxExpirationSeconds"] == 7200
    foreign, times = _issue(_key(), 3600)
    patch = json.dumps(_issued(foreign, times))
    words = ("patch", "podcertificaterequest", "pcr", "--subresource=status", "--type=merge", "-p")
    assert "leaf certificate was not issued to the requested public key" in k(*words, patch, check=False)
    long, times = _issue(key, 10_000)
    refused = k(*words, json.dumps(_issued(long, times)), check=False)
    assert "leaf certificate lifetime must be <= spec.maxExpirationSeconds (7200)" in refused
    chain, times = _issue(key, 3600)
    done = k.merge("podcertificaterequest", "pcr", patch=_issued(chain, times), sub="status")
    assert done["status"]["certificateChain"] == chain
    again = k(*words, json.dumps({"status": {"certificateChain": "x"}}), check=False)
    assert "immutable after PodCertificateRequest is issued, denied, or failed" in again


@conformance("Auth", "ClusterTrustBundle CRUD")
def test_a_cluster_trust_bundle_lives_through_its_verbs(k: Space) -> None:
    signer = _key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    now = datetime.now(UTC)
    root = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(signer.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    anchors = root.public_bytes(serialization.Encoding.PEM).decode()
    label = f"b{uuid.uuid4().hex[:6]}"
    meta = {"name": f"e2e.example.com:signer:{label}", "labels": {"test": label}}
    spec = {"signerName": "e2e.example.com/signer", "trustBundle": anchors}
    k.create({"apiVersion": CERTIFICATES, "kind": "ClusterTrustBundle", "metadata": meta, "spec": spec})
    k.merge("clustertrustbundle", meta["name"], patch={"metadata": {"annotations": {"a": "b"}}})
    listed = k.get("clustertrustbundles", "-l", f"test={label}")["items"]
    assert [b["spec"]["trustBundle"] for b in listed] == [anchors]
    refused = k(
        "patch", "clustertrustbundle", meta["name"], "--type=merge", "-p", '{"spec":{"trustBundle":"x"}}', check=False
    )
    assert "at least one trust anchor must be provided" in refused
    k("delete", "clustertrustbundles", "-l", f"test={label}")


@conformance("Auth", "ServiceAccount issuer OIDC discovery, checked from a pod")
def test_the_issuer_is_discovered_and_its_keys_verify_a_token(k: Space) -> None:
    import orjson

    from portside.server.auth.tokens import ISSUER

    found = json.loads(k("get", "--raw", "/.well-known/openid-configuration"))
    assert found["issuer"] == ISSUER
    assert found["response_types_supported"] == ["id_token"]
    keys = json.loads(k("get", "--raw", "/openid/v1/jwks"))["keys"]
    token = k("create", "token", "default", "--audience", "e2e").strip()
    header, claims, signature = (base64.urlsafe_b64decode(p + "=" * (-len(p) % 4)) for p in token.split("."))
    told = orjson.loads(header)
    used = next(key for key in keys if key["kid"] == told["kid"])
    numbers = (int.from_bytes(base64.urlsafe_b64decode(used[c] + "=="), "big") for c in ("x", "y"))
    public = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP256R1()).public_key()
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    public.verify(encode_dss_signature(r, s), token.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256()))
    assert orjson.loads(claims)["sub"] == f"system:serviceaccount:{k.name}:default"
    assert orjson.loads(claims)["aud"] == ["e2e"]


def test_every_service_account_may_read_the_issuers_discovery(k: Space) -> None:
    who = f"system:serviceaccount:{k.name}:default"
    groups = ("--as-group", "system:serviceaccounts", "--as-group", "system:authenticated")
    for path in ("/.well-known/openid-configuration", "/openid/v1/jwks"):
        assert k("auth", "can-i", "get", path, "--as", who, *groups) == "yes\n"


@conformance("Auth", "TokenRequest then TokenReview")
def test_a_requested_token_is_reviewed_as_its_account(k: Space) -> None:
    token = k("create", "token", "default", "--duration", "1h").strip()
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status = k.create(body)["status"]
    assert status["authenticated"] is True
    assert status["user"]["username"] == f"system:serviceaccount:{k.name}:default"
    assert f"system:serviceaccounts:{k.name}" in status["user"]["groups"]
    wrong = body | {"spec": {"token": token[:-4] + "AAAA"}}
    assert k.create(wrong)["status"].get("authenticated") in (None, False)


@conformance("Auth", "kube-root-ca.crt in every namespace, recreated, reconciled")
def test_the_root_authority_is_in_every_namespace_and_comes_back(k: Space) -> None:
    data = lambda: json.loads(k("get", "configmap", "kube-root-ca.crt", "-o", "json", check=False) or "{}").get("data")  # noqa: E731
    there = lambda: "kube-root-ca.crt" in k("get", "configmaps", "-o", "name")  # noqa: E731
    assert within(60, there)
    wanted = data()
    k("delete", "configmap", "kube-root-ca.crt")
    assert within(60, there)
    k("patch", "configmap", "kube-root-ca.crt", "--type=merge", "-p", '{"data":{"ca.crt":"","k":"v"}}')
    assert within(60, lambda: data() == wanted)


@conformance("Auth", "ServiceAccount lifecycle", "ServiceAccount update")
def test_a_service_account_lives_through_its_verbs(k: Space) -> None:
    meta = {"name": "e2e", "labels": {"test": "account"}}
    k.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta})
    k.merge("serviceaccount", "e2e", patch={"automountServiceAccountToken": False})
    listed = json.loads(k("get", "serviceaccounts", "-A", "-l", "test=account", "-o", "json"))["items"]
    assert [a["automountServiceAccountToken"] for a in listed if a["metadata"]["namespace"] == k.name] == [False]
    replaced = k.get("serviceaccount", "e2e") | {"secrets": [{"name": "s"}]}
    k("replace", "-f", "-", stdin=json.dumps(replaced))
    assert k.get("serviceaccount", "e2e")["secrets"] == [{"name": "s"}]
    k("delete", "serviceaccounts", "-l", "test=account")
    assert "e2e" not in k("get", "serviceaccounts", "-o", "name")


@conformance("Auth", "opting out of token automount (9 combinations)")
@pytest.mark.parametrize("account", [None, True, False])
@pytest.mark.parametrize("pod", [None, True, False])
def test_tokens_are_mounted_as_pod_and_account_say(k: Space, account: bool | None, pod: bool | None) -> None:
    said: Json = {} if account is None else {"automountServiceAccountToken": account}
    k.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "who"}} | said)
    spec: Json = {"serviceAccountName": "who", "containers": [{"name": "c", "image": "i"}]}
    if pod is not None:
        spec["automountServiceAccountToken"] = pod
    made = k.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
    mounted = any(
        m["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
        for m in made["spec"]["containers"][0].get("volumeMounts") or ()
    )
    assert mounted == (pod if pod is not None else account is not False)


@conformance("Auth", "SubjectAccessReview and Local one, checked with impersonation")
def test_access_reviews_agree_with_what_impersonation_may_do(k: Space) -> None:
    k("create", "role", "reader", "--verb=get,list", "--resource=configmaps")
    k("create", "rolebinding", "reader", "--role=reader", "--user=jane")
    attributes = {"namespace": k.name, "verb": "list", "resource": "configmaps"}
    for kind in ("SubjectAccessReview", "LocalSubjectAccessReview"):
        body: Json = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"namespace": k.name} if kind.startswith("Local") else {},
            "spec": {"user": "jane", "resourceAttributes": attributes},
        }
        assert k.create(body)["status"]["allowed"] is True
        body["spec"]["resourceAttributes"] = attributes | {"verb": "delete"}
        assert k.create(body)["status"]["allowed"] is False
    assert "kube-root-ca.crt" in k("get", "configmaps", "--as", "jane")
    assert "cannot delete resource" in k("delete", "configmap", "kube-root-ca.crt", "--as", "jane", check=False)
