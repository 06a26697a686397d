"""Own trust: made once, kept, renewed in time, robust against a jumping clock; kubeconfigs merge without loss."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from portside.base.errors import PortsideError
from portside.base.kubeconfig_file import merge_kubeconfig, write_kubeconfig
from portside.base.pki import ensure_node_client, ensure_pki, load_certificate


class FixedClock:
    def __init__(self, now: float) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


DAY = 86400.0
NOW = 1_790_000_000.0


def test_made_once_private_and_complete(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["192.0.2.7", "box.example"])
    before = {p.name: p.read_bytes() for p in pki.directory.iterdir()}
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in pki.directory.glob("*.key"))
    ensure_pki(tmp_path, ["192.0.2.7"])
    assert {p.name: p.read_bytes() for p in pki.directory.iterdir()} == before
    names = load_certificate(pki.certificate("server")).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    text = [str(n.value) for n in names.value]
    for host in ("127.0.0.1", "10.96.0.1", "192.0.2.7", "box.example", "kubernetes.default.svc.cluster.local"):
        assert host in text
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    context.load_cert_chain(pki.certificate("server"), pki.key("server"))


def test_new_host_extends_the_server_certificate_only(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path, ["192.0.2.7"])
    admin, ca = pki.certificate("admin").read_bytes(), pki.ca.read_bytes()
    ensure_pki(tmp_path, ["192.0.2.8"])
    names = load_certificate(pki.certificate("server")).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert {"192.0.2.7", "192.0.2.8"} <= {str(n.value) for n in names.value}
    assert (pki.certificate("admin").read_bytes(), pki.ca.read_bytes()) == (admin, ca)


def test_leaves_renew_before_they_end_and_the_clock_may_go_back(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    pki = ensure_pki(tmp_path, clock=clock)
    first = pki.certificate("admin").read_bytes()
    clock.time = NOW - 1.5 * DAY
    ensure_pki(tmp_path, clock=clock)
    assert pki.certificate("admin").read_bytes() == first
    clock.time = NOW + 340 * DAY
    ensure_pki(tmp_path, clock=clock)
    assert pki.certificate("admin").read_bytes() != first
    load_certificate(pki.certificate("admin")).verify_directly_issued_by(load_certificate(pki.ca))


def test_node_identity_and_damage(tmp_path: Path) -> None:
    pki = ensure_pki(tmp_path)
    cert = load_certificate(pki.certificate(ensure_node_client(pki, "n1")))
    assert cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "system:node:n1"
    assert cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "system:nodes"
    pki.certificate("server").write_text("torn")
    ensure_pki(tmp_path)
    load_certificate(pki.certificate("server"))
    pki.ca.write_text("torn")
    with pytest.raises(PortsideError, match=r"ca\.crt"):
        ensure_pki(tmp_path)


def test_kubeconfig_written_and_merged(tmp_path: Path) -> None:
    path = tmp_path / "kube" / "config"
    facts = {"ca": b"ca", "certificate": b"crt", "key": b"key"}
    write_kubeconfig(path, server="https://127.0.0.1:6443", **facts)
    assert path.stat().st_mode & 0o777 == 0o600
    other = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "work", "cluster": {"server": "https://work"}}],
        "users": [{"name": "me", "user": {"token": "t"}}],
        "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
        "current-context": "work",
        "preferences": {"colors": True},
    }
    path.write_text(yaml.safe_dump(other))
    merge_kubeconfig(path, server="https://127.0.0.1:7443", use=False, **facts)
    merge_kubeconfig(path, server="https://127.0.0.1:8443", use=False, **facts)
    merged = yaml.safe_load(path.read_text())
    assert [c["name"] for c in merged["clusters"]] == ["work", "portside"]
    assert merged["clusters"][1]["cluster"]["server"] == "https://127.0.0.1:8443"
    assert merged["current-context"] == "work" and merged["preferences"] == {"colors": True}
    path.write_text("a: [")
    with pytest.raises(PortsideError, match="not YAML"):
        merge_kubeconfig(path, server="https://x", **facts)
    assert path.read_text() == "a: ["
