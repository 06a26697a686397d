"""The cluster's own trust: certificate authorities, server and client certificates, the service-account key.

All keys are ECDSA P-256, whose handshakes cost a fraction of RSA's. Files lie in ``HOME/pki``; keys have mode 0600.
``ensure_pki`` may be called at every start: what is there, still valid and still fitting is kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from portside.base.clock import SYSTEM, Clock
from portside.base.errors import PortsideError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

SERVICE_IP = "10.96.0.1"
SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)
CA_DAYS, LEAF_DAYS = 3650, 365
RENEW_DAYS = 30
# A clock that is set back after the certificate was made must not make it "not yet valid".
BACKDATE = timedelta(days=2)

# file name -> (user, groups): the identities of the cluster's own parts.
CLIENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin": ("kubernetes-admin", ("system:masters",)),
    "controller-manager": ("system:kube-controller-manager", ()),
    "scheduler": ("system:kube-scheduler", ()),
    "apiserver-kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
}


@dataclass(frozen=True, slots=True)
class Pki:
    """Where everything lies. ``certificate(name)`` and ``key(name)`` are paths of PEM files."""

    directory: Path

    def certificate(self, name: str) -> Path:
        return self.directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    @property
    def ca(self) -> Path:
        return self.certificate("ca")

    @property
    def service_account_key(self) -> Path:
        return self.key("sa")


def ensure_pki(
    home: Path, hosts: Sequence[str] = (), *, clock: Clock = SYSTEM, service_ips: Sequence[str] = (SERVICE_IP,)
) -> Pki:
    """Make or renew everything the control plane needs. ``hosts`` are further names and addresses of the API server;
    names an existing server certificate carries are kept. Raises PortsideError when a file is unreadable or foreign."""
    pki = Pki(home / "pki")
    with _locked(pki):
        _ensure_ca(pki, "ca", "portside-ca", clock)
        _ensure_ca(pki, "front-proxy-ca", "portside-front-proxy-ca", clock)
        if not pki.service_account_key.exists():
            key = _new_key()
            _write(pki.directory / "sa.pub", _public_pem(key), 0o644)
            _write(pki.service_account_key, key_pem(key), 0o600)
        _ensure_server(pki, [*SERVER_NAMES, "127.0.0.1", "::1", *service_ips, *hosts], clock)
        for name, (user, groups) in CLIENTS.items():
            _ensure_client(pki, name, user, groups, clock)
        _ensure_client(pki, "front-proxy-client", "front-proxy-client", (), clock, ca="front-proxy-ca")
    return pki


def ensure_client(pki: Pki, name: str, user: str, groups: Sequence[str] = (), *, clock: Clock = SYSTEM) -> None:
    """Make or renew ``name.crt`` and ``name.key`` for the identity (common name ``user``, organisations ``groups``)."""
    with _locked(pki):
        _ensure_client(pki, name, user, tuple(groups), clock)


def ensure_node_client(pki: Pki, node: str, *, clock: Clock = SYSTEM) -> str:
    """The node agent's identity ``system:node:NODE`` in ``system:nodes``; returns the file name to ask ``pki`` for."""
    name = f"node-{node}"
    ensure_client(pki, name, f"system:node:{node}", ("system:nodes",), clock=clock)
    return name


def ensure_node_server(pki: Pki, node: str, addresses: Sequence[str], *, clock: Clock = SYSTEM) -> str:
    """The node agent's serving certificate for its own HTTPS port (logs, exec, stats)."""
    name = f"node-{node}-server"
    if not pki.key("ca").exists() and pki.certificate(name).exists():
        return name  # a machine that joined: its certificate was given by the cluster, and is renewed there
    with _locked(pki):
        _ensure_server(pki, [node, *addresses], clock, name=name, user=f"system:node:{node}", group="system:nodes")
    return name


def ensure_ingress_server(pki: Pki, addresses: Sequence[str], *, clock: Clock = SYSTEM) -> bytes:
    """Certificate and key, in one PEM, for requests to hosts that nobody gave a certificate for."""
    name = "ingress-default"
    with _locked(pki):
        _ensure_server(pki, ["ingress.local", *addresses], clock, name=name, user="portside-ingress-default")
    return pki.certificate(name).read_bytes() + pki.key(name).read_bytes()


def load_certificate(path: Path) -> x509.Certificate:
    """Parse a PEM certificate. Raises PortsideError naming the file."""
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as problem:
        raise PortsideError(f"certificate {path} can't be used", why=str(problem), todo=_TODO) from problem


