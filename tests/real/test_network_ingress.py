"""Ingresses by HAProxy: hosts, paths, TLS, the default backend, the status, and what can't be served."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cluster
from tests.real.neighbourhood import Neighbourhood, service, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]


def page(address: str, host: str, path: str = "/", port: int = 80, names: list[str] | None = None) -> tuple[int, str]:
    """Code and text of an answer; over TLS on 443, where ``names`` gets the certificate's alternative names."""
    try:
        link = socket.create_connection((address, port), timeout=10)
        if port == 443:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            link = context.wrap_socket(link, server_hostname=host)
            if names is not None:
                names[:] = _names(link.getpeercert(True) or b"")  # type: ignore[attr-defined]
        with link:
            link.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while more := link.recv(4096):
                data += more
        if not data:
            return 0, "closed without an answer, as by a proxy that is being replaced"
        return int(data.split()[1]), data.partition(b"\r\n\r\n")[2].decode()
    except OSError as error:
        return 0, str(error)


def _names(certificate: bytes) -> list[str]:
    from cryptography import x509

    found = x509.load_der_x509_certificate(certificate).extensions
    return list(found.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName))


def backend(name: str, port: int = 80) -> dict[str, Any]:
    return {"service": {"name": name, "port": {"number": port}}}


def ingress(name: str, *rules: tuple[str, str, str, str], **spec: Any) -> dict[str, Any]:
    """Rules are (host, path, path type, service)."""
    made = []
    for host, path, kind, target in rules:
        http = {"paths": [{"path": path, "pathType": kind, "backend": backend(target)}]}
        made.append({"http": http} | ({"host": host} if host else {}))
    body = {"rules": made} | spec if made else spec
    return {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name}, "spec": body}


@pytest.fixture(scope="module")
def gate(real: Cluster, town: Neighbourhood) -> Neighbourhood:
    """One Service per pod, and a cluster that serves Ingresses. The pods run on while the node starts anew."""
    real.portside("up", "--ingress")
    assert shutil.which("haproxy")
    for number in range(3):
        town.kubectl("label", "pod", f"web-{number}", f"one=w{number}", "--overwrite")
        town.apply(service(f"s{number}", {"one": f"w{number}"}))
    until(lambda: page(town.address, "x")[0], lambda code: code == 404)
    return town


def served(gate: Neighbourhood, host: str, path: str, who: str, port: int = 80) -> None:
    until(
        lambda: page(gate.address, host, path, port),
        lambda got: got[0] == 200 and got[1].startswith(f"{who} GET {path}"),
    )


def test_hosts_and_paths_lead_to_their_services(gate: Neighbourhood) -> None:
    gate.apply(
        ingress(
            "paths",
            ("a.example.com", "/", "Prefix", "s0"),
            ("a.example.com", "/one", "Prefix", "s1"),
            ("a.example.com", "/one/exact", "Exact", "s2"),
            ("*.wild.example.com", "/", "Prefix", "s1"),
        )
    )
    served(gate, "a.example.com", "/one/exact", "web-2")
    served(gate, "a.example.com", "/one/exact/more", "web-1")
    served(gate, "a.example.com", "/one", "web-1")
    served(gate, "A.example.com:80", "/one/", "web-1")
    served(gate, "a.example.com", "/onefold", "web-0")
    served(gate, "b.wild.example.com", "/", "web-1")
    assert page(gate.address, "c.b.wild.example.com")[0] == 404
    assert page(gate.address, "wild.example.com")[0] == 404
    path = "jsonpath={.spec.ingressClassName} {.status.loadBalancer}"
    shown = f'portside {{"ingress":[{{"ip":"{gate.address}"}}]}}'
    until(lambda: gate.kubectl("get", "ingress", "paths", "-o", path), lambda told: told == shown)
    # A change of the Service's pods needs no reload, a change of the Ingress is seen soon.
    gate.patch("service", "s0", {"spec": {"selector": {"one": "w2"}}})
    served(gate, "a.example.com", "/", "web-2")
    gate.patch("service", "s0", {"spec": {"selector": {"one": "nobody"}}})
    until(lambda: page(gate.address, "a.example.com")[0], lambda code: code == 503)
    gate.patch("service", "s0", {"spec": {"selector": {"one": "w0"}}})
    served(gate, "a.example.com", "/", "web-0")
    gate.remove("ingress", "paths")
    until(lambda: page(gate.address, "a.example.com")[0], lambda code: code == 404)


def test_the_default_backend_gets_what_no_rule_wants(gate: Neighbourhood) -> None:
    gate.apply(ingress("rest", ("d.example.com", "/", "Prefix", "s0"), defaultBackend=backend("s2")))
    served(gate, "d.example.com", "/x", "web-0")
    served(gate, "else.example.com", "/y", "web-2")
    gate.remove("ingress", "rest")


def test_tls_by_host_with_the_secrets_certificate(gate: Neighbourhood, tmp_path: Path) -> None:
    from portside.base.pki import ensure_ingress_server, ensure_pki

    pki = ensure_pki(tmp_path)
    ensure_ingress_server(pki, ["tls.example.com"])
    data = {
        "tls.crt": base64.b64encode(pki.certificate("ingress-default").read_bytes()).decode(),
        "tls.key": base64.b64encode(pki.key("ingress-default").read_bytes()).decode(),
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pair"},
        "type": "kubernetes.io/tls",
        "data": data,
    }
    tls = [{"hosts": ["tls.example.com"], "secretName": "pair"}]
    gate.apply(secret, ingress("secure", ("tls.example.com", "/", "Prefix", "s1"), tls=tls))
    served(gate, "tls.example.com", "/", "web-1", 443)
    names: list[str] = []
    until(lambda: (page(gate.address, "tls.example.com", port=443, names=names), "tls.example.com" in names)[1], bool)
    names.clear()
    until(lambda: page(gate.address, "other.example.com", port=443, names=names)[0], bool)
    assert names and "tls.example.com" not in names
    gate.remove("ingress", "secure")
    gate.remove("secret", "pair")


def test_what_can_not_be_served_is_said_and_harms_nobody(gate: Neighbourhood) -> None:
    gate.apply(ingress("good", ("g.example.com", "/", "Prefix", "s0")))
    served(gate, "g.example.com", "/", "web-0")
    broken = {"tls.crt": base64.b64encode(b"no certificate").decode(), "tls.key": base64.b64encode(b"no key").decode()}
    gate.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "bad"},
            "type": "kubernetes.io/tls",
            "data": broken,
        },
        ingress("wrong", ("g.example.com", "/", "Prefix", "s1"), tls=[{"secretName": "bad"}]),
        ingress("missing", ("m.example.com", "/", "Prefix", "nobody")),
        ingress("foreign", ("f.example.com", "/", "Prefix", "s1"), ingressClassName="somebody-elses"),
    )
    for words in ("no pair of certificate", "g.example.com/ belongs to an older Ingress"):
        until(lambda: gate.kubectl("describe", "ingress", "wrong"), lambda told, words=words: words in told)  # type: ignore[misc]
    until(lambda: gate.kubectl("describe", "ingress", "missing"), lambda a: "service nobody does not exist" in a)
    until(lambda: page(gate.address, "m.example.com")[0], lambda code: code == 503)
    served(gate, "g.example.com", "/", "web-0")
    assert page(gate.address, "f.example.com")[0] == 404
    assert gate.get("ingress", "foreign").get("status", {}).get("loadBalancer", {}) == {}
    gate.remove("ingress", "--all")
    gate.remove("secret", "bad")
