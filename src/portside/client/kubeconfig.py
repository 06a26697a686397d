"""Reads a kubeconfig: which server, how to trust it, who we are. Facts: the v1 Config format of client-go."""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class KubeconfigError(Exception):
    """The file cannot be used; the text says which file, which entry and what is missing."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What one context means. Certificates and keys are PEM; ``token_file`` is read again when it changes."""

    server: str
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = b""
    token: str = ""
    token_file: str = ""
    insecure: bool = False
    namespace: str = ""
    server_name: str = ""

    def ssl_context(self) -> ssl.SSLContext | None:
        """A client context, None for plain http. The key passes through a private temporary file: the ssl module
        loads client certificates from files only."""
        if not self.server.startswith("https://"):
            return None
        context = ssl.create_default_context(cadata=self.ca.decode() or None)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate and self.key:
            with tempfile.NamedTemporaryFile(prefix="portside-client-") as file:
                file.write(self.certificate + b"\n" + self.key)
                file.flush()
                context.load_cert_chain(file.name)
        return context


def _named(config: dict[str, Any], section: str, name: str, field: str, path: str) -> dict[str, Any]:
    for entry in config.get(section) or []:
        if isinstance(entry, dict) and entry.get("name") == name:
            found = entry.get(field)
            if isinstance(found, dict):
                return found
    raise KubeconfigError(f'{path}: no entry "{name}" in {section}')


def _data(entry: dict[str, Any], field: str, base: Path, path: str) -> bytes:
    inline = entry.get(f"{field}-data")
    if inline:
        try:
            return base64.b64decode(str(inline))
        except binascii.Error as error:
            raise KubeconfigError(f"{path}: {field}-data is not base64: {error}") from None
    file = entry.get(field)
    if not file:
        return b""
    try:
        return (base / str(file)).read_bytes()
    except OSError as error:
        raise KubeconfigError(f"{path}: {field}: {error}") from None


def load_kubeconfig(path: str | Path, *, context: str = "") -> Connection:
    """The connection of ``context`` (default: the current one). Raises KubeconfigError."""
    import yaml

    text = str(path)
    try:
        config = yaml.load(Path(path).read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, yaml.YAMLError) as error:
        raise KubeconfigError(f"{text}: {error}") from None
    return connection_of(config, path, context=context)


def connection_of(config: Any, path: str | Path, *, context: str = "") -> Connection:
    """The same of a file that was read already; ``path`` is where its relative paths begin. Raises KubeconfigError."""
    text = str(path)
    if not isinstance(config, dict):
        raise KubeconfigError(f"{text}: not a kubeconfig")
    name = context or str(config.get("current-context") or "")
    if not name:
        raise KubeconfigError(f"{text}: no current-context; name one")
    base = Path(path).parent
    chosen = _named(config, "contexts", name, "context", text)
    cluster = _named(config, "clusters", str(chosen.get("cluster")), "cluster", text)
    user = _named(config, "users", str(chosen.get("user")), "user", text) if chosen.get("user") else {}
    return Connection(
        server=str(cluster.get("server", "")).rstrip("/"),
        ca=_data(cluster, "certificate-authority", base, text),
        certificate=_data(user, "client-certificate", base, text),
        key=_data(user, "client-key", base, text),
        token=str(user.get("token") or ""),
        token_file=str(base / str(user["tokenFile"])) if user.get("tokenFile") else "",
        insecure=bool(cluster.get("insecure-skip-tls-verify")),
        namespace=str(chosen.get("namespace") or ""),
        server_name=str(cluster.get("tls-server-name") or ""),
    )
