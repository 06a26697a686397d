"""One cluster's home: where its state, sockets, certificates, logs and process records lie."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

COMPONENTS = ("control-plane", "agent")


def default_home() -> Path:
    """``PORTSIDE_HOME``, else the system's state folder for root and the user's own for others."""
    if told := os.environ.get("PORTSIDE_HOME"):
        return Path(told)
    if os.geteuid() == 0:
        return Path("/var/lib/portside")
    return Path(os.environ.get("XDG_STATE_HOME", str(Path.home() / ".local/state"))) / "portside"


def start_ticks(pid: int) -> int | None:
    """The process's start time in clock ticks since boot, None when it is gone or a zombie. Guards against reused pids."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A started component: enough to find exactly that process again. ``since`` is RFC 3339 UTC."""

    name: str
    pid: int
    ticks: int
    since: str

    @property
    def alive(self) -> bool:
        return start_ticks(self.pid) == self.ticks


class Home:
    """Paths and small records of one cluster. Everything below is private to its owner (folders 0700)."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.kubeconfig = self.root / "kubeconfig"
        self.records = self.root / "run"
        self.logs = self.root / "logs"
        self.cluster_file = self.root / "cluster.json"

    def make(self) -> None:
        """Create the folders. Raises OSError when the place can't be used."""
        for folder in (self.root, self.records, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)

    def exists(self) -> bool:
        return self.cluster_file.exists() or (self.root / "pki").exists()

    def cluster(self) -> dict[str, Any]:
        """What `up` decided once for this cluster (simulated nodes, node name, …)."""
        try:
            loaded = json.loads(self.cluster_file.read_text())
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def save_cluster(self, facts: dict[str, Any]) -> None:
        """Add to what is kept: a command and the node's process may both have something to say at the same moment."""
        import fcntl

        with self.cluster_file.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            write_private(self.cluster_file, json.dumps(self.cluster() | facts, indent=1) + "\n")

    def record(self, name: str) -> ProcessRecord | None:
        """The component's last recorded process, dead or alive."""
        try:
            return ProcessRecord(**json.loads((self.records / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save_record(self, name: str, pid: int) -> ProcessRecord:
        record = ProcessRecord(name, pid, start_ticks(pid) or 0, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        write_private(self.records / f"{name}.json", json.dumps(asdict(record)) + "\n")
        return record

    def forget_record(self, name: str) -> None:
        (self.records / f"{name}.json").unlink(missing_ok=True)

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, readable by its owner alone."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@contextmanager
def locked(home: Home) -> Iterator[None]:
    """One `up`, `down` or `reset` at a time for a home. Raises BlockingIOError when another one holds it."""
    import fcntl

    with (home.records / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def stop(record: ProcessRecord, *, patience: float = 20.0) -> bool:
    """End a component: TERM, then KILL when it has not gone after ``patience`` seconds. True when it ended by itself."""
    if not record.alive:
        return True
    os.kill(record.pid, signal.SIGTERM)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if not record.alive:
            return True
        time.sleep(0.02)
    os.kill(record.pid, signal.SIGKILL)
    return False
