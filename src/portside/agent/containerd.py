"""Our own containerd: the distribution's binary with this home's root, state, socket, CRI settings and pod network.

It is a process of its own session, so it and the containers outlive the agent; a new agent finds it by its socket and
process record. The containers are children of shims and also outlive containerd itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ipaddress
import json
import logging
import os
import platform
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from portside.agent import imagebuild
from portside.agent.cgroups import ensure_mounted

_log = logging.getLogger(__name__)
SOCKET_LIMIT = 100  # sun_path is 108 bytes with its NUL; containerd appends ".ttrpc" to its socket's name
CNI_BINARIES = ("/usr/lib/cni", "/opt/cni/bin")
CLUSTER_CIDR = "10.244.0.0/16"
NODE_MASK = 24  # prefix length of one node's part of it
SHIM_GRACE = 2.0  # seconds a left-over shim has after TERM, and after KILL
NEEDED = ("containerd", "runc", "ctr")


class ContainerdError(Exception):
    """containerd can't run here; the text says why and what to do."""


def runtime_folder(home: Path) -> Path:
    """Where sockets and volatile state go: in the home, or in a short folder below /run when the home's path is long."""
    inside = home / "run"
    if len(str(inside / "containerd.sock.ttrpc")) <= SOCKET_LIMIT:
        return inside
    return Path("/run/portside") / hashlib.sha256(str(home).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Network:
    """A node's pod network: the bridge's name and the node's share of the cluster's addresses."""

    bridge: str
    pod_cidr: str
    mtu: int = 1500

    @property
    def gateway(self) -> str:
        return str(next(ipaddress.ip_network(self.pod_cidr).hosts()))


def cni_conflist(network: Network, *, state: Path) -> str:
    """The pod network for the CNI reference plugins; service rules and host ports are nftables' work, not CNI's."""
    plugins = [
        {
            "type": "bridge",
            "bridge": network.bridge,
            "isGateway": True,
            "isDefaultGateway": True,
            "hairpinMode": True,
            "ipMasq": False,
            "mtu": network.mtu,
            "ipam": {
                "type": "host-local",
                "dataDir": str(state / "addresses"),
                "ranges": [[{"subnet": network.pod_cidr}]],
            },
        },
    ]
    return json.dumps({"cniVersion": "0.4.0", "name": "portside", "plugins": plugins}, indent=1)


def may_lower_oom_score(status: str = "/proc/self/status") -> bool:
    """Whether this process has CAP_SYS_RESOURCE (bit 24); without it runc fails on the sandbox's protected score."""
    line = next(line for line in Path(status).read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(line.split()[1], 16) >> 24 & 1)


def config_toml(home: Path, *, pause: str = imagebuild.PAUSE_IMAGE, protect: bool = True) -> str:
    """containerd's settings (version 2). Strings are JSON, which TOML's basic strings accept.

    ``protect``: whether out-of-memory scores may be lowered below this process's own.
    """
    run = runtime_folder(home)
    quote = json.dumps
    binaries = next((d for d in CNI_BINARIES if Path(d, "bridge").exists()), CNI_BINARIES[0])
    return f"""version = 2
root = {quote(str(home / "containerd"))}
state = {quote(str(run / "containerd"))}
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
oom_score = {-999 if protect else 0}

[grpc]
  address = {quote(str(run / "containerd.sock"))}

[ttrpc]
  address = {quote(str(run / "containerd.sock.ttrpc"))}

[debug]
  level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {quote(pause)}
  restrict_oom_score_adj = {"false" if protect else "true"}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true
  max_container_log_line_size = 16384
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {quote(binaries)}
    conf_dir = {quote(str(home / "cni"))}
    max_conf_num = 1
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {quote(str(home / "registries"))}
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def interfaces() -> set[str]:
    """The names of this network namespace's interfaces."""
    return {name for _, name in socket.if_nameindex()}


def _taken(home: Path) -> tuple[set[str], list[ipaddress.IPv4Network]]:
    """Interface names and IPv4 networks in use in this network namespace (sysfs may show another one's)."""
    answer = subprocess.run(["ip", "-j", "-4", "address"], capture_output=True, text=True, check=True).stdout
    names, networks = interfaces(), []
    for link in json.loads(answer):
        for address in link.get("addr_info", ()):
            networks.append(ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False))
    return names, networks


