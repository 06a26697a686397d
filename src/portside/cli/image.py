"""portside image: build, import, list and remove images without a registry."""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import subprocess
from pathlib import Path

from portside.cli.steps import CliError, Steps
from portside.run.home import Home


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    build = verbs.add_parser("build", help="build a folder with an image.yaml and load it into the node")
    build.add_argument("folder", type=Path)
    build.add_argument("--output", type=Path, metavar="FILE", help="write an OCI archive instead of loading it")
    load = verbs.add_parser("import", help="load an OCI or Docker archive")
    load.add_argument("archive", type=Path)
    listing = verbs.add_parser("list", help="the node's images")
    listing.add_argument("-o", "--output", choices=["json", "name"])
    remove = verbs.add_parser("remove", help="remove an image from the node")
    remove.add_argument("name")
    for sub in (build, load, listing, remove):
        sub.add_argument("--home", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    if options.action == "build":
        return _build(options)
    if options.action == "import":
        return _import(options)
    return _list(options) if options.action == "list" else _remove(options)


def _ctr(home: Home, *arguments: str, data: bytes | None = None) -> str:
    from portside.agent.containerd import runtime_folder

    socket = runtime_folder(home.root) / "containerd.sock"
    if not socket.exists():
        raise CliError(
            "the node's containerd does not run",
            why=f"{socket} is missing",
            todo="start the cluster with: portside up",
            code=4,
        )
    command = ["ctr", "--address", str(socket), "-n", "k8s.io", "images", *arguments]
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        raise CliError("containerd refused", why=done.stderr.decode("utf-8", "replace").strip())
    return done.stdout.decode("utf-8", "replace")


def built(folder: Path) -> tuple[str, str, bytes]:
    """Name, digest and archive of the image that a folder describes. Raises CliError."""
    from portside.agent.imagebuild import ARCHITECTURES
    from portside.agent.imagebuild import build as build_image
    from portside.agent.imagefile import BadImageFile, plan

    try:
        wanted = plan(folder)
    except BadImageFile as error:
        raise CliError("the image can't be built", why=str(error), todo="mend the file", code=6) from error
    except OSError as error:
        raise CliError(
            "the image can't be built",
            why=str(error),
            todo="install what is missing (busybox-static for the base)",
            code=6,
        ) from error
    digest, archive = build_image(wanted, architecture=ARCHITECTURES.get(platform.machine(), platform.machine()))
    return wanted.name, digest, archive


def load(home: Home, archive: bytes) -> None:
    """Put an archive into the node's images. Raises CliError."""
    from portside.agent.containerd import Containerd, ContainerdError, choose_network

    try:
        asyncio.run(Containerd(home.root, choose_network(home.root)).import_image(archive))
    except (ContainerdError, OSError) as error:
        raise CliError(
            "the image could not be loaded", why=str(error), todo="start the cluster with: portside up"
        ) from error


def _build(options: argparse.Namespace) -> int:
    name, digest, archive = built(options.folder)
    if options.output:
        options.output.write_bytes(archive)
    else:
        with Steps().step(f"load {name}"):
            load(Home(options.home), archive)
    print(f"{name}@{digest}")
    return 0


def _import(options: argparse.Namespace) -> int:
    try:
        archive = options.archive.read_bytes()
    except OSError as error:
        raise CliError(f"{options.archive} can't be read", why=error.strerror or "", code=6) from error
    print(_ctr(Home(options.home), "import", "-", data=archive).strip())
    return 0


def images(home: Home) -> list[dict[str, str]]:
    """Name, digest and size of every tagged image."""
    found = []
    for line in _ctr(home, "ls").splitlines()[1:]:
        fields = line.split()
        if len(fields) >= 5 and not fields[0].startswith("sha256:") and "@" not in fields[0]:
            found.append({"name": fields[0], "digest": fields[2], "size": " ".join(fields[3:5])})
    return found


def _list(options: argparse.Namespace) -> int:
    found = images(Home(options.home))
    if options.output == "json":
        print(json.dumps(found))
    elif options.output == "name":
        print("\n".join(i["name"] for i in found))
    else:
        width = max([len(i["name"]) for i in found] + [4])
        print(f"{'NAME':<{width}}  {'DIGEST':<19}  SIZE")
        for image in found:
            print(f"{image['name']:<{width}}  {image['digest'][:19]}  {image['size']}")
    return 0


def _remove(options: argparse.Namespace) -> int:
    if options.name not in {i["name"] for i in images(Home(options.home))}:
        raise CliError(f"no image {options.name}", todo="see: portside image list", code=4)
    _ctr(Home(options.home), "rm", options.name)
    return 0
