"""Who is told of a change: every fact about an object is looked up once for all who listen, and only they hear who mind it.

A dozen controllers watch pods, and each reads a little of them. Asked one by one, they would cost more than the change itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from portside.client.cache import controller_of, kind_of
from portside.client.protocol import Json

log = logging.getLogger(__name__)
Handler = Callable[[Json | None, Json | None], None]
COMES_OR_GOES, UPDATED, FIRST_FACT = 1, 2, 4  # bits of what happened; one more for every fact
EVERYTHING = -1


@dataclass(frozen=True, slots=True, eq=False)
class Fact:
    """Something that can be said of an object. ``part``: the field it is read from (``spec``, ``status``): as long as that
    stays as it is, so does the fact. "" for anything else."""

    read: Callable[[Json], Any]
    part: str = ""


class News:
    """Tells handlers what happened to the objects of one resource."""

    def __init__(self) -> None:
        self._bits: dict[Fact, int] = {}
        self._facts: dict[str, list[tuple[int, Callable[[Json], Any]]]] = {}  # by part
        self._all: list[tuple[int, Handler]] = []
        self._owned: dict[tuple[str, str], list[tuple[int, Handler]]] = {}
        self._every_owned: list[tuple[int, Handler]] = []

    def listen(self, handler: Handler, facts: Sequence[Fact] | None, owner: tuple[str, str] | None) -> None:
        """``facts``: an update that leaves them all equal is no news; None: everything is. ``owner``: kind and group of the
        controller of those objects that the handler is for; objects without a controller are for everybody."""
        minds = EVERYTHING if facts is None else COMES_OR_GOES | sum({self._bit(f) for f in facts})
        if owner is None:
            self._all.append((minds, handler))
        else:
            self._owned.setdefault(owner, []).append((minds, handler))
            self._every_owned.append((minds, handler))

    def _bit(self, fact: Fact) -> int:
        bit = self._bits.get(fact)
        if bit is None:
            bit = self._bits[fact] = FIRST_FACT << len(self._bits)
            self._facts.setdefault(fact.part, []).append((bit, fact.read))
        return bit

    def tell(self, old: Json | None, new: Json | None) -> None:
        """What was ``old`` is ``new``; None: was not there, is not there any more."""
        happened = COMES_OR_GOES if old is None or new is None else self._changed(old, new)
        self._call(self._all, happened, old, new)
        if self._owned:
            self._call(self._for_owner(old, new), happened, old, new)

    @staticmethod
    def _call(listeners: Iterable[tuple[int, Handler]], happened: int, old: Json | None, new: Json | None) -> None:
        for minds, handler in listeners:
            if minds & happened:
                try:
                    handler(old, new)
                except Exception:
                    log.exception("a handler failed on %s", ((new or old or {}).get("metadata") or {}).get("name"))

    def _changed(self, old: Json, new: Json) -> int:
        found = UPDATED
        for part, facts in self._facts.items():
            if part and old.get(part) == new.get(part):
                continue
            for bit, read in facts:
                try:
                    if read(old) == read(new):
                        continue
                except Exception:
                    log.exception("a fact of %s can't be read", new["metadata"].get("name"))
                found |= bit
        return found

    def _for_owner(self, old: Json | None, new: Json | None) -> Sequence[tuple[int, Handler]]:
        obj = new if new is not None else old
        assert obj is not None
        refs = obj["metadata"].get("ownerReferences")
        if not refs or (old is not None and old["metadata"].get("ownerReferences") != refs):
            return self._every_owned
        ref = controller_of(obj)
        return self._every_owned if ref is None else self._owned.get(kind_of(ref), ())