def choose_network(home: Path, wanted: str = "", cluster: str = CLUSTER_CIDR, mask: int = NODE_MASK) -> Network:
    """This home's bridge and subnet: what it had before, else the wanted or the first free part of the cluster's range;
    ``mask``: the prefix length of a part.

    Raises ContainerdError when every subnet is taken.
    """
    record, own = home / "network.json", ""
    try:
        kept = json.loads(record.read_text())
        own = str(kept["bridge"])
        if not wanted or wanted == kept["pod_cidr"]:
            return Network(kept["bridge"], kept["pod_cidr"])
    except (OSError, ValueError, KeyError):
        pass
    names, networks = _taken(home)
    mark = hashlib.sha256(str(home).encode()).hexdigest()[:6]
    bridge = own or ("portside0" if "portside0" not in names else f"ps-{mark}")
    parts = ipaddress.IPv4Network(cluster)
    choices = [wanted] if wanted else map(str, parts.subnets(new_prefix=max(mask, parts.prefixlen)))
    for choice in choices:
        subnet = ipaddress.IPv4Network(choice)
        if wanted or not any(subnet.overlaps(used) for used in networks):
            record.write_text(json.dumps({"bridge": bridge, "pod_cidr": choice}) + "\n")
            return Network(bridge, choice)
    raise ContainerdError(f"every subnet of {cluster} is in use on this machine; choose one with --pod-cidr")


def ensure_bridge(network: Network) -> None:
    """Make the pods' bridge with its address before the first pod, so that a name server can listen on it. An address of
    another part, which this node had before, goes."""
    if network.bridge not in interfaces():
        subprocess.run(["ip", "link", "add", network.bridge, "type", "bridge"], check=True, capture_output=True)
    length = network.pod_cidr.rpartition("/")[2]
    shown = ["ip", "-j", "-4", "address", "show", "dev", network.bridge]
    for link in json.loads(subprocess.run(shown, check=True, capture_output=True, text=True).stdout or "[]"):
        for old in link.get("addr_info") or ():
            if old["local"] != network.gateway:
                words = ["ip", "address", "delete", f"{old['local']}/{old['prefixlen']}", "dev", network.bridge]
                subprocess.run(words, check=False, capture_output=True)
    address = ["ip", "address", "replace", f"{network.gateway}/{length}", "dev", network.bridge]
    subprocess.run(address, check=True, capture_output=True)
    subprocess.run(["ip", "link", "set", network.bridge, "up"], check=True, capture_output=True)


def remove_bridge(network: Network) -> None:
    """Take the pods' bridge away, when no pod needs it any more, with what a broken start of a pod left on it; none is fine."""
    listed = subprocess.run(["ip", "-o", "link", "show", "master", network.bridge], check=False, capture_output=True)
    for line in listed.stdout.decode().splitlines():
        port = line.split(": ")[1].partition("@")[0]
        subprocess.run(["ip", "link", "delete", port], check=False, capture_output=True)
    subprocess.run(["ip", "link", "delete", network.bridge], check=False, capture_output=True)


HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""A connection's preface and empty settings (RFC 9113, section 3.4); a gRPC server answers with its own settings."""
GREETING_SECONDS = 3.0


