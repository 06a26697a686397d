"""Paths inside a volume, resolved by the kernel beneath a root (openat2), and mounts. No path is walked twice."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import stat
from pathlib import Path

SYS_OPENAT2 = 437  # the same number on every architecture
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC = 0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

_libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class Outside(Exception):
    """The path leaves its root or is not allowed."""


def open_beneath(root: int, path: str, flags: int) -> int:
    """A descriptor of ``path`` resolved beneath the folder ``root``; links may not lead outside. Raises OSError."""
    how = _How(flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    descriptor = _libc.syscall(
        ctypes.c_long(SYS_OPENAT2),
        ctypes.c_int(root),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(descriptor)


def checked_parts(path: str) -> list[str]:
    """The components of a subPath. Raises Outside for absolute paths and ``..``."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/"):
        raise Outside("must not be an absolute path")
    if ".." in parts:
        raise Outside('must not contain ".."')
    return parts


def open_sub_path(root: Path, path: str, *, mode: int) -> int:
    """A descriptor (O_PATH) of the subPath, missing folders made with ``mode``. Raises OSError, Outside."""
    parts = checked_parts(path)
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            return open_beneath(current, "/".join(parts) or ".", os.O_PATH)
        except FileNotFoundError:
            pass
        top = current
        for depth, part in enumerate(parts):
            so_far = "/".join(parts[: depth + 1])
            try:
                found = open_beneath(top, so_far, os.O_PATH)
            except FileNotFoundError:
                parent = current if current != top else top
                os.mkdir(part, mode, dir_fd=parent)
                found = open_beneath(parent, part, os.O_PATH | os.O_NOFOLLOW)
                inherited = os.fstat(found).st_mode & stat.S_ISGID
                os.chmod(f"/proc/self/fd/{found}", mode | inherited)
            if current != top:
                os.close(current)
            current = found
        result, current = current, top
        return result
    finally:
        os.close(current)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """mount(2). Raises OSError."""
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode() or None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def unmount(target: str) -> None:
    """Detach a mount; nothing mounted is fine."""
    _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW)


def bind_descriptor(descriptor: int, target: Path) -> None:
    """Bind what the descriptor holds onto ``target``, which is made as a folder or a file to match."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        target.mkdir(mode=0o750, parents=True, exist_ok=True)
    else:
        target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        target.touch(mode=0o640)
    mount(f"/proc/self/fd/{descriptor}", str(target), "", MS_BIND | MS_REC)


def mounted_below(folder: Path) -> list[str]:
    """Mount points below a folder, deepest first."""
    prefix = str(folder).rstrip("/") + "/"
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split(" ", 6)[4].replace("\\040", " ")
        if point.startswith(prefix) or point == str(folder):
            found.append(point)
    return sorted(found, key=len, reverse=True)