def load_key(path: Path) -> EllipticCurvePrivateKey:
    """Parse a PEM private key. Raises PortsideError naming the file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return load_pem_private_key(path.read_bytes(), None)  # type: ignore[return-value]
    except (OSError, ValueError, TypeError) as problem:
        raise PortsideError(f"key {path} can't be used", why=str(problem), todo=_TODO) from problem


_TODO = "restore the file from a backup, or remove it (removing a CA's files invalidates every certificate it signed)"


@contextlib.contextmanager
def _locked(pki: Pki) -> Iterator[None]:
    """Control plane and CLI may start at the same moment; only one of them creates."""
    pki.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (pki.directory / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _ensure_ca(pki: Pki, name: str, common_name: str, clock: Clock) -> None:
    if pki.certificate(name).exists() != pki.key(name).exists():
        # The key is written first, so a crash leaves a key alone: that one is safe to replace.
        if pki.certificate(name).exists():
            raise PortsideError(f"{pki.key(name)} is missing beside its certificate", todo=_TODO)
    elif pki.certificate(name).exists():
        load_certificate(pki.certificate(name))
        return
    key = _new_key()
    cert = _self_signed(key, common_name, clock)
    _write(pki.key(name), key_pem(key), 0o600)
    _write(pki.certificate(name), _cert_pem(cert), 0o644)


def _ensure_server(
    pki: Pki, hosts: Sequence[str], clock: Clock, *, name: str = "server", user: str = "kube-apiserver", group: str = ""
) -> None:
    from cryptography import x509

    wanted = list(dict.fromkeys(_general_name(host) for host in hosts if host))
    if (cert := _usable(pki, name, "ca", clock)) is not None:
        present = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        if set(wanted) <= set(present):
            return
        wanted = list(dict.fromkeys([*present, *wanted]))
    _make_leaf(pki, name, "ca", user, (group,) if group else (), clock, names=x509.SubjectAlternativeName(wanted))


def _ensure_client(pki: Pki, name: str, user: str, groups: tuple[str, ...], clock: Clock, *, ca: str = "ca") -> None:
    from cryptography.x509.oid import NameOID

    if (cert := _usable(pki, name, ca, clock)) is not None:
        names = [a.value for a in cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        held = tuple(str(a.value) for a in cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))
        if names == [user] and set(held) == set(groups):
            return
    _make_leaf(pki, name, ca, user, groups, clock)


def _usable(pki: Pki, name: str, ca: str, clock: Clock) -> x509.Certificate | None:
    """The present leaf if it was signed by our CA and is not near its end; a broken leaf is simply made anew."""
    if not (pki.certificate(name).exists() and pki.key(name).exists()):
        return None
    try:
        cert, authority = load_certificate(pki.certificate(name)), load_certificate(pki.certificate(ca))
        cert.verify_directly_issued_by(authority)
        if load_key(pki.key(name)).public_key() != cert.public_key():
            return None
    except Exception:
        return None
    now = datetime.fromtimestamp(clock.now(), UTC)
    if cert.not_valid_after_utc - now < timedelta(days=RENEW_DAYS) or now < cert.not_valid_before_utc:
        return None
    return cert


def _make_leaf(
    pki: Pki,
    name: str,
    ca: str,
    user: str,
    groups: tuple[str, ...],
    clock: Clock,
    *,
    names: x509.SubjectAlternativeName | None = None,
) -> None:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    key = _new_key()
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    cert = _issue(
        pki,
        ca,
        subject,
        key.public_key(),
        clock,
        lifetime=timedelta(days=LEAF_DAYS),
        names=names,
        client=names is None,
        server=names is not None,
    )
    _write(pki.key(name), key_pem(key), 0o600)
    _write(pki.certificate(name), _cert_pem(cert), 0o644)


def _issue(
    pki: Pki,
    ca: str,
    subject: x509.Name,
    public_key: object,
    clock: Clock,
    *,
    lifetime: timedelta,
    names: x509.SubjectAlternativeName | None,
    client: bool,
    server: bool,
    backdate: timedelta = BACKDATE,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    authority, key = load_certificate(pki.certificate(ca)), load_key(pki.key(ca))
    now = datetime.fromtimestamp(int(clock.now()), UTC)
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] * client + [ExtendedKeyUsageOID.SERVER_AUTH] * server
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.subject)
        .public_key(public_key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - backdate, authority.not_valid_before_utc))
        .not_valid_after(min(now + lifetime, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()),
            critical=False,
        )
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256())


def _self_signed(key: EllipticCurvePrivateKey, common_name: str, clock: Clock) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    now = datetime.fromtimestamp(int(clock.now()), UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATE)
        .not_valid_after(now + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=not ca,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower())


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: EllipticCurvePrivateKey) -> bytes:
    """The key as ``EC PRIVATE KEY``, as kubeadm and client-go write keys: Java's clients tell the algorithm by that name,
    and take what is under another for RSA."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _public_pem(key: EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _cert_pem(cert: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return cert.public_bytes(Encoding.PEM)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Replace atomically: a crash leaves the old file or the new one, on disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
