"""Builds an OCI image (one layer) from files given in memory: same input, same digest. No registry, no build tool.

The result is a tar in the OCI image layout, which ``ctr images import`` takes. Times are zero, owners are root, members
are sorted, so nothing of the building machine enters the digest.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAUSE_IMAGE = "docker.io/portside/pause:1"
BUSYBOX_IMAGE = "docker.io/portside/busybox:1"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of the layer: a file's bytes, a link's target, or (both None) a folder."""

    data: bytes | None = None
    link: str | None = None
    mode: int = 0o755


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """Everything that decides an image's digest."""

    name: str
    entries: Mapping[str, Entry]
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    env: Sequence[str] = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    working_dir: str = "/"
    user: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""


def _tar_add(tar: tarfile.TarFile, name: str, entry: Entry) -> None:
    info = tarfile.TarInfo(name)
    info.mode = entry.mode
    if entry.link is not None:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(info)
    elif entry.data is None:
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    else:
        info.size = len(entry.data)
        tar.addfile(info, io.BytesIO(entry.data))


def _layer(entries: Mapping[str, Entry]) -> bytes:
    complete: dict[str, Entry] = {}
    for path, entry in entries.items():
        clean = path.strip("/")
        for depth, char in enumerate(clean):
            if char == "/":
                complete.setdefault(clean[:depth], Entry())
        complete[clean] = entry
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(complete):
            _tar_add(tar, path, complete[path])
    return buffer.getvalue()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def build(plan: ImagePlan, *, architecture: str) -> tuple[str, bytes]:
    """The manifest's digest and the image's tar. ``architecture`` as in OCI: amd64, arm64."""
    layer = _layer(plan.entries)
    packed = gzip.compress(layer, compresslevel=1, mtime=0)
    settings: dict[str, Any] = {"Env": list(plan.env), "WorkingDir": plan.working_dir}
    for key, value in (
        ("Entrypoint", list(plan.entrypoint)),
        ("Cmd", list(plan.command)),
        ("User", plan.user),
        ("Labels", dict(plan.labels)),
        ("StopSignal", plan.stop_signal),
    ):
        if value:
            settings[key] = value
    config = _json(
        {
            "architecture": architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "portside"}],
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": _digest(packed),
                    "size": len(packed),
                }
            ],
        }
    )
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": _digest(manifest),
                    "size": len(manifest),
                    "annotations": {
                        "io.containerd.image.name": plan.name,
                        "org.opencontainers.image.ref.name": plan.name.rsplit(":", 1)[-1],
                    },
                    "platform": {"architecture": architecture, "os": "linux"},
                }
            ],
        }
    )
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        _tar_add(tar, "oci-layout", Entry(b'{"imageLayoutVersion":"1.0.0"}', mode=0o644))
        _tar_add(tar, "index.json", Entry(index, mode=0o644))
        for blob in (config, packed, manifest):
            _tar_add(tar, "blobs/sha256/" + _digest(blob)[7:], Entry(blob, mode=0o644))
    return _digest(manifest), buffer.getvalue()


def folder_entries(folder: Path, prefix: str = "") -> dict[str, Entry]:
    """A folder's files as layer entries below ``prefix``; links stay links and are never followed."""
    found: dict[str, Entry] = {}
    for path in sorted(folder.rglob("*")):
        name = f"{prefix}/{path.relative_to(folder)}".strip("/")
        if path.is_symlink():
            found[name] = Entry(link=str(path.readlink()))
        elif path.is_dir():
            found[name] = Entry()
        elif path.is_file():
            found[name] = Entry(path.read_bytes(), mode=0o755 if path.stat().st_mode & 0o111 else 0o644)
    return found


def pause_plan(catatonit: Path = Path("/usr/bin/catatonit")) -> ImagePlan:
    """The sandbox image: an init that reaps children and waits (catatonit's pause mode)."""
    return ImagePlan(
        PAUSE_IMAGE,
        {"pause": Entry(catatonit.read_bytes())},
        entrypoint=("/pause", "-P"),
        user="65535:65535",
    )


def busybox_plan(busybox: Path = Path("/bin/busybox")) -> ImagePlan:
    """The small image every node has: busybox with a link per applet. Raises OSError when busybox is missing."""
    listed = subprocess.run([busybox, "--list-full"], capture_output=True, text=True, check=True).stdout.split()
    links = {"bin/" + name.rsplit("/", 1)[-1] for name in listed} - {"bin/busybox"}
    entries = {path: Entry(link="/bin/busybox") for path in links}
    entries |= {f"usr/{path}": Entry(link="/bin/busybox") for path in ("bin/env",)}
    entries["bin/busybox"] = Entry(busybox.read_bytes())
    entries["etc/passwd"] = Entry(
        b"root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\n"
        b"nobody:x:65534:65534:nobody:/home:/bin/false\n",
        mode=0o644,
    )
    entries["etc/group"] = Entry(b"root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n", mode=0o644)
    entries["tmp"] = Entry(mode=0o1777)
    for folder in ("root", "home", "var/www", "dev", "proc", "sys", "run"):
        entries[folder] = Entry()
    return ImagePlan(BUSYBOX_IMAGE, entries, command=("sh",))
