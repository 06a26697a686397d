"""Images nobody uses are removed when the disk fills: the longest unused first, down to a mark.

An image without a digest was made on this machine and could not be pulled again, so it is never removed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from portside.agent.runtime import ContainerRuntime, Image, RuntimeFailure
from portside.base.clock import SYSTEM, Clock

log = logging.getLogger(__name__)
HIGH, LOW = 85, 80  # percent of the disk in use that begin and end it
MIN_AGE = 120.0  # seconds an image is left alone after it was first seen
EVERY = 300.0  # seconds between looks
Say = Callable[[str, str, str], None]  # type, reason, message of an event on the node


@dataclass(frozen=True, slots=True)
class Usage:
    """Of the disk images are on, in bytes."""

    total: int
    free: int

    @property
    def full(self) -> bool:
        return (self.total - self.free) * 100 >= self.total * HIGH

    def surplus(self) -> int:
        """Bytes to free until only LOW percent are in use."""
        return self.total * (100 - LOW) // 100 - self.free


def doomed(
    images: Iterable[Image], *, used: AbstractSet[str], unused_since: Mapping[str, float], needed: int, now: float
) -> list[Image]:
    """The images to remove, in order, until ``needed`` bytes are free. ``used``: ids and names of images in use."""
    free = [
        image
        for image in images
        if image.digests
        and not {image.id, *image.tags, *image.digests} & used
        and now - unused_since.get(image.id, now) >= MIN_AGE
    ]
    chosen: list[Image] = []
    for image in sorted(free, key=lambda i: (unused_since[i.id], i.id)):
        if needed <= 0:
            break
        chosen.append(image)
        needed -= image.size
    return chosen


class ImageCollector:
    """Remembers since when images are unused, and removes them when the disk is full."""

    def __init__(
        self, runtime: ContainerRuntime, wanted: Callable[[], set[str]], say: Say, *, clock: Clock = SYSTEM
    ) -> None:
        self._runtime, self._wanted, self._say, self._clock = runtime, wanted, say, clock
        self._unused: dict[str, float] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.look()
            except RuntimeFailure as failure:
                log.warning("images: %s", failure.message)
            await self._clock.sleep(EVERY)

    async def look(self, usage: Usage | None = None) -> int:
        """One round; the bytes that were freed."""
        images = await self._runtime.images()
        used = self._wanted() | {ref for c in await self._runtime.containers() for ref in (c.image, c.image_ref)}
        self._note(images, used)
        if usage is None:
            disk = shutil.disk_usage((await self._runtime.image_disk()).mountpoint)
            usage = Usage(disk.total, disk.free)
        if not usage.full:
            return 0
        return await self.free(images, used, usage)

    def _note(self, images: Sequence[Image], used: AbstractSet[str]) -> None:
        now = self._clock.now()
        idle = {i.id for i in images if not {i.id, *i.tags, *i.digests} & used}
        self._unused = {key: self._unused.get(key, now) for key in idle}

    async def free(self, images: Sequence[Image], used: AbstractSet[str], usage: Usage) -> int:
        """Remove images until the disk is at its lower mark; tells the node when that is not enough."""
        now, needed, freed = self._clock.now(), usage.surplus(), 0
        for image in doomed(images, used=used, unused_since=self._unused, needed=needed, now=now):
            await self._runtime.remove_image(image.id)
            freed += image.size
            log.info("removed image %s (%d bytes)", (*image.tags, image.id)[0], image.size)
        if freed < needed:
            text = (
                f"Failed to garbage collect required amount of images. Attempted to free {needed} bytes, "
                f"but only found {freed} bytes eligible to free."
            )
            self._say("Warning", "FreeDiskSpaceFailed", text)
        return freed