class Containerd:
    """Starts, finds and stops this home's containerd."""

    def __init__(self, home: Path, network: Network) -> None:
        self.home = home
        self.network = network
        self.run = runtime_folder(home)
        self.socket = self.run / "containerd.sock"
        self.record = home / "run" / "containerd.json"

    def prepare(self) -> bool:
        """Write folders and settings. True when the settings differ from those the running process was started with."""
        for folder in (self.home, self.run, self.home / "run", self.home / "cni", self.home / "registries"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = [name for name in NEEDED if not shutil.which(name)]
        if missing:
            raise ContainerdError(f"missing on this machine: {', '.join(missing)}; install containerd and runc")
        files = {
            self.home / "cni" / "10-portside.conflist": cni_conflist(self.network, state=self.home / "cni"),
            self.home / "containerd.toml": config_toml(self.home, protect=may_lower_oom_score()),
        }
        changed = False
        for path, text in files.items():
            if not path.exists() or path.read_text() != text:
                path.write_text(text)
                changed = True
        return changed

    def pid(self) -> int | None:
        """The running process, None when there is none. A reused pid is told apart by its start time."""
        try:
            kept = json.loads(self.record.read_text())
            fields = Path(f"/proc/{kept['pid']}/stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, ValueError, KeyError, IndexError):
            return None
        return int(kept["pid"]) if fields[0] != "Z" and int(fields[19]) == kept["ticks"] else None

    async def start(self, *, patience: float = 30.0) -> bool:
        """Make sure it runs and answers. True when it had to be started. Raises ContainerdError with the log's end."""
        self.prepare()
        if ensure_mounted():
            _log.info("control groups were not mounted here; they are now")
        if self.pid() is not None and await self._answers(5.0):
            return False
        if (stuck := self.pid()) is not None:
            os.kill(stuck, signal.SIGKILL)
        log = self.home / "logs" / "containerd.log"
        log.parent.mkdir(mode=0o700, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                ["containerd", "--config", str(self.home / "containerd.toml")],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        self.record.write_text(json.dumps({"pid": process.pid, "ticks": int(fields[19])}) + "\n")
        if not await self._answers(patience, process):
            tail = log.read_text(errors="replace")[-800:]
            raise ContainerdError(f"containerd did not answer on {self.socket}; the end of {log}:\n{tail}")
        return True

    async def _answers(self, patience: float, process: subprocess.Popen[bytes] | None = None) -> bool:
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if await self._greets():
                return True
            if process is not None and process.poll() is not None:
                return False
            await asyncio.sleep(0.02)
        return False

    async def _greets(self) -> bool:
        """Whether a server speaks on the socket: one that was killed may take connections for a moment longer."""
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.socket))
            try:
                writer.write(HTTP2_GREETING)
                return bool(await asyncio.wait_for(reader.read(1), GREETING_SECONDS))
            finally:
                writer.close()
        except (OSError, TimeoutError):
            return False

    def has_tasks(self) -> bool:
        """Whether containers may still run, be containerd itself alive or not."""
        tasks = self.run / "containerd" / "io.containerd.runtime.v2.task" / "k8s.io"
        return tasks.is_dir() and any(tasks.iterdir())

    def stop(self) -> None:
        """End containerd; containers stay. `down` removes the pods before, through the agent."""
        if (pid := self.pid()) is not None:
            os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 10
            while self.pid() is not None and time.monotonic() < end:
                time.sleep(0.02)
        self.record.unlink(missing_ok=True)

    def end_shims(self) -> int:
        """End the shims of this containerd that it lost track of, after it was stopped with its containers gone; how many there were.
        A shim whose task was deleted while its containerd was killed waits for ever."""
        left = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._is_shim(pid)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in filter(self._is_shim, left):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            end = time.monotonic() + SHIM_GRACE
            while any(map(self._is_shim, left)) and time.monotonic() < end:
                time.sleep(0.02)
        return len(left)

    def _is_shim(self, pid: int) -> bool:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return b"containerd-shim" in words[0] and str(self.socket).encode() in words

    async def import_image(self, tar: bytes) -> None:
        """Load an OCI tar into the node's images. Raises ContainerdError with ctr's words."""
        process = await asyncio.create_subprocess_exec(
            "ctr",
            "--address",
            str(self.socket),
            "-n",
            "k8s.io",
            "images",
            "import",
            "-",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate(tar)
        if process.returncode:
            raise ContainerdError(f"image import: {errors.decode('utf-8', 'replace').strip()}")

    async def ensure_images(self, present: set[str]) -> list[str]:
        """Build and load the pause and busybox images when the node lacks them; the names made."""
        plans = {imagebuild.PAUSE_IMAGE: imagebuild.pause_plan, imagebuild.BUSYBOX_IMAGE: imagebuild.busybox_plan}
        made = []
        for name, plan in plans.items():
            if name not in present:
                _, tar = imagebuild.build(plan(), architecture=imagebuild.ARCHITECTURES[platform.machine()])
                await self.import_image(tar)
                made.append(name)
        return made
