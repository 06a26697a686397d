"""Writes kubeconfig files: one of the cluster's own, or an entry merged into a person's file without touching others."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from portside.base.errors import PortsideError


def write_kubeconfig(
    path: Path,
    *,
    server: str,
    ca: bytes,
    certificate: bytes,
    key: bytes,
    cluster: str = "portside",
    user: str = "portside-admin",
    namespace: str = "",
) -> None:
    """A kubeconfig (v1 Config, written as JSON, which is YAML) for one cluster. Replaced atomically, mode 0600; left
    alone when it already says the same."""
    _store(path, _entries(server, ca, certificate, key, cluster, user, namespace))


def merge_kubeconfig(
    path: Path,
    *,
    server: str,
    ca: bytes,
    certificate: bytes,
    key: bytes,
    cluster: str = "portside",
    user: str = "portside-admin",
    namespace: str = "",
    use: bool = True,
) -> None:
    """Put our cluster, user and context into an existing kubeconfig, replacing those of the same names and keeping all
    others; ``use`` makes it current. Raises PortsideError when the file is no kubeconfig (it is left as it was)."""
    fresh = _entries(server, ca, certificate, key, cluster, user, namespace)
    try:
        text = path.read_text()
    except FileNotFoundError:
        text = ""
    held = _parse(path, text)
    for section in ("clusters", "users", "contexts"):
        ours = fresh[section]
        names = {entry["name"] for entry in ours}
        kept = [e for e in held.get(section) or [] if not (isinstance(e, dict) and e.get("name") in names)]
        held[section] = kept + ours
    held.setdefault("apiVersion", "v1")
    held.setdefault("kind", "Config")
    if use or not held.get("current-context"):
        held["current-context"] = cluster
    _store(path, held)


def _parse(path: Path, text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    import yaml

    try:
        held = yaml.safe_load(text)
    except yaml.YAMLError as problem:
        raise PortsideError(f"{path} is not YAML", why=str(problem), todo="mend or move the file") from problem
    if not isinstance(held, dict) or held.get("kind", "Config") != "Config":
        raise PortsideError(f"{path} is not a kubeconfig", todo="mend or move the file")
    return held


def _entries(
    server: str, ca: bytes, certificate: bytes, key: bytes, cluster: str, user: str, namespace: str
) -> dict[str, Any]:
    context = {"cluster": cluster, "user": user}
    if namespace:
        context["namespace"] = namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority-data": _b64(ca)}}],
        "users": [{"name": user, "user": {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}}],
        "contexts": [{"name": cluster, "context": context}],
        "current-context": cluster,
    }


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _store(path: Path, config: dict[str, Any]) -> None:
    text = json.dumps(config, indent=2) + "\n"
    try:
        if path.read_text() == text and path.stat().st_mode & 0o777 == 0o600:
            return
    except (OSError, ValueError):
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A symlinked ~/.kube/config stays a link: its target is replaced.
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(target)
