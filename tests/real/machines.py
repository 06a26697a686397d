"""Machines for tests: network namespaces on two networks with a router between them, each with a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from portside.agent.containerd import runtime_folder
from tests.real.neighbourhood import Neighbourhood, names, until

NETWORKS = ("172.31.204", "172.31.205")


def ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def command_of(process: Path) -> str:
    """The words of a process, "" when it has gone."""
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def control_groups(uids: list[str]) -> list[str]:
    """The control groups of these pods that are still there, in all hierarchies."""
    found = (
        path for pattern in ("kubepods", "*/kubepods") for path in Path("/sys/fs/cgroup").glob(f"{pattern}/**/pod*")
    )
    return [str(path) for path in found if path.name.removeprefix("pod") in uids]


class Machine:
    """One network namespace with a home: commands run as on that machine."""

    def __init__(self, space: str, address: str, port: str, tools: Path) -> None:
        self.space, self.address, self.port, self.tools = space, address, port, tools
        self.home = Path(tempfile.mkdtemp(prefix="ps-", dir="/tmp"))
        self.home.rmdir()
        self.kubeconfig = self.home / "kubeconfig"

    def run(self, *words: str, stdin: str | None = None, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", f"--net=/run/netns/{self.space}", *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout)

    def portside(self, *words: str, check: bool = True, timeout: float = 180) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "portside.cli.main", words[0], "--home", str(self.home), *words[1:]]
        done = self.run(*command, timeout=timeout)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 60, check: bool = True) -> str:
        """As tests.conftest.Cluster's: what kubectl printed, with ``check`` off its errors too."""
        done = self.run(
            str(self.tools / "kubectl"), "--kubeconfig", str(self.kubeconfig), *words, stdin=stdin, timeout=timeout
        )
        if check:
            assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stderr}"
            return done.stdout
        return done.stdout + done.stderr

    def fetch(self, address: str, port: int) -> str:
        """A page as this machine sees it."""
        code = f"from tests.real.neighbourhood import fetch; print(fetch({address!r}, {port}), end='')"
        return self.run(sys.executable, "-c", code).stdout

    def gets(self, address: str, port: int, wanted: str) -> None:
        """Ask until the page has this in it."""
        until(lambda: self.fetch(address, port), lambda page: wanted in page)

    def hears(self, addresses: list[str], port: int, wanted: set[str]) -> None:
        """Ask all of them until exactly these pods have answered."""
        until(lambda: names([self.fetch(address, port) for address in addresses]), lambda found: found == wanted)

    def containers(self) -> list[str]:
        """What its containerd runs, the sandboxes' own processes included."""
        socket = self.home / "run" / "containerd.sock"
        done = self.run("ctr", "--address", str(socket), "-n", "k8s.io", "tasks", "list", "-q")
        return done.stdout.split()

    def leftovers(self) -> dict[str, Any]:
        """What is still there of a node: links, routes, neighbours, rules, processes, files, mounts."""
        links = [x["ifname"] for x in json.loads(self.run("ip", "-j", "link").stdout)]
        routes = [x["dst"] for x in json.loads(self.run("ip", "-j", "route").stdout)]
        found = {
            "links": [x for x in links if x not in ("lo", "eth0")],
            "routes": [x for x in routes if x.startswith("10.")],
            "rules": self.run("nft", "list", "tables").stdout.split(),
            "neighbours": self.run("ip", "neigh", "show", "nud", "permanent").stdout.splitlines(),
            "processes": [words for words in map(command_of, Path("/proc").glob("[0-9]*")) if str(self.home) in words],
            "files": [str(path) for path in (self.home, runtime_folder(self.home)) if path.exists()],
            "mounts": [
                x.split()[4] for x in Path("/proc/self/mountinfo").read_text().splitlines() if str(self.home) in x
            ],
        }
        return {key: value for key, value in found.items() if value}

    def move(self, address: str) -> None:
        """Give the machine another address on its network, as a lease that was not renewed does."""
        network = self.address.rpartition(".")[0]
        ip("-n", self.space, "address", "flush", "dev", "eth0")
        ip("-n", self.space, "address", "add", f"{address}/24", "dev", "eth0")
        ip("-n", self.space, "route", "replace", "default", "via", f"{network}.1")
        self.address = address

    def cut(self, off: bool) -> None:
        """Take the machine's cable out, or put it in."""
        ip("-n", self.space.rsplit("-", 1)[0] + "-r", "link", "set", self.port, "down" if off else "up")


@contextlib.contextmanager
def machines(tools: Path) -> Iterator[list[Machine]]:
    """Two machines on one network and one on another; the router between them is their default route."""
    mark = f"pm{os.getpid()}"
    router = f"{mark}-r"
    made: list[Machine] = []
    try:
        ip("netns", "add", router)
        ip("-n", router, "link", "set", "lo", "up")
        for number, network in enumerate(NETWORKS):
            ip("-n", router, "link", "add", f"br{number}", "type", "bridge")
            ip("-n", router, "address", "add", f"{network}.1/24", "dev", f"br{number}")
            ip("-n", router, "link", "set", f"br{number}", "up")
        for number, network in enumerate((0, 0, 1)):
            space, address = f"{mark}-{number}", f"{NETWORKS[network]}.1{number}"
            ip("netns", "add", space)
            ip("-n", space, "link", "set", "lo", "up")
            ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", f"p{number}", "netns", router)
            ip("-n", router, "link", "set", f"p{number}", "master", f"br{network}", "up")
            ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "route", "add", "default", "via", f"{NETWORKS[network]}.1")
            made.append(Machine(space, address, f"p{number}", tools))
        yield made
    finally:
        for machine in reversed(made):
            machine.portside("down", check=False)
            shutil.rmtree(machine.home, ignore_errors=True)
            ip("netns", "delete", machine.space, check=False)
        ip("netns", "delete", router, check=False)


class Town(Neighbourhood):
    """A namespace of a cluster of several machines."""

    def __init__(self, first: Machine, namespace: str) -> None:
        super().__init__(first, namespace)  # type: ignore[arg-type]  # offers the same kubectl
