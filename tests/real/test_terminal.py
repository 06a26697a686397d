"""A person at a terminal: exec -it with its size, edit, and the older SPDY transport on the wire."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cluster
from tests.real.test_kubectl import PATIENCE, SLEEP, WEB, Bench, _get, ended

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="running containers needs root"),
]
# kubectl's own switches for its older transport.
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}


@pytest.fixture
def bench(real: Cluster, namespace: str) -> Bench:
    return Bench(real, namespace)


class Terminal:
    """kubectl on a pseudo-terminal, as a person has it."""

    def __init__(self, bench: Bench, rows: int, columns: int, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        command = [str(bench.cluster.tools / "kubectl"), "--kubeconfig", str(bench.cluster.kubeconfig)]
        self.process = subprocess.Popen(
            [*command, "-n", bench.namespace, *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            start_new_session=True,
            env=os.environ | {"HOME": str(bench.cluster.home), "TERM": "xterm"},
        )
        os.close(slave)
        self.seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> None:
        """Read until the pattern is on the screen; what came before it is forgotten."""
        end = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.seen)):
            left = end - time.monotonic()
            assert left > 0, f"no {pattern!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536).decode("utf-8", "replace")
                except OSError:
                    break
        assert found, f"no {pattern!r} in {self.seen!r}"
        self.seen = self.seen[found.end() :]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(bench: Bench) -> Iterator[Terminal]:
    bench.pod("box", SLEEP)
    bench.ready("box")
    opened = Terminal(bench, 31, 97, "exec", "-it", "box", "--", "sh")
    yield opened
    opened.close()


def sized(terminal: Terminal, size: str) -> None:
    """Ask the shell for the terminal's size until it is this one: it travels beside the input."""
    end = time.monotonic() + PATIENCE
    while True:
        terminal.type(f"test \"$(stty size)\" = '{size}' && echo new-size || echo old-size\r")
        terminal.expect(r"\r\n(?=(new|old)-size)")
        if terminal.seen.startswith("new"):
            return
        assert time.monotonic() < end, f"the size never became {size}"


def test_exec_on_a_terminal(terminal: Terminal) -> None:
    """A prompt, the terminal's size and its changes, ^C to the foreground program, the shell's exit code."""
    terminal.expect(r"[#$] ")
    terminal.type("tty; echo shell-$((6*7))\r")
    terminal.expect("/dev/pts/[0-9]+")
    terminal.expect("shell-42")
    sized(terminal, "31 97")
    terminal.resize(50, 132)
    terminal.process.send_signal(signal.SIGWINCH)
    sized(terminal, "50 132")
    terminal.type("sh -c 'echo begun-$((1+1)); exec sleep 1000'\r")
    terminal.expect("begun-2")
    terminal.type("\x03")
    terminal.type("echo after-$((2+2))\r")
    terminal.expect("after-4")
    terminal.type("exit 7\r")
    terminal.expect("exit code 7")
    assert terminal.process.wait(PATIENCE) == 7


def test_edit_opens_an_editor_and_sends_what_it_left(bench: Bench) -> None:
    bench.kubectl("create", "configmap", "notes", "--from-literal=word=old")
    command = [str(bench.cluster.tools / "kubectl"), "--kubeconfig", str(bench.cluster.kubeconfig)]

    def edit(editor: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "-n", bench.namespace, "edit", "configmap", "notes"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=os.environ | {"HOME": str(bench.cluster.home), "KUBE_EDITOR": editor},
        )

    assert edit("sed -i 's/word: old/word: new/'").stdout == "configmap/notes edited\n"
    assert bench.kubectl("get", "configmap", "notes", "-o", "jsonpath={.data.word}") == "new"
    assert "Edit cancelled, no changes made" in edit("true").stderr
    refused = edit("sed -i 's/name: notes/name: other/'")
    assert refused.returncode == 1 and "kind and name was changed" in refused.stderr


def test_the_older_transport_does_the_same(
    bench: Bench, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SPDY/3.1 by POST: exec with input and exit code, cp, attach, port-forward."""
    for name, value in SPDY.items():
        monkeypatch.setenv(name, value)
    assert bench.kubectl("exec", "-i", "box", "--", "cat", stdin="over spdy\n") == "over spdy\n"
    assert bench.code("exec", "box", "--", "sh", "-c", "exit 5") == 5
    said = bench.kubectl("exec", "box", "-v=6", "--", "true", check=False)
    assert "POST" in said and "/exec?" in said, "the request was the older one"
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 4096)
    bench.kubectl("cp", str(file), "box:/tmp/file")
    bench.kubectl("cp", "box:/tmp/file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    script = "while read line; do echo got $line; test $line = end && exit 0; done"
    bench.pod("talk", script, stdin=True, stdinOnce=True, spec={"restartPolicy": "Never"})
    bench.ready("talk")
    assert "got end\n" in bench.kubectl("attach", "-i", "talk", stdin="end\n")
    bench.pod("web", WEB, readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    bench.ready("web")
    with ended(bench.start("port-forward", "pod/web", ":8080")) as forward:
        assert forward.stdout is not None
        line = forward.stdout.readline()
        port = int(re.findall(r"127.0.0.1:(\d+)", line)[0])
        for _ in range(3):
            assert _get("127.0.0.1", port) == "hello from web\n"
