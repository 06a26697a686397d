"""Conformance "Auth", the pods' part: tokens mounted or not, projected tokens, trust bundles, pod certificates."""

from __future__ import annotations

import base64
import datetime
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.conformance.names import conformance
from tests.real.lab import Json, Lab, Refused

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"
BUNDLES = "/apis/certificates.k8s.io/v1/clustertrustbundles"
SIGNER = "example.com/signer"


# -- tokens -----------------------------------------------------------------------------------------------------------


@conformance("Auth", "token, CA and namespace mounted in pods")
def test_token_authority_and_namespace_are_mounted(lab: Lab) -> None:
    """And the token opens the API from inside the pod."""
    script = (
        f"cat {SECRETS}/namespace; grep -c BEGIN {SECRETS}/ca.crt; stat -Lc %a {SECRETS}/token; "
        f"tr . '\\n' < {SECRETS}/token | wc -l"
    )
    assert lab.run("token", script) == f"{lab.namespace}1\n644\n2\n"


@pytest.mark.parametrize("account", [None, True, False])
@pytest.mark.parametrize("own", [None, True, False])
def test_opting_out_of_the_token(lab: Lab, account: bool | None, own: bool | None) -> None:
    """ "opting out of token automount (9 combinations)": the pod's word counts, then the account's, else it is mounted."""
    name = f"auto-{account}-{own}".lower()
    body: Json = {"metadata": {"name": name}}
    if account is not None:
        body["automountServiceAccountToken"] = account
    lab.create("serviceaccounts", body)
    spec: Json = {"serviceAccountName": name}
    if own is not None:
        spec["automountServiceAccountToken"] = own
    made = lab.pod(name, f"test -e {SECRETS}/token && echo yes || echo no", spec=spec)
    mounted = own if own is not None else account is not False
    assert bool(made["spec"]["containers"][0].get("volumeMounts")) is mounted
    assert lab.output(name) == ("yes\n" if mounted else "no\n")


@conformance("Auth", "projected service account token")
def test_a_projected_token_belongs_to_the_user(lab: Lab) -> None:
    """Mode and owner follow runAsUser and fsGroup; the audience is in it."""
    source = {"serviceAccountToken": {"path": "t", "audience": "vault", "expirationSeconds": 600}}
    volume = {"name": "t", "projected": {"sources": [source]}}
    mounts = [{"name": "t", "mountPath": "/t"}]
    wanted: dict[str, tuple[Json, str]] = {
        "plain": ({}, "644 0 0\n"),
        "user": ({"securityContext": {"runAsUser": 1000}}, "600 1000 0\n"),
        "group": ({"securityContext": {"runAsUser": 1000, "fsGroup": 2000}}, "640 1000 2000\n"),
    }
    script = "stat -Lc '%a %u %g' /t/t; cut -d. -f2 /t/t > /dev/termination-log"
    for name, (spec, expected) in wanted.items():
        assert lab.run(f"projected-{name}", script, volumeMounts=mounts, spec={"volumes": [volume]} | spec) == expected
    text = lab.container("projected-plain")["state"]["terminated"]["message"].strip()
    claims = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    assert claims["aud"] == ["vault"] and claims["kubernetes.io"]["pod"]["name"] == "projected-plain"


# -- trust bundles ----------------------------------------------------------------------------------------------------


def authority(name: str) -> tuple[Any, x509.Certificate]:
    """A key and its self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return key, builder.sign(key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def bundles(lab: Lab) -> Iterator[list[str]]:
    """Three bundles: two of the signer, labelled apart, and one of nobody's."""
    made = [pem(authority(f"ca-{i}")[1]) for i in range(3)]
    for i, (signer, label) in enumerate([(SIGNER, "yes"), (SIGNER, "no"), ("", "yes")]):
        name = (f"{signer.replace('/', ':')}:" if signer else "") + f"{lab.namespace}-{i}"
        spec: Json = {"trustBundle": made[i]}
        if signer:
            spec["signerName"] = signer
        lab.call("POST", BUNDLES, {"metadata": {"name": name, "labels": {"alive": label, "of": "all"}}, "spec": spec})
    yield made
    for i, prefix in enumerate(["example.com:signer:", "example.com:signer:", ""]):
        lab.call("DELETE", f"{BUNDLES}/{prefix}{lab.namespace}-{i}")


