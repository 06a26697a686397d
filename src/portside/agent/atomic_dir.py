"""Files of a volume replaced all at once: a dated folder behind the link ``..data``, and one link per first name.

A reader sees the old set or the new one, never a mixture. The layout is the kubelet's, because programs watch ``..data``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

DATA = "..data"


@dataclass(frozen=True, slots=True)
class Payload:
    """A file's bytes, permission bits and owner (None: root)."""

    data: bytes
    mode: int = 0o644
    uid: int | None = None


def _unchanged(current: Path, files: Mapping[str, Payload]) -> bool:
    try:
        present = {str(p.relative_to(current)) for p in current.rglob("*") if p.is_file()}
        if present != set(files):
            return False
        return all(
            (current / name).read_bytes() == payload.data and (current / name).stat().st_mode & 0o7777 == payload.mode
            for name, payload in files.items()
        )
    except OSError:
        return False


def write(folder: Path, files: Mapping[str, Payload], *, group: int | None = None) -> bool:
    """Make the volume's content exactly ``files`` (relative names, no ``..``). True when something changed."""
    for name in files:
        if name.startswith("/") or any(part in ("", "..") or part == DATA for part in name.split("/")):
            raise ValueError(f"invalid file name in a volume: {name}")
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    link = folder / DATA
    old = folder / os.readlink(link) if link.is_symlink() else None
    if old is not None and _unchanged(old, files):
        return False
    stamp = datetime.now(UTC).strftime("..%Y_%m_%d_%H_%M_%S.%f") + str(os.getpid())
    fresh = folder / stamp
    fresh.mkdir(mode=0o755)
    os.chmod(fresh, 0o755)
    for name, payload in files.items():
        path = fresh / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(payload.data)
        if group is not None or payload.uid is not None:
            os.chown(path, -1 if payload.uid is None else payload.uid, -1 if group is None else group)
        os.chmod(path, payload.mode)
    temporary = folder / "..data_tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(stamp)
    temporary.rename(link)
    tops = {name.split("/", 1)[0] for name in files}
    for top in tops:
        visible = folder / top
        if not visible.is_symlink():
            visible.symlink_to(f"{DATA}/{top}")
    for entry in os.scandir(folder):
        if not entry.name.startswith("..") and entry.name not in tops:
            os.unlink(entry.path)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True
