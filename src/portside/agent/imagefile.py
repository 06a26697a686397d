"""A folder with an ``image.yaml`` becomes an image: a base, the files below ``files/``, and a command.

``image.yaml`` fields: name (required), base (``busybox``, the default, or ``empty``), packages (Debian packages whose
files are added), command, entrypoint, env (mapping), user, workingDir, labels.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from portside.agent.imagebuild import Entry, ImagePlan, busybox_plan, folder_entries

FILE = "image.yaml"
NAME = re.compile(
    r"^[a-z0-9]+([._-][a-z0-9]+)*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"
)
PACKAGE = re.compile(r"^[a-z0-9][a-z0-9+.-]+$")


class BadImageFile(ValueError):
    """The folder can't become an image; the text names file, field, and what would be right."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What an ``image.yaml`` says."""

    name: str
    base: str = "busybox"
    packages: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    user: str = ""
    working_dir: str = "/"
    labels: dict[str, str] = field(default_factory=dict)


FIELDS = {"name", "base", "packages", "command", "entrypoint", "env", "user", "workingDir", "labels"}


def read(folder: Path) -> ImageFile:
    """Read and check a folder's image file. Raises BadImageFile."""
    import yaml

    path = folder / FILE
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadImageFile(f"{path}: {error.strerror}; an image folder holds {FILE} and files/") from error
    except yaml.YAMLError as error:
        raise BadImageFile(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise BadImageFile(f"{path}: must be a mapping with at least the field name")
    if unknown := sorted(data.keys() - FIELDS):
        raise BadImageFile(f"{path}: unknown field {unknown[0]!r}; known are {', '.join(sorted(FIELDS))}")
    name = data.get("name")
    if not isinstance(name, str) or not NAME.match(name):
        raise BadImageFile(f"{path}: name: must be a full image name with a tag, such as docker.io/library/web:1")
    base = data.get("base", "busybox")
    if base not in ("busybox", "empty"):
        raise BadImageFile(f"{path}: base: {base!r} is not known; use busybox or empty")
    packages = _words(path, data, "packages")
    for package in packages:
        if not PACKAGE.match(package):
            raise BadImageFile(f"{path}: packages: {package!r} is no package name")
    return ImageFile(
        name,
        base,
        packages,
        _words(path, data, "command"),
        _words(path, data, "entrypoint"),
        _mapping(path, data, "env"),
        str(data.get("user", "")),
        str(data.get("workingDir", "/")),
        _mapping(path, data, "labels"),
    )


def _words(path: Path, data: dict[str, Any], name: str) -> tuple[str, ...]:
    value = data.get(name) or []
    if not isinstance(value, list) or not all(isinstance(x, str) for x in value):
        raise BadImageFile(f"{path}: {name}: must be a list of strings")
    return tuple(value)


def _mapping(path: Path, data: dict[str, Any], name: str) -> dict[str, str]:
    value = data.get(name) or {}
    if not isinstance(value, dict) or not all(isinstance(x, str) for pair in value.items() for x in pair):
        raise BadImageFile(f"{path}: {name}: must map strings to strings")
    return dict(value)


def package_entries(package: str) -> dict[str, Entry]:
    """The files an installed Debian package brought to this machine. Raises BadImageFile when it is not installed."""
    done = subprocess.run(["dpkg-query", "-L", package], capture_output=True, text=True)
    if done.returncode:
        raise BadImageFile(
            f"package {package} is not installed on this machine; install it first: apt-get install {package}"
        )
    found: dict[str, Entry] = {}
    for line in done.stdout.splitlines():
        path = Path(line)
        name = line.strip("/")
        if not name or line.startswith("/usr/share/doc"):
            continue
        if path.is_symlink():
            found[name] = Entry(link=str(path.readlink()))
        elif path.is_file():
            found[name] = Entry(path.read_bytes(), mode=0o755 if path.stat().st_mode & 0o111 else 0o644)
    return found


def plan(folder: Path, packages: Callable[[str], dict[str, Entry]] = package_entries) -> ImagePlan:
    """The image a folder describes. Raises BadImageFile."""
    image = read(folder)
    entries: dict[str, Entry] = {}
    command: tuple[str, ...] = ()
    if image.base == "busybox":
        base = busybox_plan()
        entries.update(base.entries)
        command = tuple(base.command)
    for package in image.packages:
        entries.update(packages(package))
    files = folder / "files"
    if files.is_dir():
        entries.update(folder_entries(files))
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | image.env
    return ImagePlan(
        image.name,
        entries,
        entrypoint=image.entrypoint,
        command=image.command or (() if image.entrypoint else command),
        env=tuple(f"{k}={v}" for k, v in env.items()),
        working_dir=image.working_dir,
        user=image.user,
        labels=image.labels,
    )
