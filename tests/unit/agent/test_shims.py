"""Shims that a killed containerd lost track of end with the node's runtime, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from portside.agent.containerd import Containerd, Network


def shim(socket: Path, *, name: str = "containerd-shim-runc-v2") -> subprocess.Popen[bytes]:
    words = [name, "-c", "import time; print(flush=True); time.sleep(600)", "-address", str(socket)]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_shims_left_over_are_ended_and_others_are_let_be(tmp_path: Path) -> None:
    own = Containerd(tmp_path, Network("psb0", "10.244.0.0/24"))
    left, others, another = shim(own.socket), shim(tmp_path / "elsewhere.sock"), shim(own.socket, name="tail")
    try:
        assert own.end_shims() == 1
        assert left.wait(10) != 0
        assert (others.poll(), another.poll()) == (None, None)
        assert own.end_shims() == 0
    finally:
        for process in (left, others, another):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