def bundle_volume(*sources: Json) -> Json:
    return {"name": "b", "projected": {"sources": [{"clusterTrustBundle": s} for s in sources]}}


MOUNT = [{"name": "b", "mountPath": "/b"}]


def certificates(text: str) -> set[str]:
    return {part.partition("-----END")[0].strip() for part in text.split("-----BEGIN CERTIFICATE-----")[1:]}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param({"name": "NS-2"}, [2], marks=conformance("Auth", "one ClusterTrustBundle by name")),
        pytest.param(
            {"signerName": SIGNER, "labelSelector": {}},
            [0, 1],
            marks=conformance("Auth", "signer name + empty selector joins all"),
        ),
        ({"signerName": SIGNER, "labelSelector": {"matchLabels": {"alive": "yes"}}}, [0]),
        pytest.param(
            {"signerName": SIGNER, "labelSelector": {"matchLabels": {"of": "all"}}},
            [0, 1],
            marks=conformance("Auth", "signer name + label selector joins several"),
        ),
        pytest.param(
            {"signerName": SIGNER, "labelSelector": {"matchLabels": {"alive": "x"}}, "optional": True},
            [],
            marks=conformance("Auth", "selector matching nothing, optional: pod starts"),
        ),
        pytest.param(
            {"signerName": SIGNER, "optional": True},
            [],
            marks=conformance("Auth", "signer name with nil selector, optional: pod starts"),
        ),
        ({"name": "absent", "optional": True}, []),
    ],
)
def test_trust_bundles_are_mounted(lab: Lab, bundles: list[str], source: Json, expected: list[int]) -> None:
    """By name, by signer and selector, joined, and optional ones that are absent."""
    source = {k: v.replace("NS", lab.namespace) if k == "name" else v for k, v in source.items()}
    name = f"bundle-{abs(hash(json.dumps(source))) % 10**8}"
    volume = bundle_volume(source | {"path": "ca.pem"})
    out = lab.run(name, "cat /b/ca.pem", volumeMounts=MOUNT, spec={"volumes": [volume]})
    assert certificates(out) == {c for i in expected for c in certificates(bundles[i])}


@conformance(
    "Auth", "not optional, nothing matches: pod doesn't start", "not optional, named bundle missing: pod doesn't start"
)
def test_a_missing_bundle_keeps_the_pod_from_starting_until_it_is_there(lab: Lab, bundles: list[str]) -> None:
    """The event says what is missing; made later, the pod starts."""
    by_signer = {"signerName": SIGNER, "labelSelector": {"matchLabels": {"alive": "x"}}, "path": "ca.pem"}
    lab.pod("missing-signer", "true", volumeMounts=MOUNT, spec={"volumes": [bundle_volume(by_signer)]})
    late = f"{lab.namespace}-late"
    lab.pod(
        "missing-name",
        "cat /b/ca.pem",
        volumeMounts=MOUNT,
        spec={"volumes": [bundle_volume({"name": late, "path": "ca.pem"})]},
    )
    lab.event("missing-signer", "combination of signerName and labelSelector matched zero ClusterTrustBundles")
    lab.event("missing-name", f'clustertrustbundle.certificates.k8s.io "{late}" not found')
    assert lab.status("missing-name")["phase"] == "Pending"
    lab.call("POST", BUNDLES, {"metadata": {"name": late}, "spec": {"trustBundle": bundles[0]}})
    assert certificates(lab.output("missing-name")) == certificates(bundles[0])
    lab.call("DELETE", f"{BUNDLES}/{late}")
    lab.delete("pods", "missing-signer")


@conformance("Auth", "over 100 ClusterTrustBundle volumes in a pod", "several ClusterTrustBundle volumes")
def test_over_a_hundred_bundles_in_one_pod(lab: Lab, bundles: list[str]) -> None:
    """ "over 100 ClusterTrustBundle volumes in a pod" and several in one volume."""
    one = {"name": f"{lab.namespace}-2"}
    volumes = [bundle_volume(one | {"path": "ca.pem"}) | {"name": f"b{i}"} for i in range(101)]
    mounts = [{"name": f"b{i}", "mountPath": f"/b/{i}"} for i in range(101)]
    assert (
        lab.run("hundred", "cat /b/*/ca.pem | grep -c BEGIN", volumeMounts=mounts, spec={"volumes": volumes}) == "101\n"
    )


