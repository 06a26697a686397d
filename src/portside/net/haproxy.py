"""HAProxy as the Ingress proxy: its configuration as text, and the process, reloaded without losing connections."""

from __future__ import annotations

import base64
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from portside.net.ingress import Json, Key, Plan, Route

SECONDS = 20.0  # for a check of a configuration
MOST = 20_000  # connections at once
HEAD = """  user haproxy
  group haproxy
  log stdout format raw local0 notice
  ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
  mode http
  retries 1
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  timeout http-request 30s
  option forwardfor
  option http-server-close
"""


class HaproxyError(Exception):
    """HAProxy refused a configuration or did not start; the text is its own."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where requests come in."""

    http: int = 80
    https: int = 443


def _conditions(route: Route) -> list[str]:
    """The conditions under which a route is taken, any of them. Hosts come without their port."""
    host = ""
    if route.host.startswith("*."):
        host = f"{{ var(txn.host) -m reg ^[^.]+{re.escape(route.host[1:])}$ }} "
    elif route.host:
        host = f"{{ var(txn.host) -m str {route.host} }} "
    if route.exact:
        return [f"{host}{{ path -m str '{route.path}' }}"]
    if route.path == "/":
        return [host.strip() or "TRUE"]
    return [f"{host}{{ path -m str '{route.path}' }}", f"{host}{{ path -m beg '{route.path}/' }}"]


def connections() -> int:
    """How many clients at once: each costs two open files, of those this process may have."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST if hard == resource.RLIM_INFINITY else max(100, min(MOST, (hard - 200) // 2))


def configuration(plan: Plan, ports: Ports, certificates: Path, most: int = 1000) -> str:
    """The whole file. ``certificates``: the list of certificate files with their hosts; ``most``: connections at once."""
    lines = [
        f"global\n  maxconn {most}",
        HEAD,
        "frontend in",
        f"  bind *:{ports.http}",
        f"  bind *:{ports.https} ssl crt-list {certificates}",
        "  http-request set-var(txn.host) req.hdr(host),field(1,:),lower",
        "  http-request set-header X-Forwarded-Proto https if { ssl_fc }",
        "  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }",
        "  http-request set-header X-Forwarded-Host %[req.hdr(host)]",
    ]
    for route in plan.routes:
        lines += [f"  use_backend {route.backend} if {condition}" for condition in _conditions(route)]
    lines.append(f"  default_backend {plan.default or 'nothing'}")
    lines.append(
        'backend nothing\n  http-request return status 404 content-type text/plain string "default backend - 404\\n"'
    )
    for backend in sorted(plan.backends.values(), key=lambda b: b.name):
        lines.append(f"backend {backend.name}")
        lines += [f"  server s{n} {address}" for n, address in enumerate(backend.servers)]
        if not backend.servers:
            lines.append('  http-request return status 503 content-type text/plain string "no endpoints\\n"')
    return "\n".join(lines) + "\n"


def pair(secret: Json) -> bytes | None:
    """Certificate and key of a TLS secret as one PEM; None when they are not a pair."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    data = secret.get("data") or {}
    try:
        certificate, key = (base64.b64decode(data.get(name) or "") for name in ("tls.crt", "tls.key"))
        held = x509.load_pem_x509_certificate(certificate).public_key()
        own = load_pem_private_key(key, None).public_key()
        forms = [k.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) for k in (held, own)]
    except (ValueError, TypeError):
        return None
    return certificate.rstrip(b"\n") + b"\n" + key if forms[0] == forms[1] else None


class Haproxy:
    """One process below a folder: its files, start, reload and end."""

    def __init__(self, folder: Path, default: bytes, ports: Ports) -> None:
        """``default``: certificate and key in PEM for hosts that no secret is for."""
        self.folder, self.default, self.ports = folder, default, ports
        self.file, self.pid_file = folder / "haproxy.cfg", folder / "haproxy.pid"
        self.certificates = folder / "certificates"

    def pid(self) -> int | None:
        """The running master process, None when there is none."""
        try:
            number = int(self.pid_file.read_text().split()[0])
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            return None
        return number if str(self.file).encode() in words else None

    def write(self, plan: Plan, secrets: Mapping[Key, Json]) -> list[str]:
        """Write the files and make the process use them; certificates that are no pair are left out and named.
        Raises HaproxyError, and the process keeps what it had."""
        self.certificates.mkdir(mode=0o700, parents=True, exist_ok=True)
        bad, listed = [], [self._store("default", self.default)]
        for entry in plan.certificates:
            text = pair(secrets[entry.secret])
            if text is None:
                bad.append("/".join(entry.secret))
                continue
            listed.append(" ".join((self._store("_".join(entry.secret), text), *entry.hosts)))
        names = self.folder / "certificates.list"
        _replace(names, ("\n".join(dict.fromkeys(listed)) + "\n").encode())
        fresh = self.folder / "haproxy.new"
        _replace(fresh, configuration(plan, self.ports, names, connections()).encode())
        done = subprocess.run(
            ["haproxy", "-c", "-q", "-f", str(fresh)], capture_output=True, text=True, timeout=SECONDS
        )
        if done.returncode:
            raise HaproxyError(done.stderr.strip()[-600:] or f"haproxy -c ended with {done.returncode}")
        fresh.replace(self.file)
        if (pid := self.pid()) is not None:
            os.kill(pid, signal.SIGUSR2)
        else:
            self._start()
        used = {line.split()[0] for line in listed}
        for old in self.certificates.iterdir():
            if str(old) not in used:
                old.unlink(missing_ok=True)
        return bad

    def _store(self, name: str, text: bytes) -> str:
        path = self.certificates / f"{name}.pem"
        _replace(path, text)
        return str(path)

    def _start(self) -> None:
        log = self.folder / "haproxy.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["haproxy", "-W", "-f", str(self.file), "-p", str(self.pid_file)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        time.sleep(0.3)
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-600:]
            raise HaproxyError(f"haproxy ended at once; another program may have its ports: {tail}")
        # The master writes its own file only later, and with the workers' numbers behind it.
        _replace(self.pid_file, f"{process.pid}\n".encode())

    def stop(self) -> None:
        """End it and its connections."""
        if (pid := self.pid()) is not None:
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 5
            while self.pid() is not None and time.monotonic() < end:
                time.sleep(0.02)
        shutil.rmtree(self.folder, ignore_errors=True)


def _replace(path: Path, data: bytes) -> None:
    """A private file, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    fresh.replace(path)
