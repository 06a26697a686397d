"""Specs of pods that were found good, remembered: the pods of one workload are alike, and their rules cost as much as everything
else that a creation does."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import orjson

from portside.base.remembered import Remembered

Json = dict[str, Any]
SPECS = 1024
"""Digests remembered in each of two generations."""


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
        digest = blake2b(text, digest_size=16).digest()
        if self._good.get(digest):
            return []
        found = find()
        if not found:
            self._good.put(digest, True)
        return found