# -- pod certificates -------------------------------------------------------------------------------------------------


class Signer:
    """Issues what pods ask of its name, as a cluster's own signer would."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.key, self.root = authority("pods")
        self.seen: list[Json] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Signer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        lab = Lab.__new__(Lab)
        lab.__dict__.update(self.lab.__dict__ | {"_connection": None})
        while not self._over.wait(0.1):
            found = lab.get("podcertificaterequests", group="apis/certificates.k8s.io/v1")["items"]
            for request in found:
                if request["spec"]["signerName"] == SIGNER and not (request.get("status") or {}).get("conditions"):
                    self._answer(lab, request)

    def _answer(self, lab: Lab, request: Json) -> None:
        self.seen.append(request)
        spec = request["spec"]
        asked = x509.load_der_x509_csr(base64.b64decode(spec["stubPKCS10Request"]))
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, spec["podName"])])
        begin = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        end = begin + datetime.timedelta(seconds=spec["maxExpirationSeconds"])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(self.root.subject)
        builder = builder.public_key(asked.public_key()).serial_number(x509.random_serial_number())
        made = builder.not_valid_before(begin).not_valid_after(end).sign(self.key, hashes.SHA256())
        condition = {
            "type": "Issued",
            "status": "True",
            "reason": "Test",
            "lastTransitionTime": begin.isoformat().replace("+00:00", "Z"),
        }
        stamp = "%Y-%m-%dT%H:%M:%SZ"
        request["status"] = {
            "conditions": [condition],
            "certificateChain": pem(made),
            "notBefore": begin.strftime(stamp),
            "beginRefreshAt": (begin + datetime.timedelta(seconds=spec["maxExpirationSeconds"] * 2 // 3)).strftime(
                stamp
            ),
            "notAfter": end.strftime(stamp),
        }
        path = lab.path(
            "podcertificaterequests", f"{request['metadata']['name']}/status", "apis/certificates.k8s.io/v1"
        )
        lab.call("PUT", path, request)


def certificate_volume(**more: Any) -> Json:
    source = {"signerName": SIGNER, "keyType": "ECDSAP256", "credentialBundlePath": "bundle.pem"} | more
    return {"name": "b", "projected": {"sources": [{"podCertificate": source}]}}


@pytest.fixture(scope="module")
def signer(lab: Lab) -> Iterator[Signer]:
    with Signer(lab) as made:
        yield made


@conformance("Auth", "podCertificate userAnnotations reach the signer")
@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        pytest.param(None, 86400, marks=conformance("Auth", "podCertificate volume: default lifetime 24 h")),
        pytest.param(3600, 3600, marks=conformance("Auth", "podCertificate volume: asked lifetime 1 h")),
    ],
)
def test_a_pod_gets_a_certificate_of_its_own(lab: Lab, signer: Signer, asked: int | None, seconds: int) -> None:
    """ "default lifetime 24 h" and "asked lifetime 1 h": key and chain in one file, and they belong together."""
    more: Json = {"maxExpirationSeconds": asked} if asked else {}
    name = f"cert-{seconds}"
    volume = certificate_volume(userAnnotations={"example.com/a": "b"}, **more)
    out = lab.run(name, "cat /b/bundle.pem; stat -Lc %a /b/bundle.pem", volumeMounts=MOUNT, spec={"volumes": [volume]})
    key: Any = serialization.load_pem_private_key(out.encode(), None)
    certificate = x509.load_pem_x509_certificate(out[out.index("-----BEGIN CERTIFICATE") :].encode())
    assert out.startswith("-----BEGIN PRIVATE KEY-----") and out.endswith("644\n")
    assert key.public_key() == certificate.public_key()
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == datetime.timedelta(seconds=seconds)
    spec = next(r["spec"] for r in signer.seen if r["spec"]["podName"] == name)
    assert spec["unverifiedUserAnnotations"] == {"example.com/a": "b"} and spec["serviceAccountName"] == "default"


PYTHON = os.path.realpath(sys.executable)
FOLDERS = ("/usr/lib", "/lib", "/lib64", sys.base_prefix)
TALK = """
import socket, ssl, sys
role, address = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if role == "server" else ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_REQUIRED
context.load_cert_chain("/b/bundle.pem")
context.load_verify_locations("/b/ca.pem")
if role == "server":
    listener = socket.create_server(("", 4433))
    while True:
        try:
            link = context.wrap_socket(listener.accept()[0], server_side=True)
            break
        except (ssl.SSLError, OSError):
            pass  # a probe of the node
