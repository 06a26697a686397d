"""What somebody who means harm brings along: bytes no client library would send, certificates, a node of their own."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.conftest import Cluster

Json = dict[str, Any]
Answer = tuple[int, bytes]


def until(what: Callable[[], Any], seconds: float = 60.0) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s")


def certified(
    home: Path, name: str, groups: Sequence[str] = (), *, authority: str = "ca", server: bool = False
) -> bytes:
    """Certificate and key, as PEM, signed with one of the cluster's own authorities: what a stolen key could do."""
    ca = x509.load_pem_x509_certificate((home / "pki" / f"{authority}.crt").read_bytes())
    signer: Any = serialization.load_pem_private_key((home / "pki" / f"{authority}.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, g) for g in groups]
    now = datetime.now(UTC)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=2))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key()), critical=False)  # type: ignore[arg-type]
        .sign(signer, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Raw:
    """Requests as they are written, over TLS, by whoever ``pem`` says; nothing of them is tidied up."""

    def __init__(self, cluster: Cluster, pem: bytes | None = None) -> None:
        config = json.loads(cluster.kubeconfig.read_text())
        facts = config["clusters"][0]["cluster"]
        self.host, _, port = facts["server"].removeprefix("https://").rpartition(":")
        self.port = int(port)
        self.context = ssl.create_default_context(cadata=base64.b64decode(facts["certificate-authority-data"]).decode())
        if pem is not None:
            with tempfile.NamedTemporaryFile(suffix=".pem") as file:
                Path(file.name).write_bytes(pem)
                self.context.load_cert_chain(file.name)

    @classmethod
    def admin(cls, cluster: Cluster) -> Raw:
        user = json.loads(cluster.kubeconfig.read_text())["users"][0]["user"]
        return cls(cluster, b"".join(base64.b64decode(user[f"client-{part}-data"]) for part in ("certificate", "key")))

    def socket(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self.host, self.port), timeout=60)
        return self.context.wrap_socket(plain, server_hostname=self.host)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Sequence[tuple[str, str]] = (),
        kind: str = "application/json",
    ) -> Answer:
        """The code and body of the answer to exactly this request."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.host}", "Connection: close", "Accept: application/json"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body:
            lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
        with self.socket() as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            return answer.status, answer.read()

    def send(self, method: str, path: str, body: Json | list[Any], kind: str = "application/json") -> tuple[int, Json]:
        code, raw = self.ask(method, path, json.dumps(body).encode(), kind=kind)
        try:
            return code, json.loads(raw)
        except ValueError:
            return code, {"message": raw.decode(errors="replace")}


class Kubelet:
    """A node's agent that is not one: answers every connection with the same bytes, and writes down what comes."""

    def __init__(self, home: Path, node: str, answer: bytes) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(suffix=".pem") as file:
            Path(file.name).write_bytes(certified(home, f"system:node:{node}", ("system:nodes",), server=True))
            context.load_cert_chain(file.name)
        self.answer = answer
        self.came = b""
        self.closed = 0
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        try:
            with self._context.wrap_socket(plain, server_side=True) as connection:
                connection.settimeout(60)
                head = b""
                while b"\r\n\r\n" not in head and (part := connection.recv(65536)):
                    head += part
                self.came += head
                connection.sendall(self.answer)
                while part := connection.recv(65536):  # whatever is still sent to it
                    self.came += part
        except OSError:
            pass
        finally:
            self.closed += 1

    def close(self) -> None:
        self._listening.close()
