"""Specs of pods that were found good or complete, remembered: the pods of one workload are alike, and their rules cost as much as
everything else that a write does."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import orjson

from portside.base.remembered import Remembered

Json = dict[str, Any]
SPECS = 1024
"""Digests remembered in each of two generations."""


def _digest(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()


class GoodSpecs:
    """Says whether ``find`` has nothing to say about a pod's spec and annotations, asking it once per spec.

    ``find`` must look at nothing else; of the pod's name it may know what volumes of the kind ``ephemeral`` make of it: those
    specs are not remembered.
    """

    def __init__(self) -> None:
        self._good: Remembered[bytes, bool] = Remembered(SPECS)

    def told(self, pod: Json, find: Callable[[], list[Any]]) -> list[Any]:
        """What ``find`` says: nothing when it said nothing about an equal spec before."""
        text = orjson.dumps((pod["spec"], pod["metadata"].get("annotations")))
        if b'"ephemeral":' in text:
            return find()
        digest = _digest(text)
        if self._good.get(digest):
            return []
        found = find()
        if not found:
            self._good.put(digest, True)
        return found


class CompleteSpecs:
    """Knows specs that have all their defaults, so that ``fill``, which must look at nothing but the spec, is asked once for all
    pods of a workload. Where a pod runs has no default, and is left out: by it they differ."""

    def __init__(self, fill: Callable[[Json], None]) -> None:
        self._fill = fill
        self._complete: Remembered[bytes, bool] = Remembered(SPECS)

    def complete(self, pod: Json) -> None:
        """Gives the pod's spec its defaults, in place."""
        spec = pod.get("spec")
        if spec and self._complete.get(self._key(spec)):
            return
        self._fill(pod)
        self._complete.put(self._key(pod["spec"]), True)

    @staticmethod
    def _key(spec: Json) -> bytes:
        return _digest(orjson.dumps({name: value for name, value in spec.items() if name != "nodeName"}))
