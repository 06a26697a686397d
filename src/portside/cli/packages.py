"""The distribution's packages a node needs: which are missing, and their installation with root on Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from portside.cli.steps import CliError, Steps


@dataclass(frozen=True, slots=True)
class Package:
    """One Debian package, the file that shows it is there, and why a node needs it."""

    name: str
    proof: tuple[str, ...]
    why: str


PACKAGES: tuple[Package, ...] = (
    Package("containerd", ("containerd", "ctr"), "runs the containers"),
    Package("runc", ("runc",), "starts a container's process"),
    Package("containernetworking-plugins", ("/usr/lib/cni/bridge", "/usr/lib/cni/host-local"), "connects pods"),
    Package("nftables", ("nft",), "service rules"),
    Package("iproute2", ("ip",), "addresses and routes"),
    Package("conntrack", ("conntrack",), "forgets connections to pods that are gone"),
    Package("busybox-static", ("/bin/busybox",), "base of the images made on this machine"),
    Package("catatonit", ("catatonit",), "the pause image"),
)


INGRESS = (Package("haproxy", ("haproxy",), "serves Ingresses"),)


def _there(proof: str) -> bool:
    return Path(proof).exists() if proof.startswith("/") else shutil.which(proof) is not None


def missing(more: tuple[Package, ...] = ()) -> list[Package]:
    """Packages whose files are not on this machine. A busybox that needs shared libraries does not count as static."""
    lacking = [p for p in (*PACKAGES, *more) if not all(_there(f) for f in p.proof)]
    if Path("/bin/busybox").exists() and not _static(Path("/bin/busybox")):
        lacking += [p for p in PACKAGES if p.name == "busybox-static"]
    return lacking


def _static(path: Path) -> bool:
    """An ELF file without an interpreter segment runs in an empty root."""
    with path.open("rb") as file:
        head = file.read(4096)
    return b"ld-linux" not in head and b"ld-musl" not in head


def ensure(steps: Steps, more: tuple[Package, ...] = ()) -> None:
    """Install what is missing. Raises CliError naming the packages when that can't be done here."""
    lacking = missing(more)
    if not lacking:
        return
    names = " ".join(p.name for p in lacking)
    offer = "or run the same cluster with simulated nodes: portside up --simulate 3"
    if os.geteuid() != 0:
        raise CliError(
            f"packages are missing: {names}",
            why="installing them needs root",
            todo=f"as root: apt-get install {names}; {offer}",
            code=3,
        )
    if shutil.which("apt-get") is None:
        listed = "; ".join(f"{p.name} ({p.why})" for p in lacking)
        raise CliError(
            f"missing on this machine: {names}",
            why=f"this is no Debian, so they can't be installed from here: {listed}",
            todo=f"install them with your distribution's tools, {offer}",
            code=3,
        )
    with steps.step("system packages") as note:
        note(names)
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names.split()]
        done = subprocess.run(install, env=environment, capture_output=True, text=True)
        if done.returncode:  # the package lists may be missing or old
            subprocess.run(["apt-get", "update", "-qq"], env=environment, capture_output=True)
            done = subprocess.run(install, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise CliError(
                f"these packages could not be installed: {names}",
                why=" ".join(done.stderr.split())[-400:],
                todo=f"run: apt-get install {names}; {offer}",
                code=3,
            )
        if still := missing(more):
            raise CliError(
                f"installed, but still not usable: {' '.join(p.name for p in still)}",
                todo="look at: apt-get install --reinstall " + names,
                code=3,
            )