else:
    link = context.wrap_socket(socket.create_connection((address, 4433), timeout=60))
print(dict(pair[0] for pair in link.getpeercert()["subject"])["commonName"], flush=True)
link.sendall(b"x")
link.recv(1)
"""


@conformance("Auth", "podCertificate + trust bundle: two pods do mTLS")
def test_two_pods_know_each_other_by_their_certificates(lab: Lab, signer: Signer) -> None:
    """The pods run the tests' own Python, seen through read-only folders of the machine."""
    name = f"example.com:signer:{lab.namespace}-pods"
    labels = {"pods": lab.namespace}
    spec = {"signerName": SIGNER, "trustBundle": pem(signer.root)}
    lab.call("POST", BUNDLES, {"metadata": {"name": name, "labels": labels}, "spec": spec})
    trust = {"signerName": SIGNER, "labelSelector": {"matchLabels": labels}, "path": "ca.pem"}
    secrets = certificate_volume()
    secrets["projected"]["sources"].append({"clusterTrustBundle": trust})
    seen = [f for f in FOLDERS if os.path.isdir(f)]
    volumes = [secrets] + [{"name": f"f{n}", "hostPath": {"path": path}} for n, path in enumerate(seen)]
    mounts = MOUNT + [{"name": f"f{n}", "mountPath": path, "readOnly": True} for n, path in enumerate(seen)]
    script = f"exec {PYTHON} -c '{TALK}' "
    ready = {"tcpSocket": {"port": 4433}, "periodSeconds": 1}
    changes: Json = {"volumeMounts": mounts, "spec": {"volumes": volumes}}
    lab.pod("mtls-server", f"{script} server -", readinessProbe=ready, **changes)
    lab.ready("mtls-server")
    assert lab.run("mtls-client", f"{script} client {lab.status('mtls-server')['podIP']}", **changes) == "mtls-server\n"
    assert lab.output("mtls-server") == "mtls-client\n"
    lab.call("DELETE", f"{BUNDLES}/{name}")


def test_a_denied_certificate_keeps_the_pod_waiting(lab: Lab) -> None:
    """No signer answers, or it refuses: the pod does not start and says why."""
    volume = certificate_volume(signerName="example.com/nobody")
    lab.pod("denied", "true", volumeMounts=MOUNT, spec={"volumes": [volume]})
    path = lab.path("podcertificaterequests", group="apis/certificates.k8s.io/v1")

    def made() -> Json:
        found = json.loads(lab.call("GET", path))["items"]
        return next((r for r in found if r["spec"]["podName"] == "denied"), {})

    request = lab.until(made, "a request")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    condition = {"type": "Denied", "status": "True", "reason": "No", "message": "not you", "lastTransitionTime": stamp}
    lab.call("PUT", f"{path}/{request['metadata']['name']}/status", request | {"status": {"conditions": [condition]}})
    lab.event("denied", 'PodCertificateRequest was permanently denied; reason="No", message="not you"')
    lab.delete("pods", "denied")


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(3599, marks=conformance("Auth", "podCertificate volume: under 1 h refused")),
        pytest.param(91 * 86400 + 1, marks=conformance("Auth", "podCertificate volume: over 91 days refused")),
    ],
)
def test_lifetimes_outside_the_bounds_are_refused(lab: Lab, seconds: int) -> None:
    """ "under 1 h refused" and "over 91 days refused"."""
    volume = certificate_volume(maxExpirationSeconds=seconds)
    with pytest.raises(Refused, match="maxExpirationSeconds"):
        lab.pod("bounds", "true", volumeMounts=MOUNT, spec={"volumes": [volume]})
