"""Images as read-only folders: a snapshot of containerd's mounted by its own client, since CRI 1.6 knows no image volumes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from portside.agent import beneath
from portside.agent.runtime import RuntimeFailure

NAMESPACE = "k8s.io"
PATIENCE = 120.0  # seconds: unpacking a large image


async def _ctr(socket: str, *words: str) -> str:
    """What ctr printed. Raises RuntimeFailure with its words."""
    process = await asyncio.create_subprocess_exec(
        *("ctr", "--address", socket, "-n", NAMESPACE, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        raise RuntimeFailure(f"ctr {words[1]} took longer than {PATIENCE:.0f} s", "DEADLINE_EXCEEDED") from None
    if process.returncode:
        raise RuntimeFailure(errors.decode("utf-8", "replace").strip(), "UNKNOWN")
    return out.decode("utf-8", "replace")


def _mounted(target: str) -> bool:
    """Whether something is mounted at the path. ``os.path.ismount`` doesn't see a bind mount of the same file system,
    which is what the snapshot of an image with one layer becomes."""
    real = os.path.realpath(target)
    return real in beneath.mounted_below(Path(real))


async def mount(socket: str, image: str, target: str) -> None:
    """Mount the image at ``target`` (made when absent): nothing in it can be written, run or used as a device."""
    if _mounted(target):
        return
    os.makedirs(target, mode=0o755, exist_ok=True)
    await _ctr(socket, "images", "mount", image, target)
    flags = beneath.MS_RDONLY | beneath.MS_NOSUID | beneath.MS_NODEV | beneath.MS_NOEXEC
    beneath.mount("none", target, "", beneath.MS_BIND | beneath.MS_REMOUNT | flags)


async def unmount(socket: str, target: str) -> None:
    """Unmount and give the snapshot back."""
    if _mounted(target):
        beneath.unmount(target)
    for noun in ("snapshots", "leases"):
        try:
            await _ctr(socket, noun, "rm", target)
        except RuntimeFailure as failure:
            if "not found" not in failure.message:
                raise
