"""A control plane under measurement: seeded, started, asked over TLS, its processor time and memory read from /proc.

plane = Plane(home)                          # a home of its own; its folder chooses the disk
seed(home, kind_prefix, template, count)     # before the start: many objects without asking the API for each
plane.start(); plane.json("/api/v1/nodes"); plane.load("get", "-n", "1000", "-path", "/api"); plane.stop()
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from portside.server.resource import encode
from portside.store.backend import Write
from portside.store.sqlite import SqliteBackend

ROOT = Path(__file__).resolve().parent.parent
STORE = "store.db"
SETTLE_SECONDS = 90.0
START_SECONDS = 11.0
"""After so long the control plane watches over its loop."""
TICK = os.sysconf("SC_CLK_TCK")


def milliseconds(text: str) -> float:
    """Go's durations (``4.21ms``, ``380µs``, ``1.2s``), or a plain number."""
    found = re.fullmatch(r"([\d.]+)(µs|ms|s)?", text)
    assert found, text
    return float(found[1]) * {"µs": 0.001, "ms": 1.0, "s": 1000.0, None: 1.0}[found[2]]


def load_tool(named: str, folder: Path) -> Path | None:
    """The load tool: the one that was named, or built into ``folder`` when its source and Go are there."""
    if named:
        return Path(named)
    source = ROOT.parent / "shared" / "load"
    if shutil.which("go") is None or not source.is_dir():
        return None
    target = folder / "load"
    subprocess.run(
        ["go", "build", "-o", str(target), "."], cwd=source, check=True, env=os.environ | {"GOFLAGS": "-mod=mod"}
    )
    return target


def resident(pid: int, field: str = "VmRSS") -> float:
    """MB of a process; ``VmHWM`` is its peak."""
    found = re.findall(rf"{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[0]) / 1024


def processor(pid: int) -> float:
    """Seconds of processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def seed(home: Path, count: int, make: Callable[[int], tuple[str, dict[str, Any]]]) -> None:
    """Store ``count`` objects, ``make`` telling the key and the object of each. The control plane must not be running."""

    async def write() -> None:
        backend = SqliteBackend(home / STORE)
        await backend.open()
        try:
            for start in range(0, count, 1000):
                made = (make(number) for number in range(start, min(start + 1000, count)))
                await asyncio.gather(*(backend.write(Write(key, encode(obj))) for key, obj in made))
            await backend.compact(backend.revision)
        finally:
            await backend.close()

    asyncio.run(write())


class Plane:
    """One control plane on ``home``. ``tool`` is the load tool."""

    def __init__(self, home: Path, tool: Path) -> None:
        self.home = home
        self._tool = tool
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._token = ""
        self._context = ssl._create_unverified_context()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *options: str) -> tuple[float, float]:
        """Start it; seconds to the first answer and until every health check is green."""
        self.home.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        command = [sys.executable, "-m", "portside.run.control_plane", "--home", str(self.home), "--port"]
        began = time.monotonic()
        with (self.home / "log").open("ab") as log:
            self._process = subprocess.Popen([*command, str(self.port), *options], stdout=log, stderr=log)
        self._until(lambda: self.get("/version")[0] == 200)
        first = time.monotonic() - began
        self._until(lambda: self.get("/livez")[0] == 200 and self.get("/readyz")[0] == 200)
        green = time.monotonic() - began
        self._sign_in()
        return first, green

    def start_settled(self) -> None:
        """Start it, and wait until it is at rest and watches over its loop."""
        began = time.monotonic()
        self.start()
        self.settle()
        time.sleep(max(0.0, began + START_SECONDS - time.monotonic()))

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def _until(self, holds: Callable[[], bool]) -> None:
        for _ in range(30_000):
            with contextlib.suppress(OSError, http.client.HTTPException):
                if holds():
                    return
            assert self._process is not None
            if self._process.poll() is not None:
                sys.exit(f"the control plane ended:\n{(self.home / 'log').read_text()[-2000:]}")
            time.sleep(0.004)
        sys.exit("the control plane is not ready after two minutes")

    def _sign_in(self) -> None:
        """A token with all rights, as the load tool and ``json`` use it."""
        user = json.loads((self.home / "kubeconfig").read_text())["users"][0]["user"]
        files = {part: self.home / f"bench-{part}.pem" for part in ("certificate", "key")}
        for part, path in files.items():
            path.write_bytes(base64.b64decode(user[f"client-{part}-data"]))
            path.chmod(0o600)
        admin = ssl._create_unverified_context()
        admin.load_cert_chain(files["certificate"], files["key"])
        account = "/api/v1/namespaces/kube-system/serviceaccounts"
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        subject = {"kind": "ServiceAccount", "name": "bench", "namespace": "kube-system"}
        binding = {"metadata": {"name": "bench"}, "roleRef": role, "subjects": [subject]}
        self.get(account, {"metadata": {"name": "bench"}}, admin)
        self.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding, admin)
        made = self.get(f"{account}/bench/token", {"spec": {"expirationSeconds": 7200}}, admin)[1]
        self._token = str(json.loads(made)["status"]["token"])

    # --- asking ----------------------------------------------------------------------------------------------------

    def get(self, path: str, body: Any = None, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
        """GET, or POST of a body. Raises OSError and HTTPException."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=120, context=context or self._context)
        try:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            if self._token:
                headers["Authorization"] = f"Bearer {self._token}"
            text = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, text, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def json(self, path: str, body: Any = None) -> Any:
        """A parsed answer; a refusal ends the run."""
        code, text = self.get(path, body)
        if code >= 300:
            sys.exit(f"{path}: {code} {text[:500].decode()}")
        return json.loads(text)

    def load(self, *words: str) -> str:
        """What the load tool said."""
        command = [str(self._tool), "-url", f"https://127.0.0.1:{self.port}", "-token", self._token, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode or "failed=0" not in done.stdout + "failed=0" * (words[0] == "watch"):
            sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def metric(self, name: str) -> float:
        """A sample of /metrics without labels; 0 when it is not there."""
        found = re.findall(rf"^{name} (\S+)$", self.get("/metrics")[1].decode(), re.MULTILINE)
        return float(found[0]) if found else 0.0

    # --- looking on ------------------------------------------------------------------------------------------------

    def processor(self) -> float:
        return processor(self.pid)

    def resident(self) -> float:
        return resident(self.pid)

    def forget_peak(self) -> None:
        """Let the peak of memory begin at what is resident now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> float:
        return resident(self.pid, "VmHWM")

    def settle(self) -> None:
        """Until it does next to nothing for two seconds."""
        end = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < end:
            before = self.processor()
            time.sleep(2)
            if self.processor() - before < 0.1:
                return
